"""Trial lists and score files: read, joined by key and written; each malformed one is refused where it goes
wrong.
"""

import numpy as np
import pytest

from pydino.base import UserError
from pydino.kaldi.plda_file import read_plda, write_plda
from pydino.kaldi.trials import join_scores, read_scores, read_trials, rounded_scores, write_scores


@pytest.fixture
def write(tmp_path):
    def write_file(text, name="trials"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def test_trials_with_and_without_labels(write):
    table = read_trials(write("a b target\na c nontarget\né b nontarget\n"))
    assert (table.models, table.tests) == (["a", "é"], ["b", "c"])
    assert (table.rows.tolist(), table.columns.tolist(), table.values.tolist()) == (
        [0, 0, 1],
        [0, 1, 0],
        [True, False, False],
    )
    bare = read_trials(write("a  b\nc\td"))  # loose blanks, no newline at the end
    assert bare.values is None and bare.name(1) == "c d"


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is empty"),
        ("a b target\nc d\n", "line 2: expected 3 fields"),
        ("a b\n\nc d\n", "line 2: expected 2 fields"),
        ("a\nb c d\n", "line 1: expected"),
        ("a b c d\n", "line 1: expected"),
        ("a b target\nc d Target\n", "line 2: the third field is 'Target'"),
        ("a b target\nc d target\na b nontarget\n", "1 pairs occur twice, first: a b"),
    ],
)
def test_malformed_trials(write, text, message):
    with pytest.raises(UserError, match=message):
        read_trials(write(text))


def test_line_numbers_are_right_in_later_blocks(write, monkeypatch):
    monkeypatch.setattr("pydino.kaldi.trials._BLOCK_BYTES", 50)
    lines = [f"m{i} t{i} target" for i in range(40)]
    assert len(read_trials(write("\n".join(lines)))) == 40
    with pytest.raises(UserError, match="line 31: the third field is 'x'"):
        read_trials(write("\n".join([*lines[:30], "m t x", *lines[31:]])))
    with pytest.raises(UserError, match="line 32: expected 3 fields.*found 1"):
        read_trials(write("\n".join([*lines[:31], "m", *lines[32:]])))


def test_scores_come_back(write, tmp_path):
    trials = read_trials(write("a bb\nccc bb\na é\n"))
    values = np.array([-0.000000004, 12345.678901234, -0.5])
    write_scores(tmp_path / "scores", trials, values)
    assert (tmp_path / "scores").read_text(
        encoding="utf-8"
    ) == "a bb 0.00000000\nccc bb 12345.67890123\na é -0.50000000\n"
    np.testing.assert_allclose(read_scores(tmp_path / "scores").values, values, atol=1e-8)


def test_scores_of_every_size_are_written_as_python_would(write, tmp_path):
    trials = read_trials(write("".join(f"a t{i}\n" for i in range(2000))))
    rng = np.random.default_rng(0)
    values = rng.standard_normal(2000) * 10.0 ** rng.integers(-9, 7, 2000)
    write_scores(tmp_path / "scores", trials, values)
    written = [line.split()[2] for line in (tmp_path / "scores").read_text().splitlines()]
    np.testing.assert_allclose(np.array(written, dtype=float), values, atol=0.6e-8, rtol=1e-15)
    assert all(
        text.lstrip("-") == "0" + text.lstrip("-").lstrip("0") or text.lstrip("-")[0] != "0"
        for text in written
    )


def test_huge_and_missing_scores_are_refused(write, tmp_path):
    trials = read_trials(write("a b\n"))
    for value in (np.nan, 1e30):
        with pytest.raises(UserError, match="too large"):
            write_scores(tmp_path / "scores", trials, np.array([value]))
    with pytest.raises(UserError, match="a b is nan"):
        read_scores(write("a b nan\n", "scores"))


