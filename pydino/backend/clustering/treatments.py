"""Treatments of embeddings before they are clustered: what is compared by cosine, and what a PLDA is trained
on.
"""

from dataclasses import dataclass

import numpy as np

from ..vectors import normalise_length
from ..wccn import estimate_wccn

BESIDE = " + statistics"  # ends the names of treatments with a second embedding


@dataclass(frozen=True)
class Embedded:
    """Embeddings of N utterances by one system, and of augmented crops, if there are any.

    Attributes:
        vectors: (N, D).
        crops: (M, D), or None.
        crop_classes: (M,) ints from 0, none empty: the utterance of each crop.
    """

    vectors: np.ndarray
    crops: np.ndarray | None = None
    crop_classes: np.ndarray | None = None


def treatments(
    embedding: Embedded, beside: Embedded | None = None, shrinkage: float = 0.1
) -> dict[str, np.ndarray]:
    """Return unit vectors by name of the treatment, (N, D') float32, to be compared by cosine.

    ``centred``: the mean of the N vectors is subtracted. ``wccn``, where there are crops: after the
    within-class covariance of the crops (:func:`pydino.backend.wccn.estimate_wccn`), an utterance being a
    class. ``centred + statistics`` and ``wccn + statistics``: the same, beside the unit vector of ``beside``
    after its WCCN, or centred where it has no crops; both halves count alike.

    Args:
        embedding: of the system.
        beside: of another one, such as statistics of the filter banks.
        shrinkage: of the covariance.
    """
    own = {"centred": _unit(_centred(embedding.vectors))}
    if embedding.crops is not None:
        own["wccn"] = _whitened(embedding, shrinkage)
    if beside is None:
        return own
    other = _unit(_centred(beside.vectors)) if beside.crops is None else _whitened(beside, shrinkage)
    together = {
        f"{name}{BESIDE}": np.hstack([vectors, other]) * np.float32(np.sqrt(0.5))
        for name, vectors in own.items()
    }
    return own | together


def standardised(*parts: np.ndarray) -> np.ndarray:
    """Return parts (N, D_p) side by side, (N, sum of D_p) float64, each dimension with mean 0 and variance 1,
    or 0 where it does not vary.
    """
    scaled = []
    for part in parts:
        centred = _centred(part)
        deviation = centred.std(axis=0)
        varies = deviation > np.finfo(np.float32).eps * np.abs(part).max(initial=0.0)
        scaled.append(np.where(varies, centred / np.where(varies, deviation, 1.0), 0.0))
    return np.hstack(scaled)


def _whitened(embedded: Embedded, shrinkage: float) -> np.ndarray:
    transform = estimate_wccn(np.asarray(embedded.crops, dtype=np.float64), embedded.crop_classes, shrinkage)
    return _unit(_centred(embedded.vectors) @ transform.T)


def _centred(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, dtype=np.float64)
    return vectors - vectors.mean(axis=0)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return normalise_length(vectors, scale_up=False).astype(np.float32)
