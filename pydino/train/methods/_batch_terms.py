"""The terms of DINO's loss that compare the utterances of the whole batch, and what the method is called with
them.

A term is a weight, the rows of the student's outputs that it needs, and a function of these rows of the whole
batch (:class:`pydino.train.whole_batch.WholeBatch`). The functions are in pydino/ssl.

Axes: V views, b utterances of a micro-batch, B of the batch, D embedding, C bottleneck, K prototypes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

from pydino.ssl import (
    active_dimensions,
    covariance_regulariser,
    dimension_regulariser,
    koleo,
    mean_entropy_gap,
    variance_regulariser,
)
from pydino.train.schedules import ramp
from pydino.train.whole_batch import Rows

if TYPE_CHECKING:
    from .dino import DinoConfig


class Outputs(NamedTuple):
    """What a network makes of views: (V b, D), (V b, C) and (V b, K), or (V, b, ...).

    None is not computed.
    """

    embeddings: torch.Tensor
    bottleneck: torch.Tensor | None = None
    logits: torch.Tensor | None = None

    def of_batch(self, size: int) -> Outputs:
        """Return (V, b, ...), where b is ``size``."""
        return Outputs(*(x if x is None else x.unflatten(0, (-1, size)) for x in self))


class Term(NamedTuple):
    """A term: its name in the log, its weight, the name of its rows, and its value of these, (V, B, ...)."""

    name: str
    weight: float
    rows: str
    value: Callable[[torch.Tensor], torch.Tensor]
    ramped: bool = False


class BatchTerms:
    """The terms whose weights are above 0, in a fixed order; false if there are none."""

    def __init__(self, config: DinoConfig):
        self._config = config
        terms = [
            Term("koleo", config.koleo_weight, "embeddings", lambda x: sum(koleo(view) for view in x)),
            Term(
                "mean_entropy", config.mean_entropy_weight, "mean", lambda x: mean_entropy_gap(x.mean((0, 1)))
            ),
            Term(
                "dimension",
                config.dimension_weight,
                "bottleneck",
                lambda x: dimension_regulariser(x.flatten(0, 1)),
            ),
            # RDINO's are of the mean over the global views
            Term("variance", config.variance_weight, "centres", lambda x: variance_regulariser(x[0]), True),
            Term(
                "covariance",
                config.covariance_weight,
                "centres",
                lambda x: covariance_regulariser(x[0]),
                True,
            ),
        ]
        self._terms = [term for term in terms if term.weight]
        self._needed = {term.rows for term in self._terms}

    def __bool__(self) -> bool:
        return bool(self._terms)

    def outputs_ahead(self, network, views: list[torch.Tensor]) -> Outputs:
        """Return as much of the outputs of a student's views as the terms need."""
        if self._needed == {"embeddings"} and self._config.koleo_views == "global":
            return Outputs(network.encoder(views[0]))  # the head and the local views would be in vain
        return network(views)

    def rows(self, outputs: Outputs) -> Rows:
        """Return the rows that the terms need, of the student's outputs (V, b, ...), global views first."""
        config, rows = self._config, {}
        global_views = slice(None if config.student_sees == "locals" else config.crops.num_global)
        for name in sorted(self._needed):
            if name == "embeddings":
                views = global_views if config.koleo_views == "global" else slice(None)
                rows[name] = outputs.embeddings[views]
            elif name == "bottleneck":
                rows[name] = outputs.bottleneck
            elif name == "centres":
                rows[name] = outputs.bottleneck[global_views].float().mean(0, keepdim=True)
            else:  # one row for the micro-batch, instead of K numbers for each of its views
                p = F.softmax(outputs.logits.float() / config.loss.student_temperature, dim=-1)
                rows[name] = p.mean((0, 1), keepdim=True)
        return rows

    def values(self, rows: Rows, step: int, steps_per_epoch: float) -> tuple[list, dict[str, torch.Tensor]]:
        """Return (weight, value) of each term at a step, and scalars to log.

        Args:
            rows: of the whole batch.
            step, steps_per_epoch: for weights that rise.
        """
        scale = ramp(step, self._config.variance_ramp_epochs * steps_per_epoch, 1.0)
        pairs, metrics = [], {}
        for term in self._terms:
            value = term.value(rows[term.rows])
            pairs.append((term.weight * scale if term.ramped else term.weight, value))
            metrics[term.name] = value.detach()
        if "bottleneck" in rows:
            metrics["active_dimensions"] = active_dimensions(rows["bottleneck"].flatten(0, 1))
        return pairs, metrics

    def describe(self, means: dict[str, float]) -> str:
        """Return the terms' part of a line of the log."""
        return "".join(f", {term.name} {means[term.name]:.2f}" for term in self._terms)


# What makes up a system that has a name of its own.
SYSTEMS = {
    "sdpn": ("koleo", "mean-entropy", "sinkhorn", "shared-prototypes", "clean-teacher", "locals"),
    "rdino": ("variance", "covariance"),
}


def method_name(config: DinoConfig) -> str:
    """Return what results call a configuration: ``dino``, ``sdpn`` or ``rdino``, and what is added, such
    as in ``dino-koleo`` or ``sdpn-dimension``.
    """
    switches = {
        "koleo": config.koleo_weight > 0,
        "mean-entropy": config.mean_entropy_weight > 0,
        "dimension": config.dimension_weight > 0,
        "variance": config.variance_weight > 0,
        "covariance": config.covariance_weight > 0,
        "sinkhorn": config.loss.target == "sinkhorn",
        "shared-prototypes": config.head.shared_prototypes,
        "clean-teacher": config.teacher_sees == "clean",
        "locals": config.student_sees == "locals",
    }
    on = [name for name, is_on in switches.items() if is_on]
    base = next((name for name, parts in SYSTEMS.items() if set(parts) <= set(on)), "dino")
    return "-".join([base, *(name for name in on if name not in SYSTEMS.get(base, ()))])
