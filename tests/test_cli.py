"""The command line `pydino VERB`: every verb names a misspelt option first, and none shows a traceback."""

import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pydino.cli import Parser, boolean, main, verbs


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


@pytest.fixture
def parser():
    parser = Parser(prog="make-things", allow_abbrev=False)
    parser.add_argument("--num-jobs", type=int, default=4)
    parser.add_argument("--compress", type=boolean, default=False)
    parser.add_argument("--cmd", default="run_local.sh")
    parser.add_argument("data", nargs="*")
    return parser


@pytest.mark.parametrize(
    "words, num_jobs, compress, data",
    [
        (["--num-jobs", "8", "a"], 8, False, ["a"]),
        (["--num_jobs=8", "--compress", "false", "a"], 8, False, ["a"]),
        (["--num_jobs", "-1", "--compress", "true", "data dir"], -1, True, ["data dir"]),
        (["--compress", "--num-jobs", "8", "a"], 8, True, ["a"]),
        (["a", "--compress"], 4, True, ["a"]),
        (["--", "--num_jobs", "8"], 4, False, ["--num_jobs", "8"]),
    ],
)
def test_options_are_spelt_as_in_kaldis_scripts(parser, words, num_jobs, compress, data):
    args = parser.parse_args(words)
    assert (args.num_jobs, args.compress, args.data, args.arguments) == (num_jobs, compress, data, words)


@pytest.mark.parametrize(
    "words, said",
    [
        (["--num-jobs"], "option --num-jobs needs a value"),
        (["--num-jobs", "--cmd", "x"], "option --num-jobs needs a value, but the option --cmd follows"),
        (["--compress", "yes"], "expected true or false, got 'yes'"),
        (["--compress=1"], "expected true or false, got '1'"),
        (["--cmd", ""], "empty argument to --cmd option"),
        (["--cmd="], "empty argument to --cmd option"),
        (["--num_job", "3"], "unknown option '--num_job' (did you mean '--num-jobs'?)"),
        (["-j", "4"], "unknown option '-j'"),
    ],
)
def test_mistakes_in_options_are_named(parser, capsys, words, said):
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(words)
    assert stopped.value.code == 1 and f"make-things: {said}" in capsys.readouterr().err.replace(
        "argument --compress: ", ""
    )


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
