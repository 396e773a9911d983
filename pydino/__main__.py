"""``python3 -m pydino VERB`` is the same as ``pydino VERB``."""

import sys

try:
    from pydino.cli import main

    status = main()
except KeyboardInterrupt:  # before or after a verb runs, which says more itself
    print("pydino: interrupted", file=sys.stderr)
    status = 130
sys.exit(status)
