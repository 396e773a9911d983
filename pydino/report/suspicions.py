"""Leak controls in words: why the results of a task are suspect."""

_NAMES = {
    "silence": "silence alone",
    "channel": "the channel alone",
    "interviewer": "the interviewer alone",
    "metadata": "metadata alone",
}


def suspicions(controls: list[dict]) -> list[str]:
    """Return a sentence for each control that beats chance and should not; none if nothing is suspect.

    Args:
        controls: entries of ``controls.json``.
    """
    return [_sentence(one) for one in controls if one["beats_chance"] and one["suspicious_if_above_chance"]]


def _sentence(one: dict) -> str:
    name = f"{_NAMES.get(one['control'], one['control'])} ({one['vectors']})"
    low_high = "" if one["interval"] is None else " [{:.1f}, {:.1f}]".format(*one["interval"])
    if one["metric"] == "uar":
        return (
            f"{name} reaches {one['value']:.1f} % UAR{low_high}; chance is {one['chance']:.1f} %, "
            f"significant from {one['chance_bound']:.1f} %"
        )
    unit = f" {one['unit']}" if one["unit"] else ""
    return (
        f"{name} reaches a mean absolute error of {one['value']:.2f}{unit}{low_high}; always answering the "
        f"mean has {one['chance']:.2f}{unit}"
    )
