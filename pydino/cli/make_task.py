"""Make a task folder: labels, subjects, units and folds, fixed before any model sees the task.

steps/make_task.sh --name emotion --labels utt2emotion data/emodb data/tasks/emotion
steps/make_task.sh --name emotion --labels utt2emotion --train data/msp_train --dev-set data/msp_dev \\
  --test data/msp_test1 --test data/msp_test2 data/tasks/emotion

DATA are cross-validated; --train and --test are a fixed division instead. TABLE is the name of a file in each
data directory, with a line `utt label` for each utterance, or `spk label` for each speaker. Nobody is on two
sides of a division: subjects are those of utt2subject, or else the speakers of utt2spk. Utterances without a
label are no part of the task; TASK_DIR/dropped.txt names them.
"""

from pathlib import Path

from pydino.base import Step, UserError, log, nearest, plural, warn, write_text
from pydino.cli._arguments import add_max_drop, option
from pydino.cli._steps import check_files, options_of, real_name
from pydino.kaldi import duplicates, read_table, read_utt2label

OPTIONAL = ("utt2subject", "utt2recording", "segments", "utt2audiohash")
UNITS = {"age": "years"}  # of numbers, by the name of the task


def add_arguments(parser):
    parser.add_argument("--name", required=True, help="of the task, in the results")
    parser.add_argument("--labels", required=True, metavar="TABLE", help="file in each data directory")
    option(parser, "--kind", "class", choices=["class", "number"])
    option(parser, "--unit", "", "of a number (default: years for age)")
    text = (
        "speaker (one out up to 10, else 10 folds), a number, a table (utterance -> fold, or train, dev, "
        "test), or given: "
    )
    option(parser, "--folds", "speaker", f"{text}the table utt2fold where DATA has one, else speaker")
    text = "development part of a fold: the next fold, or none"
    option(parser, "--dev", "next", text, choices=["next", "none"])
    text = "what is counted once: recordings are those of utt2recording, or else of segments"
    option(parser, "--average-over", "utterance", text, choices=["utterance", "recording", "subject"])
    option(parser, "--groups", "", "table whose values are also measured by themselves", metavar="TABLE")
    option(parser, "--keep-silence", False, "the pauses are the signal")
    option(parser, "--transductive", False, "test recordings may have been in pre-training; results say so")
    option(parser, "--train", [], "data directory to train on; repeatable", metavar="DATA")
    text = "to choose and stop by (default: a tenth of the subjects of --train)"
    option(parser, "--dev-set", [], f"data directory {text}; repeatable", metavar="DATA")
    option(parser, "--test", [], "data directory to test with; repeatable", metavar="DATA")
    option(parser, "--seed", 0, "of the folds")
    add_max_drop(parser, 1.0, "utterances that may lack a label")
    parser.add_argument("data", metavar="DATA", nargs="*", help="data directories to cross-validate")
    parser.add_argument("task_dir", metavar="TASK_DIR", help="task folder to make")


def run(args):
    (step,) = steps(args)
    if step.is_done():
        return
    with step:
        _make(args, step)


def steps(args) -> list[Step]:
    """Return the step."""
    args.folds = _folds(args)
    parts = _parts(args)
    own = [args.labels, *([args.groups] if args.groups else []), *([args.folds] if _is_table(args) else [])]
    reads = [Path(folder, name) for folder in parts for name in ("utt2spk", *own)]
    check_files(*reads)
    names = ("name", "kind", "unit", "folds", "dev", "average_over", "keep_silence", "transductive", "seed")
    return [
        Step(
            Path(args.task_dir) / ".done",
            args.task_dir,
            options=options_of(args, *names, "max_drop")
            | {"parts": " ".join(f"{part}={folder}" for folder, part in parts.items())},
            reads=reads,
            optional=[Path(folder, name) for folder in parts for name in OPTIONAL],
        )
    ]


