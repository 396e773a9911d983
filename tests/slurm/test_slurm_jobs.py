"""utils/run_slurm.sh against a real Slurm: what becomes of jobs, and of those that wait for them."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WRAPPER = ROOT / "utils/run_slurm.sh"
POLL = "poll 0.5\n"  # of a site's slurm.conf: ask Slurm every half second
pytestmark = pytest.mark.slurm


@pytest.fixture
def folder(tmp_path, cluster, monkeypatch):
    """Blanks, letters beyond ASCII, a percent sign, and the letters JOB, in a word and as one."""
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    for name in (
        "PYDINO_SLURM_CONF",
        "PYDINO_RECIPE_SLURM_CONF",
        "PYDINO_MADE_FROM",
        "PYDINO_FORCE",
        "CUDA_VISIBLE_DEVICES",
    ):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "my JOB dïr 5%j" / "JOBS"
    (folder / "conf").mkdir(parents=True)
    (folder / "conf/slurm.conf").write_text(POLL)
    return folder


def call(folder, *arguments, wrapper=WRAPPER, **variables):
    return subprocess.run(
        [wrapper, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
        env={**os.environ, **variables},
    )


def hear_signals():
    """What a shell starts in the background ignores SIGINT, and so would the wrapper if the tests were
    started so.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def begin(folder, *arguments, until="begun.*", count=1, **variables):
    """Start a wrapper and return when its jobs have made their files."""
    process = subprocess.Popen(
        [WRAPPER, *map(str, arguments)],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_signals,
        env={**os.environ, **variables},
    )
    end = time.monotonic() + 40
    while len(list(folder.glob(until))) < count:
        assert time.monotonic() < end and process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    return process


def record(folder, name="a"):
    return json.loads((folder / f"{name}.jobs.json").read_text())


def number_of(stderr):
    return re.findall(r"run_slurm\.sh: Slurm job (\d+)", stderr)


# Leaves a mark for each time it begins; ends when it may.
PATIENT = "mktemp begun.$1.XXXX; for i in {1..600}; do [ ! -e go ] || exit 0; sleep 0.1; done; exit 9"
ARRAY = ["JOB=1:2", "a.JOB.log", "bash", "-c", PATIENT, "x", "JOB"]


@pytest.fixture(scope="session")
def out_of_time(cluster, tmp_path_factory):
    """A job whose time is up: Slurm looks every 30 seconds, so it is begun with the first test and looked at
    by the last.
    """
    folder = tmp_path_factory.mktemp("late")
    process = begin(
        folder,
        "--time",
        "1",
        "--mem",
        "10M",
        "late.log",
        "bash",
        "-c",
        "touch begun.1; sleep 100",
        SLURM_CONF=str(cluster.conf),
    )
    cluster.ask("scontrol", "update", f"jobid={record(folder, 'late')['jobs'][0]['job']}", "EndTime=now+1")
    yield folder, process
    process.kill()


def test_array_with_logs_like_local_ones(folder, cluster, out_of_time):
    arguments = [
        "--mem",
        "10M",
        "--num-threads",
        "2",
        "JOB=2:4",
        "log/x.JOB.log",
        "echo",
        "x.JOB.ark",
        "JOBS",
        "two  words",
        "it's",
    ]
    arguments += ["|", "cat", ">&2", "&&", "bash", "-c", "echo $OMP_NUM_THREADS threads; printf end"]
    done = call(folder, *arguments)
    assert done.returncode == 0, done.stderr
    job = number_of(done.stderr)[0]
    assert done.stderr == f"run_slurm.sh: Slurm job {job}, 3 tasks, log is in log/x.*.log\n"
    date = r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \S+ \d{4}"
    for number in (2, 3, 4):
        assert re.fullmatch(
            rf"""# echo x.{number}.ark JOBS 'two  words' 'it'"'"'s' \| cat >&2 && bash -c 'echo \$OMP_NUM_THREADS threads; printf end'
# Running on 127.0.0.[23], Slurm job {job}_{number}
# Started at {date}
#
x.{number}.ark JOBS two  words it's
2 threads
end
# Accounting: time=\d+ threads=2
# Ended \(code 0\) at {date}, elapsed time \d+ seconds
""",
            (folder / f"log/x.{number}.log").read_text(),
        )
    assert sorted(path.name for path in (folder / "log").iterdir()) == [
        "x.2.log",
        "x.3.log",
        "x.4.log",
        "x.slurm.sh",
    ]
    assert "MinMemoryNode=10M" in cluster.show(job) and "CPUs/Task=2" in cluster.show(job)


