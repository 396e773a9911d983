"""A row of a stage: the values of one call of a step."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """``values``: placeholder -> a word, or a list of words. Rows of one ``group`` are run one after
    another.
    """

    values: dict[str, str | list[str]]
    group: str | None = None
