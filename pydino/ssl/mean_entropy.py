"""Mean-entropy regulariser: all prototypes are to be used equally over a batch, however certain the student
is of each view.

Assran et al. 2022, "Masked siamese networks" (arXiv 2204.07141, "me-max"), as used in SDPN (arXiv
2308.02774): with the student's outputs p averaged over its views and the utterances of the whole batch,
ln K - H(mean p).
"""

import math

import torch


def mean_entropy_gap(mean: torch.Tensor) -> torch.Tensor:
    """Return ln K - H(mean), a scalar in nats between 0 and ln K, of the mean output (K,) of the batch."""
    entropy = torch.special.entr(mean.float()).sum()
    return math.log(len(mean)) - entropy
