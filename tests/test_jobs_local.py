"""utils/run_local.sh as steps meet it."""

import errno
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pydino.base import UserError
from pydino.jobs.machine import available_memory, num_bytes, num_cores, visible_gpus
from pydino.jobs.wrapper.gpus import GpuSlots
from pydino.jobs.wrapper.log import ended_with

ROOT = Path(__file__).resolve().parent.parent
WRAPPER = ROOT / "utils/run_local.sh"


@pytest.fixture
def folder(tmp_path):
    """Blanks, letters beyond ASCII, and the letters JOB, in a word and as one."""
    folder = tmp_path / "my JOB dïr" / "JOBS"
    folder.mkdir(parents=True)
    return folder


def call(folder, *arguments, **variables):
    return subprocess.run(
        [WRAPPER, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=60,
        env={**os.environ, **variables},
    )


def test_log_has_the_head_and_the_foot_of_run_pl(folder):
    done = call(folder, "--mem", "4G", "--time", "1:00:00", "log/a.log", "echo", "two words", r"x\"y")
    assert done.returncode == 0, done.stderr
    date = r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \S+ \d{4}"
    assert re.fullmatch(
        rf"""# echo 'two words' 'x\\"y'
# Started at {date}
#
two words x\\"y
# Accounting: time=\d+ threads=1
# Ended \(code 0\) at {date}, elapsed time \d+ seconds
""",
        (folder / "log/a.log").read_text(),
    )


def test_a_hundred_jobs_with_three_failures_all_named(folder):
    (folder / "job.sh").write_text('echo "work $1"; (( $1 % 33 != 0 ))\n')
    done = call(folder, "JOB=1:100", folder / "log/x.JOB.log", "bash", folder / "job.sh", "JOB")
    assert done.returncode == 1
    assert f"run_local.sh: 3 / 100 failed, log is in {folder}/log/x.*.log\n" in done.stderr
    assert "run_local.sh: failed jobs: 33 66 99\n" in done.stderr
    assert "    work 33\n" in done.stderr and "work 66" not in done.stderr
    logs = sorted((folder / "log").iterdir())
    assert len(logs) == 100
    assert all(f"work {log.name.split('.')[1]}\n" in log.read_text() for log in logs)
    assert sum("# Ended (code 1)" in log.read_text() for log in logs) == 3


def test_single_failure_names_the_log_and_shows_its_last_20_lines(folder):
    done = call(folder, "a.log", "bash", "-c", "for i in {1..40}; do echo line $i; done; exit 7")
    assert done.returncode == 1
    assert "run_local.sh: job failed, log is in a.log\n" in done.stderr
    shown = done.stderr.splitlines()
    assert "    line 40" in shown and "    line 20" not in shown
    assert "# Ended (code 7) at" in (folder / "a.log").read_text()


def test_pipes_and_redirections_and_pipefail(folder):
    assert call(folder, "a.log", "printf", r"b\na\n", "|", "sort", ">", "out").returncode == 0
    assert (folder / "out").read_text() == "a\nb\n"
    assert call(folder, "a.log", "false", "|", "true").returncode == 1  # Kaldi's wrappers let this pass


AWKWARD = [
    "R&D",
    "A_(B)",
    "a;touch OOPS",
    "`touch OOPS`",
    "$(touch OOPS)",
    "$HOME",
    "*",
    "?.log",
    "~",
    "{a,b}",
    "#c",
    "!x",
    "it's",
    'say "a | b"',
    "back\\slash",
    "two\nlines",
    "<unk>",
    ">OOPS",
    "2>OOPS",
    "a|b",
    "key=$HOME;x",
    "100%",
    "",
    " ",
    "ïß",
]


def test_words_reach_the_program_as_they_are(folder):
    show = "import json, sys; print(json.dumps(sys.argv[1:]))"
    done = call(folder, "JOB=7:7", "a.JOB.log", sys.executable, "-c", show, *AWKWARD, "x.JOB", PYTHONUTF8="1")
    assert done.returncode == 0, done.stderr
    shown = next(line for line in (folder / "a.7.log").read_text().splitlines() if line.startswith("["))
    assert json.loads(shown) == [*AWKWARD, "x.7"] and not list(folder.glob("OOPS*"))
    assert "'>OOPS' is passed to the program as it is; to redirect, separate the operator" in done.stderr


@pytest.mark.parametrize("name", [name for name in AWKWARD if name.strip()])
def test_a_folder_of_any_name(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    done = call(
        folder, f"{folder}/log/a.log", "pwd", ">", f"{folder}/out of.{name}", "&&", "touch", f"{folder}/b"
    )
    assert done.returncode == 0, done.stderr
    assert (folder / f"out of.{name}").read_text() == f"{folder}\n" and (folder / "b").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


@pytest.mark.parametrize(
    "words, text",
    [
        (["echo", "a", ";", "echo", "b"], "a\nb\n"),
        (["false", "||", "echo", "b"], "b\n"),
        (["true", "&&", "echo", "b"], "b\n"),
        (["(", "echo", "a", ";", "echo", "b", ")", "|", "sort", "-r"], "b\na\n"),
        (["bash", "-c", "echo x >&2", "2>&1", "|", "tr", "x", "y"], "y\n"),
        (["ls", "/nowhere", "2>/dev/null", "||", "echo", "quiet"], "quiet\n"),
        (["echo", "a", ">", "out", ";", "echo", "b", ">>", "out", ";", "cat", "<", "out"], "a\nb\n"),
        (["cat", "<<<", "a $b"], "a $b\n"),
        (["ls", "/nowhere", "2>", "err", "||", "wc", "-l", "<", "err"], "1\n"),
        (["X=a b$", "Y=", "bash", "-c", "echo [$X$Y]"], "[a b$]\n"),
        (["echo", ";;", "&x", "|||"], ";; &x |||\n"),
    ],
)
def test_words_that_are_operators(folder, words, text):
    done = call(folder, "a.log", *words)
    assert done.returncode == 0, done.stderr
    log = (folder / "a.log").read_text()
    assert log[log.index("\n#\n") + 3 : log.index("# Accounting")] == text


def test_the_number_replaces_the_word_only(folder):
    done = call(
        folder,
        "JOB=2:3",
        "log.JOB",
        "echo",
        "x.JOB.ark",
        "split4/JOB/feats",
        "out_JOB",
        "JOBS",
        "myJOB",
        "$JOB_ID",  # not replaced, and not expanded
        f"ark:{folder}/a.JOB.ark",
        "scp with JOB",
        JOB_ID="id",
    )
    assert done.returncode == 0, done.stderr
    assert (
        f"x.3.ark split4/3/feats out_3 JOBS myJOB $JOB_ID ark:{folder}/a.3.ark scp with 3\n"
        in (folder / "log.3").read_text()
    )


def test_any_name_and_any_start(folder):
    assert call(folder, "SET=3:4", "SET.log", "echo", "JOB", "SET").returncode == 0
    assert "JOB 4\n" in (folder / "4.log").read_text() and not (folder / "1.log").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--memm", "4G", "a.log", "true"], "unknown option --memm (did you mean '--mem'?)"),
        (["--num-threads", "two", "a.log", "true"], "--num-threads 'two' should be a positive whole number"),
        (["--mem"], "option --mem needs a value"),
        (
            ["--max-job-run", "2", "a.log", "true"],
            "unknown option --max-job-run (did you mean '--max-jobs-run'?)",
        ),
        (["-q", "long", "a.log", "true"], "unknown option -q"),
        (["--mem", "much", "a.log", "true"], "a size such as 4G"),
        (["JOB=0:3", "a.JOB.log", "true"], "must be strictly positive"),
        (["JOB=3:2", "a.JOB.log", "true"], "the end is before the start"),
        (["JOB=x", "a.JOB.log", "true"], "invalid job range"),
        (["JOB=1:2", "a.log", "true"], "just one log file (a.log)"),
        (["a.log"], "there is no command"),
        (["", "true"], "the name of the log is empty"),
        ([], "there is neither log nor command"),
    ],
)
def test_mistakes_are_told(folder, arguments, message):
    done = call(folder, *arguments)
    assert done.returncode == 1
    assert (
        done.stderr.startswith("run_local.sh: ") and message in done.stderr and "Traceback" not in done.stderr
    )
    assert not any(folder.iterdir())


