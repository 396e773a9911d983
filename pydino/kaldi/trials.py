"""Trial lists and score files: text tables ``enroll test [target|nontarget]`` and ``enroll test score``.

Both may hold many millions of lines: they are read in blocks, keys are converted to numbers immediately, and
scores are formatted as arrays of bytes, about as fast as a disk writes.
"""

from collections import defaultdict
from dataclasses import dataclass
from itertools import count

import numpy as np

from pydino.base import UserError, atomic_open
from pydino.base.text import read_blocks

_BLOCK_BYTES = 32 << 20
_BLOCK_PAIRS = 1 << 20
_CELLS_PER_PAIR = (
    8  # of the matrix of models and tests, up to which a byte a cell is no more than sorting takes
)
_DECIMALS = 8  # as fine as float32 scores near 1


@dataclass(frozen=True)
class PairTable:
    """Pairs of an enrolled model and a test utterance, as indices into two lists of names, in the order of
    the file.

    Attributes:
        models, tests: names, in order of appearance.
        rows, columns: (N,) int32 places in ``models`` and ``tests``: with labels 9 bytes a pair.
        values: (N,) third field: bools for trials with labels, float64 for scores; None where there is none.
    """

    models: list[str]
    tests: list[str]
    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray | None

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, place: int) -> str:
        """``enroll test`` of one pair, for messages."""
        return f"{self.models[self.rows[place]]} {self.tests[self.columns[place]]}"


def read_trials(path) -> PairTable:
    """Read a trial list, with or without the third field; ``values`` are True for target.

    Raises:
        UserError: unreadable, empty, a malformed line, a label other than target or nontarget, or a duplicate
            pair.
    """
    labels = {b"target": True, b"nontarget": False}
    return _read_pairs(path, labels.__getitem__, np.bool_, "target or nontarget", fields=(2, 3))


def read_scores(path) -> PairTable:
    """Read a score file; ``values`` are float64.

    Raises:
        UserError: as :func:`read_trials`; also a score that is not finite.
    """
    table = _read_pairs(path, float, np.float64, "a number", fields=(3,))
    bad = np.flatnonzero(~np.isfinite(table.values))
    if len(bad):
        raise UserError(
            f"{path}: the score of {table.name(bad[0])} is {table.values[bad[0]]}: look for NaN among the "
            "embeddings"
        )
    return table


def join_scores(scores: PairTable, trials: PairTable, scores_path, trials_path) -> np.ndarray:
    """Return the score of every trial (N,), joined by key, whatever the order of the lines.

    Raises:
        UserError: a trial has no score, or a score has no trial; names the first and their number.
    """
    model_place, test_place = _place(trials.models), _place(trials.tests)
    rows = np.array([model_place.get(name, -1) for name in scores.models])[scores.rows]
    columns = np.array([test_place.get(name, -1) for name in scores.tests])[scores.columns]
    wanted = _cells(trials)
    found = np.where((rows < 0) | (columns < 0), -1, rows * len(trials.tests) + columns)
    order = np.argsort(found)
    place = np.minimum(np.searchsorted(found[order], wanted), len(found) - 1)
    missing = np.flatnonzero(found[order[place]] != wanted)
    if len(missing):
        raise UserError(
            f"{scores_path}: {len(missing)} of {len(trials)} trials of {trials_path} have no score, first: "
            f"{trials.name(missing[0])}; score again"
        )
    if len(scores) > len(trials):
        extra = np.flatnonzero(~np.isin(found, wanted))
        raise UserError(
            f"{scores_path}: {len(extra)} scores without a trial in {trials_path}, first: "
            f"{scores.name(extra[0])}; give the trials that were scored"
        )
    return scores.values[order[place]]


