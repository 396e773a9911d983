"""The command line `pydino VERB`: every verb names a misspelt option first, and none shows a traceback."""

import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pydino.cli import main, verbs


# which reads its options itself
@pytest.mark.parametrize("verb", sorted(set(verbs()) - {"run-local", "run-slurm"}))
def test_every_verb_names_an_unknown_option_before_what_is_missing(verb, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--no-such-option", "1"])
    said = capsys.readouterr().err
    assert (
        stopped.value.code == 1
        and f"pydino {verb}: unknown option '--no-such-option'" in said
        and f"'pydino {verb} --help'" in said
    )


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


@pytest.mark.parametrize("cuda, status", [("None", 1), ("'12.8'", 0)])
def test_a_build_of_pytorch_that_cannot_use_gpus_is_found_out_before_jobs_need_them(
    tmp_path, monkeypatch, capsys, cuda, status
):
    from pydino.cli import versions

    (tmp_path / "version.py").write_text(
        f"from typing import Optional\ncuda: Optional[str] = {cuda}\nhip: Optional[str] = None\n"
    )
    monkeypatch.setattr(
        versions.importlib.util,
        "find_spec",
        lambda _: SimpleNamespace(submodule_search_locations=[str(tmp_path)]),
    )
    assert main(["versions"]) == 0 and main(["versions", "--ngpu", "2"]) == status
    assert ("'PYDINO_TORCH=cuda bash utils/setup.sh' installs" in capsys.readouterr().err) == bool(status)
