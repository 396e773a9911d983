"""torchrun that waits for its processes to end by themselves: ``python3 -P -m pydino.cli._torchrun``, with
torchrun's arguments.

Plain torchrun forwards SIGTERM and kills what has not ended 30 s later (not configurable before PyTorch
2.12), and SIGUSR1 ends it and leaves its processes behind. Here both are forwarded to the processes, which
save and end in their own time. The exit status is that of the first process that failed.
"""

import os
import signal

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

from pydino.base import log, set_program
from pydino.jobs.launch.node import SAVE_AND_END
from pydino.jobs.processes import processes


def forward(number: int, _) -> None:
    """Forward a signal to the processes; where there are none yet, end."""
    children = [found.pid for found in processes() if found.parent == os.getpid()]
    for child in children:
        try:
            os.kill(child, number)
        except ProcessLookupError:
            pass
    if not children:
        raise SystemExit(128 + number)


if __name__ == "__main__":
    set_program("pydino launch")
    for number in SAVE_AND_END:
        signal.signal(number, forward)
    # torchrun's own handlers, without SIGTERM
    os.environ["PET_SIGNALS_TO_HANDLE"] = "SIGINT,SIGHUP,SIGQUIT"
    try:
        main()
    except SignalException as end:
        raise SystemExit(128 + int(end.sigval)) from None
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        code = failure.exitcode if failure.exitcode >= 0 else 128 - failure.exitcode
        log(f"process {rank} ended with exit code {code}, and with it all processes of this machine")
        raise SystemExit(code) from None
