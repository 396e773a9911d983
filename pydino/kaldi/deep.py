"""The deep check of a data directory: only the headers of recordings and archive objects are read.

Text tables can agree while a recording is missing, at another sample rate or cut short, and features and
voice activity differ in length. Commands in ``wav.scp`` are not run.
"""

from collections import Counter
from pathlib import Path

from pydino.base import UserError, warn

from .archives import ObjectReader
from .data_dir import named
from .recordings import open_recording
from .segments import parse_segment
from .tables import read_table

_TABLES = (
    "wav.scp",
    "segments",
    "reco2dur",
    "utt2dur",
    "utt2num_frames",
    "feats.scp",
    "vad.scp",
    "energy.scp",
)
_SECONDS_TOLERANCE = 0.1  # of utt2dur and reco2dur, which frames may have rounded
# seconds a segment may pass the end of its recording; Kaldi's extract-segments cuts those off
_OVERSHOOT = 0.5


def deep_errors(path) -> list[str]:
    """Return the errors in the recordings and archives that the tables of ``path``, which are valid
    themselves, name.
    """
    errors: list[str] = []
    tables = {name: read_table(Path(path) / name) for name in _TABLES if (Path(path) / name).exists()}
    if "wav.scp" in tables:
        errors += _check_recordings(Path(path), tables)
    errors += _check_archives(Path(path), tables)
    return errors


def audio_head(path: str) -> tuple[int, int, int]:
    """Return (samples, rate, channels) of an audio file.

    Raises:
        UserError: missing, empty, no audio, no sample, or truncated.
    """
    with open_recording(path) as recording:
        if recording.samples == 0:
            raise UserError(f"{path} has no samples")
        recording.check_end()
        return recording.samples, recording.rate, recording.channels


def _check_recordings(path: Path, tables) -> list[str]:
    errors, heads = [], {}
    piped = 0
    for key, name in tables["wav.scp"].items():
        if name.endswith("|"):
            piped += 1
            continue
        try:
            heads[key] = audio_head(name)
        except UserError as error:
            errors.append(f"{path}/wav.scp: {key}: {error}")
            continue
        if heads[key][2] != 1:
            errors.append(
                f"{path}/wav.scp: {key}: {name} has {heads[key][2]} channels, expected one; pick one: sox "
                "in.wav out.wav remix 1"
            )
    if piped:
        warn(
            f"{path}/wav.scp: {piped} of {len(tables['wav.scp'])} entries are commands, which are not checked"
        )
    rates = Counter(rate for _, rate, _ in heads.values())
    for rate, _ in rates.most_common()[1:]:
        odd = [key for key, head in heads.items() if head[1] == rate]
        errors.append(
            f"{path}/wav.scp: {len(odd)} recordings at {rate} Hz, others at {rates.most_common()[0][0]} Hz: "
            f"{named(odd)}"
        )
    seconds = {key: samples / rate for key, (samples, rate, _) in heads.items()}
    if "segments" in tables:
        for utterance, rest in tables["segments"].items():
            recording, _, end = parse_segment(utterance, rest, f"{path}/segments")
            if end > seconds.get(recording, float("inf")) + _OVERSHOOT:
                errors.append(
                    f"{path}/segments: {utterance} ends at {end:g} s, its recording {recording} at "
                    f"{seconds[recording]:.2f} s"
                )
    for name in ("reco2dur",) if "segments" in tables else ("reco2dur", "utt2dur"):
        for key, stated in tables.get(name, {}).items():
            if key in seconds and abs(float(stated) - seconds[key]) > _SECONDS_TOLERANCE:
                errors.append(
                    f"{path}/{name}: {key} has a duration of {stated} s, its recording lasts "
                    f"{seconds[key]:.2f} s"
                )
    return errors


def _check_archives(path: Path, tables) -> list[str]:
    errors: list[str] = []
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    reader = ObjectReader()
    for name, axes in (("feats.scp", 2), ("vad.scp", 1), ("energy.scp", 1)):
        shapes[name] = {}
        for key, rxfilename in tables.get(name, {}).items():
            try:
                shape = reader.shape(rxfilename)
            except UserError as error:
                errors.append(f"{path}/{name}: {key}: {error}")
                continue
            if len(shape) != axes or 0 in shape:
                expected = "frames x features" if axes == 2 else "frames"
                errors.append(
                    f"{path}/{name}: {key}: {rxfilename} has the shape {shape}, expected {expected}"
                )
            else:
                shapes[name][key] = shape
    dims = Counter(shape[1] for shape in shapes["feats.scp"].values())
    for dim, _ in dims.most_common()[1:]:
        odd = [key for key, shape in shapes["feats.scp"].items() if shape[1] == dim]
        errors.append(
            f"{path}/feats.scp: {len(odd)} utterances have {dim} features, others "
            f"{dims.most_common()[0][0]}: {named(odd)}"
        )
    lengths = {name: {key: shape[0] for key, shape in of.items()} for name, of in shapes.items()}
    lengths["utt2num_frames"] = {key: int(frames) for key, frames in tables.get("utt2num_frames", {}).items()}
    for name in ("vad.scp", "energy.scp", "utt2num_frames"):
        wrong = [
            k
            for k, frames in lengths[name].items()
            if k in lengths["feats.scp"] and frames != lengths["feats.scp"][k]
        ]
        for key in wrong[:5]:
            errors.append(
                f"{path}: {key} has {lengths['feats.scp'][key]} frames in feats.scp and "
                f"{lengths[name][key]} in {name}"
            )
        if len(wrong) > 5:
            errors.append(
                f"{path}: and {len(wrong) - 5} more utterances whose lengths in feats.scp and {name} differ"
            )
    return errors
