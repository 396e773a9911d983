"""One job's shell command: its number put in place, operators left bare, every other word quoted."""

import os
import re
import shlex

# A word that is exactly one of these is an operator of the shell, as with run.pl: control operators,
# redirections ("2>"), copies of descriptors ("2>&1") and redirections to /dev/null.
_OPERATOR = re.compile(
    r"[|&;()]|\|\||&&|\|&|&>>?|\d*(?:<|>|>>|>\||<>|<<<|[<>]&(?:\d+|-)?)|(?:\d*|&)>>?/dev/null"
)
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_GLUED = re.compile(r"(?:\d*|&)>>?[^>&\s].*", flags=re.DOTALL)


def substitute(text: str, variable: str, number: int | str) -> str:
    """Put ``number`` in the place of ``variable`` (usually ``JOB``) in one argument.

    It is replaced where it is a word of its own: in ``x.JOB.ark``, ``split4/JOB/wav.scp`` and ``x_JOB.log``,
    but not in ``JOBS``, ``myJOB`` and ``$SLURM_JOB_ID``, nor in the name of a folder that exists as written,
    such as ``/data/my JOB dir/``. (``run.pl`` replaces the letters everywhere.)
    """
    pattern = re.compile(rf"(?<![^\W_]){re.escape(variable)}(?!\w)")
    return pattern.sub(lambda match: match[0] if _in_existing_folder(text, match) else str(number), text)


def _in_existing_folder(text: str, match: re.Match) -> bool:
    """Return whether the path up to the end of the matched component is a folder on disk, as written."""
    end = text.find("/", match.end())
    if end < 0:
        return False
    # Where the path starts is not known ("ark:/my JOB dir/x.ark", "--out=JOB/x"): every possible place
    # counts.
    starts = [0] + [m.end() for m in re.finditer(r"[\s=:,;|<>\"'(]", text[: match.start()])]
    return any(os.path.isdir(text[start:end]) for start in starts)


def shell_command(words: list[str]) -> str:
    """Join words to the line that ``bash -c`` is given.

    After ``--`` as the first word, every word is literal. Else a word that is exactly an operator, such as
    ``|``, ``>>`` or ``2>&1``, is one. Every other word reaches
    the program exactly as given, whatever characters it holds, so that no path or name can change or run a
    command; of ``NAME=value`` the value is quoted, so that it may still precede a command.

    Departure from ``run.pl``: that takes a word without blanks as shell text (``$x``, ``*``, ``a;b`` and
    ``>file`` are expanded) and puts one with blanks between double quotes. For shell text, use
    ``bash -c 'TEXT'``.
    """
    if words[0] == "--":
        return shlex.join(words[1:])
    return " ".join(_quote(word) for word in words)


def _quote(word: str) -> str:
    if _OPERATOR.fullmatch(word):
        return word
    assignment = _ASSIGNMENT.match(word)
    name = assignment[0] if assignment else ""
    return name + (shlex.quote(word[len(name) :]) if len(name) < len(word) else "") or "''"


def glued_redirection(words: list[str]) -> str | None:
    """Return the first word that ``run.pl`` would take for a redirection and :func:`shell_command` does not,
    such as ``>file``; None if there is none.
    """
    if words[0] == "--":
        return None
    return next((word for word in words if _GLUED.fullmatch(word) and not _OPERATOR.fullmatch(word)), None)
