"""What a process arranges with the kernel."""

import ctypes
import signal


def end_with_parent() -> None:
    """Have this process be sent SIGTERM when its parent is gone, in whatever way that ended. Linux only;
    elsewhere nothing happens.
    """
    try:
        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM), 0, 0, 0)  # PR_SET_PDEATHSIG
    except (OSError, AttributeError):
        pass
