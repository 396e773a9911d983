"""utils/parse_options.sh as scripts meet it: sourced, under ``set -Eeuo pipefail``."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

SCRIPT = """#!/usr/bin/env bash
# Make a thing.
# Usage: make.sh [options] DATA
# Begin configuration.
nj=4            # number of parallel jobs
cmd=run_local.sh   # how jobs run, # and all
compress=true   # write compressed archives;
                # half the size
ark_dir="a # b" # where archives go
stage=0
# End configuration.
undeclared=1
set -Eeuo pipefail
. "{parser}"
echo "nj=$nj cmd=$cmd compress=$compress ark_dir=$ark_dir stage=$stage undeclared=$undeclared"
for argument in "$@"; do echo "<$argument>"; done
"""


@pytest.fixture
def call(tmp_path):
    script = tmp_path / "make it ünique.sh"
    script.write_text(SCRIPT.format(parser=ROOT / "utils/parse_options.sh"), encoding="utf-8")

    def run(*arguments):
        return subprocess.run(
            ["bash", str(script), *arguments], capture_output=True, text=True, timeout=10, cwd=tmp_path
        )

    return run


def test_every_spelling_sets_the_variable(call):
    done = call("--nj", "8", "--ark-dir=x=y z", "--compress", "false", "--stage", "-1", "data dir", "more")
    assert done.returncode == 0
    assert (
        done.stdout
        == "nj=8 cmd=run_local.sh compress=false ark_dir=x=y z stage=-1 undeclared=1\n<data dir>\n<more>\n"
    )
    assert "ark_dir=q " in call("--ark_dir", "q").stdout


def test_defaults_and_empty_arguments_stay(call):
    assert call().stdout == "nj=4 cmd=run_local.sh compress=true ark_dir=a # b stage=0 undeclared=1\n"
    assert call("", "x").stdout.endswith("<>\n<x>\n")


def test_a_value_is_never_evaluated(call, tmp_path):
    bomb = "$(touch bomb)`touch bomb`; touch bomb"
    done = call("--nj", bomb, f"--ark-dir={bomb}")
    assert f"nj={bomb} " in done.stdout
    assert call("--stage[$(touch bomb)]", "1").returncode == 1
    assert not (tmp_path / "bomb").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--nj"], "option --nj needs a value"),  # Kaldi's own loops for ever here
        (["--nj", "--cmd", "x"], "option --nj needs a value, but the option --cmd follows"),
        (["--nm", "3"], "invalid option --nm (did you mean --nj?)"),
        (["--ark-dri", "3"], "(did you mean --ark-dir?)"),
        (["--undeclared", "2"], "invalid option --undeclared"),
        (["--compress", "yes"], 'expected "true" or "false": --compress yes'),
        (["--compress=1"], 'expected "true" or "false": --compress 1'),
        (["--cmd", ""], "empty argument to --cmd option"),
        (["-j", "4"], "invalid option -j"),
        (["data", "--nj", "4"], "option --nj comes after the argument data"),
    ],
)
def test_mistakes_end_the_script(call, arguments, message):
    done = call(*arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert message in done.stderr
    assert "make it ünique.sh: " in done.stderr


def test_bare_boolean_and_end_of_options(call):
    assert "compress=true" in call("--compress", "--nj", "2").stdout
    done = call("--nj", "2", "--", "--cmd", "x")
    assert "cmd=run_local.sh" in done.stdout and done.stdout.endswith("<--cmd>\n<x>\n")


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_made_of_the_declarations(call, flag):
    done = call(flag)
    assert done.returncode == 0
    assert done.stdout.startswith("Make a thing.\nUsage: make.sh [options] DATA\n")
    assert "how jobs run, # and all (default: run_local.sh)" in done.stdout
    assert "write compressed archives; half the size (default: true)" in done.stdout
    assert "where archives go (default: a # b)" in done.stdout
    assert "undeclared" not in done.stdout


def test_config_is_not_sourced(call, tmp_path):
    (tmp_path / "conf").write_text("touch bomb\n")
    assert call("--config", "conf").returncode == 1
    assert not (tmp_path / "bomb").exists()


def test_an_array_may_be_given_several_times(tmp_path):
    script = tmp_path / "several.sh"
    script.write_text(
        f"""#!/usr/bin/env bash
# Begin configuration.
corpus=()   # NAME=DIR
# End configuration.
set -Eeuo pipefail
. "{ROOT}/utils/parse_options.sh"
for word in "${{corpus[@]}}"; do echo "<$word>"; done
"""
    )
    call = ["bash", str(script), "--corpus", "a=/x y", "--corpus=b=/z=1"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=10)
    assert done.returncode == 0 and done.stdout == "<a=/x y>\n<b=/z=1>\n", done.stderr
    assert subprocess.run(call[:2], capture_output=True, text=True, timeout=10).stdout == ""
