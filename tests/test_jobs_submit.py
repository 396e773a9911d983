"""Submitting a command by whatever wrapper --cmd names: quoting, failures, signals."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pydino.base import UserError
from pydino.jobs.signals import handling
from pydino.jobs.submit import Follower, quoted, submit
from pydino.jobs.train_job import _SHOWN

ROOT = Path(__file__).parent.parent
WORDS = [
    "a b",
    "it's",
    "R&D",
    "A_(B)",
    "$HOME",
    "`id`",
    "$(id)",
    "x;y",
    "*",
    "",
    "é",
    'say "$HOME" \\',
    "a\tb",
    "#",
    "~",
    "tail\n",
]
# How Kaldi's run.pl, queue.pl and slurm.pl make a line of their arguments, and give it to bash.
RUN_PL = r"""#!/usr/bin/env python3
import re, subprocess, sys
first, rest = sys.argv[1], sys.argv[2:]
jobs = int(first.split(":")[1]) if "=" in first else 1
log, rest = (rest[0], rest[1:]) if "=" in first else (first, rest)
line = " ".join(x if re.fullmatch(r"\S+", x) else f"'{x}'" if '"' in x else f'"{x}"' for x in rest)
for n in range(1, jobs + 1):
    with open(log.replace("JOB", str(n)), "w") as out:
        status = subprocess.run(["bash"], input="( " + line.replace("JOB", str(n)) + " )", text=True, stdout=out).returncode
    if status:
        sys.exit(1)
"""
KALDIS = pytest.param(
    shutil.which("run.pl") or "",
    id="Kaldi's own",
    marks=pytest.mark.skipif(
        not shutil.which("run.pl"),
        reason="Kaldi's run.pl is not on PATH (egs/wsj/s5/utils/parallel of kaldi-asr/kaldi)",
    ),
)
SHOW = [sys.executable, "-c", "import sys; print(sys.argv[1:])"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with awkward characters as the current one, a wrapper like Kaldi's in it, and utils/ on PATH."""
    place = tmp_path / "R&D (é) $HOME"
    place.mkdir()
    (place / "run.pl").write_text(RUN_PL)
    (place / "run.pl").chmod(0o755)
    monkeypatch.chdir(place)
    monkeypatch.setenv("PATH", f"{place}:{ROOT}/utils:{os.environ['PATH']}")
    return place


@pytest.mark.parametrize("wrapper", ["run.pl", KALDIS])
def test_a_foreign_wrapper_hands_every_word_to_the_job_as_it_is(folder, wrapper):
    submit(wrapper, "log/show.JOB.log", [*SHOW, "--part", "JOB/2", *WORDS], jobs=2)
    for job in (1, 2):
        lines = (folder / f"log/show.{job}.log").read_text().splitlines()
        assert [line for line in lines if line[:1] == "["] == [f"{['--part', f'{job}/2', *WORDS]}"]


def test_words_without_special_characters_stay_readable():
    assert [quoted(word) for word in ("exp/a.JOB.log", "--nj=4", "JOB/4", "50%")] == [
        "exp/a.JOB.log",
        "--nj=4",
        "JOB/4",
        "50%",
    ]
    assert quoted("a b") == r"$'a\x20b'"


def test_our_own_wrapper_gets_its_options_and_what_the_output_is_made_from(folder):
    wrapper = folder / "run_local.sh"
    wrapper.write_text('#!/bin/sh\nprintf "%s\\n" "$PYDINO_MADE_FROM" "$@" > got\n')
    wrapper.chmod(0o755)
    submit("run_local.sh --mem 1G", "a.log", ["x y"], options=["--gpu", "1"], made_from="digest")
    assert (folder / "got").read_text().splitlines() == [
        "digest",
        "--mem",
        "1G",
        "--gpu",
        "1",
        "a.log",
        "--",
        "x y",
    ]


@pytest.mark.parametrize("wrapper", ["run_local.sh", "run.pl"])
def test_a_name_that_is_an_operator_stays_a_name(folder, wrapper):
    names = [";", "|", "&&", ">", "2>&1", "(", "--", "X=1", ">file"]
    submit(wrapper, "log/names.log", [*SHOW, *names])
    assert f"{names}\n" in (folder / "log/names.log").read_text() and not (folder / "file").exists()


def test_a_failed_job_and_a_missing_wrapper_are_named(folder):
    with pytest.raises(UserError, match=r"failed: run.pl ended with status 1; log: bad.log"):
        submit("run.pl", "bad.log", ["false"])
    with pytest.raises(UserError, match="cannot run 'nowhere.pl', the wrapper that --cmd names"):
        submit("nowhere.pl --mem 1G", "bad.log", ["true"])


@pytest.mark.parametrize(
    "number, status", [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_reaches_the_wrapper_and_is_waited_for(folder, number, status):
    (folder / "slow.sh").write_text(
        '#!/bin/bash\nfor s in INT TERM HUP; do trap "sleep 0.3; echo $s > ended; exit 1" $s; done\n'
        "touch begun; while :; do sleep 0.05; done\n"
    )
    (folder / "slow.sh").chmod(0o755)
    (folder / "step.py").write_text(
        "import os, signal\nfrom pydino.jobs.submit import submit\ntry: submit('slow.sh', 'a.log', ['x'])\n"
        "except KeyboardInterrupt: signal.signal(signal.SIGINT, signal.SIG_DFL); os.kill(os.getpid(), 2)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "step.py"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: [signal.signal(s, signal.SIG_DFL) for s in (signal.SIGINT, signal.SIGHUP)],
    )
    end = time.monotonic() + 30
    while not (folder / "begun").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(30) == status
    assert (folder / "ended").read_text().strip() == signal.Signals(number).name[3:]


def test_lines_of_a_training_are_shown_also_when_its_log_is_replaced_or_cut_short(tmp_path, capsys):
    log = tmp_path / "train.log"
    log.write_text("pydino train: of an earlier run\n")
    follower = Follower(log, _SHOWN)

    def shown():
        follower.show()
        return capsys.readouterr().err

    with open(log, "a") as stream:
        stream.write("pydino train: one\na line of a library\n2026-01-01 00:00:00 pydino launch: t")
    assert shown() == "pydino train: one\n"
    with open(log, "a") as stream:
        stream.write("wo\n")
    log.rename(tmp_path / "train.log.1")
    log.write_text("pydino train: three\n")
    assert shown() == "2026-01-01 00:00:00 pydino launch: two\npydino train: three\n"
    log.write_text("pydino train: 4\n")
    assert shown() == "pydino train: 4\n" and shown() == ""
    log.unlink()
    assert shown() == ""


def test_handlers_are_restored_and_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.getsignal(signal.SIGUSR1)
    try:
        with handling((signal.SIGHUP, signal.SIGUSR1), lambda *_: received.append(1)):
            received = []
            for number in (signal.SIGHUP, signal.SIGUSR1):
                os.kill(os.getpid(), number)
            assert received == [1]
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGUSR1) == before[1]
    finally:
        signal.signal(signal.SIGHUP, before[0])