def _folds(args) -> str:
    """``--folds``, where ``given`` is decided by what is there."""
    if args.folds != "given":
        return args.folds
    return "utt2fold" if args.data and Path(args.data[0], "utt2fold").is_file() else "speaker"


def _is_table(args) -> bool:
    return args.folds != "speaker" and not args.folds.isdecimal()


def _parts(args) -> dict[str, str]:
    """Data directory -> train, dev or test, or an empty string where it is cross-validated."""
    fixed = {"train": args.train, "dev": args.dev_set, "test": args.test}
    if args.data and any(fixed.values()):
        raise UserError(
            f"{args.data[0]} would be cross-validated, but --train, --dev-set and --test are a fixed "
            "division: give one of the two (the last argument is the task folder)"
        )
    if not args.data and not (args.train and args.test):
        raise UserError("give data directories to cross-validate, or --train and --test, a fixed division")
    if not args.data and args.folds != "speaker":
        raise UserError(f"--folds {args.folds}: --train and --test are a fixed division already")
    pairs = [(folder, "") for folder in args.data]
    pairs += [(folder, part) for part, folders in fixed.items() for folder in folders]
    names = [real_name(folder) for folder, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"two of the data directories are called {twice[0]}; give each once, by its own name")
    return dict(pairs)


def _make(args, step) -> None:
    from pydino.downstream import TaskConfig, leaks, write_task

    parts = _parts(args)
    tables, without, total = _read(args, parts)
    if without:
        share = f"{len(without)} of {total} utterances have no label in {args.labels} (first: {without[0]})"
        if not tables["utt2label"] or len(without) > args.max_drop * total:
            raise UserError(f"{share}; complete them, or allow more with --max-drop")
    items, division = _divide(args, tables, parts)
    copies = duplicates(tables.pop("utt2audiohash"))
    if leak := leaks(division.folds, copies):
        raise UserError(f"{leak}: remove one of the two, or give both one subject (utt2subject)")
    config = TaskConfig(
        name=args.name,
        kind=args.kind,
        classes=items.classes,
        unit=(args.unit or UNITS.get(args.name, "")) if args.kind == "number" else "",
        average_over=args.average_over,
        folds=division.tested,
        data=list(parts),
        keep_silence=args.keep_silence,
        division=division.text,
        transductive=args.transductive,
    )
    out = Path(args.task_dir)
    tables.pop("utt2fold")
    if not args.groups:
        del tables["utt2group"]
    write_task(out, config, tables, division.folds)
    write_text(out / "dropped.txt", "".join(f"{key} no label in {args.labels}\n" for key in without))
    written = [*tables, *(f"fold.{name}" for name in division.folds), "task.yaml"]
    step.outputs = [out / name for name in written]
    for note in division.notes:
        warn(f"{out}: {note}")
    if copies:
        warn(
            f"{out}: {sum(map(len, copies))} utterances have the samples of another in the same part, "
            f"first: {' '.join(copies[0])}"
        )
    log(_summary(out, items, division, without))


def _summary(out, items, division, without) -> str:
    counts = ", ".join(f"{name} {items.labels.count(name)}" for name in items.classes)
    units = len(set(items.units))
    counted = "" if units == len(items.keys) else f", {units} units"
    dropped = f"; {len(without)} without a label are no part of it" if without else ""
    return (
        f"{out}: {len(items.keys)} utterances of {plural(len(set(items.subjects)), 'subject')}{counted}"
        f"{f' ({counts})' if counts else ''}; {division.text}{dropped}"
    )


