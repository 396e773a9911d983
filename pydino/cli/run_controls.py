"""Measure the leak controls of a task: what should not tell the label, and does it.

steps/run_controls.sh --model MODEL_DIR --metadata utt2age --metadata utt2gender \\
  data/tasks/diagnosis data/adress_train data/adress_test exp/controls_adress/diagnosis

silence      frames without speech, of equal length and place in all utterances: statistics and, with
             --model, embedded as if they were speech; and, apart, the durations of the pauses
channel      long-term spectrum, noise floor, spectral roll-off, level, clipping
interviewer  the interviewer's speech to each subject (--interviewer)
metadata     the tables of --metadata; and, apart, timing: duration, number of turns, share of speech
duration     a crop of equal length of each utterance: the figure without the cue of duration
permutation  permuted labels: the band that chance has with the vectors of the whole utterances

Each goes through the folds of TASK_DIR and the classifier of frozen embeddings. OUT_DIR gets controls.json
and, for each control, a folder with results. A control that beats chance makes results suspect; pauses,
duration and permutation are for comparison, and so is timing where the task keeps silence, since pauses are
then the signal. docs/transfer.md explains how to read them.
"""

from pathlib import Path

from pydino.base import Step, UserError, log, nearest, warn, write_json
from pydino.cli._arguments import add_cmd, add_device, add_max_drop, integer, option
from pydino.cli._controls import measure
from pydino.cli._steps import check_files, command_line, marks_of, options_of, real_name, run_or_submit
from pydino.recipe import CONTROLS


def add_arguments(parser):
    text = f"which, of {' '.join(CONTROLS)} (default: all that need nothing else, and those it is given for)"
    option(parser, "--controls", "", text, metavar="NAMES")
    text = "data directory of the interviewer's speech; its utt2subject, else utt2spk, names the subjects"
    option(parser, "--interviewer", "", text, metavar="DATA")
    text = "a table in each DATA, such as utt2age or spk2gender"
    option(parser, "--metadata", [], text, metavar="TABLE")
    option(parser, "--model", "", "model folder, for embeddings", metavar="MODEL_DIR")
    option(parser, "--permutations", 20, "of the labels", type=integer(2), metavar="N")
    add_max_drop(parser, 0.05, "the task's utterances that may lack features")
    option(parser, "--resamples", 1000, "of the bootstrap", type=integer(100), metavar="N")
    option(parser, "--seed", 0, "of crops, permutations, inner folds and bootstrap")
    add_cmd(parser)
    add_device(parser)
    parser.add_argument("task_dir", metavar="TASK_DIR", help="task folder, of steps/make_task.sh")
    parser.add_argument("data", metavar="DATA", nargs="+", help="the data directories of the task")
    parser.add_argument("out_dir", metavar="OUT_DIR")


def run(args):
    (step,) = steps(args)
    log_file = Path(args.out_dir) / "log" / "run_controls.log"
    run_or_submit("run-controls", step, args, lambda: _make(args), log_file)


def steps(args) -> list[Step]:
    """Return the step."""
    out, task, controls = Path(args.out_dir), Path(args.task_dir), _controls(args)
    folders = [Path(folder) for folder in (*args.data, *([args.interviewer] if args.interviewer else []))]
    metadata = [Path(folder) / name for folder in args.data for name in args.metadata]
    model = [f"{args.model}/{name}" for name in ("config.yaml", "model.safetensors")] if args.model else []
    tables = [task / name for name in ("utt2label", "utt2spk", "utt2unit", "utt2set")]
    folds = sorted(task.glob("fold.*"))
    check_files(task / "task.yaml", *tables, *(folder / "feats.scp" for folder in folders), *metadata, *model)
    names = ("vad.scp", "energy.scp", "wav.scp", "segments", "utt2recording", "utt2subject", "utt2spk")
    return [
        Step(
            out / ".done",
            args.out_dir,
            version=3,
            options={
                "controls": " ".join(controls),
                **options_of(args, "permutations", "max_drop", "resamples", "seed"),
            },
            configs=[task / "task.yaml", *model[:1]],
            reads=[*tables, *folds, *(folder / "feats.scp" for folder in folders), *metadata, *model[1:]],
            optional=[folder / name for folder in folders for name in names],
            after=marks_of(task, *folders),
            removes=[out / "controls.json", *out.glob("*/*.result.json")],
            outputs=[out / "controls.json"],
        )
    ]


def _controls(args) -> list[str]:
    """The names of the controls, in the order of CONTROLS."""
    names = args.controls.split() or [name for name in CONTROLS if name != "interviewer" or args.interviewer]
    if unknown := [name for name in names if name not in CONTROLS]:
        raise UserError(
            f"--controls: there is no '{unknown[0]}'{nearest(unknown[0], CONTROLS)}; there are "
            f"{', '.join(CONTROLS)}"
        )
    if "interviewer" in names and not args.interviewer:
        raise UserError("--controls interviewer needs --interviewer DATA, the interviewer's segments")
    return [name for name in CONTROLS if name in names]


def _make(args) -> None:
    from pydino.downstream import read_task
    from pydino.report import suspicions

    task = read_task(args.task_dir)
    lacking = sorted(set(task.sets.values()) - {real_name(folder) for folder in args.data})
    if lacking:
        raise UserError(
            f"{args.task_dir}: its utterances are also of {', '.join(lacking)}; give that DATA, too"
        )
    entries = measure(task, _controls(args), args, command_line("run-controls", args))
    write_json(Path(args.out_dir) / "controls.json", entries)
    found = suspicions(entries)
    for sentence in found:
        warn(f"{task.config.name}: suspect: {sentence}")
    said = (
        f"{len(found)} of them above chance: its results are suspect"
        if found
        else "none makes its results suspect"
    )
    log(f"{task.config.name}: {len(entries)} controls, {said}")
