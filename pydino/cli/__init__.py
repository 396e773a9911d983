"""The command line: ``pydino VERB``, one verb a step. Each verb is a file here with ``add_arguments(parser)``
and ``run(args)``.
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
    """Names the nearest option when one is misspelt, and never guesses from a prefix."""

    def parse_args(self, args=None, namespace=None):
        args = sys.argv[1:] if args is None else list(args)
        options = [o for action in self._actions for o in action.option_strings]
        # A misspelt option is named first: arguments often seem to be missing only because it took one.
        words = args[: args.index("--")] if "--" in args else args
        for word in words if not any(action.nargs == argparse.REMAINDER for action in self._actions) else ():
            if word.startswith("--") and word.partition("=")[0] not in options:
                self.error(f"unknown option '{word}'{nearest(word.partition('=')[0], options)}")
        namespace, unknown = self.parse_known_args(args, namespace)
        if unknown:
            kind = "unknown option" if unknown[0].startswith("--") else "extra argument"
            self.error(f"{kind} '{unknown[0]}'{nearest(unknown[0].split('=')[0], options)}")
        return namespace

    def error(self, message):
        print(f"{self.prog}: {message}\n{self.prog}: see '{self.prog} --help'", file=sys.stderr)
        raise SystemExit(1)


def verbs() -> dict[str, str]:
    """Return every verb with the first line of its help, without importing any."""
    found = {}
    for path in sorted(_FOLDER.glob("[!_]*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found[path.stem.replace("_", "-")] = " ".join(text.partition("\n\n")[0].split())
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run ``pydino VERB ...`` and return its exit status: 0 well, 1 a mistake the user can mend, 130
    interrupted.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print("Usage: pydino VERB [options]        (pydino VERB --help tells more)\n")
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
        parser = Parser(
            prog=f"pydino {verb}",
            description=module.__doc__,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(parser)
        return module.run(parser.parse_args(arguments)) or 0
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
