"""Centring, whitening and within-class covariance normalisation of embeddings before a cosine, estimated
without labels.
"""

from dataclasses import dataclass

import numpy as np

CENTRINGS = ("raw", "centred", "whitened", "wccn")
# Kaldi's covariance floor of LDA. A direction with less than this fraction of the largest variance is
# constant up to the rounding of float32 embeddings.
VARIANCE_FLOOR = 1e-6


@dataclass(frozen=True)
class Centring:
    """An affine map x -> (x - mean) projection', or none.

    Attributes:
        kind: raw, centred, whitened or wccn.
        mean: (D,), or None for raw.
        projection: (d, D), or None unless whitened or wccn.
    """

    kind: str
    mean: np.ndarray | None = None
    projection: np.ndarray | None = None

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Map (N, D) vectors to float64 (N, d).

        Raises:
            ValueError: vectors of another dimension than the training embeddings'.
        """
        vectors = np.asarray(vectors, dtype=np.float64)
        if self.mean is None:
            return vectors
        if vectors.shape[1] != len(self.mean):
            raise ValueError(
                f"the training embeddings have dimension {len(self.mean)}, these have {vectors.shape[1]}"
            )
        centred = vectors - self.mean
        return centred if self.projection is None else centred @ self.projection.T


def fit_centring(
    kind: str, training: np.ndarray | None = None, transform: np.ndarray | None = None
) -> Centring:
    """Estimate centring or whitening on unlabelled embeddings.

    ``centred`` subtracts their mean. ``whitened`` also rotates to the eigenvectors of their covariance
    (divided by N) and divides by the standard deviations, so that the training embeddings have unit
    covariance. Directions whose variance is at most ``VARIANCE_FLOOR`` of the largest are dropped, not
    floored: the training embeddings do not vary there (dead units, or fewer embeddings than dimensions), and
    dividing by the floor would let noise dominate the cosine. ``wccn`` subtracts the mean and applies a
    transform that makes the covariance within utterances the unit matrix (:func:`estimate_wccn`).

    Args:
        kind: raw, centred, whitened or wccn.
        training: (N, D) embeddings; not needed for raw.
        transform: (d, D), for wccn.

    Raises:
        ValueError: an unknown kind, no training embeddings, a transform of another dimension, or, for
            whitening, no variance at all.
    """
    if kind not in CENTRINGS:
        raise ValueError(f"unknown centring '{kind}'; it is one of {', '.join(CENTRINGS)}")
    if kind == "raw":
        return Centring(kind)
    if training is None or len(training) == 0:
        raise ValueError(f"centring '{kind}' needs training embeddings")
    training = np.asarray(training, dtype=np.float64)
    mean = training.mean(axis=0)
    if kind == "centred":
        return Centring(kind, mean)
    if kind == "wccn":
        if transform is None or transform.shape[1] != len(mean):
            given = "none" if transform is None else f"one of dimension {transform.shape[1]}"
            raise ValueError(f"centring 'wccn' needs a transform of dimension {len(mean)}, got {given}")
        return Centring(kind, mean, np.asarray(transform, dtype=np.float64))
    centred = training - mean
    variance, directions = np.linalg.eigh(centred.T @ centred / len(training))
    # Rounding of the mean alone causes a variance of this order; below it all embeddings are equal.
    if variance[-1] <= (np.finfo(np.float32).eps * np.abs(training).max()) ** 2:
        raise ValueError("all training embeddings are equal: whitening is undefined")
    kept = variance > VARIANCE_FLOOR * variance[-1]
    return Centring(kind, mean, (directions[:, kept] / np.sqrt(variance[kept])).T)
