"""Reading audio: anything Kaldi's wav.scp may name, as samples in the range of 16-bit integers."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from pydino.base import UserError
from pydino.kaldi.recordings import Recording, open_recording

FULL_SCALE = 32768.0  # of +-1 in floating-point formats
# Floats beyond this have another scale. Resampling, lossy codecs and loud masters exceed 1 slightly.
MAX_PEAK = 16.0
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
            ``end`` may be up to half a second past the end of the recording; None or -1 stands for that end.
        allow_pipes: run commands; they come from a data directory, which someone else may have written.
        channel: index of the channel, from 0; None: the recording must have one channel.

    Returns:
        (samples (S,) float32 in -32768 to 32767, rate in Hz). S is at least 1.

    Raises:
        UserError: missing, empty, truncated or unreadable file; several channels; NaN or infinite samples; a
            part outside the recording; a pipe that is not allowed or fails.
    """
    parts, rate = read_parts(
        rxfilename, lambda total, rate: [span_of(start, end, total, rate, rxfilename)], allow_pipes, channel
    )
    return parts[0].astype(np.float32, copy=False), rate


def read_parts(
    rxfilename: str, choose, allow_pipes: bool = False, channel: int | None = None
) -> tuple[list[np.ndarray], int]:
    """Read parts of one channel of a recording that is opened once, as integers where it has no more than 16
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
    with open_channel(rxfilename, allow_pipes, channel) as audio:
        return [audio.read(first, last) for first, last in choose(audio.samples, audio.rate)], audio.rate


class Channel:
    """One channel of an open recording.

    Attributes:
        rate: Hz.
        samples: how many there are, at least 1.
    """

    def __init__(self, recording: Recording, channel: int, where: str):
        self.rate, self.samples = recording.rate, recording.samples
        self._recording, self._channel, self._where = recording, channel, where

    def read(self, first: int, last: int) -> np.ndarray:
        """Return samples [first, last), (last - first,): int16 where the recording has no more than 16
        bits, else float32 in -32768 to 32767.

        Raises:
            UserError: they cannot be decoded, or are NaN or infinite.
        """
        samples = self._recording.read(first, last)[:, self._channel]
        if samples.dtype.kind == "i":
            return samples
        bad = int(np.count_nonzero(~np.isfinite(samples)))
        if bad:
            raise UserError(
                f"{self._where}: {bad} of {len(samples)} samples are NaN or infinite; regenerate the "
                "recording or omit it"
            )
        peak = float(np.abs(samples).max(initial=0.0))
        if peak > MAX_PEAK:
            raise UserError(
                f"{self._where}: samples up to {peak:g}, but floats must be in the range [-1, 1]; if they "
                "are in that of 16-bit integers: sox -v 3.0517578125e-5 IN OUT.wav"
            )
        return samples * np.float32(FULL_SCALE)


@contextmanager
def open_channel(rxfilename: str, allow_pipes: bool = False, channel: int | None = None) -> Iterator[Channel]:
    """Open one channel of a recording, to be read in parts; arguments as for :func:`read_audio`.

    Raises:
        UserError: as :func:`read_audio`.
    """
    with open_recording(rxfilename, allow_pipes) as recording:
        if recording.samples == 0:
            raise UserError(f"{rxfilename}: no samples in it; regenerate the recording or omit it")
        channels = recording.channels
        if channel is None and channels > 1:
            raise UserError(
                f"{rxfilename}: {channels} channels; choose one with --channel 0 (to {channels - 1}) or "
                "'channel: 0' in the feature configuration"
            )
        if channel is not None and not 0 <= channel < channels:
            raise UserError(
                f"{rxfilename}: --channel {channel} does not exist; it has {channels}, counted from 0"
            )
        yield Channel(recording, channel or 0, rxfilename)


def span_of(start, end, total: int, rate: int, where: str) -> tuple[int, int]:
    """Return the samples [first, last) of the seconds [start, end) of a recording of ``total`` samples.

    ``start`` None is its beginning, ``end`` None or -1 its end, as in Kaldi. (Times are checked to be finite
    by :func:`pydino.kaldi.segments.parse_segment`.)

    Raises:
        UserError: outside the recording, or without a sample; names ``where``.
    """
    start = start or 0.0
    first = int(start * rate)
    last = total if end is None or end == -1 else int(end * rate)
    if first < 0 or first >= total or last > total + _MAX_OVERSHOOT * rate:
        raise UserError(
            f"{where}: the segment from {start} to {end} s is not inside the recording, which lasts "
            f"{total / rate:.2f} s; correct its times in segments"
        )
    if last <= first:
        raise UserError(
            f"{where}: the segment from {start} to {end} s holds no sample; its end must be after its start: "
            "correct its times in segments"
        )
    return first, min(last, total)
