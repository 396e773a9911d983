"""Recordings that libsndfile decodes."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import soundfile

from pydino.base import UserError

from .container import Container, cut_short
from .recording import Recording
from .source import Source, Spliced

# libsndfile returns the largest integer where a header does not state the length
_UNKNOWN_LENGTH = 1 << 48
_BLOCK = 1 << 18  # samples decoded at once where a whole recording is decoded
# Seconds decoded before a part of MP3, Vorbis and Opus, whose samples depend on those before them.
_LEAD = 2
_INTEGERS = ("PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW")  # at most 16 bits: read without loss as such


class _SoundFile(soundfile.SoundFile):
    """Reads sequentially. The base class seeks to the current position after every read, which makes the MP3
    decoder lose the preceding frames that it needs.
    """

    def seekable(self) -> bool:
        return False


class Decoder(Recording):
    """A recording that libsndfile decodes, as a context manager.

    Raises:
        UserError: it cannot be decoded; names ``where``.
    """

    def __init__(self, source: Source, container: Container, where: str):
        self._where, self._all = where, None
        with self._explained():
            stream = Spliced(source, container.head, container.begin, container.end)
            self._file = _SoundFile(stream)
        self.rate, self.channels, self.samples = self._file.samplerate, self._file.channels, self._file.frames
        self._form = "int16" if self._file.subtype in _INTEGERS else "float32"
        self._lead = _LEAD * self.rate if container.kind in ("mp3", "ogg") else 0
        self._at = 0  # the sample that is decoded next
        known = container.exact and self.samples < _UNKNOWN_LENGTH
        if not known or not soundfile.SoundFile.seekable(self._file):
            self._all = self._decode_all()
            if known and len(self._all) < self.samples:
                raise self._too_short(self.samples, len(self._all))
            self.samples = len(self._all)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def read(self, first: int, last: int) -> np.ndarray:
        if self._all is not None:
            return self._all[first:last]
        with self._explained():
            if first != self._at:
                self._at = self._file.seek(max(first - self._lead, 0))
            while self._at < first:
                self._next(min(_BLOCK, first - self._at))
            samples = self._next(last - first)
        if len(samples) < last - first:
            raise self._too_short(last - first, len(samples))
        return samples

    def _next(self, count: int) -> np.ndarray:
        """Return the next samples (S, channels), fewer at the end."""
        samples = self._file.read(count, dtype=self._form, always_2d=True)
        self._at += count
        return samples

    def _decode_all(self) -> np.ndarray:
        """Decode to the end: where the header does not state the length (FLAC from a pipe), or the codec
        (GSM, G.721) cannot seek.
        """
        blocks = []
        with self._explained():
            while True:
                blocks.append(self._next(_BLOCK))
                if len(blocks[-1]) == 0:
                    return np.concatenate(blocks)

    def _too_short(self, expected: int, found: int) -> UserError:
        return cut_short(
            self._where, f"its header states {expected} samples but only {found} could be decoded"
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn the errors of libsndfile into a UserError."""
        try:
            yield
        except (soundfile.LibsndfileError, RuntimeError) as error:
            reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
            raise UserError(
                f"{self._where}: cannot be decoded ({reason}): truncated or damaged, or no audio; copy or "
                "regenerate it"
            ) from error
