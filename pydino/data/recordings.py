"""Reading what augmentation data holds: lists of noises and of room responses, and pieces of them at the
wanted sample rate.
"""

from dataclasses import dataclass

import numpy as np

from pydino.audio import open_channel, read_audio, resample
from pydino.base import UserError
from pydino.kaldi import read_table
from pydino.kaldi.rxfilename import parse_rxfilename


@dataclass(frozen=True)
class Piece:
    """A stretch of a recording, in samples of the wanted rate."""

    path: str
    first: int
    length: int


class Reader:
    """Reads lists and pieces at one sample rate; of several channels the first is taken.

    Args:
        options: of the features (FbankConfig or MfccConfig): the sample rate, and whether others are
            resampled.
    """

    def __init__(self, options):
        self._options, self._rate = options, int(options.sample_frequency)

    def paths(self, table: str, what: str) -> list[str]:
        """Return the files of a list, in its order; ``what`` names it in messages.

        Raises:
            UserError: no such list, nothing in it, or something else than plain files.
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
        """Return all of a recording, from what its head says."""
        try:
            with open_channel(path, channel=0) as recording:
                self._check(path, recording.rate)
                return Piece(path, 0, -(-recording.samples * self._rate // recording.rate))
        except UserError as error:
            raise UserError(f"{error}, or take it off the list that names it") from error

    def samples(self, piece: Piece) -> np.ndarray:
        """Return a piece as (length,) int16."""
        # Half a sample later, so that rounding does not reach the sample before.
        start, end = (piece.first + 0.5) / self._rate, (piece.first + piece.length + 0.5) / self._rate
        samples = self._at_rate(piece.path, start if piece.first else None, end)[: piece.length]
        rounded = np.zeros(piece.length, dtype=np.int16)
        rounded[: len(samples)] = np.clip(np.rint(samples), -32768, 32767)
        return rounded

    def response(self, piece: Piece) -> np.ndarray:
        """Return a room response as (length,) float16: from its peak on, where the direct path arrives, and
        with a peak of 1.

        Float16 keeps a tail that fades by 60 dB as exact as its beginning, 11 bits, where 16-bit integers
        would leave it 6.
        """
        samples = self._at_rate(piece.path, None, None)
        peak = int(np.argmax(np.abs(samples)))
        if samples[peak] == 0:
            raise UserError(f"{piece.path}: a room response of nothing but zeros; take it off the list")
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
                f"{path}: {rate} Hz where the features are of {self._rate} Hz; set '{option}: true' in their "
                "configuration to have it resampled, or list recordings of that rate"
            )
