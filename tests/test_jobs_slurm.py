"""What of the Slurm back-end needs no Slurm: a site's configuration, what the scheduler says and how it is
read.
"""

import os
import re
import stat
import subprocess

import pytest

from pydino.base import UserError
from pydino.jobs import parse_request, run_slurm
from pydino.jobs.slurm import scheduler
from pydino.jobs.slurm.backend import _Submission, site_names
from pydino.jobs.slurm.config import find_config, read_slurm_config
from pydino.jobs.slurm.endings import MEANING
from pydino.jobs.slurm.lookup import left_by, look_up, marked, new_entry
from pydino.jobs.slurm.scheduler import FINAL, Ending, NotTaken, Slurm, Unreachable, compress, expand
from pydino.jobs.slurm.script import job_script
from pydino.jobs.slurm.waiting import Waiter
from pydino.jobs.wrapper.attempt import Attempt, beside_log

# The default of Kaldi's slurm.pl, as sites have copied it.
KALDI = """\
# Default configuration
command sbatch --export=PATH  --ntasks-per-node=1
option time=* --time $0
option mem=* --mem-per-cpu $0
option mem=0          # Do not add anything to qsub_opts
option num_threads=* --cpus-per-task $0 --ntasks-per-node=1
option num_threads=1 --cpus-per-task 1  --ntasks-per-node=1 # Do not add anything to qsub_opts
default gpu=0
option gpu=0 -p shared
option gpu=* -p gpu --gres=gpu:$0 --time 4:0:0  # this has to be figured out
"""


@pytest.fixture
def site(tmp_path):
    def write(text):
        path = tmp_path / "slurm.conf"
        path.write_text(text)
        return read_slurm_config(str(path))

    return write


@pytest.mark.parametrize(
    "given, line",
    [
        ({}, "-p shared"),
        (
            {"time": "2-0", "gpu": "2", "mem": "4G"},
            "-p gpu --gres=gpu:2 --time 4:0:0 --mem-per-cpu 4G --time 2-0",
        ),
        ({"mem": "0", "num_threads": "1"}, "-p shared --cpus-per-task 1 --ntasks-per-node=1"),
        (
            {"num_threads": "3", "max_jobs_run": "7", "retries": "1"},
            "-p shared --cpus-per-task 3 --ntasks-per-node=1",
        ),
        ({"mem": "1.5g"}, "-p shared --mem-per-cpu 1536M"),
    ],
)
def test_kaldis_configuration(site, given, line):
    config = site(KALDI)
    assert config.command == ["sbatch", "--export=PATH", "--ntasks-per-node=1"]
    assert " ".join(config.sbatch_options(given)) == line


def test_what_a_file_does_not_say_is_built_in(site):
    config = site("command sbatch --account='my group'\noption gpu=1 --gres=gpu:a100:1\n")
    assert config.command == ["sbatch", "--account=my group"]
    assert config.sbatch_options({"mem": "4G", "num_threads": "2", "gpu": "1"}) == [
        "--gres=gpu:a100:1",
        "--cpus-per-task=2",
        "--mem=4G",
    ]
    with pytest.raises(
        UserError, match="the value '2' of --gpu is not described in .*slurm.conf; add 'option gpu=2"
    ):
        config.sbatch_options({"gpu": "2"})


@pytest.mark.parametrize(
    "text, message",
    [
        ("commnad sbatch\n", "slurm.conf:1: 'commnad sbatch' is none of"),
        ("command sbatch\noption mem --mem=$0\n", "slurm.conf:2: "),
        ("command sbatch --comment='x\n", "slurm.conf:1: No closing quotation"),
        ("default gpus=0\n", r"'default gpus=0'|did you mean 'gpu'"),
        ("poll often\n", "slurm.conf:1: 'poll often' is none of .* 'poll SECONDS'"),
    ],
)
def test_mistakes_in_the_file_are_told(site, text, message):
    with pytest.raises(UserError, match=message):
        site(text)


def test_which_file_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYDINO_SLURM_CONF", raising=False)
    assert find_config(None).endswith("/conf/slurm.conf")  # the project's
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/slurm.conf").touch()
    assert find_config(None) == "conf/slurm.conf"  # the recipe's
    (tmp_path / "recipe.conf").touch()
    monkeypatch.setenv("PYDINO_RECIPE_SLURM_CONF", str(tmp_path / "recipe.conf"))
    assert find_config(None) == str(tmp_path / "recipe.conf") and find_config("mine") == "mine"
    # what the user chose is not passed over in silence
    monkeypatch.setenv("PYDINO_SLURM_CONF", "/nowhere/users.conf")
    assert find_config(None) == "/nowhere/users.conf"