def test_failures_are_named_with_their_codes(folder):
    job = ["bash", "-c", "echo work JOB; exit $((JOB == 2 ? 7 : 0))"]
    done = call(folder, "JOB=1:4", "a.JOB.log", *job, "&&", "test", "JOB", "!=", "4", "|", "true")
    assert done.returncode == 1
    assert "run_slurm.sh: 2 / 4 failed, log is in a.*.log\nrun_slurm.sh: failed jobs: 2 4\n" in done.stderr
    assert re.search(r"run_slurm.sh: job 2 \(Slurm job \d+_2\): FAILED with exit code 7\n", done.stderr)
    # a member of a pipe
    assert re.search(r"run_slurm.sh: job 4 \(Slurm job \d+_4\): FAILED with exit code 1\n", done.stderr)
    assert (
        "    work 2\n" in done.stderr
        and "work 4" not in done.stderr
        and "# Ended (code 7) at" in (folder / "a.2.log").read_text()
    )
    single = call(folder, "b.log", "false")
    assert single.returncode == 1 and "run_slurm.sh: job failed, log is in b.log\n" in single.stderr
    call(folder, "b.log", "echo", "second")
    assert "\nsecond\n" in (folder / "b.log").read_text() and "# false" in (folder / "b.log.1").read_text()


def test_a_rerun_does_only_what_failed_or_is_missing(folder):
    (folder / "job.sh").write_text("echo $1 >> ran; [ -e mended ] || [ $1 != 2 ]\n")
    arguments = ["JOB=1:4", "a.JOB.log", "bash", "job.sh", "JOB"]

    def ran(made_from, wrapper=WRAPPER):
        (folder / "ran").write_text("")
        done = call(folder, *arguments, wrapper=wrapper, PYDINO_MADE_FROM=made_from)
        return done.returncode, sorted((folder / "ran").read_text().split())

    assert ran("one") == (1, ["1", "2", "3", "4"])
    (folder / "a.4.log").unlink()
    assert ran("one") == (1, ["2", "4"])
    assert ran("two") == (1, ["1", "2", "3", "4"])  # made from something else
    (folder / "mended").touch()
    assert ran("two", ROOT / "utils/run_local.sh") == (0, ["2"])  # also on another back-end
    # all was well: a step that calls again has lost its output
    assert ran("two") == (0, ["1", "2", "3", "4"])


def test_retries(folder):
    job = "[ $1 = 1 ] || { mktemp try.$1.XXXX; [ $1 = 2 ] && [ $(ls try.2.* | wc -l) = 3 ]; }"
    done = call(folder, "--retries", "2", "JOB=1:3", "a.JOB.log", "bash", "-c", job, "x", "JOB")
    assert done.returncode == 1 and "run_slurm.sh: failed jobs: 3\n" in done.stderr
    assert "run_slurm.sh: jobs 2-3 ended with FAILED, again (2 of 2)\n" in done.stderr
    assert len(set(number_of(done.stderr))) == 3 and len(list(folder.glob("try.*"))) == 6


def test_at_most_so_many_at_once_each_with_its_gpu(folder):
    job = "touch running.$1; sleep 0.5; ls running.* | wc -l; rm running.$1; echo gpus $CUDA_VISIBLE_DEVICES"
    done = call(
        folder,
        "--gpu",
        1,
        "--max-jobs-run",
        1,
        "JOB=1:3",
        "a.JOB.log",
        "bash",
        "-c",
        job,
        "x",
        "JOB",
        CUDA_VISIBLE_DEVICES="7",
    )
    assert done.returncode == 0, done.stderr
    for number in (1, 2, 3):
        assert re.search(r"^1\ngpus [01]$", (folder / f"a.{number}.log").read_text(), re.M)


