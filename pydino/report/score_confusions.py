"""What is confused in verification: error rates of the trials whose two sides have the same emotion, gender
or session, and of those that differ in it, wherever data/SET/utt2NAME says so.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pydino.backend.subset_errors import FEW_TRIALS, SubsetErrors, eer_threshold, subset_errors
from pydino.base import UserError, warn
from pydino.kaldi import read_table, read_utt2label
from pydino.kaldi.trials import PairTable, join_scores, read_scores, read_trials
from pydino.report.figure_cache import FigureCache
from pydino.report.figures import score_files
from pydino.report.gather import load_results
from pydino.report.tables import Table, cell_text, group_rows, is_only_calibrated

# Tables of utterances that hold no label.
_NOT_LABELS = {"spk", "dur", "num_frames", "hash", "audiohash", "uniq", "cluster", "set", "unit"}
_MOST_NUMBERS = 20  # a map of more numbers than this is a measurement, such as an age
_MOST_TRIALS = 5_000_000
_RATES = {"eer": "EER %", "miss": "misses %", "false_alarm": "false alarms %"}
# What the seeds of a row have in common; several seeds have a range instead of an interval.
_ROW = ("model", "train_set", "backend", "labels", "treatment", "config", "model_labels")
_SIDES = ("same", "different")


@dataclass(frozen=True)
class Confused:
    """The errors of one score file by one label map: of trials of the same label, and of different ones."""

    label: str
    same: SubsetErrors
    different: SubsetErrors


def confusion_tables(curves: list[dict], cache: FigureCache) -> list[Table]:
    """One table for each list of trials and label map; a row is a model, back-end and treatment.

    Scores that are only calibrated are omitted: they have the errors of those that they were made from.

    Args:
        curves: as of :func:`pydino.report.gather.gather_det_curves`.
    """
    by_trials: dict[str, list[tuple[dict, Path, Path]]] = {}
    for curve in curves:
        if is_only_calibrated(curve) or not (paths := score_files(curve)):
            continue
        by_trials.setdefault(str(curve["trials"]), []).append((curve, *paths))
    tables = []
    for name, scored in sorted(by_trials.items()):
        data = Path(scored[0][1]).parent
        maps = label_maps(data)
        if not maps:
            continue
        described = [_described(curve) for curve, *_ in scored]
        rows = [json.dumps([one[key] for key in _ROW]) for one in described]
        found = [
            (one, _cached(trials, scores, data, maps, 300 if rows.count(row) == 1 else 0, cache))
            for one, row, (_, trials, scores) in zip(described, rows, scored, strict=True)
        ]
        tables += [table for label in maps if (table := _table(name, label, found))]
    return tables


def label_maps(data: Path) -> dict[str, Path]:
    """The label maps of a data directory: name -> ``utt2NAME``; not those of measurements, nor of labels that
    no two utterances share.
    """
    found = {}
    for path in sorted(Path(data).glob("utt2*")):
        name = path.name.removeprefix("utt2")
        if name in _NOT_LABELS or name.startswith("fold") or path.suffix:
            continue
        values = list(read_table(path, check_sorted=False).values())
        kinds = set(values)
        numbers = len(kinds) > _MOST_NUMBERS and all(_is_number(kind) for kind in kinds)
        if 1 < len(kinds) < len(values) and not numbers:
            found[name] = path
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def score_confusions(
    trials: PairTable,
    scores: np.ndarray,
    maps: dict[str, dict[str, str]],
    speaker_of: dict[str, str] | None = None,
    resamples: int = 300,
) -> list[Confused]:
    """Return the errors by each label map. A trial with a side that the map has not is left out of it.

    Args:
        trials: with labels.
        scores: (N,) in their order.
        maps: name -> utterance -> label.
        speaker_of: utterance -> speaker, for intervals over speakers; None, or an utterance that it lacks:
            none.
    """
    scores = np.asarray(scores, dtype=np.float64)
    threshold = eer_threshold(scores, trials.values)
    left = right = None
    if speaker_of and all(name in speaker_of for side in (trials.models, trials.tests) for name in side):
        left, right = _numbers(trials, speaker_of)
    found = []
    for label, label_of in maps.items():
        one, two = _numbers(trials, label_of)
        known = (one >= 0) & (two >= 0)
        sides = [
            subset_errors(
                scores[part],
                trials.values[part],
                None if left is None else left[part],
                None if right is None else right[part],
                threshold,
                resamples,
            )
            for part in (known & (one == two), known & (one != two))
        ]
        found.append(Confused(label, *sides))
    return found


def _numbers(trials: PairTable, table: dict[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """(N,) and (N,) the number of the label of either side, -1 where it has none."""
    number = {label: place for place, label in enumerate(sorted(set(table.values())))}
    one, two = (
        np.array([number[table[name]] if name in table else -1 for name in side], dtype=np.int64)
        for side in (trials.models, trials.tests)
    )
    return one[trials.rows], two[trials.columns]


def _described(curve: dict) -> dict:
    """The first of the results that lie beside a DET curve."""
    path = Path(curve["path"])
    beside = path.with_name(path.name.removesuffix(".det.json") + ".result.json")
    unknown = {key: "unknown" for key in ("train_set", "labels", "config", "model_labels")}
    return unknown | {"seed": None} | curve | (load_results(beside)[0] if beside.is_file() else {})


def _cached(
    trials_path: Path, scores_path: Path, data: Path, maps: dict[str, Path], resamples: int, cache
) -> list[dict]:
    """:func:`score_confusions` as plain values, from the cache if nothing has changed; empty where it cannot
    be told.
    """
    speakers = data / "utt2spk"
    inputs = [resamples, trials_path, scores_path, {name: Path(path) for name, path in maps.items()}]
    inputs += [speakers] if speakers.is_file() else []

    def measure() -> str:
        try:
            trials = read_trials(trials_path)
            if len(trials) > _MOST_TRIALS or trials.values is None:
                return "[]"
            scores = join_scores(read_scores(scores_path), trials, scores_path, trials_path)
            tables = {name: read_utt2label(path) for name, path in maps.items()}
            speaker_of = read_utt2label(speakers) if speakers.is_file() else None
            found = score_confusions(trials, scores, tables, speaker_of, resamples)
        except (UserError, ValueError) as error:
            warn(f"what is confused by {scores_path} is omitted: {error}")
            return "[]"
        return json.dumps([asdict(one) for one in found])

    return json.loads(cache.get(["confused", Path(__file__), inputs], measure))


def _table(name: str, label: str, found: list[tuple[dict, list[dict]]]) -> Table | None:
    """The table of one label map, or None where no rate could be measured in both parts."""
    results, counts = [], None
    for described, errors in found:
        for one in errors:
            if one["label"] != label:
                continue
            counts = counts or {side: (one[side]["targets"], one[side]["nontargets"]) for side in _SIDES}
            for side in _SIDES:
                for rate in _RATES:
                    if one[side][rate]:
                        value, ci = 100 * one[side][rate]["value"], one[side][rate]["interval"]
                        ci = ci and [100 * bound for bound in ci]
                        metric = f"{rate} {side}"
                        results.append(
                            described | {"metric": metric, "value": value, "ci": ci, "unit": "percent"}
                        )
    if len({result["metric"].split()[1] for result in results}) < 2:
        return None
    rows = group_rows(results)
    columns = {
        "model": [row.key[0] for row in rows],
        "configuration": [row.key[5] for row in rows],
        "model labels": [row.key[6] for row in rows],
        "back-end": [row.key[2] for row in rows],
        "labels": [row.key[3] for row in rows],
        "treatment": [row.key[4] for row in rows],
    }
    for column in ("configuration", "model labels", "labels"):
        if len(set(columns[column])) == 1:
            del columns[column]
    texts = len(columns)
    for rate, heading in _RATES.items():
        for side in _SIDES:
            cells = [cell_text(row.metrics.get(f"{rate} {side}", []), 1) for row in rows]
            if any(cells):
                columns[f"{heading}, {side} {label}"] = cells
    numbers = [f"{targets:,} target and {others:,} nontarget trials" for targets, others in counts.values()]
    few = [side for side in _SIDES if not any(f"eer {side}" in row.metrics for row in rows)]
    caption = (
        f"Both sides of a trial have the same {label} ({numbers[0]}), or different ones ({numbers[1]}). "
        "The EER has a threshold of its own in each part; misses and false alarms are at the threshold of "
        "the EER of all trials. The larger the difference, the more the embedding tells of what is not the "
        "speaker."
    )
    caption += "".join(
        f" For an EER of the {side} {label} there are too few trials of one kind, fewer than {FEW_TRIALS}."
        for side in few
    )
    title = f"What is confused: {name}, by {label}"
    cells = [[values[i] for values in columns.values()] for i in range(len(rows))]
    return Table(title, caption, list(columns), cells, text_columns=texts)