def test_options_may_follow_the_range(folder):
    done = call(
        folder, "JOB=1:2", "--num-threads", "3", "a.JOB.log", "bash", "-c", "echo $OMP_NUM_THREADS threads"
    )
    assert done.returncode == 0, done.stderr
    assert (
        "\n3 threads\n" in (folder / "a.1.log").read_text()
        and " threads=3\n" in (folder / "a.1.log").read_text()
    )


def test_an_earlier_log_is_kept(folder):
    call(folder, "a.log", "echo", "first")
    call(folder, "a.log", "echo", "second")
    assert "\nsecond\n" in (folder / "a.log").read_text() and "\nfirst\n" in (folder / "a.log.1").read_text()


def test_max_jobs_run(folder):
    # Each waits, for a while, until as many run as may, so that a slow machine counts right too.
    count = 'find . -name "running.*" -printf .'
    wait = f"for i in {{1..40}}; do [ $({count} | wc -c) -lt $2 ] || break; sleep 0.05; done"
    job = f"touch running.$1; {wait}; sleep 0.2; {count}; rm running.$1"
    for limit in (1, 3):
        done = call(
            folder,
            "--max-jobs-run",
            limit,
            "JOB=1:6",
            f"{limit}.JOB.log",
            "bash",
            "-c",
            job,
            "x",
            "JOB",
            limit,
        )
        assert done.returncode == 0, done.stderr
        dots = [re.search(r"^\.+", (folder / f"{limit}.{n}.log").read_text(), re.M) for n in range(1, 7)]
        assert max(len(found.group()) for found in dots) == limit