def test_the_sites_configuration(folder, cluster):
    """What was given beats what the line of another option brings along, in whatever order it was given; and
    what sbatch is told last.
    """
    (folder / "conf/slurm.conf").write_text(
        f"{POLL}command sbatch --partition=hi --job-name=mine   # ours\noption time=* --time $0\noption mem=* "
        "--mem-per-cpu=$0\n"
        "default gpu=0\noption gpu=0 --time=5 --comment='no gpu'\noption gpu=* --gres=gpu:$0 --time=4:0:0 "
        "--partition=batch\n"
        "option nice=* --nice=$0\n"
    )
    jobs = {}
    for name, options in {
        "a": ["--time", "7", "--gpu", "1"],
        "b": ["--gpu=1", "--mem", "0.5G", "--nice", "3"],
        "c": [],
    }.items():
        done = call(folder, *options, f"{name}.log", "true")
        assert done.returncode == 0, done.stderr
        jobs[name] = cluster.show(number_of(done.stderr)[0])
    assert (
        "TimeLimit=00:07:00" in jobs["a"] and "Partition=batch" in jobs["a"] and "JobName=mine" in jobs["a"]
    )
    assert "TimeLimit=04:00:00" in jobs["b"] and "MinMemoryCPU=512M" in jobs["b"] and "Nice=3" in jobs["b"]
    assert "TimeLimit=00:05:00" in jobs["c"] and "Partition=hi" in jobs["c"] and "Comment=no gpu" in jobs["c"]
    done = call(folder, "--nicer", "3", "d.log", "true")
    assert (
        done.returncode == 1
        and "unknown option --nicer (did you mean '--nice'?)" in done.stderr
        and not (folder / "d.log").exists()
    )


def test_what_sbatch_refuses_is_told_with_the_place_to_mend_it(folder, cluster):
    (folder / "site.conf").write_text(f"{POLL}command sbatch --partition=nowhere\n")
    done = call(folder, "--config", "site.conf", "a.log", "true")
    assert (
        done.returncode == 1 and "invalid partition" in done.stderr and "are set in site.conf" in done.stderr
    )
    assert "Traceback" not in done.stderr and not (folder / "a.jobs.json").exists()
    done = call(folder, "--gpu", "3", "a.log", "true")
    assert done.returncode == 1 and "sbatch refused: " in done.stderr and not cluster.queue()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_cancels(folder, cluster, number):
    process = begin(folder, *ARRAY, count=2, PYDINO_MADE_FROM="x")
    process.send_signal(number)
    _, errors = process.communicate(timeout=40)
    job = number_of(errors)[0]
    assert process.returncode == (-number if number == signal.SIGINT else 128 + number)
    assert (
        f"received: cancelled Slurm job {job}\n" in errors
        and not cluster.queue()
        and "JobState=CANCELLED" in cluster.show(job)
    )
    assert "# Ended (code 143) at" in (folder / "a.1.log").read_text()
    (folder / "go").touch()
    done = call(folder, *ARRAY, PYDINO_MADE_FROM="x")
    assert done.returncode == 0 and number_of(done.stderr) != [job] and len(list(folder.glob("begun.*"))) == 4


@pytest.mark.parametrize("how", ["killed", "killed before it wrote the job down", "hung up"])
def test_jobs_of_a_dead_shell_are_found_again(folder, cluster, how):
    process = begin(folder, *ARRAY, count=2)
    process.send_signal(signal.SIGHUP if how == "hung up" else signal.SIGKILL)
    _, errors = process.communicate(timeout=20)
    job = number_of(errors)[0]
    if how == "hung up":
        assert f"SIGHUP received: Slurm job {job} goes on" in errors and process.returncode == 129
    if how == "killed before it wrote the job down":
        path = folder / "a.jobs.json"
        path.write_text(path.read_text().replace(f'"job": "{job}"', '"job": null'))
    again = subprocess.Popen([WRAPPER, *ARRAY], cwd=folder, stderr=subprocess.PIPE, text=True)
    assert (
        again.stderr.readline()
        == f"run_slurm.sh: 2 of 2 jobs are in the queue, from an earlier run: Slurm job {job}\n"
    )
    (folder / "go").touch()
    assert again.wait(timeout=40) == 0
    assert len(list(folder.glob("begun.*"))) == 2 and "# Ended (code 0)" in (folder / "a.2.log").read_text()
    assert not (folder / "a.jobs.json").exists() and not cluster.queue()


