"""Making a pre-training directory: utterances that are long enough, silence marked, labels hidden."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pydino.base import (
    UserError,
    keyed_permutation,
    log,
    purpose,
    read_text,
    split_fields,
    utterance_hash,
    write_text,
)
from pydino.kaldi import AUDIO_HASHES, ObjectReader, read_audio_hashes, read_table, write_table


def make_training_dir(
    sources: list[Path],
    target: Path,
    min_duration: float,
    keep_silence: bool,
    name: str,
    exclude: Iterable[Path] = (),
    max_hours: float = 0.0,
    seed: int = 0,
) -> tuple[int, dict[str, str], float]:
    """Make a pre-training directory of the utterances that are long enough, replacing what is there.

    Args:
        sources: data directories with features and, unless silence is kept, ``vad.scp``.
        min_duration: seconds that are left without silence, at least.
        name: of the training set; the folder's name if empty.
        exclude: data directories whose recordings are left out, under whatever name.
        max_hours: of speech to keep, see :func:`within_hours`; 0: all.
        seed: of what is kept.

    Returns:
        The number of utterances, those that are dropped with the reason, and the hours of speech.

    Raises:
        UserError: sources that do not fit together, or no utterance left.
    """
    conf = _common_configuration(sources, keep_silence)
    features, vad, frames, dropped, origins = {}, {}, {}, {}, {}
    excluded = {value: data for data in exclude for value in _all_hashes(data).values()}
    reader, speech = ObjectReader(), {}
    for source in sources:
        source_features, source_frames = (
            read_table(source / file) for file in ("feats.scp", "utt2num_frames")
        )
        source_vad = {} if keep_silence else read_table(source / "vad.scp")
        hashes = _all_hashes(source) if excluded else {}
        shift = float(read_text(source / "frame_shift")) if (source / "frame_shift").exists() else 0.01
        for key, location in source_features.items():
            if key in features:
                raise UserError(
                    f"'{key}' is in {source} and in a directory before it; give the sets different keys "
                    "(utils/copy_data_dir.sh --utt-prefix)"
                )
            if not keep_silence and key not in source_vad:
                raise UserError(f"{source}/vad.scp: '{key}' is not in it; run steps/compute_vad.sh {source}")
            if hashes.get(key) in excluded:
                dropped[key] = f"in {excluded[hashes[key]]}"
                continue
            left = count = int(source_frames[key])
            if not keep_silence:
                left = int((reader.read(source_vad[key], key) > 0.5).sum())
            if left == 0 or left * shift < min_duration:
                dropped[key] = f"{left * shift:.2f} s left of {count * shift:.2f} s"
                continue
            features[key], frames[key], origins[key] = location, source_frames[key], (source, count * shift)
            speech[key] = left * shift
            if not keep_silence:
                vad[key] = source_vad[key]
    if not features:
        raise UserError(
            f"no utterance is left: all {len(dropped)} have less than {min_duration:g} s after silence is "
            "removed; lower --min-duration (min_duration in recipe.yaml), or look at the VAD's threshold in "
            "conf/vad.yaml"
        )
    if max_hours:
        kept = within_hours(speech, max_hours, seed)
        features, vad, frames, origins, speech = (
            {key: table[key] for key in table if key in kept}
            for table in (features, vad, frames, origins, speech)
        )
    tables = {"feats.scp": features, "vad.scp": vad, "utt2num_frames": frames}
    _write(target, {**tables, **_audio_tables(sources, origins)}, conf, sources, name)
    write_text(target / "dropped.txt", "".join(f"{key} {why}\n" for key, why in sorted(dropped.items())))
    return len(features), dropped, sum(speech.values()) / 3600


def within_hours(seconds: dict[str, float], hours: float, seed: int) -> set[str]:
    """Return utterances of some hours of speech together.

    The utterances are ordered by a hash of the seed and of their own; the first of them that have so many
    hours are kept, up to the one that completes them. Fewer hours of the same seed are thus a part of more.

    Args:
        seconds: utterance -> speech.

    Raises:
        UserError: there are not so many hours.
    """
    keys = sorted(seconds)
    hashes = np.array([utterance_hash(key) for key in keys], dtype=np.uint64)
    order = keyed_permutation(hashes, seed, purpose("hours of speech"))
    total = np.cumsum([seconds[keys[place]] for place in order]) / 3600
    if total[-1] < 0.999 * hours:
        raise UserError(f"there are {total[-1]:.2f} hours of speech, and {hours:g} are wanted; give fewer")
    count = int(np.searchsorted(total, hours)) + 1
    return {keys[place] for place in order[:count]}


def _all_hashes(data) -> dict[str, str]:
    """Return ``utt2audiohash`` of a data directory, which must have all of its utterances."""
    hashes = read_audio_hashes(data)
    if read_table(Path(data) / "feats.scp").keys() - hashes.keys():
        raise UserError(
            f"{data}/{AUDIO_HASHES} is missing or incomplete, so --exclude cannot compare recordings: remove "
            f"{data}/.done.features and compute the features again (steps/make_fbank.sh, stage 2)"
        )
    return hashes


def copy_audio_hashes(sources: list[Path], target: Path) -> None:
    """Write ``utt2audiohash`` of a pre-training directory from those of its sources.

    Raises:
        UserError: a malformed table.
    """
    hashes = {key: value for source in sources for key, value in read_audio_hashes(source).items()}
    kept = read_table(target / "feats.scp")
    write_table(target / AUDIO_HASHES, {key: hashes[key] for key in kept if key in hashes})


def _common_configuration(sources: list[Path], keep_silence: bool) -> dict[str, str]:
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


def _audio_tables(sources: list[Path], origins: dict[str, tuple[Path, float]]) -> dict[str, dict[str, str]]:
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


def _write(target: Path, tables, conf, sources, name) -> None:
    """Replace the directory; utt2spk is written last, so that an incomplete one is not taken for complete."""
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
