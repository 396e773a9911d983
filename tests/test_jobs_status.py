"""./run.sh --status and --detach: what is told of logs, the queue and trainings; a controller that outlives its terminal, one a folder."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from pydino.cli.detach import without
from pydino.cli.status import duration
from pydino.jobs.status import group_name

ROOT = Path(__file__).resolve().parent.parent


def date(ago=0.0):
    return time.strftime("%a %b %e %H:%M:%S %Z %Y", time.localtime(time.time() - ago))


def write_log(path, began=60, ended=None, code=0, job=None, text="working\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    where = f"# Running on n1, Slurm job {job}\n" if job else ""
    foot = f"# Accounting: time=1 threads=1\n# Ended (code {code}) at {date(ended)}, elapsed time 1 seconds\n" if ended is not None else ""
    path.write_text(f"# command\n{where}# Started at {date(began)}\n#\n{text}{foot}")


def status(work, path=None):
    environment = {**os.environ, **({"PATH": f"{path}{os.pathsep}{os.environ['PATH']}"} if path else {})}
    began = time.monotonic()
    done = subprocess.run([ROOT / "run.sh", "--work-dir", work, "--status"], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout.splitlines(), time.monotonic() - began


def test_a_folder_where_nothing_has_run_is_not_made(tmp_path):
    assert status(tmp_path / "new")[0] == [f"nothing has run in {tmp_path / 'new'} yet"]
    assert not (tmp_path / "new").exists()


def test_ends_are_told_apart_and_nothing_is_touched(tmp_path):
    exp = tmp_path / "exp"
    for number in (1, 2, 3, 4):
        write_log(exp / f"make_x/make.{number}.log", ended=30, code=int(number in (2, 4)))
    write_log(exp / "killed/log/train.log", began=4000)
    write_log(exp / "again/log/train.log", began=500, ended=300, code=143)
    with open(exp / "again/log/train.log", "a") as stream:  # a requeued job goes on in the same log
        stream.write(f"# command\n# Started at {date(100)}\n")
    (exp / "kaldi/log").mkdir(parents=True)
    (exp / "kaldi/log/plda.log").write_text(f"# Running on h\n# Started at {date(90)}\n# x\nx\n# Finished at {date(9)} with status 0\n")
    before = sorted((str(p), p.stat().st_mtime_ns) for p in tmp_path.rglob("*"))
    with open(exp / "again/log/train.log", "a"):
        lines, _ = status(tmp_path)
    assert sorted((str(p), p.stat().st_mtime_ns) for p in tmp_path.rglob("*")) == before
    text = "\n".join(lines)
    assert f"failed   {exp}/make_x/make.*.log   2 of 4 (jobs 2 4), code 1, " in text and "30 s ago" in text.replace("31 s", "30 s")
    assert f"died     {exp}/killed/log/train.log" in text
    assert f"running  {exp}/again/log/train.log   for 1 min" in text
    assert "done     3 jobs; the last" in text and f"{exp}/kaldi/log/plda.log" in text


def test_the_queue_speaks_for_slurms_jobs(tmp_path):
    exp, bin = tmp_path / "exp", tmp_path / "bin"
    bin.mkdir()
    (bin / "squeue").write_text("#!/bin/sh\necho '12|N/A|RUNNING|n1'\necho '13|1|PENDING|(Priority)'\n")
    (bin / "squeue").chmod(0o755)
    write_log(exp / "run/log/train.log", began=3700, job=12, text="x: epoch 1 (step 100 of 400): loss\n")
    write_log(exp / "gone/log/train.log", job=11)
    (exp / "run/log/train.jobs.json").write_text(json.dumps({"digest": "", "jobs": [{"job": "12;cluster", "numbers": "1"}]}))
    (exp / "make_x").mkdir()
    (exp / "make_x/make.jobs.json").write_text(json.dumps({"digest": "", "jobs": [{"job": "13", "numbers": "1-4"}]}))
    line = {"epoch": 25.0, "step": 100, "utterances_per_second": 10.0}
    (exp / "run/log.jsonl").write_text(json.dumps(line) + "\n{cut sh")
    (exp / "run/config.yaml").write_text("epochs: 100\nbatch_size: 60\n")
    (exp / "run/checkpoints").mkdir()
    (exp / "run/checkpoints/step000000090.pt").write_text("")
    text = "\n".join(status(tmp_path, bin)[0])
    assert f"running  {exp}/run/log/train.log   for 1 h 1 min, Slurm job 12 on n1" in text
    assert re.search(r"step 100 of 400 \(25 %\), epoch 25, 10 utt/s, about (30|29) min left, saved at step 90, \d s ago", text), text
    assert f"waiting  {exp}/make_x/make.*.log   Slurm job 13 (Priority)" in text
    assert f"died     {exp}/gone/log/train.log" in text


def test_thousands_of_logs_take_less_than_a_second(tmp_path):
    for number in range(2000):
        write_log(tmp_path / f"exp/make_x/make.{number}.log", ended=1)
    lines, seconds = status(tmp_path)
    assert "done     2000 jobs" in lines[0] and seconds < 2.0  # one, on a machine that does nothing else


def detach(work, *command):
    return subprocess.run(["pydino", "detach", work / "exp", "--", *command], capture_output=True, text=True, timeout=30)


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
    done = detach(work, "bash", "-c", "sleep 0.3; echo \"$(date '+%F %T') run.sh: stage 4: pretrain\" >&2; exit 3")
    assert done.returncode == 0 and "exp/run.log" in done.stdout, done.stderr
    log = work / "exp/run.log"
    until(lambda: log.exists() and "# Ended" in log.read_text())
    assert re.match(r"# bash -c .*\n# Running on .*\n# Started at ", log.read_text()) and "# Ended (code 3) at " in log.read_text()
    text = "\n".join(status(work)[0])
    assert "ended with code 3" in text and "stage 4: pretrain" in text


def test_one_controller_a_folder_and_its_end_is_that_of_all_it_started(work):
    log = work / "exp/run.log"
    assert detach(work, "bash", "-c", "echo up; sleep 61 & sleep 62; echo never").returncode == 0
    until(lambda: log.exists() and "up" in log.read_text())
    second = detach(work, "true")
    assert second.returncode == 1 and "is at work in" in second.stderr and "running, process" in second.stderr
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
    until(lambda: "is gone, without a word" in "\n".join(status(work)[0]))
    assert detach(work, "true").returncode == 1
    os.kill(int(re.search(r"^\d+$", log.read_text(), flags=re.MULTILINE)[0]), signal.SIGKILL)
    until(lambda: detach(work, "true").returncode == 0)


def test_run_sh_hands_its_call_over_as_it_was_given(work):
    """Options with blanks, and a folder that is relative to where the user stands; mistakes are said before."""
    call = ["--corpus-dir", ROOT / "egs/emodb", "--stage", "1", "--stop-stage", "1", "--emodb-root", "no where", "--work-dir", "w x"]
    call.append("--detach")
    mistaken = subprocess.run([ROOT / "run.sh", *call, "--nj", "none"], cwd=work, capture_output=True, text=True, timeout=60)
    assert mistaken.returncode == 1 and "--nj needs a whole number" in mistaken.stderr and not (work / "w x/exp").exists()
    done = subprocess.run([ROOT / "run.sh", *call], cwd=work, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "runs the pipeline; log is in" in done.stdout, done.stderr
    log = work / "w x/exp/run.log"
    until(lambda: log.exists() and "# Ended (code 1)" in log.read_text())
    assert "stage 1: data failed" in log.read_text() and f"{work}/no where" in log.read_text()
    assert "--detach" not in log.read_text()


def test_the_controllers_call_is_the_users_without_what_detached_it():
    call = ["run.sh", "--detach", "--stage", "2", "--chain=true", "--tag", "detach", "--detach", "false", "--stop_stage=5"]
    assert without(call, ("--detach", "--chain"), bare=True) == ["run.sh", "--stage", "2", "--tag", "detach", "--stop_stage=5"]
    assert without(["run.sh", "--stage", "2", "--stop_stage=5", "--tag", "x"], ("--stage", "--stop-stage")) == ["run.sh", "--tag", "x"]


def test_small_things():
    assert [duration(s) for s in (5, 75, 7260, 90000)] == ["5 s", "1 min", "2 h 1 min", "1 d 1 h"]
    assert group_name(Path("a.b/make.12.log")) == "a.b/make.*.log" and group_name(Path("a/train.log")) == "a/train.log"
