"""The command line `pydino VERB`: every verb names a misspelt option first, and none shows a traceback."""

import signal
import subprocess
import sys

import pytest

from pydino.cli import main, verbs


@pytest.mark.parametrize("verb", sorted(set(verbs()) - {"run-local", "run-slurm"}))  # which reads its options itself
def test_every_verb_names_an_unknown_option_before_what_is_missing(verb, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--no-such-option", "1"])
    said = capsys.readouterr().err
    assert stopped.value.code == 1 and f"pydino {verb}: unknown option '--no-such-option'" in said and f"'pydino {verb} --help'" in said


def test_the_nearest_option_and_the_nearest_verb_are_named(capsys):
    with pytest.raises(SystemExit):
        main(["embed", "--devce=cpu"])
    assert "(did you mean '--device'?)" in capsys.readouterr().err
    assert main(["embd"]) == 1
    assert "(did you mean 'embed'?)" in capsys.readouterr().err


def test_after_two_dashes_nothing_is_an_option(capsys):
    assert main(["embed", "--", "--no-such-model", "--a.wav"]) == 1
    assert "no model folder --no-such-model" in capsys.readouterr().err


def test_ctrl_c_shows_no_traceback_and_ends_the_calling_script_too():
    program = (
        "import pydino.cli, runpy\ndef main(): raise KeyboardInterrupt\npydino.cli.main = main\n"
        "runpy.run_module('pydino', run_name='__main__')"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGINT and ended.stderr == "pydino: interrupted\n"