def test_the_projects_file_changes_nothing_until_somebody_edits_it():
    given = {"mem": "4G", "time": "1:00", "gpu": "2", "num_threads": "3"}
    config = read_slurm_config(find_config(None))
    assert (
        config.sbatch_options(given) == read_slurm_config(None).sbatch_options(given)
        and config.sbatch_options({}) == []
    )


@pytest.mark.parametrize(
    "name, value, twice",
    [
        ("mem", "4G", "8G"),
        ("mem", "1.5g", "3g"),
        ("mem", "1000000", "2000000"),
        ("time", "90", "0-3:00:00"),
        ("time", "0:45", "0-0:01:30"),
        ("time", "12:00:30", "1-0:01:00"),
        ("time", "1-12", "3-0:00:00"),
        ("time", "2-0:30", "4-1:00:00"),
        ("mem", "0", None),  # all of a node
    ],
)
def test_twice_the_memory_or_time(site, name, value, twice):
    state = {"mem": "OUT_OF_MEMORY", "time": "TIMEOUT"}[name]
    expected = {name: twice} if twice else {}
    assert read_slurm_config(None).twice(state, {name: value}) == expected
    assert site(f"default {name}={value}\n").twice(state, {}) == expected
    assert site(f"option {name}={value} --x\n").twice(state, {name: value}) == {}
    assert (
        read_slurm_config(None).twice(state, {})
        == read_slurm_config(None).twice("FAILED", {name: value})
        == {}
    )


def test_jobs_that_were_short_of_memory_or_time_get_twice_as_much(programs, tmp_path, monkeypatch):
    """With a sbatch that runs the tasks itself, and an accounting by which those with 2G and 1 minute fail."""
    monkeypatch.chdir(tmp_path)
    programs(squeue=(0, ""), sacct=(1, ""), sbatch=(0, ""), scontrol=(0, ""))
    (tmp_path / "sbatch").write_text('#!/bin/sh\necho "$@" >> asked; wc -l < asked\n')
    (tmp_path / "scontrol").write_text(
        """#!/bin/bash
say() { echo "JobId=9 ArrayJobId=$1 ArrayTaskId=$2 JobName=x JobState=$3 ExitCode=0:1"; }
case "${@: -1}" in
  1) say 1 1 COMPLETED; say 1 2 OUT_OF_MEMORY; say 1 3 TIMEOUT; say 1 4 TIMEOUT ;;
  2) say 2 2 COMPLETED ;;
  3) say 3 3 COMPLETED; say 3 4 OUT_OF_MEMORY ;;
  4) say 4 4 COMPLETED ;;
esac
"""
    )
    (tmp_path / "slurm.conf").write_text("command sbatch\npoll 0.1\n")
    options = ["--config", "slurm.conf", "--mem", "2G", "--time", "1", "--retries", "2"]
    assert run_slurm(parse_request([*options, "JOB=1:4", "a.JOB.log", "true"], site_names)) == 0
    asked = [
        [word for word in line.split() if re.match("--(mem|time|array)", word)] for line in open("asked")
    ]
    assert asked == [
        ["--mem=2G", "--time=1", "--array=1-4"],
        ["--mem=4G", "--time=1", "--array=2"],
        ["--mem=2G", "--time=0-0:02:00", "--array=3-4"],
        ["--mem=4G", "--time=0-0:02:00", "--array=4"],
    ]


def test_how_often_slurm_is_asked(site):
    assert read_slurm_config(None).poll == 30 and site("poll 120   # seldom\n").poll == 120
    assert site("poll 0.2\n").poll == 0.2


def test_options_of_a_site():
    request = parse_request(
        ["--qos", "long", "--mem=1G", "JOB=1:2", "--mem", "4G", "a.JOB.log", "true"],
        lambda config: ["qos", "mem"],
    )
    assert request.given == {"qos": "long", "mem": "4G"} and request.mem == "4G"
    with pytest.raises(UserError, match=r"unknown option --qoz \(did you mean '--qos'\?\)"):
        parse_request(["--qoz", "long", "a.log", "true"], lambda config: ["qos"])


