"""Finds and reads what is beside the results of tasks: the predictions of the units."""

from dataclasses import dataclass
from pathlib import Path

from pydino.base import UserError, read_lines
from pydino.kaldi import read_table
from pydino.report.gather import files_of, identity, is_current, load_results


@dataclass(frozen=True)
class Prediction:
    """Of one unit: its speaker or subject, its label and what was predicted, as text."""

    speaker: str
    label: str
    predicted: str


def gather_task_folders(root) -> dict[str, Path]:
    """Identity of each result (:func:`pydino.report.gather.identity`) -> its folder, for those with the
    predictions of the units beside them.
    """
    return {
        identity(result): path.parent
        for path in files_of(root, "*.result.json")
        if (path.parent / "predictions.txt").is_file() and is_current(path)
        for result in load_results(path)
    }


def read_predictions(folder: Path, test_set: str, task_dir: str = "") -> dict[str, Prediction]:
    """Return unit -> prediction of one test set.

    Args:
        folder: with ``predictions.txt``, lines ``unit speaker fold label prediction``.
        test_set: whose units are returned.
        task_dir: the task folder, which tells the sets apart. Without it all units are returned.

    Raises:
        UserError: a line has no five fields.
    """
    path, found = Path(folder) / "predictions.txt", {}
    for number, line in enumerate(read_lines(path), start=1):
        fields = line.split()
        if len(fields) != 5:
            raise UserError(f"{path}, line {number}: not 'unit speaker fold label prediction': {line!r}")
        unit, speaker, _, label, predicted = fields
        found[unit] = Prediction(speaker, label, predicted)
    tables = [Path(task_dir) / name for name in ("utt2set", "utt2unit")] if task_dir else []
    if not tables or not all(table.is_file() for table in tables):
        return found
    sets, units = map(read_table, tables)
    of_set = {units[utterance] for utterance, name in sets.items() if name == test_set}
    return {unit: one for unit, one in found.items() if unit in of_set}
