"""What a classifier on frozen embeddings computes once it is trained: standardised vectors in, logits or
numbers out.

Axes: N utterances, D dimensions, K outputs (classes, or 1 for a number), H hidden units.
"""

from dataclasses import dataclass

import numpy as np

from pydino.backend import PldaChain


@dataclass(frozen=True)
class Linear:
    """x W' + b: logistic regression, linear SVM, ridge regression.

    Attributes:
        weight: (K, D); bias: (K,).
    """

    weight: np.ndarray
    bias: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(N, D) -> (N, K)."""
        return x @ self.weight.T + self.bias


@dataclass(frozen=True)
class Perceptron:
    """relu(x W1' + b1) W2' + b2, of shapes (H, D), (H,), (K, H), (K,)."""

    hidden_weight: np.ndarray
    hidden_bias: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(N, D) -> (N, K)."""
        return np.maximum(x @ self.hidden_weight.T + self.hidden_bias, 0.0) @ self.weight.T + self.bias


@dataclass(frozen=True)
class PldaScorer:
    """Log-likelihood ratios "of this class" against "of another class", with all classes equally likely.

    Attributes:
        chain: centring, LDA, length normalisation and PLDA, trained with the classes as speakers.
        means: (K, D) of the training vectors of each class; counts: (K,) how many there are.
    """

    chain: PldaChain
    means: np.ndarray
    counts: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(N, D) -> (N, K)."""
        classes, tests = self.chain.comparison_features(self.means, self.counts, x)
        return tests @ classes.T


Scorer = Linear | Perceptron | PldaScorer
