"""./run.sh --status and --detach: what is told of logs, the queue and trainings; a controller that outlives
its terminal, one a folder.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from pydino.cli.detach import without
from pydino.cli.status import duration
from pydino.jobs.launch.batch import fate
from pydino.jobs.pipeline import status as reading
from pydino.jobs.pipeline.status import group_name, read_groups
from pydino.jobs.slurm.lookup import new_entry

ROOT = Path(__file__).resolve().parent.parent


def date(ago=0.0):
    return time.strftime("%a %b %e %H:%M:%S %Z %Y", time.localtime(time.time() - ago))


def write_log(path, began=60, ended=None, code=0, job=None, text="working\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    where = f"# Running on n1, Slurm job {job}\n" if job else ""
    foot = (
        f"# Accounting: time=1 threads=1\n# Ended (code {code}) at {date(ended)}, elapsed time 1 seconds\n"
        if ended is not None
        else ""
    )
    path.write_text(f"# command\n{where}# Started at {date(began)}\n#\n{text}{foot}")


def status(work, path=None):
    environment = {**os.environ, **({"PATH": f"{path}{os.pathsep}{os.environ['PATH']}"} if path else {})}
    began = time.monotonic()
    done = subprocess.run(
        [ROOT / "run.sh", "--work-dir", work, "--status"],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout.splitlines(), time.monotonic() - began


def as_a_plain_user():
    """Return what to put before a command so that the permissions of files hold for it, also where root
    tests.
    """
    if os.getuid():
        return []
    if not shutil.which("setpriv"):
        pytest.skip("no setpriv: root reads everything")
    return [
        "setpriv",
        "--bounding-set=-dac_override,-dac_read_search",
        "--inh-caps=-dac_override,-dac_read_search",
    ]


def test_a_folder_that_is_not_there_is_told_from_one_where_nothing_has_run(tmp_path):
    assert status(tmp_path)[0] == [f"nothing has run in {tmp_path} yet"]
    (tmp_path / "file").touch()
    for name, what in (("new", "not there"), ("file", "no folder")):
        call = [ROOT / "run.sh", "--work-dir", tmp_path / name, "--status"]
        done = subprocess.run(call, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and f"{tmp_path / name} is {what}; --work-dir" in done.stderr, done.stderr
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_read_is_named_and_passed_over(tmp_path):
    """Also a pipe and a link to nowhere that have a log's name."""
    exp = tmp_path / "exp"
    for name in ("good", "locked", "closed"):
        write_log(exp / f"{name}/x.log", ended=30)
    os.mkfifo(exp / "good/pipe.log")
    (exp / "good/link.log").symlink_to("nowhere")
    (exp / "locked/x.log").chmod(0)
    (exp / "closed").chmod(0)
    call = [*as_a_plain_user(), "pydino", "status", tmp_path]
    done = subprocess.run(call, capture_output=True, text=True, timeout=60)
    (exp / "closed").chmod(0o700)
    assert done.returncode == 0 and done.stderr == "" and "done     1 jobs" in done.stdout, done.stderr
    (note,) = [line for line in done.stdout.splitlines() if line.startswith("note")]
    assert "unreadable: " in note and f"{exp}/locked/x.log" in note and f"{exp}/closed" in note
    assert "pipe.log" not in done.stdout and "link.log" not in done.stdout


def test_a_log_that_is_renamed_meanwhile_is_passed_over(tmp_path, monkeypatch):
    for name in ("a", "b"):
        write_log(tmp_path / f"x/{name}.log", ended=30)
    read = reading.read_log

    def renamed(path):
        if path.endswith("/a.log"):
            os.rename(path, f"{path}.1")
        return read(path)

    monkeypatch.setattr(reading, "read_log", renamed)
    groups, remarks = read_groups(tmp_path)
    assert [group.name for group in groups] == [f"{tmp_path}/x/b.log"] and remarks == []