def test_scores_join_by_key(write):
    trials = read_trials(write("a b target\nc d nontarget\n"))
    scores = read_scores(write("c d 2\na b 1\n", "scores"))
    assert join_scores(scores, trials, "scores", "trials").tolist() == [1.0, 2.0]
    with pytest.raises(UserError, match="1 of 2 trials of trials have no score, first: c d"):
        join_scores(read_scores(write("a b 1\na d 2\n", "scores")), trials, "scores", "trials")
    with pytest.raises(UserError, match="1 scores without a trial in trials, first: c x"):
        join_scores(read_scores(write("a b 1\nc d 2\nc x 3\n", "scores")), trials, "scores", "trials")
    with pytest.raises(UserError, match="pairs occur twice, first: a b"):
        read_scores(write("a b 1\nc d 2\na b 3\n", "scores"))


def test_a_cut_or_foreign_plda_file_is_named(tmp_path):
    path = tmp_path / "plda"
    write_plda(path, np.zeros(3), np.eye(3), np.ones(3))
    whole = path.read_bytes()
    for content in (
        whole[:2],
        whole[:40],
        whole[:-8],
        b"",
        b"\0BFM garbage",
        b"<Plda> [ 1 2 ] [ 1 ] [ 1 2 ] </Plda>",
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match="plda is not a complete Kaldi PLDA file"):
            read_plda(path)
    write_plda(path, np.zeros(3), np.eye(3), np.ones(2))
    with pytest.raises(UserError, match="do not match"):
        read_plda(path)
    with pytest.raises(UserError, match="cannot read"):
        read_plda(tmp_path / "nothing")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_trials_as_editors_write_them(tmp_path, mark, end):
    path = tmp_path / "trials"
    path.write_bytes(f"{mark}a b target{end}a ç nontarget{end}".encode())
    trials = read_trials(path)
    assert trials.models == ["a"] and trials.tests == ["b", "ç"] and trials.values.tolist() == [1, 0]


def test_trials_that_are_not_utf8_are_named_with_line_and_byte(tmp_path):
    (tmp_path / "trials").write_bytes("a b target\na ç nontarget\n".encode("latin-1"))
    with pytest.raises(UserError, match="trials is not UTF-8 text: byte 3 of line 2"):
        read_trials(tmp_path / "trials")


def test_numbers_of_pairs_may_be_more_than_32_bits_hold(write, tmp_path):
    """50,000 models and 50,000 tests are 2.5e9 pairs; with int32 places the product would overflow."""
    count = 50_000
    lines = [f"m{i} t{i} target" for i in range(count)]
    trials = read_trials(write("\n".join(lines)))
    assert trials.rows.dtype == trials.columns.dtype == np.int32 and trials.values.dtype == bool
    values = np.arange(count) / 7
    write_scores(tmp_path / "scores", trials, values)
    scores = read_scores(tmp_path / "scores")
    np.testing.assert_allclose(join_scores(scores, trials, "scores", "trials"), values, atol=1e-8)
    with pytest.raises(UserError, match="1 pairs occur twice, first: m49999 t49999"):
        read_trials(write("\n".join([*lines, "m49999 t49999 target"])))


def test_a_pair_that_occurs_twice_is_found_where_all_pairs_are_listed(write, monkeypatch):
    monkeypatch.setattr("pydino.kaldi.trials._BLOCK_PAIRS", 7)
    pairs = [f"m{i} t{j} nontarget" for i in range(10) for j in range(10)]
    assert len(read_trials(write("\n".join(pairs)))) == 100
    with pytest.raises(UserError, match="1 pairs occur twice, first: m4 t2"):
        read_trials(write("\n".join([*pairs[:-1], pairs[42]])))


def test_scores_are_rounded_in_place_block_by_block(monkeypatch):
    values = np.random.default_rng(0).normal(size=50)
    wanted = rounded_scores(values)
    np.testing.assert_array_equal(wanted, [float(f"{value:.8f}") for value in values])
    monkeypatch.setattr("pydino.kaldi.trials._BLOCK_PAIRS", 7)
    assert rounded_scores(values, out=values) is values
    np.testing.assert_array_equal(values, wanted)
