"""Templates of commands, such as ``steps/score.sh {options} {trials} {enroll} {test} {scores}``, expanded for
each row.
"""

import re
from dataclasses import dataclass

from .rows import Row, rows
from .run import Run

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True)
class Call:
    """A command. Calls of one ``group`` are run sequentially by one process; None: no group."""

    words: list[str]
    group: str | None = None


def calls_of(run: Run, stage: int, words: list[str]) -> list[list[Call]]:
    """Return the calls of ``ROWS TEMPLATE... [-- ROWS TEMPLATE...]``, a list for each template.

    Raises:
        ValueError: an empty template, an unknown kind of rows, or an unknown placeholder.
    """
    sections: list[list[str]] = [[]]
    for word in words:
        if word == "--":
            sections.append([])
        else:
            sections[-1].append(word)
    found = []
    for kind, *template in sections:
        if not template:
            raise ValueError(f"'{kind}' has no command; expected ROWS COMMAND...")
        # A step that submits its own jobs (--cmd) is never run inside another job.
        grouped = "--cmd" not in template
        found.append(
            [Call(expand(template, row), row.group if grouped else None) for row in rows(run, kind, stage)]
        )
    return found


def expand(template: list[str], row: Row) -> list[str]:
    """Return the words of a template with its ``{placeholders}`` replaced by the row's values.

    A placeholder of a list must be a word by itself, and expands to one word per item, possibly none.

    Raises:
        ValueError: the row has no such value, or a list is used inside a word.
    """
    words = []
    for word in template:
        whole = _PLACEHOLDER.fullmatch(word)
        if whole and isinstance(value := _value(row, whole[1]), list):
            words += value
        else:
            words.append(_PLACEHOLDER.sub(lambda match: _text(row, match[1]), word))
    return words


def groups_of(calls: list[Call]) -> list[list[Call]]:
    """Return the calls by group, groups and calls in the order given."""
    by_name: dict[str | None, list[Call]] = {}
    for call in calls:
        by_name.setdefault(call.group, []).append(call)
    return list(by_name.values())


def _text(row: Row, name: str) -> str:
    value = _value(row, name)
    if isinstance(value, list):
        raise ValueError(f"{{{name}}} is a list: it must be a word by itself")
    return value


def _value(row: Row, name: str):
    if name not in row.values:
        raise ValueError(f"the rows have no {{{name}}}; they have {', '.join(row.values)}")
    return row.values[name]