def test_ends_are_told_apart_and_nothing_is_touched(tmp_path):
    exp = tmp_path / "exp"
    for number in (1, 2, 3, 4):
        write_log(exp / f"make_x/make.{number}.log", ended=30, code=int(number in (2, 4)))
    write_log(exp / "by_hand.log", ended=40)
    write_log(exp / "run.stage2.log", ended=20)  # a controller's
    write_log(exp / "killed/log/train.log", began=4000)
    write_log(exp / "again/log/train.log", began=500, ended=300, code=143)
    with open(exp / "again/log/train.log", "a") as stream:  # a requeued job goes on in the same log
        stream.write(f"# command\n# Started at {date(100)}\n")
    (exp / "kaldi/log").mkdir(parents=True)
    (exp / "kaldi/log/plda.log").write_text(
        f"# Running on h\n# Started at {date(90)}\n# x\nx\n# Finished at {date(9)} with status 0\n"
    )
    before = sorted((str(p), p.stat().st_mtime_ns) for p in tmp_path.rglob("*"))
    with open(exp / "again/log/train.log", "a"):
        lines, _ = status(tmp_path)
    assert sorted((str(p), p.stat().st_mtime_ns) for p in tmp_path.rglob("*")) == before
    text = "\n".join(lines)
    assert (
        f"failed   {exp}/make_x/make.*.log   2 of 4 (jobs 2 4), code 1, " in text
        and "30 s ago" in text.replace("31 s", "30 s")
    )
    assert f"died     {exp}/killed/log/train.log" in text
    assert f"running  {exp}/again/log/train.log   for 1 min" in text
    assert "done     4 jobs; the last" in text and f"{exp}/kaldi/log/plda.log" in text


def test_the_queue_speaks_for_slurms_jobs(tmp_path):
    exp, bin = tmp_path / "exp", tmp_path / "bin"
    bin.mkdir()
    (bin / "squeue").write_text("#!/bin/sh\necho '12|N/A|RUNNING|n1'\necho '13|1|PENDING|(Priority)'\n")
    (bin / "squeue").chmod(0o755)
    write_log(exp / "run/log/train.log", began=3700, job=12, text="x: epoch 1 (step 100 of 400): loss\n")
    write_log(exp / "gone/log/train.log", job=11)
    (exp / "run/log/train.jobs.json").write_text(
        json.dumps({"digest": "", "jobs": [{"job": "12;cluster", "numbers": "1"}]})
    )
    (exp / "make_x").mkdir()
    (exp / "make_x/make.jobs.json").write_text(
        json.dumps({"digest": "", "jobs": [{"job": "13", "numbers": "1-4"}]})
    )
    line = {"epoch": 25.0, "step": 100, "utterances_per_second": 10.0}
    (exp / "run/log.jsonl").write_text(json.dumps(line) + "\n{cut sh")
    (exp / "run/config.yaml").write_text("epochs: 100\nbatch_size: 60\n")
    (exp / "run/checkpoints").mkdir()
    (exp / "run/checkpoints/step000000090.pt").write_text("")
    text = "\n".join(status(tmp_path, bin)[0])
    assert f"running  {exp}/run/log/train.log   for 1 h 1 min, Slurm job 12 on n1" in text
    assert re.search(
        r"step 100 of 400 \(25 %\), epoch 25, 10 utt/s, about (30|29) min left, saved at step 90, \d s ago",
        text,
    ), text
    assert f"waiting  {exp}/make_x/make.*.log   Slurm job 13 (Priority)" in text
    assert f"died     {exp}/gone/log/train.log" in text


def test_thousands_of_logs_take_less_than_a_second(tmp_path):
    for number in range(2000):
        write_log(tmp_path / f"exp/make_x/make.{number}.log", ended=1)
    lines, seconds = status(tmp_path)
    assert "done     2000 jobs" in lines[0] and seconds < 2.0  # one, on a machine that does nothing else


def detach(work, *command):
    return subprocess.run(
        ["pydino", "detach", work / "exp", "--", *command], capture_output=True, text=True, timeout=30
    )


