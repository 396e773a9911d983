"""Make a pre-training directory: utterances that are long enough, silence marked, labels hidden.

steps/make_train_set.sh --min-duration 2 data/train data/train_ssl

Every utterance becomes its own speaker, no label map is copied, and utt2hash stores the number that keys
every random draw about an utterance, so that from here on names do not matter. Where the sources have audio,
wav.scp and segments of the kept utterances are copied, for training that reads audio.
"""

import shutil
from pathlib import Path

from pydino.base import (
    Step,
    UserError,
    log,
    read_text,
    split_fields,
    utterance_hash,
    warn,
    write_text,
)
from pydino.cli._arguments import option
from pydino.cli._steps import options_of
from pydino.kaldi import ObjectReader, read_table, write_table


def add_arguments(parser):
    text = "data directories with features and, unless silence is kept, vad.scp"
    parser.add_argument("sources", metavar="DATA", nargs="+", help=text)
    parser.add_argument("target", metavar="TRAIN_DIR", help="pre-training directory to make")
    option(parser, "--min-duration", 2.0, "seconds left after silence", metavar="S")
    option(parser, "--keep-silence", False, "train on the pauses too")
    option(parser, "--name", "", "name of the training set in results (default: the folder's name)")


def run(args):
    (step,) = steps(args)
    if step.is_done():
        return
    refuse_to_overwrite(Path(args.target), [Path(source) for source in args.sources])
    with step:
        _make(args)


def steps(args) -> list[Step]:
    """Return the step."""
    target, reads, after = Path(args.target), [], []
    for source in map(Path, args.sources):
        names = ["feats.scp", "utt2num_frames", "wav.scp", "segments", "conf/fbank.yaml", "conf/mfcc.yaml"]
        if not args.keep_silence:
            names += ["vad.scp", "conf/vad.yaml"]
        reads += [source / name for name in names]
        after += [source / ".done.features", source / ".done.vad"]
    return [
        Step(
            target / ".done",
            args.target,
            version=2,
            options=options_of(args, "min_duration", "keep_silence", "name"),
            optional=reads,  # what must be there, the work checks
            after=after,
            outputs=[target / name for name in ("feats.scp", "utt2spk", "utt2hash")],
        )
    ]


def _make(args) -> None:
    sources, target = [Path(s) for s in args.sources], Path(args.target)
    if args.min_duration < 0:
        raise UserError(f"--min-duration must not be negative, got {args.min_duration:g}")
    conf = common_configuration(sources, keep_silence=args.keep_silence)
    features, vad, frames, durations, dropped, origins = {}, {}, {}, {}, {}, {}
    reader = ObjectReader()
    for source in sources:
        source_features, source_frames = (
            read_table(source / "feats.scp"),
            read_table(source / "utt2num_frames"),
        )
        source_vad = {} if args.keep_silence else read_table(source / "vad.scp")
        shift = float(read_text(source / "frame_shift")) if (source / "frame_shift").exists() else 0.01
        for key, location in source_features.items():
            if key in features:
                raise UserError(
                    f"'{key}' is in {source} and in a directory before it; give the sets different keys "
                    "(utils/copy_data_dir.sh --utt-prefix)"
                )
            if not args.keep_silence and key not in source_vad:
                raise UserError(f"{source}/vad.scp: '{key}' is not in it; run steps/compute_vad.sh {source}")
            left = int(source_frames[key])
            if not args.keep_silence:
                left = int((reader.read(source_vad[key], key) > 0.5).sum())
            if left == 0 or left * shift < args.min_duration:
                dropped[key] = f"{left * shift:.2f} s left of {int(source_frames[key]) * shift:.2f} s"
                continue
            features[key], frames[key], durations[key] = location, source_frames[key], f"{left * shift:.2f}"
            origins[key] = source, int(source_frames[key]) * shift
            if not args.keep_silence:
                vad[key] = source_vad[key]
    if not features:
        raise UserError(
            f"no utterance is left: all {len(dropped)} have less than {args.min_duration:g} s after silence "
            "is removed; lower "
            "--min-duration (min_duration in recipe.yaml), or look at the VAD's threshold in conf/vad.yaml"
        )
    audio = audio_tables(sources, origins)
    write_directory(
        target,
        {"feats.scp": features, "vad.scp": vad, "utt2num_frames": frames, **audio},
        conf,
        sources,
        args.name,
    )
    write_text(target / "dropped.txt", "".join(f"{key} {why}\n" for key, why in sorted(dropped.items())))
    if dropped:
        warn(
            f"{len(dropped)} utterances, shorter than {args.min_duration:g} s without silence, are omitted; "
            f"{target}/dropped.txt names them"
        )
    hours = sum(map(float, durations.values())) / 3600
    log(
        f"{target}: {len(features)} of {len(features) + len(dropped)} utterances, {hours:.2f} hours of "
        "speech; labels hidden"
    )


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


