"""Messages to the user: log lines, warnings, and errors that the user can fix."""

import difflib
import sys
from datetime import datetime

_program = "pydino"


class UserError(Exception):
    """A mistake that the user can fix. The message names what is wrong, where, and the fix; no traceback is
    shown.
    """


def set_program(name: str) -> None:
    """Set the program name in log lines, such as ``pydino train``."""
    global _program
    _program = name


def program_name() -> str:
    """Return the program name in log lines."""
    return _program


def log(text: str) -> None:
    """Write one line to standard error, in the form Kaldi and ESPnet users know: time, program, text."""
    print(f"{datetime.now():%Y-%m-%d %H:%M:%S} {_program}: {text}", file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Like :func:`log`, for a problem that does not stop the program."""
    log(f"warning: {text}")


def plural(number: int, noun: str) -> str:
    """Return ``1 cluster``, ``12 clusters``."""
    return f"{number} {noun}{'s' * (number != 1)}"


def nearest(name: str, candidates) -> str:
    """Return `` (did you mean 'x'?)`` for the closest candidate, or an empty string."""
    cutoff = 0.5 if len(str(name)) < 4 else 0.6  # "rl" for "lr" has 0.5, and so have many unrelated words
    close = difflib.get_close_matches(str(name), [str(c) for c in candidates], n=1, cutoff=cutoff)
    return f" (did you mean '{close[0]}'?)" if close else ""
