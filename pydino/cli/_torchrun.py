"""torchrun whose end by a signal is an exit status (128 and the signal's number) and no traceback: ``python3 -m pydino.cli._torchrun``."""

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.run import main

if __name__ == "__main__":
    try:
        main()
    except SignalException as end:
        raise SystemExit(128 + int(end.sigval)) from None