@pytest.mark.parametrize(
    "log, path",
    [
        ("exp/log/make.JOB.log", "exp/log/make.x"),
        ("log/JOB.log", "log/all.x"),
        ("log.JOB", "log.x"),
        ("split/JOB/log/make.log", "split/log.make.x"),
    ],
)
def test_what_lies_beside_the_log(log, path):
    assert str(beside_log(parse_request(["JOB=1:2", log, "true"]), ".x")) == path


def test_indices():
    assert expand("1,4-8:2,10%3") == [1, 4, 6, 8, 10] and compress([1, 2, 3, 7, 9, 10]) == "1-3,7,9-10"


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Programs of Slurm that say what they are told to, with an exit status."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def say(**outputs):
        for name, (status, text) in outputs.items():
            (tmp_path / f"{name}.txt").write_text(text)
            path = tmp_path / name
            path.write_text(
                f'#!/bin/sh\ncat "{tmp_path}/{name}.txt" {">&2" if status else ""}\nexit {status}\n'
            )
            path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return say


def controller(index, state, code="0:0"):
    return (
        f"JobId=90 ArrayJobId=12 ArrayTaskId={index} JobName=x JobState={state} Reason=None Restarts=0 "
        f"ExitCode={code} RunTime=1\n"
    )


def test_accounting_tells_how_tasks_ended_and_the_controller_what_it_does_not_know_yet(programs):
    programs(
        sacct=(
            0,
            "12_1|COMPLETED|0:0\n12_2|OUT_OF_MEMORY|0:125\n12_3|NODE_FAIL|1:0\n12_[5-6]|CANCELLED by "
            "1000|0:0\n",
        ),
        scontrol=(0, controller("3", "PENDING") + controller("4", "TIMEOUT", "0:15")),
    )
    tasks = [("12", index) for index in range(1, 7)]
    assert Slurm().endings(tasks) == {
        # requeued
        ("12", 1): Ending("COMPLETED"),
        ("12", 2): Ending("OUT_OF_MEMORY", 253),
        ("12", 3): Ending("PENDING"),
        ("12", 4): Ending("TIMEOUT", 143),
        ("12", 5): Ending("CANCELLED"),
        ("12", 6): Ending("CANCELLED"),
    }


def test_without_accounting_the_controller_is_asked_until_it_has_forgotten(programs):
    programs(sacct=(1, "Slurm accounting storage is disabled\n"))
    programs(scontrol=(0, controller("1-2", "CANCELLED") + controller("3", "FAILED", "7:0")))
    slurm = Slurm()
    assert slurm.endings([("12", 1), ("12", 3)]) == {
        ("12", 1): Ending("CANCELLED"),
        ("12", 3): Ending("FAILED", 7),
    }
    programs(scontrol=(1, "slurm_load_jobs error: Invalid job id specified\n"))
    assert slurm.endings([("12", 1)]) == {} and not slurm.has_accounting
    programs(scontrol=(1, "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"))
    with pytest.raises(Unreachable):
        slurm.endings([("12", 1)])


def test_an_accounting_that_hangs_is_asked_once(programs, tmp_path, monkeypatch):
    monkeypatch.setattr(scheduler, "_ACCOUNTING_PATIENCE", 0.2)
    programs(sacct=(0, ""), scontrol=(1, "slurm_load_jobs error: Invalid job id specified\n"))
    (tmp_path / "sacct").write_text("#!/bin/sh\necho asked >> $0.asked; sleep 60\n")
    slurm = Slurm()
    assert slurm.endings([("12", 1)]) == slurm.endings([("12", 1)]) == {}
    assert (tmp_path / "sacct.asked").read_text() == "asked\n"


def test_the_queue(programs):
    programs(squeue=(0, "12|3|RUNNING|n1\n12|4|PENDING|(Resources)\n15|N/A|COMPLETING|n2\n"))
    assert Slurm().live(["12", "15"]) == {
        ("12", 3): ("RUNNING", "n1"),
        ("12", 4): ("PENDING", "Resources"),
        ("15", None): ("COMPLETING", "n2"),
    }
    programs(squeue=(1, "slurm_load_jobs error: Invalid job id specified\n"))
    assert Slurm().live(["12"]) == {}
    programs(squeue=(1, "slurm_load_jobs error: Socket timed out on send/recv operation\n"))
    with pytest.raises(Unreachable):
        Slurm().live(["12"])


