"""Means of models, such as the last teachers of a run: often a little better than each."""

import torch


def average_states(states: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the mean of several state dicts, entry by entry, in the type of the first; summed in float64.

    Parameters and running statistics are averaged alike. For batch norms that is an approximation: the mean
    of the snapshots' running means and variances differs from the statistics of the averaged network's
    activations. It is a good one for snapshots that are close to each other, as teachers are at the end of a
    schedule; exact statistics would need another pass over the training data. Integers (counts of batches)
    are those of the last.

    Args:
        states: one or more, of the same names, shapes and types; later snapshots later.

    Raises:
        ValueError: none, or two that do not match; names the first entry that differs.
    """
    if not states:
        raise ValueError("nothing to average")
    for number, state in enumerate(states[1:], 2):
        for name in sorted(states[0].keys() | state.keys()):
            first, other = (
                "missing" if name not in side else _kind(side[name]) for side in (states[0], state)
            )
            if first != other:
                raise ValueError(f"{name} is {first} in the first and {other} in number {number}")
    return {name: _mean([state[name] for state in states]) for name in states[0]}


def weighted_mean(
    first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], share: float
) -> dict[str, torch.Tensor]:
    """Return ``share`` of a state dict and 1 - ``share`` of another, entry by entry; integers are those of
    the second.
    """
    return {
        name: torch.lerp(value, first[name], share) if value.is_floating_point() else value
        for name, value in second.items()
    }


def _kind(value: torch.Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"


def _mean(values: list[torch.Tensor]) -> torch.Tensor:
    if not values[0].is_floating_point():
        return values[-1].clone()
    total = torch.zeros_like(values[0], dtype=torch.float64)
    for value in values:
        total += value.to(total.device)
    return (total / len(values)).to(values[0].dtype)
