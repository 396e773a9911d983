"""Scores of embeddings that need no label, of several views of each utterance: LiDAR, RankMe, self-EER,
alignment, uniformity.

Axes: N utterances, q views of each (crops under different augmentation), D dimensions. Everything is computed
in float64 from vectors of unit length, since embeddings are compared by their cosine; the papers take the
vectors as they are. None of the scores is an error rate of speakers: channel and session help to find the
views of one utterance, and no score that rises along one training need be higher for the better of two
methods.
"""

import numpy as np

from .metrics import equal_error_rate
from .vectors import normalise_length

MOST_OTHERS = 100  # utterances that a view is compared with, for the self-EER


def rankme(vectors: np.ndarray) -> float:
    """Return RankMe, exp(-sum_k p_k ln p_k) with p_k = s_k / sum_j s_j of the singular values s of the
    vectors: from 1 (all on one line through the origin) to min(N, D) (orthogonal directions of equal size).

    Garrido et al. 2023, "RankMe" (arXiv 2210.02885), equation 1, without its 1e-7 inside the logarithm. The
    vectors are not centred, and singular values are taken: :func:`pydino.train.monitors.effective_rank`
    centres and takes their squares, and is lower. N should be several times D.

    Args:
        vectors: (N, D).
    """
    return _exponential_of_entropy(np.linalg.svd(_unit(vectors), compute_uv=False))


def lidar(views: np.ndarray, ridge: float = 1e-4) -> float:
    """Return LiDAR: how many directions tell utterances apart better than their views vary, from 1 to
    min(N - 1, D).

    With the mean m_i of the views of utterance i, and m of all,

        S_b = 1/N sum_i (m_i - m)(m_i - m)'
        S_w = 1/(N q) sum_iv (z_iv - m_i)(z_iv - m_i)' + ridge I
        LiDAR = exp(-sum_k p_k ln p_k),  p = eigenvalues of S_w^(-1/2) S_b S_w^(-1/2), divided by their sum.

    Thilak et al. 2024, "LiDAR" (arXiv 2312.04000), equations 1 to 3. Departures: the vectors have the length
    sqrt(D), so that ``ridge`` (theirs is 1e-4) is relative to a variance of about 1; nothing is added inside
    the logarithm; S_b is divided by N, which cancels. With N not above D, N bounds it: choose more
    utterances.

    Args:
        views: (N, q, D), N and q above 1.
        ridge: added to the covariance within utterances.
    """
    x = _unit(views) * np.sqrt(views.shape[-1])
    means = x.mean(axis=1)
    within = (x - means[:, None]).reshape(-1, x.shape[-1])
    centred = means - means.mean(axis=0)
    covariance = within.T @ within / len(within) + ridge * np.eye(x.shape[-1])
    lower = np.linalg.cholesky(covariance)
    # the squared singular values of L^-1 (m_i - m) are the eigenvalues, for any root L of S_w
    singular = np.linalg.svd(np.linalg.solve(lower, centred.T), compute_uv=False)
    return _exponential_of_entropy(singular**2)


def alignment(views: np.ndarray) -> float:
    """Return the mean squared distance between two views of an utterance, from 0 (the same point) to 4; 2 is
    that of independent directions.

    Wang and Isola 2020 (arXiv 2005.10242), with exponent 2, over all pairs of views: 2 q / (q - 1) (1 -
    |m_i|^2), averaged over utterances.

    Args:
        views: (N, q, D), q above 1.
    """
    q = views.shape[1]
    means = _unit(views).mean(axis=1)
    return float(2 * q / (q - 1) * (1 - (means**2).sum(axis=1)).mean())


def uniformity(views: np.ndarray) -> float:
    """Return ln of the mean of exp(-2 |z - z'|^2) over the first views of pairs of utterances: 0 where all
    are one point, and about -4 where they are spread evenly over a sphere of many dimensions.

    Wang and Isola 2020 (arXiv 2005.10242), with t = 2.

    Args:
        views: (N, q, D), N above 1.
    """
    first = _unit(views[:, 0])
    distances = np.maximum(2 - 2 * first @ first.T, 0)
    kernel = np.exp(-2 * distances)
    count = len(first)
    return float(np.log((kernel.sum() - np.trace(kernel)) / (count * (count - 1))))


def self_eer(views: np.ndarray) -> float:
    """Return the equal error rate, in [0, 1], of telling by cosine whether two views are of one utterance.

    Targets are the views 1 and 2, 3 and 4, ... of each utterance, which should not overlap and should be
    augmented differently; others are the same views of two utterances, each with up to MOST_OTHERS that
    follow it, so that the order of the utterances should be random. Few pairs of "others" are of one speaker
    where there are many.

    Args:
        views: (N, q, D), N and q above 1.
    """
    x = _unit(views)
    left, right = x[:, 0 : x.shape[1] - 1 : 2], x[:, 1::2]  # (N, q // 2, D)
    scores = [(left * right).sum(axis=2).ravel()]
    for shift in range(1, min(len(x) - 1, MOST_OTHERS) + 1):
        scores.append((left * np.roll(right, -shift, axis=0)).sum(axis=2).ravel())
    is_target = np.repeat(np.arange(len(scores)) == 0, len(scores[0]))
    return equal_error_rate(np.concatenate(scores), is_target)


def label_free_scores(views: np.ndarray) -> dict[str, float]:
    """Return all the scores of embedded views (N, q, D): ``lidar``, ``rankme``, ``self_eer`` (percent),
    ``alignment``, ``uniformity``.
    """
    return {
        "lidar": lidar(views),
        "rankme": rankme(views.reshape(-1, views.shape[-1])),
        "self_eer": 100 * self_eer(views),
        "alignment": alignment(views),
        "uniformity": uniformity(views),
    }


def _unit(vectors: np.ndarray) -> np.ndarray:
    return normalise_length(vectors.reshape(-1, vectors.shape[-1]), scale_up=False).reshape(vectors.shape)


def _exponential_of_entropy(weights: np.ndarray) -> float:
    """Return exp of the entropy of weights divided by their sum; 1 where all are 0."""
    total = weights.sum()
    if total <= 1e-12 * len(weights):
        return 1.0
    shares = weights[weights > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))