def write_scores(path, trials: PairTable, scores: np.ndarray) -> None:
    """Write ``enroll test score`` in the order of the trials, with 8 decimals, atomically."""
    models, tests = _byte_table(trials.models), _byte_table(trials.tests)
    step = 1 << 18
    with atomic_open(path, "wb") as stream:
        for start in range(0, len(trials), step):
            part = slice(start, start + step)
            blank = np.full((len(trials.rows[part]), 1), ord(" "), dtype=np.uint8)
            line = np.hstack(
                [
                    models[trials.rows[part]],
                    blank,
                    tests[trials.columns[part]],
                    blank,
                    _decimal_text(scores[part]),
                    np.full_like(blank, ord("\n")),
                ]
            )
            stream.write(line[line != 0].tobytes())


def rounded_scores(scores: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return scores (N,) as rounded by :func:`write_scores` and :func:`read_scores`; in ``out``, which may be
    ``scores``, where it is given.
    """
    scale = 10.0**_DECIMALS
    out = np.empty(len(scores)) if out is None else out
    for start in range(0, len(scores), _BLOCK_PAIRS):
        part = scores[start : start + _BLOCK_PAIRS]
        out[start : start + _BLOCK_PAIRS] = np.copysign(np.rint(np.abs(part) * scale) / scale, part)
    return out


def write_trials(
    path, names: list[str], rows: np.ndarray, columns: np.ndarray, is_target: np.ndarray | None = None
) -> None:
    """Write ``enroll test target|nontarget`` lines, or ``enroll test`` without ``is_target``; rows and
    columns are places in ``names``.
    """
    with atomic_open(path) as stream:
        for start in range(0, len(rows), 1 << 18):
            part = slice(start, start + (1 << 18))
            if is_target is None:
                labels = np.full(len(rows[part]), "\n")
            else:
                labels = np.where(is_target[part], " target\n", " nontarget\n")
            stream.writelines(
                f"{names[row]} {names[column]}{label}"
                for row, column, label in zip(
                    rows[part].tolist(), columns[part].tolist(), labels, strict=True
                )
            )


def _read_pairs(path, parse, kind: type, expected: str, fields: tuple) -> PairTable:
    model_numbers, test_numbers = (defaultdict(count().__next__) for _ in range(2))
    rows, columns, values = [], [], []
    width, line_number = None, 0
    for _, block in read_blocks(path, _BLOCK_BYTES):
        block += b"" if block.endswith(b"\n") else b"\n"
        lines = block.count(b"\n")
        tokens = block.split()
        width = width or len(block[: block.index(b"\n")].split())
        if width not in fields or not _is_regular(block, lines, width, len(tokens)):
            _complain(path, block, line_number, fields)
        try:
            if width == 3:
                values.append(np.fromiter(map(parse, tokens[2::3]), kind, lines))
        except (KeyError, ValueError):
            place = next(i for i, token in enumerate(tokens[2::3]) if _fails(parse, token))
            raise UserError(
                f"{path}, line {line_number + place + 1}: the third field is "
                f"'{_text(tokens[2::3][place])}', not {expected}"
            ) from None
        rows.append(np.fromiter(map(model_numbers.__getitem__, tokens[0::width]), np.int32, lines))
        columns.append(np.fromiter(map(test_numbers.__getitem__, tokens[1::width]), np.int32, lines))
        line_number += lines
    if not rows:
        raise UserError(
            f"{path} is empty; it needs lines of {' or '.join(map(str, fields))} fields: enroll test ..."
        )
    table = PairTable(
        [_text(name) for name in model_numbers],
        [_text(name) for name in test_numbers],
        _joined(rows),
        _joined(columns),
        _joined(values) if values else None,
    )
    _check_unique(path, table)
    return table


def _joined(blocks: list[np.ndarray]) -> np.ndarray:
    """Return the blocks as one array, and let go of them."""
    whole = np.concatenate(blocks)
    blocks.clear()
    return whole


def _cells(table: PairTable, part: slice = slice(None)) -> np.ndarray:
    """Return the number of each pair, (N,) int64: that of its model times the number of tests, which is more
    than 32 bits hold, and that of its test.
    """
    return table.rows[part].astype(np.int64) * len(table.tests) + table.columns[part]


def _check_unique(path, table: PairTable) -> None:
    """Raise UserError where a pair occurs twice."""
    cells = len(table.models) * len(table.tests)
    if cells <= _CELLS_PER_PAIR * len(table):  # mark each: faster than sorting, and smaller
        seen = np.zeros(cells, dtype=bool)
        for start in range(0, len(table), _BLOCK_PAIRS):
            seen[_cells(table, slice(start, start + _BLOCK_PAIRS))] = True
        if np.count_nonzero(seen) == len(table):
            return
    codes = _cells(table)
    codes.sort()
    twice = np.flatnonzero(codes[1:] == codes[:-1])
    if len(twice):
        model, test = divmod(int(codes[twice[0]]), len(table.tests))
        raise UserError(
            f"{path}: {len(twice)} pairs occur twice, first: {table.models[model]} {table.tests[test]}; keep "
            "one line of each"
        )


def _is_regular(block: bytes, lines: int, width: int, tokens: int) -> bool:
    """Whether every line has exactly ``width`` fields; fast where they are separated by single blanks, as we
    write them.
    """
    if tokens != lines * width:
        return False
    characters = np.frombuffer(block, dtype=np.uint8)
    newlines, blanks = np.flatnonzero(characters == 10), np.flatnonzero(characters == 32)
    if len(blanks) == lines * (width - 1) and not np.any((characters < 32) & (characters != 10)):
        blanks = blanks.reshape(lines, width - 1)
        return bool((blanks[:, -1] < newlines).all() and (blanks[1:, 0] > newlines[:-1]).all())
    return all(len(line.split()) == width for line in block[:-1].split(b"\n"))


def _complain(path, block: bytes, line_number: int, fields: tuple) -> None:
    lines = block[:-1].split(b"\n")
    widths = [len(line.split()) for line in lines]
    good = widths[0] if widths[0] in fields else fields[-1]
    place = next(i for i, width in enumerate(widths) if width != good)
    form = "enroll test target|nontarget" if 2 in fields else "enroll test score"
    raise UserError(
        f"{path}, line {line_number + place + 1}: expected {good} fields ({form}), found {widths[place]}: "
        f"'{_text(lines[place])}'"
    )


def _fails(parse, token: bytes) -> bool:
    try:
        parse(token)
    except (KeyError, ValueError):
        return True
    return False


def _text(name: bytes) -> str:
    return name.decode("utf-8", errors="replace")


def _place(names: list[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(names)}


def _byte_table(names: list[str]) -> np.ndarray:
    """(N, longest) uint8, each name's UTF-8 bytes, padded with zeros."""
    table = np.array([name.encode("utf-8") for name in names])
    return table.view(np.uint8).reshape(len(names), -1)


def _decimal_text(values: np.ndarray) -> np.ndarray:
    """(N, width) uint8 text of numbers with 8 decimals; unused leading characters are 0, to be removed."""
    scaled = np.rint(np.abs(values) * 10**_DECIMALS)
    if not (scaled < 2**62).all():
        raise UserError(
            f"a score of {np.abs(values).max():g} is too large to write: look for huge or non-finite "
            "embeddings"
        )
    scaled = scaled.astype(np.int64)
    whole = len(str(int(scaled.max(initial=0)) // 10**_DECIMALS))
    text = np.zeros((len(values), 1 + whole + 1 + _DECIMALS), dtype=np.uint8)
    rest = scaled
    for place in range(text.shape[1] - 1, 0, -1):
        if place == whole + 1:
            text[:, place] = ord(".")
            continue
        rest, digit = np.divmod(rest, 10)
        text[:, place] = digit + ord("0")
        if place < whole:
            text[(digit == 0) & (rest == 0), place] = 0  # no leading zeros
    text[:, 0] = np.where((np.asarray(values) < 0) & (scaled > 0), ord("-"), 0)
    return text
