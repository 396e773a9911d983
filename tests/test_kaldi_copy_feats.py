"""copy-feats does with odd and broken input what Kaldi's program did, save where that is not good."""

import json
from pathlib import Path

import pytest

from pydino.cli import main
from pydino.kaldi import read_ark

FIXTURES = Path(__file__).parent / "fixtures/kaldi"
CASES = {case["case"]: case for case in json.loads((FIXTURES / "arc/errors.json").read_text())}
# What is done otherwise, on purpose: case -> exit status here.
OTHERWISE = {
    "truncated inside the last key": 1,  # Kaldi loses the last entry and says nothing
    "the same with ark,p: (permissive)": 1,  # there is no permissive mode: nothing is left out silently
    "the same, scp,p:": 1,
    "duplicate key in scp": 1,
    "vector archive read as matrices": 0,  # any object is copied
    "matrix archive read as vectors": 0,
    "text matrix: minus_inf": 0,  # Kaldi writes it itself
}
OTHER_OUTPUT = {"text matrix: one_line"}  # a vector here


@pytest.fixture(autouse=True)
def in_fixtures(monkeypatch):
    monkeypatch.chdir(FIXTURES)


@pytest.mark.parametrize("name", CASES)
def test_exit_status_and_text_are_kaldis(name, tmp_path, capfdbinary):
    case = CASES[name]
    specifiers = case["command"].split()[1:]
    target = specifiers[1] if specifiers[1].endswith("-") else f"ark:{tmp_path}/out.ark"
    expected = OTHERWISE.get(name, min(case["exit_code"], 1))
    assert main(["copy-feats", specifiers[0], target]) == expected
    said = capfdbinary.readouterr()
    if expected:
        assert b"Traceback" not in said.err and said.err.count(b"\n") <= 2
        assert not list(tmp_path.iterdir())
    elif case["stdout"] and name not in OTHER_OUTPUT:
        assert said.out.decode() == case["stdout"]


def test_compressing_and_back_to_text_by_script(tmp_path, capfd):
    assert (
        main(
            [
                "copy-feats",
                "--compress",
                "true",
                "scp:arc/mat_ne.scp",
                f"ark,scp:{tmp_path}/a.ark,{tmp_path}/a.scp",
            ]
        )
        == 0
    )
    assert dict(read_ark(tmp_path / "a.ark")).keys() == dict(read_ark("arc/mat_ne.ark")).keys()
    assert (tmp_path / "a.ark").stat().st_size == Path("arc/comp/m1.ark").stat().st_size
    capfd.readouterr()
    assert main(["copy-feats", f"scp:{tmp_path}/a.scp", "ark,t:-"]) == 0
    assert capfd.readouterr().out.startswith("big  [\n")


@pytest.mark.parametrize(
    "source, target",
    [
        ("arc/int.ark", "ark:x"),
        ("arc:int.ark", "ark:x"),
        ("ark:arc/int.ark", "scp:x"),
        ("ark:arc/int.ark", "ark,scp:x"),
    ],
)
def test_a_misspelt_specifier_is_explained(source, target, capfd):
    assert main(["copy-feats", source, target]) == 1
    assert "write ark:FILE" in capfd.readouterr().err


def test_a_command_in_a_script_needs_leave(tmp_path, capfd):
    (tmp_path / "p.scp").write_text("k cat arc/single_vec.vec |\n")
    assert main(["copy-feats", f"scp:{tmp_path}/p.scp", "ark,t:-"]) == 1
    assert "--allow-pipes true" in capfd.readouterr().err
    assert main(["copy-feats", "--allow-pipes", "true", f"scp:{tmp_path}/p.scp", "ark,t:-"]) == 0
    assert capfd.readouterr().out.startswith("k  [ -0.54")
