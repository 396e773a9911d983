"""One job's shell command: the job's number put in its place, the arguments quoted."""

import os
import re
import shlex


def substitute(text: str, variable: str, number: int | str) -> str:
    """Put ``number`` where ``variable`` (usually ``JOB``) stands for it in one argument.

    It stands for the number where it is a word of its own: ``x.JOB.ark``, ``split4/JOB/wav.scp`` and
        ``x_JOB.log`` are filled in;
    ``JOBS``, ``myJOB`` and ``$SLURM_JOB_ID`` are left alone. A folder that exists under the name as it is
    written, such as ``/data/my JOB dir/``, is left alone too. (``run.pl`` replaces the letters everywhere.)
    """
    pattern = re.compile(rf"(?<![^\W_]){re.escape(variable)}(?!\w)")
    return pattern.sub(lambda match: match[0] if _in_existing_folder(text, match) else str(number), text)


def _in_existing_folder(text: str, match: re.Match) -> bool:
    """Tell whether the path up to the end of the matched component is a folder on disk, exactly as
    written.
    """
    end = text.find("/", match.end())
    if end < 0:
        return False
    # Where the path begins we cannot know ("ark:/my JOB dir/x.ark", "--out=JOB/x"), so every place where one
    # could is tried.
    begins = [0] + [m.end() for m in re.finditer(r"[\s=:,;|<>\"'(]", text[: match.start()])]
    return any(os.path.isdir(text[begin:end]) for begin in begins)


def shell_command(arguments: list[str]) -> str:
    """Join arguments to the line that ``bash`` is given.

    As in ``run.pl``, an argument without blanks is taken as it is, so that ``\\|``, ``\\>`` and ``\\$x`` of
    the calling script are pipes, redirections and variables of the job. An argument with blanks, an empty
    one, or one that the shell could not read (``it's``) arrives in the job exactly as it was given.
    (``run.pl`` wraps the first in double quotes, so that the shell would expand ``$`` and backquotes inside.)
    """
    return " ".join(shlex.quote(a) if _needs_quotes(a) else a for a in arguments)


def _needs_quotes(argument: str) -> bool:
    if not argument or re.search(r"\s", argument):
        return True
    try:
        shlex.split(argument)
    except ValueError:  # no closing quotation, or a lone backslash
        return True
    return False
