"""Is the run healthy? Numbers that show a collapse, gathered on the device and read once an epoch, and what they mean in words."""

import math

import torch
import torch.nn.functional as F


@torch.no_grad()
def embedding_spread(embeddings: torch.Tensor) -> torch.Tensor:
    """Return how widely L2-normalised embeddings (B, D) are spread: 1 evenly over the sphere, 0 in one point.

    It is 1 - |mean|^2: the mean of evenly spread unit vectors is at the origin.
    """
    return 1 - F.normalize(embeddings.float(), dim=-1).mean(0).square().sum()


class Averages:
    """Running means of scalars that stay on the device until they are read."""

    def __init__(self):
        self._sums: dict[str, torch.Tensor] = {}
        self._count = 0

    def add(self, metrics: dict[str, torch.Tensor]) -> None:
        """Add the scalars of a step; nothing waits for the device."""
        for name, value in metrics.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value.detach().clone()
        self._count += 1

    def peek(self) -> dict[str, float]:
        """Return the means since the last reading; this waits for the device."""
        if not self._count:
            return {}
        values = (torch.stack([value.float() for value in self._sums.values()]) / self._count).tolist()
        return dict(zip(self._sums, values, strict=True))

    def read(self) -> dict[str, float]:
        """Return the means since the last reading, and start anew; this waits for the device."""
        means = self.peek()
        self._sums, self._count = {}, 0
        return means

    def state(self) -> dict:
        """Return what a checkpoint keeps, so that an epoch that was interrupted has the means of all its steps."""
        return {"sums": self._sums, "count": self._count}

    def restore(self, state: dict) -> None:
        """Put back what :meth:`state` returned."""
        self._sums, self._count = dict(state["sums"]), state["count"]


def collapse(means: dict[str, float], output_dim: int) -> str:
    """Return which collapse a run shows, in plain words, or an empty string.

    Args:
        means: of an epoch: loss, teacher_entropy, mean_teacher_entropy, kl, embedding_spread.
        output_dim: K; entropies lie between 0 and ln K.
    """
    uniform = math.log(output_dim)
    if means["teacher_entropy"] > 0.98 * uniform and means["kl"] < 0.02 * uniform:
        return (
            f"collapse to uniform: the teacher finds all {output_dim} outputs alike likely for every utterance (entropy "
            f"{means['teacher_entropy']:.2f} of {uniform:.2f}); lower the teacher temperature or the learning rate"
        )
    if means["mean_teacher_entropy"] < 0.1 * uniform or means["embedding_spread"] < 0.01:
        return (
            f"collapse to a point: nearly every utterance gets the same answer (entropy of the mean output "
            f"{means['mean_teacher_entropy']:.2f} of {uniform:.2f}, embedding spread {means['embedding_spread']:.3f}); raise the teacher "
            "temperature, lower the centre momentum, or add the KoLeo term"
        )
    return ""
