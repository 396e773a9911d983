"""Classify audio files with the folder of a trained classifier.

pydino predict exp/SYSTEM/transfer/emotion/logreg/classifier a.wav b.flac
pydino predict --average true --output person.json MODEL interview/*.wav

Prints a table, a line a recording in the order of the arguments: its name (that of the file without its
ending), the most probable class, and the probability of each class; of a classifier of numbers, the number.
With many classes only the most probable one's probability is printed; --output has all of them.

--output writes the table instead: .csv (commas), .txt (tabs) or .json (with the task and what the classifier
must not be used for). Recordings are of any length; what else is asked of them is as for pydino embed.
"""

import csv
import io
import sys

import numpy as np

from pydino.base import log, plural, write_json, write_text
from pydino.infer import load_classifier

from ._arguments import boolean, option
from ._recordings import add_recordings, names_of, of_each, suffix_of

MOST_COLUMNS = 10  # classes whose probabilities fit in a line


def add_arguments(parser):
    parser.add_argument("model", metavar="MODEL", help="folder of a classifier")
    option(parser, "--output", None, "write to FILE (.csv, .txt or .json), print nothing", metavar="FILE")
    text = (
        "one answer for all recordings together, such as those of one person, from the mean of their outputs"
    )
    option(parser, "--average", False, text)
    text = "whether the VAD is skipped (default: as in the training of the classifier)"
    option(parser, "--keep-silence", None, text, type=boolean)
    add_recordings(parser)


def run(args):
    names = names_of(args.audio, "classified")
    write = _writer(args.output)
    classifier = load_classifier(args.model, args.device)
    log(printable(" ".join(classifier.config.note.split())))

    def outputs(recording, name: str) -> np.ndarray:
        return classifier.recording_outputs(recording, args.keep_silence, name)

    found = of_each(args, names, classifier.model.front_end, outputs, "classified")
    if args.average:
        found = {"average": np.mean(list(found.values()), axis=0)}
    write(classifier, {name: classifier.as_dict(output) for name, output in found.items()})
    if args.output:
        log(f"{plural(len(names), 'recording')}, {plural(len(found), 'line')}: {args.output}")


def printable(text: str) -> str:
    """Return ``text`` with control characters and the like as escapes: names come from files, and a terminal
    or a table must not be changed by them.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _writer(output: str | None):
    """Return the function that writes predictions; an unknown ending is refused here, before any work."""
    if output is None:
        return _print
    writers = {".csv": _write_table, ".txt": _write_table, ".json": _write_json}
    write = writers[suffix_of(output, writers)]
    return lambda classifier, predictions: write(output, classifier, predictions)


def _print(classifier, predictions: dict) -> None:
    """In aligned columns."""
    config = classifier.config
    if config.kind == "number":
        rows = [["recording", config.unit or "value"]]
        rows += [[name, f"{prediction['value']:.4g}"] for name, prediction in predictions.items()]
    else:
        many = len(config.classes) > MOST_COLUMNS
        rows = [["recording", "class", *(["probability"] if many else config.classes)]]
        for name, prediction in predictions.items():
            best = max(prediction, key=prediction.get)
            values = [prediction[best]] if many else prediction.values()
            rows.append([name, best, *(f"{value:.3f}" for value in values)])
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")


def _write_table(output: str, classifier, predictions: dict) -> None:
    """Columns: recording, class and p_CLASS of each class; or recording, value and unit."""
    config = classifier.config
    is_number = config.kind == "number"
    columns = ["value", "unit"] if is_number else ["class", *(f"p_{name}" for name in config.classes)]
    stream = io.StringIO()
    table = csv.writer(stream, delimiter="," if output.endswith(".csv") else "\t", lineterminator="\n")
    table.writerow(map(printable, ["recording", *columns]))
    for name, prediction in predictions.items():
        best = [] if is_number else [max(prediction, key=prediction.get)]
        values = [value if isinstance(value, str) else f"{value:.6g}" for value in prediction.values()]
        table.writerow(map(printable, [name, *best, *values]))
    write_text(output, stream.getvalue())


def _write_json(output: str, classifier, predictions: dict) -> None:
    config = classifier.config
    rows = []
    for name, prediction in predictions.items():
        if config.kind == "number":
            rows.append({"recording": printable(name), **prediction})
        else:
            best = max(prediction, key=prediction.get)
            rows.append({"recording": printable(name), "class": best, "probabilities": prediction})
    write_json(output, {"task": config.task, "note": config.note, "predictions": rows})
