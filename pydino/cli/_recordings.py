"""The recordings that a verb is given as arguments: their names, and reading them one by one."""

import re
from pathlib import Path

from pydino.base import UserError

from ._arguments import add_device, option


def add_recordings(parser) -> None:
    """Declare the recordings and how they are read."""
    parser.add_argument("audio", metavar="AUDIO", nargs="+", help="wav, flac, ogg, ...; of any length")
    text = "which channel of recordings with many, from 0 (default: the model's)"
    option(parser, "--channel", None, text, type=int, metavar="N")
    add_device(parser)


def names_of(paths: list[str], done: str) -> list[str]:
    """Return the keys of the files: their stems, blanks made into underscores, each only once.

    Args:
        paths: of the files.
        done: what is done with them ("embedded"), for the message.

    Raises:
        UserError: two of one name.
    """
    found = {}
    for path in paths:
        name = re.sub(r"\s", "_", Path(path).stem)
        if name in found:
            raise UserError(
                f"{found[name]} and {path} would both be called {name}: rename one, or have them {done} in "
                "separate calls"
            )
        found[name] = path
    return list(found)


def suffix_of(output: str, known) -> str:
    """Return the ending of a file, which selects its format.

    Raises:
        UserError: not one of ``known``.
    """
    suffix = Path(output).suffix
    if suffix not in known:
        raise UserError(
            f"--output {output}: its ending, which selects the format, must be one of {', '.join(known)}"
        )
    return suffix


def of_each(args, names: list[str], front_end, work, done: str) -> dict:
    """Return ``work(recording, name)`` by name, of each recording in turn.

    Args:
        args: of :func:`add_recordings`.
        names: of the recordings, see :func:`names_of`.
        front_end: of the model: which channel it takes unless ``--channel`` says.
        work: function of an open recording and its name.
        done: what is done with them, for the message.

    Raises:
        UserError: names every recording that cannot be used.
    """
    from pydino.audio import open_channel

    channel = front_end.options.channel if args.channel is None else args.channel
    results, wrong = {}, []
    for name, path in zip(names, args.audio, strict=True):
        try:
            with open_channel(str(path), channel=None if channel < 0 else channel) as recording:
                results[name] = work(recording, name)
        except UserError as error:
            wrong.append(str(error) if str(path) in str(error) else f"{path}: {error}")
    if len(wrong) > 1:
        wrong.insert(0, f"{len(wrong)} of {len(names)} recordings cannot be {done}:")
    if wrong:
        raise UserError("\n  ".join(wrong))
    return results