@pytest.fixture
def work(tmp_path):
    yield tmp_path
    record = tmp_path / "exp/run.json"
    if record.exists():
        try:
            os.kill(json.loads(record.read_text())["pid"], signal.SIGTERM)
        except ProcessLookupError:
            pass


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_controller_runs_to_the_end_by_itself(work):
    done = detach(
        work, "bash", "-c", "sleep 0.3; echo \"$(date '+%F %T') run.sh: stage 4: pretrain\" >&2; exit 3"
    )
    assert done.returncode == 0 and "exp/run.log" in done.stdout, done.stderr
    log = work / "exp/run.log"
    until(lambda: log.exists() and "# Ended" in log.read_text())
    assert (
        re.match(r"# bash -c .*\n# Running on .*\n# Started at ", log.read_text())
        and "# Ended (code 3) at " in log.read_text()
    )
    text = "\n".join(status(work)[0])
    assert "ended with code 3" in text and "stage 4: pretrain" in text


def test_one_controller_a_folder_and_its_end_is_that_of_all_it_started(work):
    log = work / "exp/run.log"
    assert detach(work, "bash", "-c", "echo up; sleep 61 & sleep 62; echo never").returncode == 0
    until(lambda: log.exists() and "up" in log.read_text())
    second = detach(work, "true")
    assert second.returncode == 1 and "is running in" in second.stderr and "running, process" in second.stderr
    pid = json.loads((work / "exp/run.json").read_text())["pid"]
    assert os.getsid(pid) != os.getsid(0)
    os.kill(pid, signal.SIGHUP)  # the terminal has gone
    assert "running, process" in "\n".join(status(work)[0])
    os.kill(pid, signal.SIGTERM)
    until(lambda: "# Ended (code 143)" in log.read_text())
    assert "\nnever\n" not in log.read_text()
    until(lambda: detach(work, "true").returncode == 0)


def test_what_a_killed_controller_left_keeps_the_folder(work):
    log = work / "exp/run.log"
    assert detach(work, "bash", "-c", "echo $$; exec sleep 30").returncode == 0
    until(lambda: log.exists() and re.search(r"^\d+$", log.read_text(), flags=re.MULTILINE))
    os.kill(json.loads((work / "exp/run.json").read_text())["pid"], signal.SIGKILL)
    group = re.search(r"^\d+$", log.read_text(), flags=re.MULTILINE)[0]
    until(lambda: "is gone without an end in its log" in "\n".join(status(work)[0]))
    line = f"what the controller started still runs (kill -- -{group} ends it); the controller itself is gone"
    assert line in "\n".join(status(work)[0])
    second = detach(work, "true")
    assert second.returncode == 1 and line in second.stderr
    subprocess.run(["bash", "-c", f"kill -- -{group}"], check=True)
    until(lambda: detach(work, "true").returncode == 0)


def test_a_record_that_cannot_be_read(work):
    (work / "exp").mkdir()
    for text in (
        "{",
        "[]",
        '{"kind": "local", "pid": 1, "since": 1}',
        '{"kind": "slurm", "jobs": [{"name": "controller", "job": null}]}',
    ):
        (work / "exp/run.json").write_text(text)
        (note,) = status(work)[0]
        assert (
            note.startswith("note ")
            and "run.json, the record of a detached pipeline, cannot be read" in note
            and "remove it" in note
        )
        done = detach(work, "true")
        assert (
            done.returncode == 1
            and note.removeprefix("note     ") in done.stderr
            and "Traceback" not in done.stderr
        )
    (work / "exp/run.json").unlink()


