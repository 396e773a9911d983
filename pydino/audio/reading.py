"""Reading audio: anything Kaldi's wav.scp may name, as samples in the range of 16-bit integers."""

import io
import os
from functools import lru_cache

import numpy as np
import soundfile

from pydino.base import UserError
from pydino.kaldi.rxfilename import parse_rxfilename, run_pipe

from .wav import read_pcm

FULL_SCALE = 32768.0  # +-1 in formats of real numbers
_UNKNOWN_LENGTH = 1 << 48  # libsndfile's answer for FLAC written to a pipe is the largest of numbers
# seconds that a segment may reach past the end of its recording (Kaldi's extract-segments)
_MAX_OVERSHOOT = 0.5


def read_audio(
    rxfilename: str,
    start: float | None = None,
    end: float | None = None,
    allow_pipes: bool = False,
    channel: int | None = None,
) -> tuple[np.ndarray, int]:
    """Read one channel of a recording, or of a part of it.

    Args:
        rxfilename: a file of any format that libsndfile reads (wav, flac, ogg, ...), ``file:offset`` (a wav
            inside an archive), or ``command |`` (a command that writes wav or flac to its standard output).
        start, end: seconds; sample floor(start * rate) is the first, floor(end * rate) the first that is not.
            ``end`` may be up to half a second past the end of the recording, and None or negative means up to
            there.
        allow_pipes: run commands; they come from a data directory, which someone else may have written.
        channel: which channel of many, from 0; None expects a single one.

    Returns:
        (samples (S,) float32 in -32768 to 32767, rate in Hz). S is at least 1.

    Raises:
        UserError: missing, empty, truncated or unreadable file; several channels; samples that are not
            numbers; a part outside the recording; a pipe that is not allowed or fails.
    """
    parts, rate = read_parts(
        rxfilename, lambda total, rate: [span_of(start, end, total, rate, rxfilename)], allow_pipes, channel
    )
    return parts[0].astype(np.float32, copy=False), rate


def read_parts(
    rxfilename: str, choose, allow_pipes: bool = False, channel: int | None = None
) -> tuple[list[np.ndarray], int]:
    """Read parts of one channel of a recording that is opened once, in integers where it has no more than 16
    bits.

    Args:
        rxfilename, allow_pipes, channel: as in :func:`read_audio`.
        choose: callable (samples, rate) -> list of (first, last + 1) sample of each part. It may raise
            UserError.

    Returns:
        (samples (S,) of each part, int16, or float32 in -32768 to 32767; rate in Hz).

    Raises:
        UserError: as :func:`read_audio`.
    """
    where = rxfilename
    location = parse_rxfilename(rxfilename)
    if location.rows or location.columns:
        raise UserError(
            f"'{where}': a range of rows or columns says nothing about audio; use a segments file"
        )
    if location.is_pipe:
        content = _run_pipe(location.path, allow_pipes)
        parts, rate = _decode(io.BytesIO(content), len(content), where, choose)
    else:
        try:
            with open(location.path, "rb", buffering=0) as stream:
                stream.seek(location.offset)
                parts, rate = _decode(stream, os.fstat(stream.fileno()).st_size, where, choose)
        except OSError as error:
            raise UserError(
                f"cannot read {location.path}: {error.strerror or error}; is the path right, seen from this "
                "folder?"
            ) from error
    return [_scaled(_pick_channel(part, channel, where), where) for part in parts], rate


def _scaled(samples: np.ndarray, where: str) -> np.ndarray:
    """Return samples in the range of 16-bit integers; those of real numbers come in -1 to 1."""
    if len(samples) == 0:
        raise UserError(f"{where}: no samples in it; make it again or leave it out")
    if samples.dtype.kind == "i":
        return samples
    bad = int(np.count_nonzero(~np.isfinite(samples)))
    if bad:
        raise UserError(
            f"{where}: {bad} of {len(samples)} samples are NaN or infinite; make it again or leave it out"
        )
    return samples * np.float32(FULL_SCALE)


_run_pipe = lru_cache(maxsize=1)(run_pipe)  # the segments of one recording follow each other


def _decode(stream, length: int, where: str, choose):
    """Return samples (S, channels) of each part, int16 or float32 of full scale 1, and the rate."""
    if length == stream.tell():
        raise UserError(f"{where}: the file is empty; make it again or leave it out")
    pcm = read_pcm(stream, length, where, choose)
    if pcm is not None:
        return pcm
    try:
        with soundfile.SoundFile(stream) as audio:
            rate = audio.samplerate
            form = "int16" if audio.subtype in ("PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW") else "float32"
            if audio.frames >= _UNKNOWN_LENGTH:
                raise UserError(
                    f"{where}: its header does not say how long it is (written to a pipe?); rewrite it with "
                    "flac or sox"
                )
            parts = [
                _read_part(audio, first, last, form, where) for first, last in choose(audio.frames, rate)
            ]
    except (soundfile.LibsndfileError, RuntimeError) as error:
        reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
        raise UserError(
            f"{where}: cannot be decoded ({reason}): truncated or damaged, or no audio; copy or make it again"
        ) from error
    return parts, rate


def _read_part(audio, first: int, last: int, form: str, where: str) -> np.ndarray:
    if first != audio.tell():
        audio.seek(first)
    samples = audio.read(last - first, dtype=form, always_2d=True)
    if len(samples) < last - first:
        raise UserError(
            f"{where}: {last - first} samples are promised but only {len(samples)} could be decoded: "
            "truncated or damaged; copy it again"
        )
    return samples


def span_of(start, end, total: int, rate: int, where: str) -> tuple[int, int]:
    """Return the samples [first, last) of the seconds [start, end) of a recording."""
    first = int((start or 0.0) * rate)
    last = total if end is None or end < 0 else int(end * rate)
    if first < 0 or last < first or (first >= total > 0) or last > total + _MAX_OVERSHOOT * rate:
        raise UserError(
            f"{where}: the segment from {start} to {end} s is not inside the recording, which lasts "
            f"{total / rate:.2f} s; mend segments"
        )
    return first, min(last, total)


def _pick_channel(samples: np.ndarray, channel: int | None, where: str) -> np.ndarray:
    channels = samples.shape[1]
    if channel is None and channels > 1:
        raise UserError(
            f"{where}: {channels} channels; say which with --channel 0 (to {channels - 1}) or 'channel: 0' "
            "in the feature configuration"
        )
    if channel is not None and not 0 <= channel < channels:
        raise UserError(f"{where}: --channel {channel} does not exist; it has {channels}, counted from 0")
    return samples[:, channel or 0]