def test_what_an_earlier_run_left_is_known_or_refused(programs):
    def listed(*rows):
        text = "".join(
            f"{job}|RUNNING|{user}|{comment}|{folder}|/copy\n" for job, user, comment, folder in rows
        )
        programs(squeue=(0, text))

    entries = [new_entry("/a.slurm.sh", job="12"), new_entry("/a.slurm.sh", job="15")]
    me, here, (one, two) = entries[0]["user"], os.getcwd(), [entry["token"] for entry in entries]
    assert left_by(Slurm(), [], "r.json") == []
    listed(("12", me, one, here), ("15", me, "of another", "/"), ("17", "eve", "", here))
    assert left_by(Slurm(), entries, "r.json") == ["12"]
    listed(("12", me, "", here))  # the site keeps no comment
    assert left_by(Slurm(), entries, "r.json") == ["12"]
    listed(("18", me, f"x {one[:-8]}01234567", here))  # the record was lost
    assert look_up(Slurm(), [], "r.json", "/a.slurm.sh") == ["18"]
    entries[1]["job"] = None
    listed(("12", me, one, here), ("16", me, f"x {two}", "/"))
    assert left_by(Slurm(), entries, "r.json") == ["12", "16"] and entries[1]["job"] == "16"
    programs(squeue=(1, "slurm_load_jobs error: Socket timed out on send/recv operation\n"))
    with pytest.raises(
        UserError, match="Slurm job 12 16, whose state cannot be found out here .*, then remove r.json"
    ):
        left_by(Slurm(), entries, "r.json")
    entries[1]["job"] = None
    listed(("12", me, one, here), ("21", me, "", here))
    with pytest.raises(
        UserError, match="may have been, .*: job 21, .*'scancel 21' ends it. Then remove r.json"
    ):
        left_by(Slurm(), entries, "r.json")
    listed(("12", me, one, here), ("21", me, "", "/"))  # not submitted, or it has ended
    assert left_by(Slurm(), entries, "r.json") == ["12"]


@pytest.mark.parametrize("private", [False, True])
def test_jobs_of_another_user_in_a_shared_folder(programs, private):
    entry = new_entry("/a.slurm.sh", job="12") | {"user": "eve"}
    programs(squeue=(0, f"12|PENDING|eve|{entry['token']}|/|/x\n"))
    programs(scontrol=(0, f"PrivateData = {'cloud,jobs' if private else 'none'}\n"))
    for entries in ([entry], []):
        with pytest.raises(UserError, match=r"Slurm job 12 of eve is doing the same: wait .*squeue -j 12"):
            look_up(Slurm(), entries, "r.json", "/a.slurm.sh")
    programs(squeue=(0, ""))
    if not private:
        assert look_up(Slurm(), [entry], "r.json") == []
        return
    with pytest.raises(UserError, match="Slurm job 12 of eve may be .it is not shown here; .* remove r.json"):
        look_up(Slurm(), [entry], "r.json")


def test_the_token_stands_behind_a_comment_of_the_sites():
    entry = new_entry("/a.sh")
    for words in (["--comment", "no gpu"], ["--comment=x", "--comment=no gpu"]):
        assert marked(entry, ["sbatch", *words])[-2:] == [f"--comment=no gpu {entry['token']}", "/a.sh"]