def test_memory_limits_how_many_run(folder):
    # Each says how many run beside it, after a while in which a third would have begun.
    job = 'touch running.$1; sleep 0.5; find . -name "running.*" -printf .; rm running.$1'
    share = available_memory() * 2 // 5 // 2**20
    done = call(
        folder,
        "--mem",
        f"{share}M",
        "--max-jobs-run",
        5,
        "JOB=1:5",
        "a.JOB.log",
        "bash",
        "-c",
        job,
        "x",
        "JOB",
    )
    assert done.returncode == 0, done.stderr
    dots = [re.search(r"^\.+", (folder / f"a.{n}.log").read_text(), re.M) for n in range(1, 6)]
    assert max(len(found.group()) for found in dots) <= 2


def test_a_job_larger_than_the_machine_runs_alone_with_a_warning(folder):
    done = call(folder, "--mem", "900T", "JOB=1:2", "a.JOB.log", "true")
    assert done.returncode == 0 and "warning: --mem 900T asked for, " in done.stderr


def test_memory_and_cores_of_a_container(tmp_path):
    own = tmp_path / "cgroup/outer/own"
    own.mkdir(parents=True)
    (tmp_path / "self").write_text("0::/outer/own\n")
    (tmp_path / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable:   3000000 kB\n")
    places = {"cgroups": tmp_path / "cgroup", "membership": tmp_path / "self"}
    assert available_memory(tmp_path / "meminfo", **places) == 3_000_000 * 1024
    (own / "memory.max").write_text("max\n")
    (own.parent / "memory.max").write_text("1000000\n")
    (own.parent / "memory.current").write_text("700000\n")
    (own.parent / "memory.stat").write_text("anon 5\ninactive_file 200000\n")
    assert available_memory(tmp_path / "meminfo", **places) == 500_000
    (own / "cpu.max").write_text("100000 100000\n")
    assert num_cores(**places) == 1


def test_memory_and_cores_of_a_container_of_cgroups_version_1(tmp_path):
    """Its path is told as the machine has it, which a container may not see."""
    (tmp_path / "self").write_text("4:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n1:name=systemd:/\n0::/\n")
    (tmp_path / "meminfo").write_text("MemAvailable:   3000000 kB\n")
    places = {"cgroups": tmp_path / "cgroup", "membership": tmp_path / "self"}
    memory, cpu = tmp_path / "cgroup/memory", tmp_path / "cgroup/cpu,cpuacct"
    for folder, files in (
        (memory, {"memory.limit_in_bytes": 2**63 - 4096, "memory.usage_in_bytes": 5}),
        (cpu, {"cpu.cfs_quota_us": -1}),
    ):
        folder.mkdir(parents=True)
        for name, value in files.items():
            (folder / name).write_text(f"{value}\n")
    assert available_memory(tmp_path / "meminfo", **places) == 3_000_000 * 1024
    (memory / "memory.limit_in_bytes").write_text("1000000\n")
    (memory / "memory.usage_in_bytes").write_text("700000\n")
    (memory / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 200000\n")
    assert available_memory(tmp_path / "meminfo", **places) == 500_000
    (cpu / "cpu.cfs_quota_us").write_text("100000\n")
    (cpu / "cpu.cfs_period_us").write_text("100000\n")
    assert num_cores(**places) == 1


def test_sizes():
    assert [num_bytes(text) for text in ("2", "1.5k", "4G", "1t")] == [2 * 2**20, 1536, 4 * 2**30, 2**40]


def test_retries(folder):
    job = (
        "echo try; [ $1 != 2 ] || { [ $(ls tries.* | wc -l) -ge 3 ] || { mktemp tries.XXXX; exit 3; }; }; [ "
        "$1 != 3 ]"
    )
    (folder / "tries.0").touch()
    done = call(folder, "--retries", "2", "JOB=1:3", "a.JOB.log", "bash", "-c", job, "x", "JOB")
    assert done.returncode == 1
    assert "run_local.sh: 1 / 3 failed" in done.stderr and "failed jobs: 3\n" in done.stderr
    assert "job 2 failed (code 3), again (2 of 2); a.2.log.1\n" in done.stderr
    assert (
        "Ended (code 0)" in (folder / "a.2.log").read_text()
        and "Ended (code 3)" in (folder / "a.2.log.1").read_text()
    )


def test_a_rerun_does_only_what_failed_or_is_missing(folder):
    (folder / "job.sh").write_text("echo $1 >> ran; [ -e mended ] || [ $1 != 2 ]\n")
    arguments = ["JOB=1:4", "a.JOB.log", "bash", "job.sh", "JOB"]

    def ran(**variables):
        (folder / "ran").write_text("")
        done = call(folder, *arguments, **variables)
        return done.returncode, sorted((folder / "ran").read_text().split())

    assert ran(PYDINO_MADE_FROM="one") == (1, ["1", "2", "3", "4"])
    (folder / "a.3.log").write_text("# bash\n# Started at\ncut short")
    assert ran(PYDINO_MADE_FROM="one") == (1, ["2", "3"])
    assert ran(PYDINO_MADE_FROM="two") == (1, ["1", "2", "3", "4"])  # made from something else
    assert ran() == (1, ["1", "2", "3", "4"])  # nobody says from what
    assert ran(PYDINO_MADE_FROM="two", PYDINO_FORCE="true") == (1, ["1", "2", "3", "4"])
    (folder / "mended").touch()
    assert ran(PYDINO_MADE_FROM="two") == (0, ["2"])
    # all was well: a step that calls again has lost its output
    assert ran(PYDINO_MADE_FROM="two") == (0, ["1", "2", "3", "4"])


def test_a_killed_run_does_not_take_older_logs_for_its_own(folder):
    job = "echo $1 >> ran; [ ! -e slow ] || { echo $$ > pid.$1; sleep 300; }"
    arguments = ["--max-jobs-run", "2", "JOB=1:4", "a.JOB.log", "bash", "-c", job, "x", "JOB"]
    assert call(folder, *arguments, PYDINO_MADE_FROM="old").returncode == 0
    (folder / "slow").touch()
    process, _ = started(folder, *arguments, PYDINO_MADE_FROM="new")
    process.kill()
    process.communicate(timeout=20)
    (folder / "slow").unlink()
    (folder / "ran").unlink()
    assert call(folder, *arguments, PYDINO_MADE_FROM="new").returncode == 0
    # 3 and 4 have good logs, of the old inputs
    assert sorted((folder / "ran").read_text().split()) == ["1", "2", "3", "4"]


def test_unwritable_log(folder):
    (folder / "file").write_text("")
    done = call(folder, "file/a.log", "true")
    assert (
        done.returncode == 1
        and "cannot write the log file/a.log" in done.stderr
        and "Traceback" not in done.stderr
    )


def hear_ctrl_c():
    """What a shell starts in the background ignores SIGINT, and so would the wrapper if the tests were
    started so.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def started(folder, *arguments, **variables):
    process = subprocess.Popen(
        [WRAPPER, *map(str, arguments)],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,
        env={**os.environ, **variables},
    )
    end = time.monotonic() + 20
    while not (folder / "pid.1").exists() or not (folder / "pid.2").exists():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.02)
    time.sleep(0.1)
    return process, [int((folder / f"pid.{n}").read_text()) for n in (1, 2)]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


SLEEPER = "sleep 300 & echo $! > pid.$1; wait"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_job_survives_the_wrapper(folder, number):
    process, grandchildren = started(
        folder, "--max-jobs-run", "2", "JOB=1:3", "a.JOB.log", "bash", "-c", SLEEPER, "x", "JOB"
    )
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    end = time.monotonic() + 10
    while any(map(alive, grandchildren)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(alive, grandchildren))
    assert not (folder / "pid.3").exists()
    if number != signal.SIGKILL:
        # Ctrl-C is passed on to the caller
        assert process.returncode == (-number if number == signal.SIGINT else 128 + number)
        assert "ended all jobs" in errors and "# Ended (code" in (folder / "a.1.log").read_text()


@pytest.fixture
def fake_gpus(tmp_path):
    """A nvidia-smi that lists two GPUs, and locks of our own."""
    tool = tmp_path / "bin/nvidia-smi"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\necho "GPU 0: Fake (UUID: GPU-aa)"\necho "GPU 1: Fake (UUID: GPU-bb)"\n')
    tool.chmod(0o755)
    (tmp_path / "tmp").mkdir()
    return {"PATH": f"{tool.parent}:{os.environ['PATH']}", "TMPDIR": str(tmp_path / "tmp")}


@pytest.fixture(autouse=True)
def no_outer_choice_of_gpus(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_each_job_has_a_gpu_of_its_own(folder, fake_gpus):
    job = (
        "mkdir taken.$CUDA_VISIBLE_DEVICES; sleep 0.2; rmdir taken.$CUDA_VISIBLE_DEVICES; echo gpu "
        "$CUDA_VISIBLE_DEVICES"
    )
    done = call(
        folder, "--gpu", "1", "--max-jobs-run", "9", "JOB=1:5", "a.JOB.log", "bash", "-c", job, **fake_gpus
    )
    assert done.returncode == 0, done.stderr
    seen = [
        line
        for n in range(1, 6)
        for line in (folder / f"a.{n}.log").read_text().splitlines()
        if line.startswith("gpu")
    ]
    assert len(seen) == 5 and set(seen) == {"gpu 0", "gpu 1"}


def test_two_runs_share_the_gpus(folder, fake_gpus):
    job = "mkdir taken.$CUDA_VISIBLE_DEVICES || exit 1; sleep 0.3; rmdir taken.$CUDA_VISIBLE_DEVICES"
    command = [WRAPPER, "--gpu", "2", "JOB=1:2"]
    runs = [
        subprocess.Popen(
            [*command, f"{name}.JOB.log", "bash", "-c", job], cwd=folder, env={**os.environ, **fake_gpus}
        )
        for name in "ab"
    ]
    assert [run.wait(timeout=60) for run in runs] == [0, 0]
    assert not list(folder.glob("taken.*"))


def test_two_runs_share_the_gpus_one_job_each(folder, fake_gpus):
    job = (
        "mkdir taken.$CUDA_VISIBLE_DEVICES || exit 1; sleep 0.2; rmdir taken.$CUDA_VISIBLE_DEVICES; echo "
        "gpu $CUDA_VISIBLE_DEVICES"
    )
    command = [WRAPPER, "--gpu", "1", "--max-jobs-run", "9", "JOB=1:4"]
    runs = [
        subprocess.Popen(
            [*command, f"{name}.JOB.log", "bash", "-c", job], cwd=folder, env={**os.environ, **fake_gpus}
        )
        for name in "ab"
    ]
    assert [run.wait(timeout=60) for run in runs] == [0, 0]
    gpus = [
        re.search(r"^gpu .*", (folder / f"{name}.{n}.log").read_text(), re.M)[0]
        for name in "ab"
        for n in range(1, 5)
    ]
    assert len(gpus) == 8 and set(gpus) == {"gpu 0", "gpu 1"}


def test_a_lock_that_another_user_made_is_opened_as_the_kernel_allows(tmp_path, fake_gpus, monkeypatch):
    """fs.protected_regular: in a sticky folder for all, O_CREAT on a file of somebody else's is refused."""
    monkeypatch.setenv("PATH", fake_gpus["PATH"])
    (tmp_path / "0.lock").touch()
    open_file = os.open

    def guarded(path, flags, *mode):
        if flags & os.O_CREAT and os.path.exists(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return open_file(path, flags, *mode)

    monkeypatch.setattr(os, "open", guarded)
    slots = GpuSlots(1, str(tmp_path))
    first, second = slots.take(), slots.take()
    assert [*first, *second] == ["0", "1"] and slots.take() is None
    slots.give_back(first)
    slots.give_back(second)


def test_gpus_are_narrowed_by_the_callers_choice(folder, fake_gpus):
    job = ["bash", "-c", "echo gpu $CUDA_VISIBLE_DEVICES"]
    assert (
        call(folder, "--gpu", "1", "a.log", *job, CUDA_VISIBLE_DEVICES="GPU-bb", **fake_gpus).returncode == 0
    )
    assert "\ngpu 1\n" in (folder / "a.log").read_text()
    done = call(folder, "--gpu", "2", "a.log", *job, CUDA_VISIBLE_DEVICES="1", **fake_gpus)
    assert (
        done.returncode == 1
        and "--gpu 2 was asked for, but this machine has 1 of them (CUDA_VISIBLE_DEVICES is '1')"
        in done.stderr
    )


def test_no_gpu_where_one_was_asked_for(folder):
    done = call(folder, "--gpu", "1", "a.log", "true", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 1 and "this machine has none" in done.stderr and not (folder / "a.log").exists()


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_all_commands_of_a_job_are_let_end(folder):
    """The shell above `a; b` dies of a signal at once."""
    trainer = 'trap "sleep 1; touch saved.$1; exit" TERM; echo $$ > pid.$1; while :; do sleep 0.1; done'
    process, _ = started(
        folder, "--max-jobs-run", "2", "JOB=1:2", "a.JOB.log", "bash", "-c", trainer, "x", "JOB", ";", "true"
    )
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=40)
    assert (
        process.returncode in (143, -signal.SIGINT)
        and (folder / "saved.1").exists()
        and (folder / "saved.2").exists()
    )


def impatient(settings, *arguments):
    """A command that is the wrapper with other delays than a person would wait for."""
    code = (
        f"from pydino.jobs import parse_request; from pydino.jobs.wrapper import local; {settings}; "
        f"local.run_local(parse_request({list(map(str, arguments))}))"
    )
    return [sys.executable, "-c", code]


def test_what_does_not_end_is_killed_whoever_in_the_job_it_is(folder):
    stubborn = 'trap "" TERM; echo $BASHPID > pid; sleep 300'
    command = impatient("local._GRACE_SECONDS = 0.3", "a.log", "bash", "-c", stubborn, ";", "true")
    process = subprocess.Popen(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL
    )
    until(lambda: (folder / "pid").exists() and (folder / "pid").read_text().strip())
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=40)
    until(lambda: not alive(int((folder / "pid").read_text())))


def test_what_a_finished_job_left_behind_holds_up_nobody_and_ends_with_an_interruption(folder, fake_gpus):
    leave = "sleep 300 & echo $! > pid.$1"
    # one at a time
    done = call(folder, "--gpu", "2", "JOB=1:2", "a.JOB.log", "bash", "-c", leave, "x", "JOB", **fake_gpus)
    left = [int((folder / f"pid.{n}").read_text()) for n in (1, 2)]
    assert done.returncode == 0 and all(map(alive, left))
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    for n in (1, 2):
        (folder / f"pid.{n}").unlink()
    process, both = started(
        folder,
        "JOB=1:2",
        "--max-jobs-run",
        "1",
        "a.JOB.log",
        "bash",
        "-c",
        f"{leave}; [ $1 = 1 ] || wait",
        "x",
        "JOB",
    )
    assert all(map(alive, both))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert not any(map(alive, both))


def test_waiting_for_gpus_says_who_has_them(folder, fake_gpus, monkeypatch):
    monkeypatch.setenv("PATH", fake_gpus["PATH"])
    slots = GpuSlots(1, str(Path(fake_gpus["TMPDIR"], "pydino-gpu-locks")))
    taken = slots.take() | slots.take()
    command = impatient("local._QUIET_SECONDS = 0", "--gpu", "2", "a.log", "true")
    with open(folder / "said", "w") as said:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **fake_gpus, "PYTHONPATH": str(ROOT)}, stderr=said
        )
    try:
        until(
            lambda: (
                f"run_local.sh: waiting for 2 GPUs; 0 and 1 are in use (pid {os.getpid()} of "
                in (folder / "said").read_text()
            )
        )
        assert process.poll() is None
        slots.give_back(taken)
        assert process.wait(timeout=40) == 0 and "# Ended (code 0)" in (folder / "a.log").read_text()
    finally:
        process.kill()