@pytest.mark.parametrize("closed", ["exp", "exp/.run.lock"])
def test_a_folder_of_somebody_else(tmp_path, closed):
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp/.run.lock").touch()
    mode = (tmp_path / closed).stat().st_mode
    (tmp_path / closed).chmod(0o555 if closed == "exp" else 0o444)
    call = [*as_a_plain_user(), "pydino", "detach", tmp_path / "exp", "--", "true"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=30)
    (tmp_path / closed).chmod(mode)
    assert (
        done.returncode == 1
        and "cannot " in done.stderr
        and str(tmp_path / "exp") in done.stderr
        and "Traceback" not in done.stderr
    )
    assert not (tmp_path / "exp/run.json").exists()


def test_a_program_that_cannot_be_started(tmp_path):
    done = detach(tmp_path, "./nowhere")
    assert (
        done.returncode == 1
        and "cannot run ./nowhere: there is no such program" in done.stderr
        and not (tmp_path / "exp").exists()
    )
    call = ["pydino", "detach", "--control", "local", tmp_path / "exp", "--", tmp_path]
    done = subprocess.run(call, capture_output=True, text=True, timeout=30)
    assert (
        done.returncode == 127
        and f"cannot run {tmp_path}: Permission denied\n" in done.stdout
        and "# Ended (code 127)" in done.stdout
    )
    assert "Traceback" not in done.stdout + done.stderr


def run_sh(work, *options):
    call = [
        ROOT / "run.sh",
        "--corpus-dir",
        ROOT / "egs/emodb",
        "--root",
        "nowhere",
        "--work-dir",
        work,
        *options,
    ]
    return subprocess.run(call, cwd=work, capture_output=True, text=True, timeout=60)


def test_nothing_runs_beside_a_detached_pipeline(work):
    assert detach(work, "sleep", "60").returncode == 0
    refused = run_sh(work, "--stage", "1", "--stop-stage", "1")
    assert (
        refused.returncode == 1 and "is running in" in refused.stderr and "running, process" in refused.stderr
    )
    for options in (["--list"], ["--dry-run"], ["--stage", "0", "--stop-stage", "0"]):
        assert "is running in" not in run_sh(work, *options).stderr
    os.kill(json.loads((work / "exp/run.json").read_text())["pid"], signal.SIGTERM)
    until(lambda: "# Ended (code 143)" in (work / "exp/run.log").read_text())
    assert "stage 1: data" in run_sh(work, "--stage", "1", "--stop-stage", "1").stderr


def test_what_only_tells_is_not_detached(tmp_path):
    for option, text in (("--list", " features "), ("--dry-run", "steps/make_fbank.sh")):
        done = run_sh(tmp_path, "--detach", "--stop-stage", "4", option)
        assert done.returncode == 0 and text in done.stdout and not (tmp_path / "exp/run.json").exists(), (
            done.stderr
        )


