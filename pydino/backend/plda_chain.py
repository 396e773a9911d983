"""The back-end of Kaldi's voxceleb recipe: subtract the mean, LDA, length normalisation, PLDA."""

from dataclasses import dataclass

import numpy as np

from pydino.base import plural

from .lda import estimate_lda
from .plda import Plda
from .plda_training import train_plda, train_simplified_plda
from .vectors import apply_affine, normalise_length

_BLOCK_ROWS = 1 << 16


@dataclass(frozen=True)
class PldaChain:
    """A trained chain.

    Attributes:
        mean: (D,) mean of the training embeddings.
        transform: (L, D) or (L, D + 1), the LDA.
        plda: model of dimension L.
    """

    mean: np.ndarray
    transform: np.ndarray
    plda: Plda

    def reduce(self, vectors: np.ndarray) -> np.ndarray:
        """Return raw embeddings (N, D) as the PLDA model takes them, (N, L): less the mean, after LDA, at
        length sqrt(L).
        """
        return normalise_length(apply_affine(self.transform, np.asarray(vectors) - self.mean))

    def project(self, vectors: np.ndarray, num_utts=1) -> np.ndarray:
        """Return raw embeddings in the diagonal space of the PLDA model, (N, L) (:meth:`Plda.project`)."""
        return self.plda.project(self.reduce(vectors), num_utts)

    def model_features(self, models: np.ndarray, num_utts) -> np.ndarray:
        """Return the models' side of the log-likelihood ratios (:meth:`Plda.comparison_features`).

        Args:
            models: (E, D) means of ``num_utts`` raw embeddings each, one number or (E,).
        """
        return self.plda.model_features(self.project(models, num_utts), num_utts)

    def test_features(self, tests: np.ndarray) -> np.ndarray:
        """Return the other side, of raw embeddings (T, D)."""
        return self.plda.test_features(self.project(tests))

    def comparison_features(
        self, models: np.ndarray, num_utts, tests: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return both sides."""
        return self.model_features(models, num_utts), self.test_features(tests)

    def adapt(self, vectors: np.ndarray, **scales: float) -> "PldaChain":
        """Adapt to unlabelled raw embeddings (N, D) of another domain (:meth:`Plda.adapt`), as Kaldi's sre16
        recipe does: their mean is the one that is subtracted from then on; the LDA stays.
        """
        moved = PldaChain(np.asarray(vectors).mean(axis=0, dtype=np.float64), self.transform, self.plda)
        return PldaChain(moved.mean, self.transform, self.plda.adapt(moved.reduce(vectors), **scales))


def train_plda_chain(
    vectors: np.ndarray,
    speakers: np.ndarray,
    lda_dim: int,
    num_em_iterations: int,
    between_dim: int | None = None,
) -> PldaChain:
    """Train the chain on embeddings (N, D) of speakers (N,), ints from 0.

    Args:
        between_dim: train simplified PLDA of so many dimensions between speakers, at most ``lda_dim``; None
            for the two-covariance model.
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    transform = estimate_lda(vectors, speakers, lda_dim)
    transform[:, -1] += transform[:, :-1] @ mean  # it is applied after the mean is taken off
    reduced = np.empty((len(vectors), lda_dim))
    for start in range(0, len(vectors), _BLOCK_ROWS):
        part = slice(start, start + _BLOCK_ROWS)
        reduced[part] = normalise_length(apply_affine(transform, vectors[part] - mean))
    if between_dim is None:
        return PldaChain(mean, transform, train_plda(reduced, speakers, num_em_iterations))
    plda = train_simplified_plda(reduced, speakers, between_dim, num_em_iterations)
    return PldaChain(mean, transform, plda)


def why_no_plda(vectors: np.ndarray, speakers: np.ndarray, what: str = "speaker") -> str:
    """Return why PLDA cannot be trained on embeddings (N, D) of speakers (N,), or an empty string.

    Args:
        what: the classes are, in the singular.
    """
    dim, count, utterances = vectors.shape[1], len(np.unique(speakers)), len(speakers)
    if count < 2:
        only = f"there is a single {what} ({plural(utterances, 'utterance')})"
        return f"{only}; between-{what} variance needs two or more"
    if np.bincount(speakers).max() < 2:
        return (
            f"each of the {count} {what}s has one utterance; within-{what} variance needs some with two or "
            "more"
        )
    if utterances - count < dim:
        return (
            f"{utterances} utterances of {count} {what}s are too few for {dim} dimensions: the "
            f"within-{what} covariance needs at least {dim + count} of them"
        )
    if np.ptp(vectors, axis=0).max() <= 1e-6 * max(vectors.max(), -vectors.min()):
        return "the embeddings do not differ; a collapsed training does that, see the spread in its log.jsonl"
    return ""
