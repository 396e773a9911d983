"""Monitors of a run: figures that show what the loss does not, summed on the device, read once an interval,
and warnings that explain them.

    averages.add({"loss": loss.detach(), MOMENTS: moments(embeddings)})  # every step; nothing waits
    means = averages.read(all_reduce)                                    # every interval
    alarms(means)                                                        # warns, or stops the run
"""

import math

import torch
import torch.nn.functional as F

from pydino.base import UserError, warn

MOMENTS = (
    "embedding_moments"  # the only entry of a step's metrics that is not a scalar; read as effective_rank
)
# Embeddings whose covariance has a smaller trace than this are one point, but for rounding.
NO_VARIANCE = 1e-6
SMALL_RANK = 4.0  # directions of the log's effective rank; see partial_collapse
SMALL_INFORMATION = 0.2  # nats
MUCH_WAITING = 0.2  # of the time


@torch.no_grad()
def moments(embeddings: torch.Tensor) -> torch.Tensor:
    """Return the sums that the covariance of L2-normalised embeddings (B, D) is made of: (D + 1, D + 1)
    float32.

    With a 1 behind each embedding x they are one product, sum [x 1]' [x 1]: second moments, sums, and the
    number B in the corner. Those of several batches or processes add up.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        x = F.pad(F.normalize(embeddings.float(), dim=-1), (0, 1), value=1.0)
        return x.T @ x


@torch.no_grad()
def spread_of_moments(sums: torch.Tensor) -> torch.Tensor:
    """Return how widely L2-normalised embeddings are spread: 1 evenly over the sphere, 0 in one point.

    It is 1 - |mean|^2: the mean of evenly spread unit vectors is at the origin. Of B random directions it is
    1 - 1/B.

    Args:
        sums: (D + 1,), the last row of :func:`moments`: their sum and their number.
    """
    return 1 - (sums[:-1] / sums[-1]).square().sum()


def effective_rank(sums: torch.Tensor) -> float:
    """Return how many directions embeddings use: 1 to D, and not above their number less one.

    It is exp(-sum_i p_i ln p_i), where p are the eigenvalues of their covariance divided by the sum of these:
    D where every direction has the same variance, 1 where all lie on one line, or in one point. Roy and
    Vetterli 2007, "The effective rank: a measure of effective dimensionality", take singular values of a
    matrix; eigenvalues of a covariance, taken here, are variances, the squares of those. Of N embeddings it
    is an underestimate where N is not well above D: by a tenth at N = 5 D, by 0.4 at N = D.

    Args:
        sums: (D + 1, D + 1) of :func:`moments`; reading it waits for the device.
    """
    sums = sums.double().cpu()
    if not torch.isfinite(sums).all():
        return math.nan
    mean = sums[-1, :-1] / sums[-1, -1]
    variances = torch.linalg.eigvalsh(sums[:-1, :-1] / sums[-1, -1] - torch.outer(mean, mean)).clamp_min(0)
    if variances.sum() < NO_VARIANCE:
        return 1.0
    return torch.special.entr(variances / variances.sum()).sum().exp().item()


class Averages:
    """Means of what the steps measure, kept as sums on the device until they are read.

    Scalars are averaged over the steps. ``MOMENTS``, where a step gives it, is read as ``effective_rank`` and
    ``embeddings``, the number of embeddings that the rank is of.

    Where several processes train, each sums its own. Pass ``all_reduce``, which adds up a tensor over all
    processes in place (torch.distributed.all_reduce does), in all of them at the same step: every one then
    reads the figures of all.
    """

    def __init__(self):
        self._sums: dict[str, torch.Tensor] = {}
        self._count = 0  # steps

    def add(self, metrics: dict[str, torch.Tensor]) -> None:
        """Add what a step measured; nothing waits for the device."""
        for name, value in metrics.items():
            if name in self._sums:
                self._sums[name] += value
            else:  # a copy: sums are added to in place
                self._sums[name] = value.detach().float().clone()
        self._count += 1

    def peek(self, all_reduce=None) -> dict[str, float]:
        """Return the means since the last reading; this waits for the device."""
        state = self.state(all_reduce)
        names = [name for name in state["sums"] if name != MOMENTS]
        if not state["count"] or not names:
            return {}
        values = (torch.stack([state["sums"][name] for name in names]) / state["count"]).tolist()
        means = dict(zip(names, values, strict=True))
        if MOMENTS in state["sums"]:
            sums = state["sums"][MOMENTS]
            means |= {"effective_rank": effective_rank(sums), "embeddings": sums[-1, -1].item()}
        return means

    def read(self, all_reduce=None) -> dict[str, float]:
        """Return the means since the last reading, and start over; this waits for the device."""
        means = self.peek(all_reduce)
        self._sums, self._count = {}, 0
        return means

    def state(self, all_reduce=None) -> dict:
        """Return what a checkpoint keeps, so that an interval that was interrupted has the means of all its
        steps.
        """
        if all_reduce is None or not self._sums:
            return {"sums": {name: value.clone() for name, value in self._sums.items()}, "count": self._count}
        # One message for all: float32 counts exactly up to 16 million.
        counts = next(iter(self._sums.values())).new_full((1,), self._count)
        flat = torch.cat([counts, *(value.reshape(-1) for value in self._sums.values())])
        all_reduce(flat)
        parts = flat[1:].split([value.numel() for value in self._sums.values()])
        sums = {
            name: part.view_as(value) for part, (name, value) in zip(parts, self._sums.items(), strict=True)
        }
        return {"sums": sums, "count": round(flat[0].item())}

    def restore(self, state: dict, first: bool = True) -> None:
        """Put back what :meth:`state` returned.

        Args:
            state: of this process alone, or of all of them.
            first: False in all processes but one, where the sums of all are to be counted once.
        """
        self._sums = {
            name: value.clone() if first else torch.zeros_like(value) for name, value in state["sums"].items()
        }
        self._count = state["count"] if first else 0


def collapse(means: dict[str, float], output_dim: int) -> str | None:
    """Return a sentence on the collapse that a run of DINO shows, or None.

    Args:
        means: of an interval: loss, teacher_entropy, mean_teacher_entropy, kl, embedding_spread.
        output_dim: K; entropies lie between 0 and ln K.
    """
    uniform = math.log(output_dim)
    if means["teacher_entropy"] > 0.98 * uniform and means["kl"] < 0.02 * uniform:
        return (
            f"collapse to uniform: the teacher finds all {output_dim} outputs alike likely for every "
            "utterance (entropy "
            f"{means['teacher_entropy']:.2f} of {uniform:.2f}); lower the teacher temperature or the "
            "learning rate"
        )
    if means["mean_teacher_entropy"] < 0.1 * uniform or means["embedding_spread"] < 0.01:
        return (
            "collapse to a point: nearly every utterance gets the same answer (entropy of the mean output "
            f"{means['mean_teacher_entropy']:.2f} of {uniform:.2f}, embedding spread "
            f"{means['embedding_spread']:.3f}); raise the teacher temperature or lower the centre momentum"
            + ("" if "koleo" in means else ", or add the KoLeo term")
        )
    return None


def collapse_to_a_point(means: dict[str, float], remedy: str) -> str | None:
    """Return a sentence on the collapse of a run that has an ``accuracy``, or None.

    Args:
        means: of an interval: accuracy, embedding_spread.
        remedy: the end of the sentence.
    """
    if means["embedding_spread"] >= 0.01:
        return None
    return (
        "collapse to a point: nearly every utterance gets the same embedding (spread "
        f"{means['embedding_spread']:.3f}, accuracy {100 * means['accuracy']:.1f} %); {remedy}"
    )


def partial_collapse(means: dict[str, float], max_rank: int) -> str:
    """Return a sentence on a partial collapse, which the loss may not show, or an empty string.

    Two signs. The embeddings use few directions: ``effective_rank`` is below SMALL_RANK (or a quarter of what
    so few dimensions or embeddings could have). The outputs no longer distinguish utterances: the entropy of
    the mean output less the mean entropy of the outputs, which is the mutual information in nats between
    output and utterance of the batch, is below SMALL_INFORMATION.

    The thresholds stand between runs of the TDNN on synthetic speech (D of 32, 128 and 512) that were made to
    collapse and sound ones (docs/monitoring.md). A hot teacher, one that follows almost at once, or a
    learning rate twenty times too high ended with 1.4 to 3.7 directions whatever D was, most of them below
    0.2 nats; without a centre there were 6 to 7 directions and less than 0.1 nats. Sound runs (D 128) kept 28
    directions or more with KoLeo, 5.5 or more without, and 1.5 nats or more. An untrained network began with
    8 (24 embeddings, D 32) to 40, and with 1.3 nats or more.

    Args:
        means: of an interval: effective_rank and embeddings (their number); where there is a teacher,
            mean_teacher_entropy and teacher_entropy. What is missing is not judged.
        max_rank: effective rank that embeddings may have at best: D, or less.
    """
    said = []
    if "effective_rank" in means:
        possible = min(max_rank, means["embeddings"] - 1)
        if means["effective_rank"] < min(SMALL_RANK, possible / 4):
            said.append(
                f"the embeddings use {means['effective_rank']:.1f} directions of {possible:.0f} (effective "
                "rank)"
            )
    if "mean_teacher_entropy" in means:
        information = means["mean_teacher_entropy"] - means["teacher_entropy"]
        if information < SMALL_INFORMATION:
            said.append(f"an output tells only {information:.2f} nats about which utterance it came from")
    if not said:
        return ""
    return f"partial collapse: {' and '.join(said)}; {remedies(means)}"


def remedies(means: dict[str, float]) -> str:
    """Return what may help a run that is not healthy, as far as its method has it.

    Args:
        means: of an interval; ``teacher_entropy`` and ``koleo`` tell what there is.
    """
    if "teacher_entropy" not in means:
        return "lower optimiser.lr"
    if "koleo" in means:
        return "lower optimiser.lr or loss.teacher_temperature, or raise teacher.momentum"
    return "lower optimiser.lr or loss.teacher_temperature, raise teacher.momentum, or add koleo_weight: 0.1"


def not_finite(means: dict[str, float]) -> str:
    """Return a sentence on the means that are not finite, or an empty string."""
    bad = [name for name, value in means.items() if not math.isfinite(value)]
    if not bad:
        return ""
    return (
        f"{', '.join(bad)}: not a number any more; lower optimiser.lr or optimiser.clip, and start again "
        "with --force true"
    )


def starved(share: float, source: str) -> str:
    """Return a sentence on what to do about a device that waits for data, or an empty string.

    Args:
        share: of the time that is spent waiting, 0 to 1.
        source: ``features`` or ``audio``.
    """
    if share < MUCH_WAITING:
        return ""
    instead = (
        "read features instead (input: features)"
        if source == "audio"
        else "compress the features (compress: true)"
    )
    return (
        f"starved: {100 * share:.0f} % of the time goes by waiting for data; raise --data-workers (up to "
        "the number of CPU cores), put the "
        f"data on a faster or local disk, or {instead}"
    )


class Alarms:
    """Warns when something begins to go wrong, not at every interval, and stops a run that cannot recover.

    A mean that is not finite always stops it; a collapse does where ``on_collapse`` is stop. A partial
    collapse or a starved device only warns: a run may recover from the first, and the second costs only time.

    Args:
        collapse_reason: of the method, from means to what is wrong (a whole collapse) or None.
        on_collapse: stop or warn.
        max_rank: effective rank that embeddings may have at best.
        source: ``features`` or ``audio``, where batches come from.
        warns: False in all processes but the first. All are given the same means, so they stop together.
    """

    def __init__(self, collapse_reason, on_collapse: str, max_rank: int, source: str, warns: bool = True):
        self._collapse_reason, self._on_collapse = collapse_reason, on_collapse
        self._max_rank, self._source, self._warns = max_rank, source, warns
        self._active: dict[str, bool] = {}
        self._waited = False

    def __call__(self, means: dict[str, float]) -> None:
        """Judge the line of an interval.

        Raises:
            UserError: the run is lost.
        """
        lost = not_finite(means)
        if lost:
            raise UserError(lost)
        what = self._collapse_reason(means) or ""
        if what and self._on_collapse == "stop":
            raise UserError(f"{what} (to go on all the same: on_collapse: warn)")
        self._warn("collapse", what)
        partly = "" if what else partial_collapse(means, self._max_rank)
        self._warn("partial", partly and f"{partly}; pydino monitor compares it with the untrained encoder")
        waits = starved(means.get("data_wait", 0.0), self._source)
        # one slow interval, such as the first, is no starvation
        self._warn("starved", waits if self._waited else "")
        self._waited = bool(waits)

    def _warn(self, kind: str, what: str) -> None:
        if what and self._warns and not self._active.get(kind):
            warn(what)
        self._active[kind] = bool(what)
