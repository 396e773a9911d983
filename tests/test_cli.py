"""The command line `pydino VERB`: every verb names a misspelt option first, and none shows a traceback."""

import importlib
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pydino.cli import Parser, boolean, main, parser_of, verbs
from pydino.cli._arguments import PROJECT, integer, option, share


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


def test_an_option_has_the_type_of_its_default_and_shows_it():
    parser = Parser(prog="make-things", allow_abbrev=False)
    option(parser, "--rate", 0.5, "of change")
    option(parser, "--deep", False, "look closer")
    option(parser, "--name", "", "of the thing (default: none)")
    option(parser, "--file", [], "to read")
    option(parser, "--channel", None, "to take", type=int)
    args = parser.parse_args(["--rate", "2", "--deep", "--file", "a", "--file", "b", "--channel", "1"])
    assert (args.rate, args.deep, args.name, args.file, args.channel) == (2.0, True, "", ["a", "b"], 1)
    assert parser.parse_args([]).file == [] and parser.parse_args([]).channel is None
    said = parser.format_help()
    assert "of change (default: 0.5)" in said and "look closer (default: false)" in said
    assert said.count("(default") == 3


@pytest.mark.parametrize(
    "kind, good, bad",
    [
        (integer(0), ["0", "7"], ["-1", "1.5", "", "²", "10000000000"]),
        (integer(1), ["1"], ["0", "one"]),
        (share, ["0", "0.5", "1"], ["1.1", "-0.1", "nan", "half"]),
    ],
)
def test_kinds_of_values(kind, good, bad, capsys):
    parser = Parser(prog="make-things", allow_abbrev=False)
    option(parser, "--value", None, type=kind)
    for text in good:
        assert parser.parse_args([f"--value={text}"]).value == float(text)
    for text in bad:
        with pytest.raises(SystemExit):
            parser.parse_args([f"--value={text}"])
        assert f"--value: {'must' if kind is share else 'should'} be a" in capsys.readouterr().err


def test_the_options_of_the_command_that_a_verb_runs_are_left_to_it():
    parser = Parser(prog="pydino launch", allow_abbrev=False)
    option(parser, "--num-nodes", 1)
    parser.add_argument("command", nargs="...")
    for words in (
        ["--num_nodes", "2", "train", "--seed", "1"],
        ["--num-nodes=2", "--", "train", "--seed", "1"],
    ):
        args = parser.parse_args(words)
        assert args.num_nodes == 2 and args.command[-3:] == ["train", "--seed", "1"]
    with pytest.raises(SystemExit):
        parser.parse_args(["--nodes", "2", "train", "--seed", "1"])


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


ENDING = """
import atexit, runpy, pydino.cli

class Large:
    def __del__(self):
        print("taken apart")

def main():
    global large
    large = Large()
    atexit.register(print, "closed")
    print("said", end=", ")
    return 3

pydino.cli.main = main
runpy.run_module("pydino", run_name="__main__")
"""


def test_a_process_says_and_closes_everything_but_takes_no_object_apart():
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (3, "said, closed\n", "")


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


@pytest.mark.parametrize(
    ("verb", "file"),
    [
        ("cluster", "cluster"),
        ("extract-crops", "crops"),
        ("threshold", "crops"),
        ("make-fbank", "fbank"),
        ("compute-vad", "vad"),
    ],
)
def test_a_configuration_is_that_of_the_current_folder_or_else_of_the_project(
    verb, file, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(f"pydino.cli.{verb.replace('-', '_')}")
    words = ["a", "b", "c"]
    assert parser_of(verb, module).parse_args(words).config == str(PROJECT / "conf" / f"{file}.yaml")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / f"{file}.yaml").touch()
    assert parser_of(verb, module).parse_args(words).config == f"conf/{file}.yaml"