def test_jobs_of_a_dead_shell_that_are_of_other_inputs_are_cancelled(folder, cluster):
    process = begin(folder, *ARRAY, count=2, PYDINO_MADE_FROM="old")
    process.kill()
    job = number_of(process.communicate()[1])[0]
    local = call(folder, *ARRAY, wrapper=ROOT / "utils/run_local.sh", PYDINO_MADE_FROM="old")
    assert local.returncode == 1 and f"Slurm job {job} of an earlier run is doing the same" in local.stderr
    again = begin(folder, *ARRAY, until="begun.*", count=4, PYDINO_MADE_FROM="new")
    assert "JobState=CANCELLED" in cluster.show(job) and "JobState=RUNNING" not in cluster.show(job)
    (folder / "go").touch()
    _, errors = again.communicate(timeout=40)
    assert again.returncode == 0 and f"cancelling Slurm job {job}, which an earlier run left" in errors


def test_jobs_whose_record_was_removed_are_ended_before_others_do_their_work(folder, cluster):
    """And the record may name a job that is somebody else's by now: numbers come again."""
    arguments = ["JOB=1:2", "log/a.JOB.log", *ARRAY[2:]]
    process = begin(folder, *arguments, count=2)
    process.kill()
    process.communicate()
    job = record(folder / "log")["jobs"][0]["job"]
    (folder / "log/a.jobs.json").unlink()
    process = begin(folder, *arguments, count=4)
    assert f"cancelling Slurm job {job}, which an earlier run left" in process.stderr.readline()
    assert "JobState=CANCELLED" in cluster.show(job)
    process.kill()
    process.communicate()
    ours = record(folder / "log")
    other = cluster.ask(
        "sbatch", "--parsable", "--hold", f"--chdir={folder.parent.parent}", "--wrap", "true"
    ).strip()
    ours["jobs"][0]["job"] = other
    (folder / "log/a.jobs.json").write_text(json.dumps(ours))
    (folder / "go").touch()
    done = call(folder, *arguments)
    assert done.returncode == 0 and cluster.queue() == [other], done.stderr
    cluster.ask("scancel", other)


def test_a_submission_whose_wrapper_was_killed_keeps_others_away_until_it_is_answered(
    folder, cluster, tmp_path
):
    path = sbatch_of_ours(tmp_path, cluster, f'touch "{folder}/asked.1"; sleep 2; exec sbatch "$@"')
    process = begin(folder, *ARRAY, until="asked.*", PATH=path)
    process.kill()
    process.communicate()
    done = call(folder, *ARRAY)
    assert (
        done.returncode == 1
        and f"process {process.pid} on " in done.stderr
        and "is running the jobs of a.JOB.log" in done.stderr
    )
    cluster.until(lambda: len(list(folder.glob("begun.*"))) == 2)
    process = begin(folder, *ARRAY, count=2)
    assert "2 of 2 jobs are in the queue, from an earlier run" in process.stderr.readline()
    (folder / "go").touch()
    assert process.wait(timeout=40) == 0 and len(list(folder.glob("begun.*"))) == 2


def test_at_most_so_many_at_once_beside_those_of_an_earlier_run(folder, cluster):
    arguments = [
        "--max-jobs-run",
        "2",
        "JOB=1:3",
        "a.JOB.log",
        "bash",
        "-c",
        f"mktemp begun.$1.XXXX; [ $1 != 1 ] || exit 1; {PATIENT}",
    ]
    arguments += ["x", "JOB"]
    process = begin(folder, *arguments, count=5, PYDINO_MADE_FROM="one")
    process.kill()
    process.communicate()
    cluster.until(lambda: len(cluster.queue()) == 2)
    process = begin(folder, *arguments, until="a.jobs.json", PYDINO_MADE_FROM="one")
    assert "2 of 3 jobs are in the queue" in process.stderr.readline()
    time.sleep(1.5)
    assert len(list(folder.glob("begun.1.*"))) == 1
    (folder / "go").touch()
    _, errors = process.communicate(timeout=60)
    assert (
        process.returncode == 1 and "failed jobs: 1\n" in errors and len(list(folder.glob("begun.1.*"))) == 2
    )


