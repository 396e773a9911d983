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
    """A command. Calls of one ``group`` are run one after another, and those of them that submit no jobs of
    their own by one process; None: no group.
    """

    words: list[str]
    group: str | None = None
    cmd: str = ""  # the wrapper of its own jobs, if it submits any

    @property
    def in_array(self) -> bool:
        """Whether its group is one job of an array."""
        return self.group is not None and not self.cmd


def calls_of(run: Run, stage: int, words: list[str]) -> list[list[Call]]:
    """Return the calls of ``ROWS TEMPLATE... [--|--and ROWS TEMPLATE...]``, a list for each phase: what may
    be run at once.

    What follows ``--and`` needs nothing that the calls before it make, and is of their phase. So are, after
    ``--``, calls in an array if the phase has no others: the order within a group is kept there.

    Raises:
        ValueError: an empty template, an unknown kind of rows, or an unknown placeholder.
    """
    sections: list[list[str]] = [["--"]]
    for word in words:
        if word in ("--", "--and"):
            sections.append([])
        sections[-1].append(word)
    phases: list[list[Call]] = []
    for joint, kind, *template in sections:
        if not template:
            raise ValueError(f"'{kind}' has no command; expected ROWS COMMAND...")
        cmd = template[template.index("--cmd") + 1] if "--cmd" in template else ""
        calls = [Call(expand(template, row), row.group, cmd) for row in rows(run, kind, stage)]
        phases += [[]] if joint == "--" else []
        phases[-1] += calls
    found: list[list[Call]] = []
    for phase in filter(None, phases):
        if found and all(call.in_array for call in found[-1] + phase):
            found[-1] += phase
        else:
            found.append(phase)
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
