"""Parameters that are trained, in groups of one learning rate."""

from dataclasses import dataclass

from torch import nn


@dataclass
class ParameterGroup:
    """Parameters that are trained alike.

    Attributes:
        parameters: in the order of the network.
        lr_scale: factor of the learning rate.
        weight_decay: None: the configuration's. Of matrices and kernels alone in any case, never of biases
            and norms.
    """

    parameters: list[nn.Parameter]
    lr_scale: float = 1.0
    weight_decay: float | None = None


def grouped(
    encoder: nn.Module, parameters: list[nn.Parameter], lr_scale: float = 1.0
) -> list[ParameterGroup]:
    """Return parameters of an encoder, or a network with it, as groups: less those that the encoder never
    trains, and with the learning rates that it gives some of them, times ``lr_scale``.
    """
    own = {id(p): scale for scale, those in encoder.lr_scales() for p in those}
    by_scale: dict[float, list[nn.Parameter]] = {}
    for parameter in parameters:
        by_scale.setdefault(own.get(id(parameter), 1.0), []).append(parameter)
    return [ParameterGroup(found, lr_scale * scale) for scale, found in by_scale.items() if scale]
