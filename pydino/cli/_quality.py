"""Quality measures of trials for pydino calibrate: columns beside the scores."""

import math
from pathlib import Path

import numpy as np

from pydino.base import UserError, nearest, split_fields
from pydino.cli._arguments import option
from pydino.cli._embeddings import read_embeddings
from pydino.kaldi import read_table


def add_quality_arguments(parser) -> None:
    """Declare the measures."""
    text = (
        "table of utterances and positive numbers, such as utt2dur, whose logarithm is a quality measure; "
        "tables of one name (of two sets) are one measure"
    )
    option(parser, "--quality", [], text, metavar="TABLE")
    text = "embeddings whose length before normalisation is a quality measure; all given are one measure"
    option(parser, "--norms", [], text, metavar="XVECTOR_DIR")
    text = (
        "utterances of models that are not utterances themselves: their measures are means, and "
        "their number is one more"
    )
    option(parser, "--enroll-spk2utt", [], text, metavar="FILE")


def quality_files(args) -> list[Path]:
    """Return the files that :class:`Quality` reads."""
    scps = [Path(folder) / "xvector.scp" for folder in args.norms]
    return [*map(Path, args.quality), *scps, *map(Path, args.enroll_spk2utt)]


class Quality:
    """The quality measures of a call.

    Attributes:
        names: of the columns.
        said: the measures in words, empty where there is none.
    """

    def __init__(self, args):
        self._tables: dict[str, dict[str, float]] = {}
        for path in args.quality:
            self._tables.setdefault(f"log {Path(path).name}", {}).update(_logarithms(path))
        for folder in args.norms:
            embedded = read_embeddings(folder)
            lengths = np.linalg.norm(embedded.vectors.astype(np.float64), axis=1)
            found = zip(embedded.keys, np.log(np.maximum(lengths, 1e-30)).tolist(), strict=True)
            self._tables.setdefault("log norm", {}).update(found)
        self._members = {
            model: split_fields(text)
            for path in args.enroll_spk2utt
            for model, text in read_table(path).items()
        }
        self.names = [f"{way} of {name}" for name in self._tables for way in ("minimum", "difference")]
        if self._members:
            self.names.append("log number of enrolment utterances")
        said = [name.removeprefix("log ") for name in self._tables] + ["number"] * bool(self._members)
        self.said = " and ".join(said)

    def __call__(self, trials, path) -> np.ndarray:
        """Return the measures (N, K) of trials that were read from ``path``.

        Raises:
            UserError: an utterance has none.
        """
        from pydino.backend.quality import pair_measures

        columns = [np.zeros((len(trials), 0))]
        for name, table in self._tables.items():
            models, tests = (
                np.array([self._value(side, table, name, path) for side in sides])
                for sides in (trials.models, trials.tests)
            )
            columns.append(pair_measures(models[trials.rows], tests[trials.columns]))
        if self._members:
            counts = np.array([len(self._members.get(model, [model])) for model in trials.models])
            columns.append(np.log(counts)[trials.rows, None])
        return np.hstack(columns)

    def _value(self, side: str, table: dict[str, float], name: str, path) -> float:
        values = []
        for utterance in self._members.get(side, [side]):
            if utterance not in table:
                raise UserError(
                    f"{path}: {utterance} has no {name}{nearest(utterance, list(table)[:5000])}; the tables "
                    "must cover the utterances of both lists of trials"
                )
            values.append(table[utterance])
        return sum(values) / len(values)


def _logarithms(path) -> dict[str, float]:
    found = {}
    for key, text in read_table(path).items():
        try:
            found[key] = math.log(float(text))
        except ValueError:
            raise UserError(f"{path}: {key} has '{text}', expected a number above 0") from None
    return found
