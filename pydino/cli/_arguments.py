"""The arguments of verbs: how they are declared and parsed."""

import argparse
import sys
from pathlib import Path

from pydino.base import UserError, nearest

PROJECT = Path(__file__).resolve().parent.parent.parent

WRAPPERS = "run_local.sh, run_slurm.sh, or any wrapper with the interface of Kaldi's run.pl"


def boolean(text: str) -> bool:
    """Parse ``true`` or ``false``, as Kaldi's scripts spell them (for ``type=`` of an argument)."""
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, got '{text}' after the option")
    return text == "true"


def integer(least: int):
    """Return a parser of whole numbers from ``least`` on (for ``type=`` of an argument)."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) >= least):
            raise argparse.ArgumentTypeError(f"should be a whole number from {least} on, got '{text}'")
        return int(text)

    return parse


def share(text: str) -> float:
    """Parse a number from 0 to 1 (for ``type=`` of an argument)."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a share between 0 and 1, got '{text}'")
    return value


def part(text: str) -> tuple[int, int]:
    """Parse ``I/N``, job I of N (for ``type=`` of an argument)."""
    index, slash, count = text.partition("/")
    if not (slash and index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"expected I/N, such as 1/4, got '{text}'")
    return int(index), int(count)


def option(parser, name: str, default, text: str = "", **more) -> None:
    """Declare an option with a default.

    Args:
        parser: a parser or a group of arguments.
        default: its type is that of the option, unless ``more`` has ``type``; a list is extended by each
            repetition; None where there is none.
        text: the help; the default is added, unless it is empty or the text names it.
        more: as of ``argparse.ArgumentParser.add_argument``.
    """
    if isinstance(default, list):
        more.setdefault("action", "append")
    elif default is not None:
        more.setdefault("type", boolean if isinstance(default, bool) else type(default))
    if default not in (None, "", []) and "(default" not in text:
        shown = str(default).lower() if isinstance(default, bool) else f"{default}"
        text = f"{text} (default: {shown})".strip()
    parser.add_argument(name, default=default, help=text, **more)


def add_config(parser, name: str, file: str, text: str, **more) -> None:
    """Declare an option for a YAML file, by default ``conf/FILE`` of the current folder or, where that has
    none, of the project: as in a recipe.
    """
    own = Path("conf") / file
    default = PROJECT / own if not own.is_file() and (PROJECT / own).is_file() else own
    text = f"{text} (default: {own} here, or of the project)"
    option(parser, name, str(default), text, metavar="YAML", **more)


def add_cmd(parser, default: str = "") -> None:
    """Declare ``--cmd``."""
    option(parser, "--cmd", default, WRAPPERS if default else f"{WRAPPERS} (default: run in this process)")


def add_utterances(parser, of: str) -> None:
    """Declare ``--utterances``."""
    text = f"{of}: only the utterances that FILE lists, such as data/train_ssl/utt2hash (default: all)"
    option(parser, "--utterances", None, text, metavar="FILE")


def add_device(parser, condition: str = "") -> None:
    """Declare ``--device``."""
    option(parser, "--device", "cpu", f"{condition}cpu, cuda or cuda:N")


def add_max_drop(parser, default: float, what: str) -> None:
    """Declare ``--max-drop``."""
    text = f"share of {what} (default: {default:g})"
    option(parser, "--max-drop", default, text, type=share, metavar="SHARE")


def refuse_unused(args, *names: str, why: str) -> None:
    """Raise UserError for the first of the options ``names`` that was given, though it has no effect.

    Args:
        args: parsed by :class:`Parser`.
        why: it has none, as the end of a sentence, such as "without --normalisation".
    """
    given = {word.partition("=")[0].replace("_", "-") for word in args.arguments if word.startswith("--")}
    for name in names:
        if name in given:
            raise UserError(f"{name} has no effect {why}: omit it")


def add_varied(parser) -> None:
    """Declare ``--varied``."""
    text = "what a study varied, in the results; may be repeated"
    option(parser, "--varied", [], text, metavar="AXIS=LABEL")


def varied_of(args) -> dict[str, str]:
    """Axis -> label of ``--varied``.

    Raises:
        UserError: a word that is not of this form.
    """
    if wrong := [word for word in args.varied if "=" not in word]:
        raise UserError(f"--varied: '{wrong[0]}' is not of the form AXIS=LABEL")
    return dict(word.split("=", 1) for word in args.varied)


def options_of_study(args) -> dict:
    """``--varied`` for the mark of a step, which has no such option outside a study."""
    return {"varied": " ".join(args.varied)} if args.varied else {}


def remainder(words: list[str]) -> list[str]:
    """Return what ``nargs=REMAINDER`` took, without the ``--`` that may come first."""
    return words[1:] if words[:1] == ["--"] else words


class Parser(argparse.ArgumentParser):
    """Options as Kaldi's scripts take them: ``--num-jobs 8``, ``--num-jobs=8`` or ``--num_jobs 8``; a bare
    ``--flag`` is ``--flag true``. It names the nearest option when one is misspelt, and never guesses from a
    prefix. The namespace has ``arguments``, the words as they were given.
    """

    def add_argument(self, *names, **keywords):
        if keywords.get("type") is boolean:
            keywords = {"nargs": "?", "const": True, "metavar": "true|false", **keywords}
        return super().add_argument(*names, **keywords)

    def parse_args(self, args=None, namespace=None):
        given = sys.argv[1:] if args is None else list(args)
        args = self._spelt(given)
        namespace, unknown = self.parse_known_args(args, namespace)
        if unknown:
            kind = "unknown option" if unknown[0].startswith("-") else "extra argument"
            self.error(f"{kind} '{unknown[0]}'")
        namespace.arguments = given
        return namespace

    def _spelt(self, args: list[str]) -> list[str]:
        """Return the words with option names as they are declared; ends with a message at an unknown option.

        A misspelt option is named first: arguments often seem to be missing only because it took one.
        """
        known = {option: action for action in self._actions for option in action.option_strings}
        holds_command = any(action.nargs == argparse.REMAINDER for action in self._actions)
        if holds_command and set(known) == {"-h", "--help"}:
            return args  # the verb parses its options itself
        end = args.index("--") if "--" in args else len(args)
        spelt, takes_value = list(args), False
        for place, word in enumerate(args[:end]):
            if not word.startswith("--"):
                if holds_command and not takes_value:
                    break  # what follows may be the options of that command
                takes_value = False
                continue
            name, equals, value = word.partition("=")
            name = name if name in known else name.replace("_", "-")
            if name not in known:
                self.error(f"unknown option '{word}'{nearest(name, known)}")
            if name.endswith("cmd") and "" in ([value] if equals else args[place + 1 : place + 2]):
                self.error(f"empty argument to {name} option")
            following = args[place + 1] if place + 1 < end else None
            takes_value = known[name].nargs is None and known[name].const is None
            if takes_value and not equals and (following is None or following.split("=")[0] in known):
                follows = f", but the option {following} follows" if following else ""
                self.error(f"option {name} needs a value{follows}")
            spelt[place] = name + equals + value
        return spelt

    def error(self, message):
        if message.startswith("the following arguments are required"):
            # argparse names the last ones, whichever was forgotten
            names = [str(a.metavar or a.dest) for a in self._actions if not a.option_strings]
            message += f"; in this order: {' '.join(names)}" if len(names) > 1 else ""
        print(f"{self.prog}: {message}\n{self.prog}: see '{self.prog} --help'", file=sys.stderr)
        raise SystemExit(1)
