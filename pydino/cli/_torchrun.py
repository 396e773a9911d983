"""torchrun that ends as what it started did, without a traceback of its own: ``python3 -m pydino.cli._torchrun``.

Its exit status is that of the process that failed first, 128 and the signal's number after a signal.
"""

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

from pydino.base import log, set_program

if __name__ == "__main__":
    set_program("pydino launch")
    try:
        main()
    except SignalException as end:
        raise SystemExit(128 + int(end.sigval)) from None
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        code = failure.exitcode if failure.exitcode >= 0 else 128 - failure.exitcode
        log(f"process {rank} ended with exit code {code}, and with it all processes of this machine")
        raise SystemExit(code) from None
