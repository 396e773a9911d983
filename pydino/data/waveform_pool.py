"""A pool of the augmentation data: the recordings of one list, concatenated in one tensor on the device."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from pydino.base import keyed_integers, keyed_permutation

from .recordings import Piece


class WaveformPool:
    """All the recordings of a list, or a random selection of pieces, another one each generation.

    A recording shorter than ``longest`` is stored repeated, so that any run of samples is contiguous.

    Args:
        recordings: the list.
        read: callable (Piece) -> (piece.length,) array.
        form: torch.dtype of these arrays.
        longest: most samples that may be requested at once.
        budget: bytes.
        piece_length: most samples of a piece, where the list does not fit.
        key: (seed, purpose) of the selection.
        device: that holds the pool.

    Raises:
        ValueError: the list does not fit, and half the budget is less than one piece.
    """

    def __init__(
        self,
        recordings: list[Piece],
        read,
        form: torch.dtype,
        longest: int,
        budget: int,
        piece_length: int,
        key,
        device,
    ):
        self._recordings, self._read, self._longest, self._piece_length, self._key = (
            recordings,
            read,
            longest,
            piece_length,
            key,
        )
        total = self.wanted_bytes(recordings, form, longest)
        self.rotates = total > budget
        # Two halves, so that the next generation is written while the present one is in use.
        self._capacity = (budget // 2 if self.rotates else total) // form.itemsize
        if self.rotates and self._capacity < max(
            self._stored(min(piece.length, piece_length)) for piece in recordings
        ):
            raise ValueError(f"{budget} bytes are less than two pieces")
        self._buffers = [
            torch.empty(self._capacity, dtype=form, device=device) for _ in range(2 if self.rotates else 1)
        ]
        self._tables: list = [None, None]  # of each half: (first sample of each piece, samples of each piece)
        self._half = 0

    def _stored(self, length: int) -> int:
        return _stored(length, self._longest)

    @staticmethod
    def wanted_bytes(recordings: list[Piece], form: torch.dtype, longest: int) -> int:
        """Return the bytes that a whole list takes."""
        return form.itemsize * sum(_stored(piece.length, longest) for piece in recordings)

    def chosen(self, generation: int) -> list[Piece]:
        """Return the pieces of a generation: all recordings, or as many pieces as fit, none of a recording
        twice before every recording has one.
        """
        if not self.rotates:
            return self._recordings
        chosen, room, turn = [], self._capacity, 0
        while True:
            for index in keyed_permutation(len(self._recordings), *self._key, generation, turn).tolist():
                whole = self._recordings[index]
                length = min(whole.length, self._piece_length)
                room -= self._stored(length)
                if room < 0:
                    return chosen
                first = int(keyed_integers(0, whole.length - length + 1, *self._key, generation, turn, index))
                chosen.append(Piece(whole.path, first, length))
            turn += 1

    def load(self, generation: int, half: int, should_continue=lambda: True, readers: int = 1) -> None:
        """Read a generation into one half; stop when ``should_continue``, called after each piece, returns
        False.
        """
        pieces = self.chosen(generation)
        stored = np.array([self._stored(piece.length) for piece in pieces])
        offsets = np.cumsum(stored) - stored
        with ThreadPoolExecutor(readers) as pool:
            # map() of a pool reads everything at once; to save host memory pieces are read in this thread
            # instead.
            contents = (
                map(self._read, pieces) if readers == 1 else _ahead(pool, self._read, pieces, 2 * readers)
            )
            for begin, size, content in zip(offsets.tolist(), stored.tolist(), contents, strict=True):
                repeated = content if len(content) == size else np.resize(content, size)
                self._buffers[half][begin : begin + size].copy_(torch.from_numpy(repeated))
                if not should_continue():
                    return
        self._tables[half] = (offsets, np.array([piece.length for piece in pieces]))

    def use(self, half: int) -> None:
        """Take from this half from now on."""
        self._half = half

    def take(self, which: np.ndarray, where: np.ndarray, length: int) -> torch.Tensor:
        """Return ``length`` samples of each of n random recordings, (n, length), as stored.

        Args:
            which: (n,) uniform draws of the recording.
            where: (n,) uniform draws of the position; a recording shorter than ``length`` starts anywhere and
                repeats.
            length: at most ``longest``.
        """
        if length > self._longest:
            raise ValueError(f"{length} samples exceed the {self._longest} that the pool supports")
        offsets, lengths = self._tables[self._half]
        index = np.floor(which * len(lengths)).astype(np.int64)
        room = np.where(lengths[index] >= length, lengths[index] - length + 1, lengths[index])
        return runs(
            self._buffers[self._half], offsets[index] + np.floor(where * room).astype(np.int64), length
        )


def runs(samples: torch.Tensor, first: np.ndarray, length: int) -> torch.Tensor:
    """Return samples first[i] to first[i] + length - 1 as row i, (n, length): rows of an overlapping view,
    without index tensors.
    """
    windows = samples.as_strided((len(samples) - length + 1, length), (1, 1))
    return windows.index_select(0, torch.from_numpy(first).to(samples.device, non_blocking=True))


def _stored(length: int, longest: int) -> int:
    return length if length >= longest else length + longest - 1


def _ahead(pool: ThreadPoolExecutor, function, items: list, depth: int):
    """Yield function(item) in order, at most ``depth`` of them ahead."""
    waiting = []
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) == depth:
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()
