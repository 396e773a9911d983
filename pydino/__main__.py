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
    # A shell script stops at Ctrl-C only if its command ends by the signal; a status is merely a failed
    # command, which an `if` or `||` of the script would handle and go on.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
sys.exit(status)
