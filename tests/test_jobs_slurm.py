"""What of the Slurm back-end needs no Slurm: a site's configuration, what the scheduler says and how it is
read.
"""

import os
import stat
import subprocess

import pytest

from pydino.base import UserError
from pydino.jobs import parse_request
from pydino.jobs.slurm.backend import _Submission
from pydino.jobs.slurm.config import find_config, read_slurm_config
from pydino.jobs.slurm.endings import MEANING
from pydino.jobs.slurm.scheduler import FINAL, Ending, Slurm, Unreachable, compress, expand
from pydino.jobs.slurm.script import job_script
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
    assert not slurm.has_accounting
    programs(scontrol=(1, "slurm_load_jobs error: Invalid job id specified\n"))
    assert slurm.endings([("12", 1)]) == {}
    programs(scontrol=(1, "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"))
    with pytest.raises(Unreachable):
        slurm.endings([("12", 1)])


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


def test_what_an_earlier_run_left_is_known_or_refused(programs, monkeypatch):
    programs(squeue=(0, "12|1|RUNNING|n1\n12|2|PENDING|(Priority)\n"))
    entries = [{"job": "12"}, {"job": "15"}]
    assert Slurm().left_by(entries, "r.json") == ["12"] and Slurm().left_by([], "r.json") == []
    programs(squeue=(1, "slurm_load_jobs error: Socket timed out on send/recv operation\n"))
    with pytest.raises(
        UserError, match="Slurm job 12 15, whose state cannot be found out here .*, then remove r.json"
    ):
        Slurm().left_by(entries, "r.json")


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
    submission = _Submission(request, "run_slurm.sh", read_slurm_config(None), Attempt(request))
    task, running = ("12", None), Ending("RUNNING")
    submission.waiting[task] = 1
    assert submission._judge(task, running, 1) is None and submission._judge(
        task, Ending("FAILED", 3), 0
    ) == Ending("FAILED", 3)
    assert submission._judge(task, running, 30) is None and submission._judge(task, running, 3600) == Ending(
        "UNKNOWN"
    )
    (tmp_path / "a.log").write_text(
        "# true\n# Started at x\n#\n# Ended (code 0) at x, elapsed time 0 seconds\n"
    )
    assert submission._judge(task, running, 30) == Ending("COMPLETED")


def test_what_sbatch_answers(programs, monkeypatch):
    programs(sbatch=(0, "12;mars\n"), squeue=(0, "CLUSTER: mars\n12|1|RUNNING|None\n"))
    assert Slurm().submit(["sbatch"]) == "12;mars" and list(Slurm().live(["12;mars"])) == [("12;mars", 1)]
    programs(
        sbatch=(
            1,
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination "
            "specified\n",
        )
    )
    with pytest.raises(UserError, match="Invalid account"):
        Slurm().submit(["sbatch"])
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="cannot run sbatch .*backend=local"):
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
    command = _Submission(request, "run_slurm.sh", read_slurm_config(None), Attempt(request))._sbatch([1, 2])
    (output,) = [word for word in command if word.startswith("--output=")]
    read_back = output.removeprefix("--output=").replace("%%", "\0").replace("%a", "2").replace("\0", "%")
    assert read_back == f"{tmp_path}/{name}/a.2.log"
