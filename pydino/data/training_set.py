"""A pre-training directory as the source of training on stored features: utterances identified by their
stored hash alone, silence removed.

Keys are only used to look up features: the order, and every draw, depend on the hash in ``utt2hash``. A
directory with labels is refused.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pydino.base import UserError
from pydino.kaldi import ChunkReader, read_table

from .training_dir import REMEDY, check_current, read_hashes, read_voiced

# Files keyed by utterance or speaker that a training directory may contain.
UNLABELLED = {"utt2spk", "spk2utt", "utt2hash", "utt2audiohash", "utt2num_frames", "utt2dur"}


def check_unlabelled(data) -> None:
    """Refuse a directory with any information about speakers, emotions or diagnoses.

    Raises:
        UserError: there is a label map, a transcript or trials, or ``utt2spk`` maps an utterance to a name
            other than its own.
    """
    data = Path(data)
    if not data.is_dir():
        raise UserError(f"no directory {data}; steps/make_train_set.sh makes one")
    labelled = [
        p.name
        for p in sorted(data.iterdir())
        if p.name.startswith(("utt2", "spk2", "reco2")) and p.name not in UNLABELLED
    ]
    labelled += [name for name in ("text", "trials") if (data / name).exists()]
    if labelled:
        raise UserError(
            f"{data} holds labels ({', '.join(labelled)}), and pre-training sees none; make it with "
            "steps/make_train_set.sh"
        )
    for name in ("utt2spk", "spk2utt"):
        for key, other in (
            read_table(data / name).items() if name == "utt2spk" or (data / name).exists() else ()
        ):
            if key != other:
                raise UserError(
                    f"{data}/{name} maps {key} to {other}; with labels hidden every utterance is its "
                    "own speaker; make the directory with steps/make_train_set.sh"
                )


@dataclass
class Crops:
    """Crops of stored features, B utterances, V views, F columns.

    Attributes:
        values: (sum of sizes B, F) float32; the first sizes[0] B rows are the first view of every utterance,
            in order, and so on.
        sizes: (V,) frames of each view.
    """

    values: torch.Tensor
    sizes: np.ndarray

    def renumbered(self, columns: np.ndarray, sizes: np.ndarray) -> "Crops":
        """Return the same crops with views numbered among all V of a batch: ``sizes`` (V,) are the frames of
        all.
        """
        return Crops(self.values, sizes)

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return self.values.nbytes

    def pin_memory(self) -> "Crops":
        """Return a copy in page-locked memory."""
        return Crops(self.values.pin_memory(), self.sizes)

    def share_memory(self) -> "Crops":
        """Return the same in shared memory."""
        return Crops(self.values.share_memory_(), self.sizes)


class TrainingSet:
    """Features of a pre-training directory.

    Args:
        data: directory with feats.scp, utt2spk, utt2hash, and vad.scp unless silence is kept.
        only: hashes of the utterances to take; None: all.

    Attributes:
        hashes: (N,) uint64, ascending: the order of everything else here.
        lengths: (N,) frames left after silence is removed.
        dim: columns of the features.

    Raises:
        UserError: labels, missing files or keys, two utterances of one hash, or an utterance without a voiced
            frame.
    """

    def __init__(self, data, only: np.ndarray | None = None):
        data = Path(data)
        check_unlabelled(data)
        check_current(data)
        self.hashes, self._keys = read_hashes(data, only)
        features, known = read_table(data / "feats.scp"), set(self._keys)
        if only is not None:
            features = {key: location for key, location in features.items() if key in known}
        if features.keys() != known:
            raise UserError(f"{data}: feats.scp and utt2hash name different utterances; {REMEDY}")
        self._reader = ChunkReader(features)
        self.dim = self._reader.dim
        self._voiced = self._read_voiced(data) if (data / "vad.scp").exists() else None
        if self._voiced is None:
            self.lengths = np.array([self._reader.num_frames(key) for key in self._keys], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.hashes)

    def _read_voiced(self, data) -> list[np.ndarray]:
        packed: list = [None] * len(self._keys)
        self.lengths = np.zeros(len(packed), dtype=np.int64)
        for place, voiced in read_voiced(data, self._keys, lambda i: self._reader.num_frames(self._keys[i])):
            packed[place] = np.packbits(voiced)  # 100 MB for a million utterances of 8 s
            self.lengths[place] = voiced.sum()
        return packed

    def collect(
        self, indices: np.ndarray, starts: np.ndarray, sizes: np.ndarray, factors: np.ndarray | None = None
    ) -> Crops:
        """Read crops of utterances ``indices`` (B,) from frames ``starts`` (B, V) on, ``sizes`` (V,) frames
        each; silence is not counted. The speed of stored features cannot be changed: ``factors`` is None.

        An utterance shorter than a crop is repeated from its beginning: frame i of a crop is frame (start +
            i) mod length.
        """
        ends = np.cumsum(sizes) * len(indices)
        values = np.empty((ends[-1], self.dim), dtype=np.float32)
        views = [
            values[end - size * len(indices) : end].reshape(len(indices), size, -1)
            for end, size in zip(ends, sizes, strict=True)
        ]
        for row, index in enumerate(indices.tolist()):
            self._read([view[row] for view in views], index, starts[row])
        return Crops(torch.from_numpy(values), sizes)

    def _read(self, crops: list[np.ndarray], index: int, starts: np.ndarray) -> None:
        """Fill ``crops``, arrays (L, F), with frames of utterance ``index`` from ``starts`` on."""
        key, length = self._keys[index], int(self.lengths[index])
        frames = np.arange(length)  # indices of the voiced frames among all
        if self._voiced is not None:
            frames = np.flatnonzero(np.unpackbits(self._voiced[index], count=self._reader.num_frames(key)))
        places = [
            frames[start : start + len(crop)]
            if start + len(crop) <= length
            else frames[np.arange(start, start + len(crop)) % length]
            for crop, start in zip(crops, starts.tolist(), strict=True)
        ]
        spans = [(int(at.min()), int(at.max()) + 1) for at in places]
        first, end = min(span[0] for span in spans), max(span[1] for span in spans)
        # Crops of a short utterance overlap: it is read, and decoded, once for all of them.
        together = end - first <= sum(span[1] - span[0] for span in spans)
        whole = self._reader.read(key, first, end - first) if together else None
        for crop, at, span in zip(crops, places, spans, strict=True):
            if together:
                np.take(whole, at - first, axis=0, out=crop)
            else:
                np.take(self._reader.read(key, span[0], span[1] - span[0]), at - span[0], axis=0, out=crop)