def sbatch_of_ours(tmp_path, cluster, text):
    """Return a PATH on which sbatch does what the text says, in which sbatch is the real one."""
    program = tmp_path / "ours/sbatch"
    program.parent.mkdir()
    program.write_text(f"#!/bin/bash\nPATH={cluster.environment['PATH']}\n{text}\n")
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


def test_ctrl_c_while_sbatch_is_answering_leaves_nothing_behind(folder, cluster, tmp_path):
    path = sbatch_of_ours(
        tmp_path, cluster, f'answer=$(sbatch "$@"); touch "{folder}/taken.1"; sleep 1; echo "$answer"'
    )
    process = begin(folder, *ARRAY, until="taken.*", PATH=path)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=40)
    assert re.search(r"SIGINT received: cancelled Slurm job \d+\n", errors) and not cluster.queue()


def test_a_job_whose_answer_got_lost_is_not_submitted_again_even_if_it_has_ended(folder, cluster, tmp_path):
    path = sbatch_of_ours(
        tmp_path, cluster, 'sbatch "$@" > /dev/null; echo "error: Socket timed out" >&2; exit 1'
    )
    done = call(folder, "a.log", "bash", "-c", "echo ran >> ran", PATH=path)
    assert done.returncode == 0, done.stderr
    assert (folder / "ran").read_text() == "ran\n"


# As a job filter does: the script that Slurm knows is a copy. The second one rewrites the comment, too.
COPY = """copy=$(mktemp); cp "${@: -1}" "$copy"; set -- "${@:1:$#-1}"; """
COPIES = {"copy": COPY + 'sbatch "$@" "$copy"', "no comment": COPY + 'sbatch "$@" --comment=site "$copy"'}


@pytest.mark.parametrize("site", COPIES)
def test_a_site_that_submits_a_copy_of_the_script(folder, cluster, tmp_path, site):
    path = sbatch_of_ours(tmp_path, cluster, COPIES[site])
    process = begin(folder, *ARRAY, count=2, PATH=path)
    process.kill()
    process.communicate()
    job = record(folder)["jobs"][0]["job"]
    process = subprocess.Popen(
        [WRAPPER, *ARRAY],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PATH": path},
        preexec_fn=hear_signals,
    )
    assert f"2 of 2 jobs are in the queue, from an earlier run: Slurm job {job}" in process.stderr.readline()
    process.kill()
    process.communicate()
    text = (folder / "a.jobs.json").read_text()  # killed before it wrote the number down
    (folder / "a.jobs.json").write_text(text.replace(f'"job": "{job}"', '"job": null'))
    if site == "no comment":
        done = call(folder, *ARRAY, PATH=path)
        assert done.returncode == 1 and f"whose number is not known: job {job}, which runs" in done.stderr
        (folder / "a.jobs.json").write_text(text)
    process = subprocess.Popen(
        [WRAPPER, *ARRAY], cwd=folder, stderr=subprocess.PIPE, text=True, preexec_fn=hear_signals
    )
    assert f"2 of 2 jobs are in the queue, from an earlier run: Slurm job {job}" in process.stderr.readline()
    process.terminate()
    assert f"SIGTERM received: cancelled Slurm job {job}\n" in process.communicate(timeout=40)[1]
    assert not cluster.queue() and len(list(folder.glob("begun.*"))) == 2


