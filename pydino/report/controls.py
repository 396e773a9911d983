"""Leak controls: their tables, and why the results of a task are suspect."""

from pathlib import Path

from pydino.base import out_of_date, read_json, warn

from .tables import Table

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


def gather_controls(root) -> list[dict]:
    """Return the entries of every ``controls.json`` under ``root``; those whose inputs have changed since are
    omitted with a warning.
    """
    found = []
    for path in sorted(Path(root).rglob("controls.json")):
        mark = path.with_name(".done")
        if mark.is_file() and (reason := out_of_date(mark)):
            warn(f"{path} is omitted: {reason} since it was made; run the controls again")
        else:
            found += read_json(path)
    return found


def controls_table(title: str, controls: list[dict]) -> Table:
    """The leak controls of one task."""
    header = ["control", "made of", "metric", "above chance", "value", "chance", "significant from"]
    caption = (
        "What should not tell the label, through the same folds and classifier: above chance, it makes the "
        "results suspect."
    )
    kinds = {one["control"] for one in controls}
    if "duration" in kinds:
        caption += (
            " Duration, crops of equal length of the speech, is for comparison, and may be above chance."
        )
    if "pauses" in kinds:
        caption += " Pauses, their durations alone, are a signal of the speaker, and no leak."
    if any(
        one["control"] == "metadata" and one["vectors"] == "timing" and not one["suspicious_if_above_chance"]
        for one in controls
    ):
        caption += " So is timing, as this task keeps the pauses."
    if "permutation" in kinds:
        caption += " Permutation has the band that permuted labels reach."
    return Table(f"Leak controls: {title}", caption, header, [_row(one) for one in controls], text_columns=4)


def _row(one: dict) -> list[str]:
    decimals = 1 if one["metric"] == "uar" else 2

    def text(value) -> str:
        return "" if value is None else f"{value:.{decimals}f}"

    above = "not measured" if one["value"] is None else "yes" if one["beats_chance"] else "no"
    if one["beats_chance"] and one["suspicious_if_above_chance"]:
        above = "yes: suspect"
    interval = "" if one["interval"] is None else " [{}, {}]".format(*map(text, one["interval"]))
    metric = {"uar": "UAR %", "mae": "MAE"}.get(one["metric"], one["metric"])
    return [
        one["control"],
        one["vectors"],
        metric,
        above if one["control"] != "permutation" else "",
        text(one["value"]) + interval,
        text(one["chance"]),
        text(one["chance_bound"]) if one["metric"] == "uar" else "",
    ]
