"""Two-covariance PLDA as in Kaldi (``src/ivector/plda.{h,cc}``; Ioffe 2006, "Probabilistic linear
discriminant analysis").

A vector is x = mean + y_class + e with y ~ N(0, B) and e ~ N(0, W). A linear transform diagonalises both: W
becomes the unit matrix and B the diagonal matrix psi; in that space the dimensions decouple, and the model is
stored in this form. All in float64. Departure from Kaldi: its scoring programs round the transformed vectors
to float32. Training is in plda_training.py.
"""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Plda:
    """A model in its diagonal form.

    Attributes:
        mean: (D,) mean of the class means.
        transform: (D, D) with transform W transform' = 1 and transform B transform' = diag(psi).
        psi: (D,) between-class variances, descending, not below 0.
    """

    mean: np.ndarray
    transform: np.ndarray
    psi: np.ndarray

    @property
    def dim(self) -> int:
        return len(self.mean)

    def project(
        self,
        vectors: np.ndarray,
        num_utts=1,
        normalise: bool = True,
        simple_length_normalisation: bool = False,
    ) -> np.ndarray:
        """Map vectors (N, D) into the diagonal space, y = transform (x - mean), and normalise them to their
        expected length.

        A mean of n vectors has variance psi + 1/n in that space, so y is scaled by sqrt(D / sum_i y_i^2 /
        (psi_i + 1/n)).

        Args:
            vectors: (N, D) vectors, or plain means of ``num_utts`` vectors.
            num_utts: n, one number or (N,).
            normalise: False keeps the length (``--normalize-length=false``).
            simple_length_normalisation: scale to length sqrt(D) instead (``--simple-length-normalization``).
        """
        vectors = np.asarray(vectors, dtype=np.float64)
        if vectors.shape[1] != self.dim:
            raise ValueError(f"the PLDA model has dimension {self.dim}, the vectors {vectors.shape[1]}")
        projected = (vectors - self.mean) @ self.transform.T
        if not normalise:
            return projected
        spread = (
            1.0
            if simple_length_normalisation
            else self.psi + 1.0 / np.broadcast_to(num_utts, len(vectors))[:, None]
        )
        energy = (projected**2 / spread).sum(axis=1, keepdims=True)
        return projected * np.sqrt(self.dim / np.where(energy > 0, energy, self.dim))

    def model_features(self, models: np.ndarray, num_utts) -> np.ndarray:
        """Return the models' side (E, 2 D + 1) of the log-likelihood ratios, see
        :meth:`comparison_features`.
        """
        n = np.broadcast_to(np.asarray(num_utts, dtype=np.float64), len(models))[:, None]
        gain = n * self.psi / (n * self.psi + 1.0)
        same, other = 1.0 + self.psi / (n * self.psi + 1.0), 1.0 + self.psi
        offset = -0.5 * (np.log(same) - np.log(other) + (gain * models) ** 2 / same).sum(
            axis=1, keepdims=True
        )
        return np.hstack([gain * models / same, -0.5 * (1.0 / same - 1.0 / other), offset])

    def test_features(self, tests: np.ndarray) -> np.ndarray:
        """Return the test vectors' side (T, 2 D + 1) of the log-likelihood ratios."""
        return np.hstack([tests, tests**2, np.ones((len(tests), 1))])

    def comparison_features(
        self, models: np.ndarray, num_utts, tests: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Turn the log-likelihood ratio into an inner product, so that trials are scored by one matrix
        product.

        For a model u, the mean of n vectors, and a test vector v, both projected, the ratio of "same class"
        to "another class" is

            sum_i  ln N(v_i; a_i u_i, s_i) - ln N(v_i; 0, 1 + psi_i),    a = n psi / (n psi + 1),   s = 1 +
            psi / (n psi + 1).

        Multiplied out, it is linear in (v, v^2, 1) with coefficients that hold u and n only.

        Args:
            models: (E, D) projected models.
            num_utts: n, one number or (E,).
            tests: (T, D) projected test vectors.

        Returns:
            Left (E, 2 D + 1) and right (T, 2 D + 1): the ratio in nats of model e and test t is left[e] @
            right[t].
        """
        return self.model_features(models, num_utts), self.test_features(tests)

    def smooth(self, factor: float) -> "Plda":
        """Add ``factor`` times the between-class to the within-class covariance (``ivector-copy-plda
        --smoothing``).
        """
        scale = 1.0 + factor * self.psi
        return replace(self, psi=self.psi / scale, transform=self.transform / np.sqrt(scale)[:, None])

    def adapt(
        self,
        vectors: np.ndarray,
        mean_diff: float = 1.0,
        within_scale: float = 0.3,
        between_scale: float = 0.7,
    ) -> "Plda":
        """Adapt to unlabelled vectors of another domain (``ivector-adapt-plda``): their excess variance is
        divided between the two covariances.

        The adaptation data has covariance C around its mean; mean_diff times the outer product of the shift
        of the mean is added. In the space where the model's total variance is 1, each eigenvalue of C above 1
        is excess, of which ``within_scale`` goes to W and ``between_scale`` to B; the mean becomes that of
        the adaptation data.

        Args:
            vectors: (N, D), as the model was trained on (after LDA and length normalisation).
        """
        vectors = np.asarray(vectors, dtype=np.float64)
        mean = vectors.mean(axis=0)
        shift = mean - self.mean
        covariance = (vectors - mean).T @ (vectors - mean) / len(vectors) + mean_diff * np.outer(shift, shift)
        unit_total = self.transform / np.sqrt(1.0 + self.psi)[:, None]
        variance, directions = np.linalg.eigh(unit_total @ covariance @ unit_total.T)
        excess = np.maximum(variance - 1.0, 0.0)
        rotated = directions.T @ unit_total  # rows: directions of unit total variance of the model
        within = rotated @ np.linalg.inv(self.transform)
        between = (within * self.psi) @ within.T + np.diag(between_scale * excess)
        within = within @ within.T + np.diag(within_scale * excess)
        back = np.linalg.inv(rotated)
        return diagonalise(mean, back @ within @ back.T, back @ between @ back.T)


def diagonalise(mean: np.ndarray, within: np.ndarray, between: np.ndarray) -> Plda:
    """Return the model of mean (D,), W and B (D, D) in its diagonal form; W positive definite, B positive
    semidefinite.
    """
    from scipy.linalg import solve_triangular  # 0.3 s that cosine scoring does not need

    lower = np.linalg.cholesky((within + within.T) / 2)
    unit_within = solve_triangular(lower, np.eye(len(mean)), lower=True)
    projected = unit_within @ between @ unit_within.T
    psi, rotation = np.linalg.eigh((projected + projected.T) / 2)
    return Plda(mean, rotation[:, ::-1].T @ unit_within, np.maximum(psi[::-1], 0.0))
