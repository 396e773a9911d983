"""The back-end of Kaldi's voxceleb recipe: subtract the mean, LDA, length normalisation, PLDA."""

from dataclasses import dataclass

import numpy as np

from .lda import estimate_lda
from .plda import Plda, train_plda
from .vectors import apply_affine, normalise_length


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

    def comparison_features(
        self, models: np.ndarray, num_utts: np.ndarray, tests: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the two sides of the log-likelihood ratios (:meth:`Plda.comparison_features`).

        Args:
            models: (E, D) means of ``num_utts`` (E,) raw embeddings each.
            tests: (T, D) raw embeddings.
        """
        models, tests = (
            normalise_length(apply_affine(self.transform, vectors - self.mean)) for vectors in (models, tests)
        )
        return self.plda.comparison_features(
            self.plda.project(models, num_utts), num_utts, self.plda.project(tests)
        )


def train_plda_chain(
    vectors: np.ndarray, speakers: np.ndarray, lda_dim: int, num_em_iterations: int
) -> PldaChain:
    """Train the chain on embeddings (N, D) float64 of speakers (N,), ints from 0."""
    mean = vectors.mean(axis=0)
    transform = estimate_lda(vectors - mean, speakers, lda_dim)
    reduced = normalise_length(apply_affine(transform, vectors - mean))
    return PldaChain(mean, transform, train_plda(reduced, speakers, num_em_iterations))


def why_no_plda(vectors: np.ndarray, speakers: np.ndarray) -> str:
    """Return why PLDA cannot be trained on embeddings (N, D) of speakers (N,), or an empty string."""
    dim, count, utterances = vectors.shape[1], len(np.unique(speakers)), len(speakers)
    if count < 2:
        return (
            f"there is a single speaker ({utterances} utterances); between-speaker variance needs two or more"
        )
    if np.bincount(speakers).max() < 2:
        return (
            f"each of the {count} speakers has one utterance; within-speaker variance needs some with two or "
            "more"
        )
    if utterances - count < dim:
        return (
            f"{utterances} utterances of {count} speakers are too few for {dim} dimensions: the "
            f"within-speaker covariance needs at least {dim + count} of them"
        )
    if np.ptp(vectors, axis=0).max() <= 1e-6 * np.abs(vectors).max():
        return "the embeddings do not differ; a collapsed training does that, see the spread in its log.jsonl"
    return ""
