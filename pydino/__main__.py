"""``python3 -m pydino VERB`` is the same as ``pydino VERB``."""

import os
import signal
import sys

try:
    from pydino.cli import main

    status = main()
except KeyboardInterrupt:  # before or after a verb runs, which says more itself
    print("pydino: interrupted", file=sys.stderr)
    status = 130
if status == 130:
    # To end by the signal, not with a status, is how a shell script learns that Ctrl-C was meant for it too:
    # it would take the status of `if pydino mark check` for "not done", and go on.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
sys.exit(status)