@pytest.mark.parametrize("said", ["", "echo Welcome; echo 7; echo $answer"])
def test_a_number_that_sbatch_does_not_say_is_looked_up(folder, cluster, tmp_path, said):
    path = sbatch_of_ours(tmp_path, cluster, f'answer=$(sbatch "$@") || exit; {said}')
    done = call(folder, "a.log", "bash", "-c", "echo ran >> ran", PATH=path)
    assert done.returncode == 0 and (folder / "ran").read_text() == "ran\n", done.stderr
    text = "answer=$(" + COPIES["no comment"] + ")"
    (tmp_path / "ours/sbatch").write_text(f"#!/bin/bash\nPATH={cluster.environment['PATH']}\n{text}\n")
    for _ in range(2):
        done = call(folder, "b.log", "bash", "-c", "echo ran >> b.ran", PATH=path)
        assert done.returncode == 1 and "whose number is not known" in done.stderr, done.stderr
    cluster.until(lambda: (folder / "b.ran").exists())
    assert (folder / "b.ran").read_text() == "ran\n"


def test_a_limit_that_passes_is_waited_for(folder, cluster, tmp_path):
    refused = "echo 'error: QOSMaxSubmitJobPerUserLimit' >&2; echo 'error: job submit limit' >&2; exit 1"
    path = sbatch_of_ours(
        tmp_path, cluster, f'[ -z "$(squeue -h -t R)" ] || {{ touch asked.$$; {refused}; }}; sbatch "$@"'
    )
    first = begin(folder, *ARRAY, count=2)
    second = begin(folder, "b.log", "true", until="asked.*", PATH=path)
    assert "takes no jobs for now (error: QOSMaxSubmitJobPerUserLimit" in second.stderr.readline()
    (folder / "go").touch()
    assert first.wait(timeout=40) == 0 and second.wait(timeout=40) == 0
    path = path.replace("ours", "never")
    (tmp_path / "ours").rename(tmp_path / "never")
    (tmp_path / "never/sbatch").write_text(f"#!/bin/bash\n{refused}\n")
    done = call(folder, "c.log", "true", PATH=path)
    assert done.returncode == 1 and "this one alone exceeds a limit" in done.stderr


def test_how_often_slurm_is_asked(folder, cluster, tmp_path):
    (folder / "conf/slurm.conf").write_text("poll 30\n")
    path = sbatch_of_ours(tmp_path, cluster, "")
    for name in ("sbatch", "squeue", "scontrol", "sacct", "scancel"):
        program = tmp_path / "ours" / name
        program.write_text(
            f"#!/bin/bash\necho {name} >> '{tmp_path}/asked'; PATH={cluster.environment['PATH']} exec {name} \"$@\"\n"
        )
        program.chmod(0o755)
    work = ["bash", "-c", "sleep 7"]
    done = call(folder, "JOB=1:2", "a.JOB.log", *work, PATH=path)
    asked = (tmp_path / "asked").read_text().split()
    assert done.returncode == 0 and asked[:3] == ["squeue", "sbatch", "squeue"], done.stderr
    assert (
        asked[-1] == "scontrol" and set(asked[2:-1]) == {"squeue"} and len(asked) <= 7
    )  # after 5 s, and when the logs have ended


def test_a_task_that_takes_more_memory_than_it_asked_for(folder, cluster):
    """Where cgroups watch over the memory, Slurm calls it OUT_OF_MEMORY; here it kills."""
    job = (
        "import sys, time; kept = b'x' * (3 * 10**8 if sys.argv[1] == '2' else 1); time.sleep(len(kept) // "
        "10**7)"
    )
    done = call(folder, "--mem", "100M", "JOB=1:2", "a.JOB.log", "python3", "-c", job, "JOB")
    assert done.returncode == 1 and re.search(r"job 2 \(Slurm job \d+_2\): .*--mem", done.stderr), done.stderr
    assert "failed jobs: 2\n" in done.stderr and "exceeded memory limit" in done.stderr


def test_a_task_that_somebody_cancels(folder, cluster):
    process = begin(folder, *ARRAY, count=2)
    job = record(folder)["jobs"][0]["job"]
    cluster.ask("scancel", f"{job}_1")
    cluster.until(lambda: cluster.queue() == [f"{job}_2"])
    (folder / "go").touch()
    _, errors = process.communicate(timeout=40)
    assert process.returncode == 1
    assert (
        "failed jobs: 1\n" in errors
        and f"job 1 (Slurm job {job}_1): CANCELLED: somebody cancelled it" in errors
    )