def test_a_controller_keeps_what_its_call_forces(work, monkeypatch):
    monkeypatch.setenv("PYDINO_FORCE", "20261123063000-4242")
    assert detach(work, "bash", "-c", "echo =$PYDINO_FORCE=").returncode == 0
    until(lambda: "# Ended" in (work / "exp/run.log").read_text())
    assert "=20261123063000-4242=" in (work / "exp/run.log").read_text()


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Commands of a Slurm that takes one job at once, another when there is a file, and tells in files what
    it was asked.
    """
    bin = tmp_path / "bin"
    bin.mkdir()
    programs = {
        "sbatch": """echo "${@: -1}" >> $0.asked; n=$(wc -l < $0.asked)
            if [ $n -gt 1 ]; then
              touch $0.slow; for i in {1..300}; do [ -e $0.go ] || sleep 0.1; done; fi; echo $((40 + n))""",
        "squeue": "exit 0",
        "scancel": 'echo "$@" >> $0.asked',
        "scontrol": "cat $0.says",
    }
    for name, text in programs.items():
        (bin / name).write_text(f"#!/bin/bash\n{text}\n")
        (bin / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(bin), prepend=os.pathsep)
    monkeypatch.setenv("PYDINO_SLURM_CONF", str(tmp_path / "slurm.conf"))
    (tmp_path / "slurm.conf").write_text("command sbatch\noption mem=*\n")
    return bin


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_chain_that_is_interrupted_while_it_is_submitted_leaves_no_job(tmp_path, slurm, number):
    options = ["--chain", "2 3 4", "--train-cmd", "run_slurm.sh", "--cuda-cmd", "run_slurm.sh"]
    call = ["pydino", "detach", *options, tmp_path / "exp", "--", "true"]
    process = subprocess.Popen(call, stderr=subprocess.PIPE, text=True)
    until(lambda: (slurm / "sbatch.slow").exists())
    jobs = [
        (entry["name"], entry["job"]) for entry in json.loads((tmp_path / "exp/run.json").read_text())["jobs"]
    ]
    assert jobs == [("stage 2", "41"), ("stage 3", None)]
    assert "stage 3: not submitted (yet)" in "\n".join(status(tmp_path)[0])
    process.send_signal(number)
    (slurm / "sbatch.go").touch()
    said = process.communicate(timeout=30)[1]
    # SIGINT: so that a shell in front learns of it
    assert process.returncode in (128 + number, -number), said
    assert "cancelled what was submitted so far: Slurm job 41 42" in said
    assert (slurm / "scancel.asked").read_text() == "41 42\n"
    assert len((slurm / "sbatch.asked").read_text().splitlines()) == 2


def test_a_job_whose_number_is_lost_keeps_the_folder(tmp_path, slurm):
    script = tmp_path / "exp/run.slurm.sh"
    entry = new_entry(str(script), name="controller")
    script.parent.mkdir()
    (tmp_path / "exp/run.json").write_text(json.dumps({"kind": "slurm", "jobs": [entry]}))
    rows = f'case "$*" in *%o*) echo "7|RUNNING|{entry["user"]}|x|/|{script}" ;; *) echo "7|N/A|RUNNING|n1" ;; esac'
    (slurm / "squeue").write_text(f"#!/bin/bash\n{rows}\n")
    assert "controller, Slurm job 7: running (n1)" in "\n".join(status(tmp_path)[0])
    done = detach(tmp_path, "true")
    assert done.returncode == 1 and "controller, Slurm job 7: running (n1)" in done.stderr
    (slurm / "squeue").write_text("#!/bin/bash\necho slurm_load_jobs error: Socket timed out >&2; exit 1\n")
    done = detach(tmp_path, "true")
    assert done.returncode == 1 and "cannot be found out here" in done.stderr and "then remove" in done.stderr
    (slurm / "squeue").write_text("#!/bin/bash\n")
    assert detach(tmp_path, "true").returncode == 0


def test_a_controller_that_sbatch_refuses_is_not_on_record(tmp_path, slurm):
    (slurm / "sbatch").write_text("#!/bin/bash\necho 'sbatch: error: invalid partition' >&2; exit 1\n")
    call = ["pydino", "detach", "--wrapper", "run_slurm.sh", tmp_path / "exp", "--", "true"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and "sbatch refused: sbatch: error: invalid partition" in done.stderr
    assert not (tmp_path / "exp/run.json").exists()


def test_a_controllers_own_configuration_is_used(tmp_path, slurm):
    (tmp_path / "own.conf").write_text("command sbatch --partition=small\n")
    (slurm / "sbatch").write_text('#!/bin/bash\necho "$@" > $0.asked; echo 41\n')
    wrapper = f"run_slurm.sh --config {tmp_path}/own.conf"
    call = ["pydino", "detach", "--wrapper", wrapper, tmp_path / "exp", "--", "true"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and "submitted Slurm job 41" in done.stdout, done.stderr
    assert (slurm / "sbatch.asked").read_text().startswith("--partition=small --parsable --requeue ")


def test_where_slurm_is_not_a_pipeline_that_ended_keeps_nobody_out(tmp_path, slurm):
    for name in ("squeue", "sbatch"):
        (slurm / name).write_text("#!/bin/bash\necho Unable to contact slurm controller >&2; exit 1\n")
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp/run.json").write_text(
        json.dumps({"kind": "slurm", "jobs": [{"name": "controller", "job": "7"}]})
    )
    for code, kept_out in ((0, False), (1, False), (138, True), (None, True)):
        write_log(tmp_path / "exp/run.log", ended=None if code is None else 1, code=code)
        done = subprocess.run(
            ["pydino", "detach", "--check", tmp_path / "exp"], capture_output=True, text=True, timeout=30
        )
        assert (done.returncode, "cannot be found out here" in done.stderr) == (int(kept_out), kept_out)


def test_what_slurm_means_with_a_controller(slurm, monkeypatch):
    """As Slurm 22.05 tells it: what is being ended is COMPLETING, for whatever reason."""
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    for meant, shown in (
        ("cancelled", "JobState=COMPLETING Reason=None Restarts=1 PreemptTime=None"),
        ("cancelled", "JobState=CANCELLED Reason=None Restarts=1 PreemptTime=None"),
        ("queued again", "JobState=COMPLETING Reason=None Restarts=2 PreemptTime=None"),
        ("queued again", "JobState=PENDING Reason=BeginTime Restarts=2 PreemptTime=None"),
        ("ended early", "JobState=COMPLETING Reason=TimeLimit Restarts=1 PreemptTime=None"),
        ("ended early", "JobState=COMPLETING Reason=None Restarts=1 PreemptTime=2026-11-23T06:39:26"),
        ("ended early", "JobState=NODE_FAIL Reason=NodeDown Restarts=1 PreemptTime=None"),
        ("unknown", "JobState=RUNNING Reason=None Restarts=1 PreemptTime=None"),
        ("unknown", ""),
    ):
        (slurm / "scontrol.says").write_text(f"JobId=7 {shown} Dependency=(null)\n" if shown else "")
        assert fate("7") == meant, shown


def test_run_sh_hands_its_call_over_as_it_was_given(work):
    """Options with blanks, and a folder that is relative to where the user stands; mistakes are said
    before.
    """
    call = [
        "--corpus-dir",
        ROOT / "egs/emodb",
        "--stage",
        "1",
        "--stop-stage",
        "1",
        "--root",
        "no where",
        "--work-dir",
        "w x",
    ]
    call.append("--detach")
    mistaken = subprocess.run(
        [ROOT / "run.sh", *call, "--nj", "none"], cwd=work, capture_output=True, text=True, timeout=60
    )
    assert (
        mistaken.returncode == 1
        and "--nj needs a whole number" in mistaken.stderr
        and not (work / "w x/exp").exists()
    )
    done = subprocess.run([ROOT / "run.sh", *call], cwd=work, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "runs the pipeline; log is in" in done.stdout, done.stderr
    log = work / "w x/exp/run.log"
    until(lambda: log.exists() and "# Ended (code 1)" in log.read_text())
    assert "stage 1: data failed" in log.read_text() and f"{work}/no where" in log.read_text()
    assert "--detach" not in log.read_text()


def test_the_controllers_call_is_the_users_without_what_detached_it():
    call = [
        "run.sh",
        "--detach",
        "--stage",
        "2",
        "--chain=true",
        "--tag",
        "detach",
        "--detach",
        "false",
        "--stop_stage=5",
    ]
    assert without(call, ("--detach", "--chain"), bare=True) == [
        "run.sh",
        "--stage",
        "2",
        "--tag",
        "detach",
        "--stop_stage=5",
    ]
    assert without(
        ["run.sh", "--stage", "2", "--stop_stage=5", "--tag", "x"], ("--stage", "--stop-stage")
    ) == ["run.sh", "--tag", "x"]


def test_small_things():
    assert [duration(s) for s in (5, 75, 7260, 90000)] == ["5 s", "1 min", "2 h 1 min", "1 d 1 h"]
    assert (
        group_name(Path("a.b/make.12.log")) == "a.b/make.*.log"
        and group_name(Path("a/train.log")) == "a/train.log"
    )
