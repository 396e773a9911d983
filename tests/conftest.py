"""What all tests need."""

import signal


def pytest_configure():
    """Let children hear what the tests were started deaf to: in the background of a shell SIGINT is ignored, under nohup SIGHUP.

    A handler, unlike that a signal is ignored, does not pass to programs that are started.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
