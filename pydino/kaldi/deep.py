"""The deep check of a data directory: the heads of recordings and archive objects, no sample and no feature
is read.

Text tables can agree while a recording is missing, at another sample rate or cut short, and features and
voice activity differ in length. Commands in ``wav.scp`` are not run.
"""

import os
import struct
from collections import Counter
from pathlib import Path

from pydino.base import UserError, warn

from .archives import ObjectReader
from .data_dir import Tables, named

_SECONDS_TOLERANCE = 0.1  # of utt2dur and reco2dur, which frames may have rounded
# seconds a segment may pass the end of its recording; Kaldi's extract-segments cuts those off
_OVERSHOOT = 0.5


def deep_errors(path, tables: Tables) -> list[str]:
    """Return what is wrong with the recordings and archives that the tables of ``path`` name."""
    errors: list[str] = []
    if "wav.scp" in tables:
        errors += _check_recordings(Path(path), tables)
    errors += _check_archives(Path(path), tables)
    return errors


def audio_head(path: str) -> tuple[int, int, int]:
    """Return (samples, rate, channels) of an audio file, from its head.

    Raises:
        UserError: missing, empty, no audio, no sample, or a wav file shorter than its head says.
    """
    import soundfile

    try:
        if os.path.getsize(path) == 0:
            raise UserError(f"{path} is an empty file")
        with soundfile.SoundFile(path) as stream:
            head = stream.frames, stream.samplerate, stream.channels
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except soundfile.LibsndfileError as error:
        raise UserError(f"{path} cannot be read as audio: {error.error_string.rstrip('.')}") from error
    if head[0] == 0:
        raise UserError(f"{path} has no samples")
    lacking = _bytes_lacking(path)
    if lacking:
        raise UserError(f"{path} is truncated: {lacking} bytes fewer than its head says")
    return head


def _bytes_lacking(path: str) -> int:
    """How many bytes a RIFF wav file lacks at its end. (libsndfile reads what is there and says nothing.)"""
    size = os.path.getsize(path)
    with open(path, "rb") as stream:
        if stream.read(4) != b"RIFF" or stream.read(8)[4:] != b"WAVE":
            return 0
        while len(chunk := stream.read(8)) == 8:
            name, length = struct.unpack("<4sI", chunk)
            if name == b"data":
                # A program that writes to a pipe does not know the length: 0, or about the largest number.
                return 0 if length >= 0x7FFFF000 else max(0, stream.tell() + length - size)
            stream.seek(length + length % 2, os.SEEK_CUR)
    return 0


def _check_recordings(path: Path, tables: Tables) -> list[str]:
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
            f"{path}/wav.scp: {piped} of {len(tables['wav.scp'])} entries are commands, which are not run "
            "to be checked"
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
            recording, _, end = rest.split()
            if float(end) > seconds.get(recording, float("inf")) + _OVERSHOOT:
                errors.append(
                    f"{path}/segments: {utterance} ends at {end} s, its recording {recording} at "
                    f"{seconds[recording]:.2f} s"
                )
    for name in ("reco2dur",) if "segments" in tables else ("reco2dur", "utt2dur"):
        for key, stated in tables.get(name, {}).items():
            if key in seconds and abs(float(stated) - seconds[key]) > _SECONDS_TOLERANCE:
                errors.append(
                    f"{path}/{name}: {key} is said to last {stated} s, its recording lasts "
                    f"{seconds[key]:.2f} s"
                )
    return errors


def _check_archives(path: Path, tables: Tables) -> list[str]:
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
