"""The terms of DINO's loss that compare the utterances of the whole batch, and what the method is called with
them.

A term is a function, in pydino/ssl, of rows of the student's outputs for the whole batch
(:class:`pydino.train.whole_batch.WholeBatch`), and ``NAME_weight`` in the configuration.

Axes: V views, b utterances of a micro-batch, B of the batch, D embedding, C bottleneck, K prototypes.
"""

from __future__ import annotations

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


# name -> the rows that it is of, and its value of those of the whole batch, (V, B, ...)
TERMS = {
    "koleo": ("embeddings", lambda x: sum(koleo(view) for view in x)),
    "mean_entropy": ("mean_output", lambda x: mean_entropy_gap(x.mean((0, 1)))),
    "dimension": ("bottleneck", lambda x: dimension_regulariser(x.flatten(0, 1))),
    "variance": ("mean_bottleneck", lambda x: variance_regulariser(x[0])),
    "covariance": ("mean_bottleneck", lambda x: covariance_regulariser(x[0])),
}
RAMPED = ("variance", "covariance")  # their weights rise over variance_ramp_epochs


class BatchTerms:
    """The terms whose weights are above 0; false if there are none."""

    def __init__(self, config: DinoConfig):
        self._config = config
        weights = {name: getattr(config, f"{name}_weight") for name in TERMS}
        self._weights = {name: weight for name, weight in weights.items() if weight}
        self._needed = sorted({TERMS[name][0] for name in self._weights})

    def __bool__(self) -> bool:
        return bool(self._weights)

    def outputs_ahead(self, network, views: list[torch.Tensor]) -> Outputs:
        """Return as much of the outputs of a student's views as the terms need."""
        if self._needed == ["embeddings"] and self._config.koleo_views == "global":
            return Outputs(network.encoder(views[0]))  # the head and the local views would be in vain
        return network(views)

    def rows(self, outputs: Outputs) -> Rows:
        """Return the rows that the terms need, of the student's outputs (V, b, ...), global views first."""
        config, make = self._config, {}
        number = None if config.student_sees == "locals" else config.crops.num_global
        make["embeddings"] = lambda x: x.embeddings[: None if config.koleo_views == "all" else number]
        make["bottleneck"] = lambda x: x.bottleneck
        # of each utterance, over its global views if the student sees them, as in RDINO
        make["mean_bottleneck"] = lambda x: x.bottleneck[:number].float().mean(0, keepdim=True)
        make["mean_output"] = lambda x: _mean_output(x.logits, config.loss.student_temperature)
        return {name: make[name](outputs) for name in self._needed}

    def values(self, rows: Rows, step: int, steps_per_epoch: float) -> tuple[list, dict[str, torch.Tensor]]:
        """Return (weight, value) of each term at a step, and scalars to log.

        Args:
            rows: of the whole batch.
            step, steps_per_epoch: for weights that rise.
        """
        risen = ramp(step, self._config.variance_ramp_epochs * steps_per_epoch, 1.0)
        pairs, metrics = [], {}
        for name, weight in self._weights.items():
            of_rows, value_of = TERMS[name]
            value = value_of(rows[of_rows])
            pairs.append((weight * risen if name in RAMPED else weight, value))
            metrics[name] = value.detach()
        if "bottleneck" in rows:
            metrics["active_dimensions"] = active_dimensions(rows["bottleneck"].flatten(0, 1))
        return pairs, metrics

    def describe(self, means: dict[str, float]) -> str:
        """Return the terms' part of a line of the log."""
        return "".join(f", {name} {means[name]:.2f}" for name in self._weights)


def _mean_output(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the mean output (1, 1, K) of logits (V, b, K): a row for the micro-batch, whose mean over all
    micro-batches is that of the batch.
    """
    return F.softmax(logits.float() / temperature, dim=-1).mean((0, 1), keepdim=True)


# What makes up a system that has a name of its own.
SYSTEMS = {
    "sdpn": ("koleo", "mean-entropy", "sinkhorn", "shared-prototypes", "clean-teacher", "locals"),
    "rdino": ("variance", "covariance"),
}


def method_name(config: DinoConfig) -> str:
    """Return what results call a configuration: ``dino``, ``sdpn`` or ``rdino``, and what is added, such
    as in ``dino-koleo`` or ``sdpn-dimension``.
    """
    switches = {name.replace("_", "-"): getattr(config, f"{name}_weight") > 0 for name in TERMS}
    switches |= {
        "sinkhorn": config.loss.target == "sinkhorn",
        "shared-prototypes": config.head.shared_prototypes,
        "clean-teacher": config.teacher_sees == "clean",
        "locals": config.student_sees == "locals",
        "ssps": config.positives == "ssps",
        "osps": config.positives == "osps",
    }
    on = [name for name, is_on in switches.items() if is_on]
    base = next((name for name, parts in SYSTEMS.items() if set(parts) <= set(on)), "dino")
    return "-".join([base, *(name for name in on if name not in SYSTEMS.get(base, ()))])