def test_variables_of_the_users_own_commands_change_no_answer(tmp_path, monkeypatch):
    (tmp_path / "squeue").write_text('#!/bin/sh\necho "12|N/A|${SQUEUE_STATES-all} $SLURM_CLUSTERS|n1"\n')
    (tmp_path / "sbatch").write_text('#!/bin/sh\necho "${SLURM_JOB_ID-7}"\n')
    for name in ("squeue", "sbatch"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SQUEUE_STATES", "R")
    monkeypatch.setenv("SLURM_CLUSTERS", "mars")
    monkeypatch.setenv("SLURM_JOB_ID", "1")  # of a job that we are in
    assert Slurm().live(["12"]) == {("12", None): ("all mars", "n1")} and Slurm().submit(["sbatch"]) == "7"


def test_every_bad_end_has_its_meaning():
    assert FINAL - {"COMPLETED", "FAILED"} <= MEANING.keys()


def test_a_task_that_accounting_holds_for_running_for_ever_has_an_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    request = parse_request(["a.log", "true"])
    waiter = Waiter(request, Slurm(), 30.0, print)
    task, running = ("12", None), Ending("RUNNING")
    waiter.tasks[task] = 1
    assert waiter._judge(task, running, 1) is None
    assert waiter._judge(task, Ending("FAILED", 3), 0) == Ending("FAILED", 3)
    assert waiter._judge(task, running, 30) is None
    assert waiter._judge(task, running, 3600) == Ending("UNKNOWN")
    (tmp_path / "a.log").write_text(
        "# true\n# Started at x\n#\n# Ended (code 0) at x, elapsed time 0 seconds\n"
    )
    assert waiter._judge(task, running, 30) == Ending("COMPLETED")


def test_what_sbatch_answers(programs, monkeypatch):
    programs(sbatch=(0, "12;mars\n"), squeue=(0, "CLUSTER: mars\n12|1|RUNNING|None\n"))
    assert Slurm().submit(["sbatch"]) == "12;mars" and list(Slurm().live(["12;mars"])) == [("12;mars", 1)]
    programs(sbatch=(0, "Welcome!\nSubmitted batch job 13\nBe kind\n"))
    assert Slurm().submit(["sbatch"]) == "13"
    for text in ("", "Welcome!\n", "13\n14\n"):
        programs(sbatch=(0, text))
        assert Slurm().submit(["sbatch"]) == ""
    programs(
        sbatch=(
            1,
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination "
            "specified\n",
        )
    )
    with pytest.raises(UserError, match="Invalid account"):
        Slurm().submit(["sbatch"])
    policy = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
    for said, jobs, passes in (
        (policy, "7\n", True),
        (policy, "", False),  # none that could end: it alone exceeds a limit
        (f"QOSMaxSubmitJobPerUserLimit; {policy}", "7\n", True),
        (f"QOSMaxCpuPerUserLimit; {policy}", "7\n", False),
        ("Slurm job queue full", "", True),
    ):
        programs(sbatch=(1, f"sbatch: error: {said}\n"), squeue=(0, jobs))
        with pytest.raises(NotTaken if passes else UserError, match=said[:20]):
            Slurm().submit(["sbatch"])
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="cannot run sbatch .*backend=local"):
        Slurm().submit(["sbatch"])


def test_an_sbatch_that_retries_by_itself_is_not_waited_for(programs, tmp_path):
    programs(sbatch=(0, ""))
    retries = "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying"
    (tmp_path / "sbatch").write_text(f"#!/bin/sh\necho '{retries}' >&2; sleep 60; echo 12\n")
    with pytest.raises(Unreachable, match="sleeping and retrying"):
        Slurm().submit(["sbatch"])


@pytest.mark.parametrize(
    "name", ["R&D (a)", "a;touch OOPS", "it's $HOME", "two\nlines", "r\rn", "100%j", "JOBS x"]
)
def test_the_script_of_a_job_quotes_every_word_and_folder(tmp_path, monkeypatch, name):
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYDINO_NOTE", f"$(touch OOPS) {name}")
    words = [
        "JOB=1:2",
        f"{folder}/a.JOB.log",
        "printf",
        "%s|",
        name,
        "*",
        "x.JOB",
        "$PYDINO_NOTE",
        "&&",
        "pwd",
    ]
    request = parse_request(words)
    script = job_script(request, [1, 2], ["sbatch", f"--output={name}"])
    assert "\r" not in script and script.startswith("#!/usr/bin/env bash\n#SBATCH --job-name=a\n")
    environment = {**os.environ, "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}
    log = tmp_path.with_suffix(".log")
    with open(log, "ab") as stream:
        subprocess.run(["bash", "-c", script], cwd="/", env=environment, stdout=stream, check=True)
    shown = f"\n#\n{name}|*|x.2|$PYDINO_NOTE|{folder}\n# Acc"
    assert shown.encode() in log.read_bytes(), log.read_bytes()
    assert os.listdir() == [] and sorted(os.listdir(tmp_path)) == [name]


@pytest.mark.parametrize("name", ["R&D (a)", "it's $HOME", "100%j %%"])
def test_the_log_of_a_job_may_lie_in_a_folder_of_any_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    request = parse_request(["JOB=1:2", f"{tmp_path}/{name}/a.JOB.log", "true"])
    submission = _Submission(request, "run_slurm.sh", read_slurm_config(None), Attempt(request))
    command = submission._sbatch([1, 2], new_entry("/a.sh"))
    (output,) = [word for word in command if word.startswith("--output=")]
    read_back = output.removeprefix("--output=").replace("%%", "\0").replace("%a", "2").replace("\0", "%")
    assert read_back == f"{tmp_path}/{name}/a.2.log"
