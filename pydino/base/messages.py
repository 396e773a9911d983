"""What the program says to people: log lines, warnings, and errors a user can mend."""

import difflib
import sys
from datetime import datetime

_program = "pydino"


class UserError(Exception):
    """A mistake the user can mend. The message says what is wrong, where, and how to mend it; no traceback is
    shown.
    """


def set_program(name: str) -> None:
    """Set the name that log lines carry, such as ``pydino train``."""
    global _program
    _program = name


def log(text: str) -> None:
    """Write one line to standard error, in the form Kaldi and ESPnet users know: time, program, text."""
    print(f"{datetime.now():%Y-%m-%d %H:%M:%S} {_program}: {text}", file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Like :func:`log`, for what the user should look at though the work goes on."""
    log(f"warning: {text}")


def nearest(name: str, candidates) -> str:
    """Return `` (did you mean 'x'?)`` for the closest candidate, or an empty string."""
    close = difflib.get_close_matches(str(name), [str(c) for c in candidates], n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""
