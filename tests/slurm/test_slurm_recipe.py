"""The whole of a recipe through Slurm, by its own wrapper and by one that a site brought along."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from smoke import ROOT, command, objects, results

from pydino.base import read_json

pytestmark = pytest.mark.slurm
# What a site may have: in the way of Kaldi's slurm.pl (--export=PATH, ./path.sh of the folder, JOB replaced
# by the shell in the job, its own head and foot of the log), reading its options from conf/slurm.conf or not
# at all.
SITES_OWN = r"""#!/bin/bash
options=() range=
while [[ $1 == -* || $1 == *=*:* ]]; do
  case $1 in
    --mem | --gpu) shift 2 ;;
    --num-threads) options+=(--cpus-per-task "$2"); shift 2 ;;
    JOB=*) range=${1#JOB=}; shift ;;
    *) echo "not described: $1" >&2; exit 1 ;;
  esac
done
log=$1; shift
if [ -n "$range" ]; then
  options+=(--array "${range/:/-}")
  log=${log//JOB/\$SLURM_ARRAY_TASK_ID}; set -- "${@//JOB/\${SLURM_ARRAY_TASK_ID\}}"
fi
mkdir -p "$(dirname "$log")" q
script=$(mktemp q/XXXX.sh)
{ echo '#!/bin/bash'; echo "cd $PWD; . ./path.sh"
  echo "( echo '#' Running on \`hostname\`; echo '#' Started at \`date\`; set | grep ^SLURM | sed 's/^/# /' ) > $log"
  echo "( $* ) &>> $log"; echo 'ret=$?'
  echo "echo '#' Finished at \`date\` with status \$ret >> $log"; echo 'exit $((ret ? 1 : 0))'
} > "$script"
exec sbatch --wait --export=PATH "${options[@]}" -e "$script.log" -o "$script.log" "$PWD/$script" > /dev/null
"""


@pytest.fixture
def site(cluster, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    monkeypatch.setenv("PATH", cluster.environment["PATH"])
    for name in (
        "PYDINO_SLURM_CONF",
        "PYDINO_RECIPE_SLURM_CONF",
        "PYDINO_MADE_FROM",
        "PYDINO_FORCE",
        "SBATCH_SIGNAL",
    ):
        monkeypatch.delenv(name, raising=False)
    yield cluster
    cluster.ask("scancel", "--user", str(os.getuid()))
    cluster.until(lambda: not cluster.queue())


def test_the_recipe_detached_through_slurm_ends_as_on_this_machine(finished, site, tmp_path, monkeypatch):
    """With arrays of two tasks, from a controller that is a job itself."""
    monkeypatch.setenv("PYDINO_BACKEND", "slurm")
    begun = subprocess.run(
        command(tmp_path, "--nj", 2, "--ngpu", 0, "--detach"), capture_output=True, text=True, timeout=120
    )
    assert begun.returncode == 0 and "submitted Slurm job" in begun.stdout, begun.stderr
    said, end = tmp_path / "exp/run.log", time.monotonic() + 1200
    while not said.exists() or "# Ended (code" not in said.read_text():
        assert time.monotonic() < end and site.queue(), (
            said.read_text() if said.exists() else "it never began"
        )
        time.sleep(1)
    assert "# Ended (code 0)" in said.read_text(), said.read_text()[-6000:]
    # A job has other cores than this machine, so that sums are rounded otherwise while training; of all else
    # nothing is different.
    (there, local) = (
        [{**row, "value": None, "ci": None} for row in results(work)] for work in (tmp_path, finished)
    )
    assert there == local
    for name, tolerance in (
        ("data/test/feats.scp", 0.0),
        ("exp/untrained-*_smoke/seed0/xvectors_test/xvector.scp", 0.0),
        ("exp/dino-koleo-smoke_smoke/seed0/xvectors_test/xvector.scp", 0.01),
    ):
        ((mine,), (theirs,)) = (
            [objects(work, path.relative_to(work)) for path in work.glob(name)]
            for work in (tmp_path, finished)
        )
        assert mine.keys() == theirs.keys() and all(
            np.abs(mine[key] - theirs[key]).max() <= tolerance for key in mine
        ), name
    logs = [path for path in tmp_path.glob("exp/*/**/*.log")]
    assert len(logs) >= 30 and all(
        re.search("^# Running on 127.0.0.[23], Slurm job ", log.read_text(), re.M) for log in logs
    )
    assert not [*tmp_path.glob("exp/**/*.jobs.json")]
    status = subprocess.run(command(tmp_path, "--status"), capture_output=True, text=True, timeout=60).stdout
    assert "finished" in status and f"done     {len(logs)} jobs" in status and "failed" not in status


def test_rows_wait_in_the_queue_together_are_cancelled_and_found_again(site, tmp_path, monkeypatch):
    """Features of two sets, held in the queue: Ctrl-C cancels both, and whoever is killed finds both again."""
    tool, said = tmp_path / "bin/sbatch", tmp_path / "submitted"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$@" >> "{said}"\nexec {shutil.which("sbatch")} --hold "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PYDINO_BACKEND", "slurm")
    work = tmp_path / "work"
    prepared = subprocess.run(command(work, "--stage", 1, "--stop-stage", 1), capture_output=True, text=True)
    assert prepared.returncode == 0, prepared.stderr
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    features = command(work, "--stage", 2, "--stop-stage", 2)

    def until_both_wait(submitted):
        running = subprocess.Popen(features, stderr=subprocess.PIPE, text=True, start_new_session=True)
        logs = [work / f"exp/make_fbank/{name}/make_fbank_{name}.jobs.json" for name in ("train", "test")]
        site.until(lambda: len(site.queue()) == 2 and said.read_text().count("\n") == submitted, 60)
        site.until(lambda: all(log.exists() and read_json(log)["jobs"][0]["job"] for log in logs))
        return running

    running = until_both_wait(2)
    os.killpg(running.pid, signal.SIGINT)
    _, text = running.communicate(timeout=60)
    assert not site.queue() and text.count("SIGINT received: cancelled Slurm job") == 2, text
    assert "interrupted in stage 2: features. Resume with:" in text

    running = until_both_wait(4)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate(timeout=60)
    running, jobs = until_both_wait(4), site.queue()
    for job in jobs:
        site.ask("scontrol", "release", job)
    site.until(lambda: said.read_text().count("\n") == 6, 60)  # VAD
    for job in site.queue():
        site.ask("scontrol", "release", job)
    _, text = running.communicate(timeout=120)
    assert running.returncode == 0 and said.read_text().count("\n") == 6, text
    assert re.findall("^exp/make_fbank/(.*): run_slurm.sh: 1 of 1 jobs are in the queue", text, re.M), text


def test_a_wrapper_that_a_site_brought_along(finished, site, tmp_path):
    """Features by an array, and a training, which saves itself whoever submitted it. There is no path.sh in
    the work folder.
    """
    wrapper = tmp_path / "bin/slurm.pl"
    wrapper.parent.mkdir()
    wrapper.write_text(SITES_OWN)
    wrapper.chmod(0o755)
    work, data = tmp_path / "work", "data/test"
    work.mkdir()
    subprocess.run(
        ["bash", "-c", f". {ROOT}/path.sh; pydino copy-data-dir '{finished}/data/test' data/test"],
        cwd=work,
        check=True,
    )
    environment = {**os.environ, "PATH": f"{wrapper.parent}:{os.environ['PATH']}"}

    def step(*words):
        done = subprocess.run(
            list(map(str, words)), cwd=work, capture_output=True, text=True, timeout=300, env=environment
        )
        assert done.returncode == 0, done.stderr + "".join(
            path.read_text() for path in work.glob("exp/**/*.log")
        )

    conf = ROOT / "egs/mini/conf"
    site_cmd = ["--cmd", "slurm.pl --mem 1G"]
    step(
        ROOT / "steps/make_fbank.sh",
        *site_cmd,
        "--nj",
        2,
        "--fbank-config",
        conf / "fbank.yaml",
        data,
        "exp/make_fbank",
        "feats",
    )
    step(
        ROOT / "steps/compute_vad.sh",
        *site_cmd,
        "--nj",
        2,
        "--vad-config",
        conf / "vad.yaml",
        data,
        "exp/make_vad",
        "feats",
    )
    step(ROOT / "steps/make_train_set.sh", "--name", "test", data, "data/train_ssl")
    step(
        ROOT / "steps/train.sh",
        *site_cmd,
        "--config",
        conf / "dino-koleo-smoke.yaml",
        "data/train_ssl",
        "exp/dino/seed0",
    )
    log = (work / "exp/dino/seed0/log/train.log").read_text()
    assert (
        "with status 0" in log
        and "# SLURM_JOB_ID=" in log
        and (work / "exp/dino/seed0/teacher/model.safetensors").exists()
    )


def test_stage_0_runs_a_job_and_says_what_to_edit_where_none_runs(site, tmp_path, monkeypatch):
    """The GPUs of this cluster are those of the machine, if it has any."""
    monkeypatch.setenv("PYDINO_BACKEND", "slurm")
    monkeypatch.setenv("PYDINO_SLURM_CONF", str(tmp_path / "site.conf"))

    def check(conf, *words):
        (tmp_path / "site.conf").write_text(conf)
        words = words or command(tmp_path, "--stop-stage", 0, "--ngpu", 0)
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300)

    done = check("command sbatch\n")
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"ready: PyTorch \S+, no GPU: a job without a GPU \(127.0.0.[23], Slurm job ", done.stderr
    )
    done = check("command sbatch --partition=nowhere\n")
    assert done.returncode == 1 and f"limits are set in {tmp_path}/site.conf" in done.stderr
    assert (
        "a job without a GPU does not run" in done.stderr
        and "utils/check_slurm.sh --train-cmd" in done.stderr
    )
    by_hand = [ROOT / "utils/check_slurm.sh", "--train-cmd", "run_slurm.sh --mem 2G", "--ngpu", "1"]
    done = check("command sbatch\n", *by_hand)
    assert "a job without a GPU has run before" in done.stderr, done.stderr
    if torch.cuda.is_available():
        assert done.returncode == 0 and torch.cuda.get_device_name(0) in done.stderr
    else:
        assert done.returncode == 1
        assert "finds no GPU in a job with --gpu 1: Slurm gave it 0, for which" in done.stderr
    monkeypatch.setenv("PYDINO_DETACHED", str(tmp_path / "exp"))  # as in the job of a controller
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    done = check("command sbatch --begin=now+1hour\n", *by_hand, "--seconds", "4")
    assert done.returncode == 0 and "has run before" not in done.stderr
    assert done.stderr.count("has not run within 4 s: not seen to work yet") == 2, done.stderr
    site.until(lambda: not site.queue())


def test_what_a_job_says_whose_node_lacks_the_folder_its_python_or_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (tmp_path / "exp/check_slurm").mkdir(parents=True)
    (tmp_path / "exp/check_slurm/token").write_text("1\n")
    for words, said in (
        (["2", "python3"], f"this node sees another {tmp_path} than the machine that submitted the job"),
        (["1", "/no/python3"], "this node cannot start /no/python3"),
        (["1", sys.executable], "in a job with --gpu 1: see the lines of gpu in slurm.conf"),
    ):
        job = ["bash", ROOT / "utils/check_slurm.sh", "--on-node", *words, "1"]
        done = subprocess.run(job, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and said in done.stdout + done.stderr, done.stderr
