"""Reading augmentation data: lists of noises and room impulse responses, and pieces of them at the wanted
sample rate.
"""

from dataclasses import dataclass

import numpy as np

from pydino.audio import open_channel, read_audio, resample
from pydino.base import UserError
from pydino.kaldi import read_table
from pydino.kaldi.rxfilename import parse_rxfilename


@dataclass(frozen=True)
class Piece:
    """A part of a recording, in samples of the wanted rate."""

    path: str
    first: int
    length: int


class Reader:
    """Reads lists and pieces at one sample rate; only the first channel is used.

    Args:
        options: of the features (FbankConfig or MfccConfig): the sample rate, and whether other rates are
            resampled.
    """

    def __init__(self, options):
        self._options, self._rate = options, int(options.sample_frequency)

    def paths(self, table: str, what: str) -> list[str]:
        """Return the files of a list, in order; ``what`` names it in messages.

        Raises:
            UserError: no such list, an empty one, or entries that are not files.
        """
        try:
            paths = list(read_table(table, check_sorted=False).values())
        except UserError as error:
            raise UserError(f"augmentation_data.{what}: {error}") from error
        if not paths:
            raise UserError(
                f"augmentation_data.{what}: {table} is empty; give a list of recordings ('name path' a "
                "line), or none"
            )
        for path in paths:
            location = parse_rxfilename(path)
            if location.is_pipe or location.offset:
                raise UserError(
                    f"augmentation_data.{what}: '{path}' in {table} is not a plain file; write the audio to "
                    "files and list those"
                )
        return paths

    def whole(self, path: str) -> Piece:
        """Return the whole recording, according to its header."""
        try:
            with open_channel(path, channel=0) as recording:
                self._check(path, recording.rate)
                return Piece(path, 0, -(-recording.samples * self._rate // recording.rate))
        except UserError as error:
            raise UserError(f"{error}, or remove it from the list") from error

    def samples(self, piece: Piece) -> np.ndarray:
        """Return a piece as (length,) int16."""
        # Half a sample later, so that rounding never yields the preceding sample.
        start, end = (piece.first + 0.5) / self._rate, (piece.first + piece.length + 0.5) / self._rate
        samples = self._at_rate(piece.path, start if piece.first else None, end)[: piece.length]
        rounded = np.zeros(piece.length, dtype=np.int16)
        rounded[: len(samples)] = np.clip(np.rint(samples), -32768, 32767)
        return rounded

    def response(self, piece: Piece) -> np.ndarray:
        """Return a room impulse response as (length,) float16, from its peak on (the direct path), scaled to
        a peak of 1.

        A tail at -60 dB keeps the 11 bits of precision of float16, of which 16-bit integers would leave 6.
        """
        samples = self._at_rate(piece.path, None, None)
        peak = int(np.argmax(np.abs(samples)))
        if samples[peak] == 0:
            raise UserError(
                f"{piece.path}: all samples of this room impulse response are zero; remove it from the list"
            )
        kept = samples[peak : peak + piece.length] / samples[peak]
        response = np.zeros(piece.length, dtype=np.float16)
        response[: len(kept)] = kept
        return response

    def _at_rate(self, path: str, start, end) -> np.ndarray:
        samples, rate = read_audio(path, start, end, channel=0)
        self._check(path, rate)
        return resample(samples, rate, self._rate)

    def _check(self, path: str, rate: int) -> None:
        option = "allow_downsample" if rate > self._rate else "allow_upsample"
        if rate != self._rate and not getattr(self._options, option):
            raise UserError(
                f"{path}: {rate} Hz, but the features are of {self._rate} Hz; set '{option}: true' in their "
                "configuration to have it resampled, or list recordings of that rate"
            )