def test_pending_tasks_that_somebody_cancels(folder, cluster):
    """Alone, they leave no trace with the controller."""
    (folder / "site.conf").write_text(f"{POLL}command sbatch --hold\n")
    process = begin(
        folder, "--config", "site.conf", "--retries", "1", "JOB=1:4", "a.JOB.log", "true", until="a.jobs.json"
    )
    cluster.until(lambda: len(cluster.queue()) == 4)
    job = cluster.queue()[0].partition("_")[0]
    time.sleep(1)  # seen to wait
    cluster.ask("scancel", f"{job}_2")
    cluster.ask("scontrol", "release", job)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert (
        f"job 2 (Slurm job {job}_2): GONE: it left the queue before it started" in errors
        and "there is no a.2.log" in errors
    )
    assert "failed jobs: 2\n" in errors and "again" not in errors


def test_a_job_that_is_cancelled_while_it_waits(folder, cluster):
    (folder / "site.conf").write_text(f"{POLL}command sbatch --hold\n")
    process = begin(folder, "--config", "site.conf", "JOB=1:3", "a.JOB.log", "true", until="a.jobs.json")
    cluster.until(lambda: len(cluster.queue()) == 3)
    job = cluster.queue()[0].partition("_")[0]
    cluster.ask("scancel", job)
    _, errors = process.communicate(timeout=40)
    assert (
        process.returncode == 1
        and f"jobs 1-3 (3 of Slurm job {job}): CANCELLED" in errors
        and "there is no a.1.log" in errors
    )


def test_jobs_that_can_never_start_are_replaced_when_the_configuration_is_mended(folder, cluster):
    (folder / "site.conf").write_text(f"{POLL}command sbatch --hold\n")
    process = begin(folder, "--config", "site.conf", "JOB=1:2", "a.JOB.log", "true", until="a.jobs.json")
    cluster.until(lambda: len(cluster.queue()) == 2)
    process.kill()
    process.communicate()
    job = cluster.queue()[0].partition("_")[0]
    (folder / "site.conf").write_text(f"{POLL}command sbatch\n")
    done = call(folder, "--config", "site.conf", "JOB=1:2", "a.JOB.log", "true")
    assert (
        done.returncode == 0
        and f"cancelling Slurm job {job}, which waits and was submitted with other options than site.conf"
        in done.stderr
    )


def test_what_slurm_cannot_take_is_said_or_mended_before(folder):
    done = call(folder, "back\\slash.log", "true")
    assert done.returncode == 1 and "Slurm cannot write to a path with a backslash" in done.stderr
    assert call(folder, "a.log", "printf", "a\r\nb").returncode == 0
    assert b"a\r\nb\n# Accounting" in (folder / "a.log").read_bytes()
    (folder / "site.conf").write_text(f"{POLL}command sbatch\ndefault num_threads=2\n")
    assert call(folder, "--config", "site.conf", "b.log", "printenv", "OMP_NUM_THREADS").returncode == 0
    assert "\n2\n" in (folder / "b.log").read_text() and "threads=2\n" in (folder / "b.log").read_text()
    done = call(folder, "c.log", "true", PYDINO_SLURM_CONF="/nowhere/slurm.conf")
    assert done.returncode == 1 and "cannot read /nowhere/slurm.conf" in done.stderr


def kill_node_of(cluster, job):
    """Kill the node that a job is on, as far as Slurm can tell, and let it come back."""
    node = re.search(r" NodeList=(\S+)", cluster.show(job))[1]
    steps = cluster.steps_of(job)
    assert steps
    cluster.stop_daemon(node, signal.SIGKILL)
    for pid in steps:
        os.kill(pid, signal.SIGKILL)
    cluster.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    cluster.start_node(node)


