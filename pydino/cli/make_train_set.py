"""Make a pre-training directory: utterances that are long enough, silence marked, labels hidden.

steps/make_train_set.sh --min-duration 2 data/train data/train_ssl

Every utterance becomes its own speaker, no label map is copied, and utt2hash stores the number that keys
every random draw about an utterance, so that from here on names do not matter. Where the sources have audio,
wav.scp and segments of the kept utterances are copied, for training that reads audio. Where all sources have
utt2audiohash, so has TRAIN_DIR: models trained on it know their recordings again. It is no part of what they
are trained on, and has a mark of its own.
"""

from pathlib import Path

from pydino.base import Step, UserError, log, warn
from pydino.cli._arguments import option
from pydino.cli._steps import options_of
from pydino.kaldi import AUDIO_HASHES


def add_arguments(parser):
    text = "data directories with features and, unless silence is kept, vad.scp"
    parser.add_argument("sources", metavar="DATA", nargs="+", help=text)
    parser.add_argument("target", metavar="TRAIN_DIR", help="pre-training directory to make")
    option(parser, "--min-duration", 2.0, "seconds left after silence", metavar="S")
    option(parser, "--keep-silence", False, "train on the pauses too")
    text = "leave out every utterance with the samples of one in DATA, a test set; may be repeated"
    option(parser, "--exclude", [], text, metavar="DATA")
    text = "keep this many hours of speech, drawn by the utterances' hashes; fewer hours are a part of more"
    option(parser, "--max-hours", 0.0, f"{text} (default: all)", metavar="H")
    option(parser, "--seed", 0, "of that draw")
    option(parser, "--name", "", "name of the training set in results (default: the folder's name)")


def run(args):
    made, *others = steps(args)
    if not made.is_done():
        _make(args, made)
    for step in others:
        if not step.is_done():
            from pydino.data.make_training_dir import copy_audio_hashes

            with step:
                copy_audio_hashes([Path(source) for source in args.sources], Path(args.target))


def _make(args, step: Step) -> None:
    sources, target = [Path(source) for source in args.sources], Path(args.target)
    refuse_to_overwrite(target, sources)
    from pydino.data.make_training_dir import make_training_dir

    with step:
        kept, dropped, hours = make_training_dir(
            sources,
            target,
            args.min_duration,
            args.keep_silence,
            args.name,
            args.exclude,
            args.max_hours,
            args.seed,
        )
        if dropped:
            warn(
                f"{len(dropped)} utterances, shorter than {args.min_duration:g} s without silence"
                f"{' or in ' + ' '.join(args.exclude) if args.exclude else ''}, are omitted; "
                f"{target}/dropped.txt names them"
            )
        of = "" if args.max_hours else f" of {kept + len(dropped)}"
        log(f"{target}: {kept}{of} utterances, {hours:.2f} hours of speech; labels hidden")


def steps(args) -> list[Step]:
    """Return the step, and the one that adds ``utt2audiohash``, without which the directory is as valid."""
    for name, value in (("--min-duration", args.min_duration), ("--max-hours", args.max_hours)):
        if value < 0:
            raise UserError(f"{name} must not be negative, got {value:g}")
    part = options_of(args, "max_hours", "seed") if args.max_hours else {}
    target, reads, after = Path(args.target), [], []
    for source in map(Path, args.sources):
        names = ["feats.scp", "utt2num_frames", "wav.scp", "segments", "conf/fbank.yaml", "conf/mfcc.yaml"]
        if not args.keep_silence:
            names += ["vad.scp", "conf/vad.yaml"]
        reads += [source / name for name in names]
        after += [source / ".done.features", source / ".done.vad"]
    hashes = [source / AUDIO_HASHES for source in map(Path, args.sources)]
    found = [
        Step(
            target / ".done",
            args.target,
            version=2,
            options=options_of(args, "min_duration", "keep_silence", "name") | part,
            reads=[Path(data) / AUDIO_HASHES for data in args.exclude],
            optional=reads,  # what must be there, the work checks
            after=after,
            outputs=[target / name for name in ("feats.scp", "utt2spk", "utt2hash")],
        )
    ]
    if all(path.is_file() for path in hashes):
        outputs = [target / AUDIO_HASHES]
        found.append(Step(target / f".done.{AUDIO_HASHES}", outputs[0], reads=hashes, outputs=outputs))
    return found


def refuse_to_overwrite(target: Path, sources: list[Path]) -> None:
    """Raise UserError unless the target is new or was made here: it will be replaced, and a recipe's data
    directory must not be lost.
    """
    if target.resolve() in [source.resolve() for source in sources]:
        raise UserError(
            f"{target} is to be made and is also to be read; the last argument is the new directory"
        )
    if target.exists() and not (target / "utt2hash").exists() and any(target.iterdir()):
        raise UserError(
            f"{target} exists and was not made by this step; choose another name, or remove it first"
        )