def test_locks_are_for_all_users_from_the_first_moment(tmp_path, fake_gpus, monkeypatch):
    monkeypatch.setenv("PATH", fake_gpus["PATH"])
    # nothing is to be put right afterwards: one might be killed before
    monkeypatch.setattr(os, "chmod", None)
    before = os.umask(0o077)
    try:
        slots = GpuSlots(1, str(tmp_path / "locks"))
        slots.give_back(slots.take())
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "locks").stat().st_mode) == 0o1777
    assert stat.S_IMODE((tmp_path / "locks/0.lock").stat().st_mode) == 0o666


def test_locks_that_another_user_has_closed(tmp_path, fake_gpus, monkeypatch):
    monkeypatch.setenv("PATH", fake_gpus["PATH"])
    slots = GpuSlots(1, str(tmp_path / "locks"))

    def closed(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", closed)
    with pytest.raises(
        UserError, match=f"or root can open it to all: chmod 1777 {tmp_path}/locks .do not set another TMPDIR"
    ):
        slots.take()


def test_a_job_that_cannot_begin_lets_the_others_end(folder):
    job = (
        "if [ $1 = 1 ]; then touch d.3; else until [ -e d.3 ]; do sleep 0.05; done; sleep 1; touch done.$1; "
        "fi"
    )
    # where d.3/ is to be, a file lies
    done = call(folder, "--max-jobs-run", "2", "JOB=1:3", "d.JOB/a.log", "bash", "-c", job, "x", "JOB")
    assert (
        done.returncode == 1
        and "jobs 3 have not run: cannot write the log d.3/a.log" in done.stderr
        and (folder / "done.2").exists()
    )


def test_a_log_that_is_no_file_stays_where_it_is(folder):
    os.mkfifo(folder / "pipe")  # as /dev/null is
    for program in ("true", "false"):
        assert call(folder, "pipe", program).returncode == (program == "false")
    assert (folder / "pipe").is_fifo() and not (folder / "pipe.1").exists()


@pytest.mark.parametrize("name", ["a.2.log", "a.2.log.1"])
def test_a_folder_in_the_place_of_a_log_is_named_before_any_job_runs(folder, name):
    (folder / name / "things").mkdir(parents=True)
    done = call(folder, "JOB=1:3", "a.JOB.log", "touch", "ran.JOB")
    assert done.returncode == 1 and f"{name} is a folder" in done.stderr and not list(folder.glob("ran.*"))


@pytest.mark.parametrize(
    "text, code",
    [
        ("# Ended (code 0) at now\n", 0),
        ("# Ended (code 0; signal 9) at now\n", 137),
        ("x\n# Ended (code 2) at now\n\n", 2),
        ("# Ended (code 0) at now\nmy own words go on\n", None),
        ("# Ended (code 0) at now\n# a\n# Started at later\n#\n", None),
        ("", None),
        ("# Ended (code 0) at now\nslurmstepd: error: late\nsrun: too\n", 0),
    ],
)
def test_the_foot_of_a_log_is_its_last_line(tmp_path, text, code):
    (tmp_path / "a.log").write_text(text)
    assert ended_with(str(tmp_path / "a.log")) == code


def test_jobs_go_on_when_nobody_reads_what_is_said(folder):
    """./run.sh 2>&1 | tee, whose tee has gone."""
    read, write = os.pipe()
    os.close(read)
    job = "if [ $1 = 1 ]; then exit 1; fi; until [ -e a.1.log.1 ]; do sleep 0.05; done; sleep 1; touch done"
    command = [
        WRAPPER,
        "--retries",
        "1",
        "--max-jobs-run",
        "2",
        "JOB=1:2",
        "a.JOB.log",
        "bash",
        "-c",
        job,
        "x",
        "JOB",
    ]
    done = subprocess.run(command, cwd=folder, stderr=write, timeout=60)
    os.close(write)
    assert done.returncode == 1 and (folder / "done").exists() and (folder / "a.1.log.1").exists()


def test_a_number_that_goes_nowhere_is_warned_of(folder):
    done = call(folder, "JOB=1:2", "a.JOB.log", "echo", "feats.JOBx")
    assert (
        done.returncode == 0
        and "warning: all 2 jobs run the very same command: the JOB in 'feats.JOBx'" in done.stderr
    )
    for quiet in (["JOBS", "x.JOB"], ["same"]):
        assert "warning" not in call(folder, "JOB=1:2", "a.JOB.log", "echo", *quiet).stderr
    assert "warning" not in call(folder, "JOB=1:1", "a.JOB.log", "echo", "JOBS").stderr


def test_long_lines_of_a_failed_job_are_cut(folder):
    done = call(folder, "a.log", "bash", "-c", "printf '%05000d\\n' 1; exit 1")
    assert done.returncode == 1 and "000…\n" in done.stderr and max(map(len, done.stderr.splitlines())) < 450


@pytest.mark.parametrize(
    "choice, gpus",
    [("GPU-b", ["1"]), ("GPU-", []), ("GPU-aa,1", ["0", "1"]), ("GPU-c", []), ("0,GPU-x,1", ["0"])],
)
def test_a_uuid_may_be_cut_short(fake_gpus, monkeypatch, choice, gpus):
    monkeypatch.setenv("PATH", fake_gpus["PATH"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", choice)
    assert visible_gpus() == gpus
