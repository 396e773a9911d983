"""What is done to embeddings before a cosine: nothing, centring, or whitening, learnt from unlabelled
training embeddings.
"""

from dataclasses import dataclass

import numpy as np

TREATMENTS = ("raw", "centred", "whitened")
# Kaldi's covariance floor of LDA, for want of a better one. A direction with less of the largest variance
# than this is constant up to the rounding of float32 embeddings.
VARIANCE_FLOOR = 1e-6


@dataclass(frozen=True)
class Treatment:
    """An affine map x -> (x - mean) projection', or none.

    Attributes:
        kind: raw, centred or whitened.
        mean: (D,), or None for raw.
        projection: (d, D), or None unless whitened.
    """

    kind: str
    mean: np.ndarray | None = None
    projection: np.ndarray | None = None

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Treat (N, D) vectors; returns float64 (N, d)."""
        vectors = np.asarray(vectors, dtype=np.float64)
        if self.mean is None:
            return vectors
        if vectors.shape[1] != len(self.mean):
            raise ValueError(
                f"the treatment was learnt on vectors of dimension {len(self.mean)}, these have "
                f"{vectors.shape[1]}"
            )
        centred = vectors - self.mean
        return centred if self.projection is None else centred @ self.projection.T


def fit_treatment(kind: str, training: np.ndarray | None = None) -> Treatment:
    """Learn a treatment from unlabelled embeddings.

    ``centred`` takes their mean off. ``whitened`` also rotates to the eigenvectors of their covariance
    (divided by N) and divides by the standard deviations, so that the training embeddings get the unit
    covariance. Directions whose variance is at most ``VARIANCE_FLOOR`` of the largest are left out, not
    floored: training has said nothing about them (dead units, or fewer embeddings than dimensions), and
    dividing by the floor would let noise there rule the cosine.

    Args:
        kind: raw, centred or whitened.
        training: (N, D) embeddings; not needed for raw.

    Raises:
        ValueError: an unknown kind, no training embeddings, or, for whitening, no variance at all.
    """
    if kind not in TREATMENTS:
        raise ValueError(f"unknown treatment '{kind}'; there are {', '.join(TREATMENTS)}")
    if kind == "raw":
        return Treatment(kind)
    if training is None or len(training) == 0:
        raise ValueError(f"treatment '{kind}' needs training embeddings")
    training = np.asarray(training, dtype=np.float64)
    mean = training.mean(axis=0)
    if kind == "centred":
        return Treatment(kind, mean)
    centred = training - mean
    variance, directions = np.linalg.eigh(centred.T @ centred / len(training))
    # Rounding of the mean alone makes a variance of this order; below it the embeddings are all the same.
    if variance[-1] <= (np.finfo(np.float32).eps * np.abs(training).max()) ** 2:
        raise ValueError("the training embeddings are all the same: nothing to whiten by")
    kept = variance > VARIANCE_FLOOR * variance[-1]
    return Treatment(kind, mean, (directions[:, kept] / np.sqrt(variance[kept])).T)
