"""Process settings."""

import ctypes
import signal


def end_with_parent() -> None:
    """Send this process SIGTERM when its parent has ended, in any way. Linux only; elsewhere a no-op."""
    try:
        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM), 0, 0, 0)  # PR_SET_PDEATHSIG
    except (OSError, AttributeError):
        pass
