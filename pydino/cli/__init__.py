"""The command line: ``pydino VERB``. Each verb is a file here with ``add_arguments(parser)`` and
``run(args)``; those behind ``steps/*.sh`` also have ``steps(args)``, see ``_steps.py``.
"""

import argparse
import ast
import importlib
import os
import sys
from pathlib import Path

from pydino.base import UserError, nearest, set_program

_FOLDER = Path(__file__).parent


def boolean(text: str) -> bool:
    """Parse ``true`` or ``false``, as Kaldi's scripts spell them (for ``type=`` of an argument)."""
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, got '{text}'")
    return text == "true"


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
        if any(action.nargs == argparse.REMAINDER for action in self._actions):
            return args  # they hold the options of another command
        known = {option: action for action in self._actions for option in action.option_strings}
        end = args.index("--") if "--" in args else len(args)
        spelt = list(args)
        for place, word in enumerate(args[:end]):
            if not word.startswith("--"):
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
        print(f"{self.prog}: {message}\n{self.prog}: see '{self.prog} --help'", file=sys.stderr)
        raise SystemExit(1)


def parser_of(verb: str, module) -> Parser:
    """Return the parser of a verb."""
    parser = Parser(
        prog=f"pydino {verb}",
        description=module.__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    return parser


def verbs() -> dict[str, str]:
    """Return every verb with the first line of its help, without importing any."""
    found = {}
    for path in sorted(_FOLDER.glob("[!_]*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found[path.stem.replace("_", "-")] = " ".join(text.partition("\n\n")[0].split())
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run ``pydino VERB ...`` and return its exit status: 0 well, 1 a mistake the user can correct, 130
    interrupted.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print("Usage: pydino VERB [options]        (pydino VERB --help explains it)\n")
        for verb, line in verbs().items():
            print(f"  {verb:22s} {line}")
        return 0
    verb = arguments[0]
    if verb == "--version":
        from pydino import __version__

        print(__version__)
        return 0
    if not (_FOLDER / f"{verb.replace('-', '_')}.py").exists() or verb.startswith("_"):
        print(
            f"pydino: unknown verb '{verb}'{nearest(verb, verbs())}; 'pydino --help' lists them",
            file=sys.stderr,
        )
        return 1
    return _run(verb, arguments[1:])


def _run(verb: str, arguments: list[str]) -> int:
    set_program(f"pydino {verb}")
    try:
        module = importlib.import_module(f"pydino.cli.{verb.replace('-', '_')}")
        return module.run(parser_of(verb, module).parse_args(arguments)) or 0
    except UserError as error:
        print(f"pydino {verb}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"pydino {verb}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output (head, say) has gone; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
