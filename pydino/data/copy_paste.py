"""CopyPaste: a crop is joined from one of the utterance itself and one of a partner utterance.

Pappagari et al. 2021 (arXiv 2010.14602), for emotion: an utterance is as a whole angry if a part of it is, so
that joining it to another utterance of its class, or to a neutral one, leaves its label true, while speaker
and words no longer give the label away. Here each of the two gives up to half of a crop, in random order;
they join utterances of 4 s each.

Classes come from the caller; nothing here reads labels. Axes: N utterances, B rows of a batch, V views of a
group, n = V B crops, L frames of a crop, M of a partner's, F columns.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from pydino.base import ConfigError, check_fraction, keyed_uniform, nearest, purpose

from .labels import Labels
from .partners import Partners


@dataclass
class CopyPasteConfig:
    """Joining crops of two utterances; the label of the crop is the utterance's own."""

    probability: float = 0.0  # share of the crops that are joined; 0: none
    partner: Literal["same", "neutral"] = "same"  # another utterance of the same class, or of `neutral`
    neutral: str = ""  # the class

    def __post_init__(self):
        check_fraction(self, "probability")
        if self.probability and (self.partner == "neutral") != bool(self.neutral):
            raise ValueError(
                "partner: neutral needs 'neutral', the name of that class, and partner: same takes none"
            )


class CopyPaste:
    """Partners of utterances and what is joined, as functions of the seed, the visit and the hash.

    Args:
        config: probability and kind of partner.
        hashes: (N,) uint64, ascending.
        labels: classes of these utterances and others.
        seed: of every draw.

    Raises:
        ConfigError: no class is called ``neutral``, or no utterance here is of it.
    """

    def __init__(self, config: CopyPasteConfig, hashes: np.ndarray, labels: Labels, seed: int):
        self.config, self.seed, self._neutral = config, seed, None
        self._partners = Partners(
            hashes, labels.of(hashes), labels.num_classes, seed, "partner for copy-paste"
        )
        if config.partner == "neutral":
            if config.neutral not in labels.names:
                raise ConfigError(
                    f"copy_paste.neutral: no class '{config.neutral}'"
                    f"{nearest(config.neutral, labels.names)}; known: {', '.join(labels.names)}"
                )
            self._neutral = labels.names.index(config.neutral)
            if not self._partners.counts[self._neutral]:
                raise ConfigError(
                    f"copy_paste.neutral: no utterance to train on is of class '{config.neutral}'"
                )

    def partners(self, indices: np.ndarray, visits: np.ndarray) -> np.ndarray:
        """Return the partners (B,) of utterances ``indices`` (B,) at these visits (B,)."""
        return self._partners.partners(indices, visits, self._neutral)

    def draws(
        self, visits: np.ndarray, hashes: np.ndarray, views: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return which crops (n,), views first, are joined, and in which the utterance's own part comes
        first.
        """
        keys = (self.seed, visits[None, :], hashes[None, :], views[:, None])
        joined = keyed_uniform(*keys, purpose("copy-paste")) < self.config.probability
        own_first = keyed_uniform(*keys, purpose("order in copy-paste")) < 0.5
        return joined.reshape(-1), own_first.reshape(-1)


def join_crops(
    own: torch.Tensor,
    partner: torch.Tensor,
    joined: np.ndarray,
    own_first: np.ndarray,
    own_frames: np.ndarray | None = None,
    partner_frames: np.ndarray | None = None,
) -> tuple[torch.Tensor, np.ndarray | None]:
    """Return crops (n, L, F), joined in time where ``joined`` (n,) says so and otherwise as they are, and
    their valid frames.

    The own part is the first frames of the crop where it comes first, its last frames where it comes second,
    L - M of them or all that are valid.

    Args:
        own: (n, L, F).
        partner: (n, M, F), M at most L.
        joined, own_first: (n,) bool.
        own_frames, partner_frames: (n,) int64, valid frames; None: all, and then the result has none either.
    """
    (crops, length, columns), other = own.shape, partner.shape[1]
    n = np.full(crops, length) if own_frames is None else own_frames
    a = np.where(joined, np.minimum(n, length - other), n)  # frames of the own part
    b = np.where(joined, other if partner_frames is None else partner_frames, 0)
    place, n, after, before = np.arange(length), n[:, None], a[:, None], b[:, None]
    own_first = own_first[:, None]
    is_own = ~joined[:, None] | np.where(own_first, place < after, place >= before)
    at_own = np.where(own_first | ~joined[:, None], place, n - after + place - before)
    at_partner = np.where(own_first, place - after, place)
    at = np.where(is_own, np.clip(at_own, 0, length - 1), length + np.clip(at_partner, 0, other - 1))
    at += np.arange(crops)[:, None] * (length + other)
    rows = torch.cat([own, partner], dim=1).flatten(0, 1)
    chosen = torch.from_numpy(at.reshape(-1)).to(own.device, non_blocking=True)
    frames = None if own_frames is None else a + b
    return rows.index_select(0, chosen).view(crops, length, columns), frames
