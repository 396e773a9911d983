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

from ._arguments import Parser, boolean

__all__ = ["Parser", "boolean", "main", "parser_of", "verbs"]

_FOLDER = Path(__file__).parent


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