@pytest.mark.parametrize("requeue", [False, True])
def test_a_node_dies(folder, cluster, requeue):
    (folder / "site.conf").write_text(f"{POLL}command sbatch --{'' if requeue else 'no-'}requeue\n")
    process = begin(folder, "--config", "site.conf", "a.log", "bash", "-c", PATIENT, "x", "1")
    job = record(folder)["jobs"][0]["job"]
    kill_node_of(cluster, job)
    if requeue:
        cluster.until(lambda: len(list(folder.glob("begun.*"))) == 2)
    (folder / "go").touch()
    _, errors = process.communicate(timeout=40)
    if requeue:
        assert process.returncode == 0, errors
        assert (folder / "a.log").read_text().count("# Started at") == 2
    else:
        assert process.returncode == 1 and f"job 1 (Slurm job {job}): NODE_FAIL: the node died" in errors
    cluster.until_ready()


def test_the_controller_is_restarted_while_jobs_run(folder, cluster):
    process = begin(folder, *ARRAY, count=2)
    cluster.stop_daemon("slurmctld")
    (folder / "go").touch()
    line = "".join(process.stderr.readline() for _ in range(2))
    assert "run_slurm.sh: Slurm does not answer (" in line
    cluster.start_controller()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and "run_slurm.sh: Slurm answers again\n" in errors
    cluster.until_ready()


def test_a_job_is_submitted_when_the_controller_is_back(folder, cluster):
    cluster.stop_daemon("slurmctld")
    process = subprocess.Popen([WRAPPER, "a.log", "true"], cwd=folder, stderr=subprocess.PIPE, text=True)
    assert "run_slurm.sh: Slurm does not answer (" in process.stderr.readline()
    cluster.start_controller()
    assert process.wait(timeout=60) == 0
    cluster.until_ready()


def test_preemption_with_requeue(folder, cluster):
    process = begin(folder, "JOB=1:4", "a.JOB.log", "bash", "-c", PATIENT, "x", "JOB", count=4)
    job = record(folder)["jobs"][0]["job"]
    (folder / "site.conf").write_text(f"{POLL}command sbatch --partition=hi\n")
    assert call(folder, "--config", "site.conf", "hi.log", "echo", "first").returncode == 0
    cluster.until(lambda: len(list(folder.glob("begun.*"))) == 5)  # one began again
    (folder / "go").touch()
    _, errors = process.communicate(timeout=40)
    assert process.returncode == 0, errors
    assert (
        "Restarts=1" in cluster.show(job)
        and sum((folder / f"a.{n}.log").read_text().count("# Started at") for n in range(1, 5)) == 5
    )


def test_the_switch(folder):
    script = (
        f"set -e; . {ROOT}/path.sh; . {ROOT}/cmd.sh; $train_cmd JOB=1:2 a.JOB.log printenv SLURM_JOB_ID; "
        'echo "$cuda_cmd"'
    )
    done = call(folder, "-c", script, wrapper="bash", PYDINO_BACKEND="slurm")
    assert done.returncode == 0 and done.stdout == "run_slurm.sh --mem 8G\n", done.stderr
    assert re.search(r"^\d+$", (folder / "a.1.log").read_text(), re.M)
    done = call(folder, "-c", f". {ROOT}/cmd.sh || echo refused", wrapper="bash", PYDINO_BACKEND="slum")
    assert done.stdout == "refused\n" and "the backend is 'local' or 'slurm', not 'slum'" in done.stderr


def test_out_of_time(out_of_time):
    folder, process = out_of_time
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and re.search(
        r"job 1 \(Slurm job \d+\): TIMEOUT: it needs more time: --time\n", errors
    )
    assert "DUE TO TIME LIMIT" in errors and "DUE TO TIME LIMIT" in (folder / "late.log").read_text()


@pytest.mark.parametrize("name", ["R&D", "A_(B)", "a;touch OOPS", "$(touch OOPS) it's 100%j"])
def test_a_folder_of_any_name(folder, cluster, name):
    work = folder / name
    work.mkdir()
    done = call(
        work,
        "JOB=1:2",
        f"{work}/log/a.JOB.log",
        "printf",
        "%s|",
        work,
        "x.JOB",
        "*",
        "&&",
        "pwd",
        ">",
        f"{work}/JOB",
    )
    assert done.returncode == 0, done.stderr
    assert f"\n{work}|x.2|*|\n# Accounting" in (work / "log/a.2.log").read_text()
    assert (work / "2").read_text() == f"{work}\n" and not list(folder.rglob("OOPS*"))