def common_configuration(sources: list[Path], keep_silence: bool) -> dict[str, str]:
    """Return the texts of the configuration files that made features and VAD; they must be the same in all
    sources.
    """
    found: dict[str, str] = {}
    for source in sources:
        if not (source / "feats.scp").exists():
            raise UserError(f"no {source}/feats.scp: run steps/make_fbank.sh {source}")
        names = ["fbank.yaml", "mfcc.yaml"] if keep_silence else ["fbank.yaml", "mfcc.yaml", "vad.yaml"]
        here = {
            name: read_text(source / "conf" / name) for name in names if (source / "conf" / name).exists()
        }
        if not keep_silence and "vad.yaml" not in here:
            raise UserError(
                f"no {source}/conf/vad.yaml: run steps/compute_vad.sh {source}, or give --keep-silence true"
            )
        if source != sources[0] and here != found:
            differing = sorted(
                name for name in here.keys() | found.keys() if here.get(name) != found.get(name)
            )
            raise UserError(
                f"{source} and {sources[0]} were made with different conf/{differing[0]}; make their "
                "features in one way"
            )
        found = here
    return found


def audio_tables(sources: list[Path], origins: dict[str, tuple[Path, float]]) -> dict[str, dict[str, str]]:
    """Return wav.scp of the kept utterances and, where a source has segments, segments; nothing if a source
    has no wav.scp.

    With segments, recordings are named by a hash of their path: the same recording of two sources is one,
    recordings that happen to share a name stay two, and no name reveals a speaker.

    Args:
        origins: the source of each utterance that is kept, and its seconds by its frames.

    Raises:
        UserError: an utterance without a recording.
    """
    silent = [source for source in sources if not (source / "wav.scp").exists()]
    if silent:
        log(
            f"no {silent[0]}/wav.scp: the pre-training directory holds features only; no model that reads "
            "audio can be trained on it"
        )
        return {}
    paths = {source: read_table(source / "wav.scp") for source in sources}
    pieces = {source: read_table(source / "segments") for source in sources if (source / "segments").exists()}
    recordings, segments = {}, {}
    for key, (source, seconds) in origins.items():
        # One that is its own recording lasts to the end: a segment may reach half a second past it.
        line = pieces[source].get(key, "") if source in pieces else f"{key} 0.00 {seconds + 0.25:.2f}"
        recording, times = [*split_fields(line, 1), "", ""][:2]
        if recording not in paths[source]:
            raise UserError(
                f"{source}: '{key}' has features but no recording in "
                f"wav.scp{' by way of segments' if source in pieces else ''}; "
                f"repair it with utils/fix_data_dir.sh {source}"
            )
        name = f"{utterance_hash(paths[source][recording]):016x}" if pieces else key
        recordings[name] = paths[source][recording]
        if pieces:
            segments[key] = f"{name} {times}"
    return {"wav.scp": recordings, "segments": segments}


def write_directory(target: Path, tables, conf, sources, name) -> None:
    """Replace the directory; utt2spk is written last, so that an unfinished one is not taken for complete."""
    shutil.rmtree(target, ignore_errors=True)
    for file, text in conf.items():
        write_text(target / "conf" / file, text)
    if (sources[0] / "frame_shift").exists():
        write_text(target / "frame_shift", read_text(sources[0] / "frame_shift"))
    write_text(target / "name", f"{name or target.resolve().name}\n")
    for file, table in tables.items():
        if table:
            write_table(target / file, table)
    keys = tables["feats.scp"]
    write_table(target / "utt2hash", {key: utterance_hash(key) for key in keys})
    write_table(target / "spk2utt", {key: key for key in keys})
    write_table(target / "utt2spk", {key: key for key in keys})