def _divide(args, tables, parts):
    from pydino.downstream import Items, check_items, cross_validation, divide_by_table, fixed_division

    keys = sorted(tables["utt2label"], key=lambda key: key.encode())
    of = {name: [tables[name][key] for key in keys] for name in ("utt2label", "utt2spk", "utt2unit")}
    where = ", ".join(str(Path(folder, args.labels)) for folder in parts)
    items = Items(keys, of["utt2label"], of["utt2spk"], of["utt2unit"], args.kind, where)
    check_items(items)
    if not args.data:
        part_of_set = {real_name(folder): part for folder, part in parts.items()}
        part_of = {key: part_of_set[tables["utt2set"][key]] for key in keys}
        sets = {
            part: [name for name, its in part_of_set.items() if its == part] for part in ("train", "test")
        }
        text = f"trained on {' and '.join(sets['train'])}, tested with {' and '.join(sets['test'])}"
        return items, fixed_division(items, part_of, text, args.seed)
    if _is_table(args):
        return items, divide_by_table(items, tables["utt2fold"], args.folds, args.dev, args.seed)
    return items, cross_validation(items, args.folds, args.dev, args.seed)


def _read(args, parts) -> tuple[dict[str, dict[str, str]], list[str], int]:
    """Return the tables of the labelled utterances of all data directories, the utterances without a label,
    and the number of all.
    """
    names = ("utt2label", "utt2spk", "utt2unit", "utt2set", "utt2group", "utt2fold", "utt2audiohash")
    tables: dict[str, dict[str, str]] = {name: {} for name in names}
    without, total = [], 0
    for folder in map(Path, parts):
        speakers = read_utt2label(folder / "utt2spk")
        labels = utterance_labels(folder / args.labels, speakers)
        kept = {key: labels[key] for key in speakers if key in labels}
        without += [key for key in speakers if key not in labels]
        total += len(speakers)
        if both := [key for key in kept if key in tables["utt2label"]]:
            raise UserError(
                f"{folder}: the utterance {both[0]} is in another data directory of the task, too"
            )
        subjects = _optional(folder / "utt2subject", kept) or speakers
        own = {
            "utt2label": kept,
            "utt2spk": subjects,
            "utt2unit": _units(args, folder, kept, subjects),
            "utt2set": dict.fromkeys(kept, real_name(folder)),
            "utt2group": read_utt2label(folder / args.groups) if args.groups else {},
            "utt2fold": read_utt2label(folder / args.folds) if _is_table(args) else {},
            "utt2audiohash": _optional(folder / "utt2audiohash", ()),
        }
        for name, table in own.items():
            tables[name].update({key: table[key] for key in kept if key in table})
    return tables, without, total


def utterance_labels(path: Path, speaker_of: dict[str, str]) -> dict[str, str]:
    """Return utterance -> label; a table keyed by speaker is spread over the speaker's utterances.

    Args:
        path: the table.
        speaker_of: utterance -> speaker, of all utterances.

    Raises:
        UserError: no key of the table is an utterance or a speaker.
    """
    table = read_utt2label(path)
    if any(key in speaker_of for key in table):
        return table
    speakers = set(speaker_of.values())
    if not any(key in speakers for key in table):
        first = next(iter(table), "")
        raise UserError(
            f"{path}: no key is an utterance or a speaker of {path.parent}, first: "
            f"{first}{nearest(first, list(speaker_of)[:5000])}"
        )
    return {key: table[speaker] for key, speaker in speaker_of.items() if speaker in table}


def _units(args, folder, kept, subjects) -> dict[str, str]:
    if args.average_over == "subject":
        return subjects
    if args.average_over == "utterance":
        return {key: key for key in kept}
    recordings = _optional(folder / "utt2recording", kept)
    if not recordings and (folder / "segments").is_file():
        recordings = {key: value.split()[0] for key, value in read_table(folder / "segments").items()}
    return recordings or {key: key for key in kept}


def _optional(path: Path, wanted) -> dict[str, str]:
    """A table that may be absent; where it exists, it has all that is wanted."""
    if not path.is_file():
        return {}
    table = read_utt2label(path)
    if absent := [key for key in wanted if key not in table]:
        raise UserError(f"{path}: {len(absent)} utterances are not in it, first: {absent[0]}; add them")
    return table
