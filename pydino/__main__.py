"""``python3 -m pydino VERB`` is the same as ``pydino VERB``."""

import atexit
import os
import signal
import sys

status = None


def end_at_once():
    """End the process without taking its objects apart one by one, which for those of PyTorch takes a third
    to a half of the time that its import does.
    """
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):  # Python will say so
        return
    if status is not None:
        os._exit(status)


atexit.register(end_at_once)  # the first to be registered is the last to be called
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
