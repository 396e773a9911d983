"""``pydino`` in one of several processes of torchrun that share one GPU, as if each had its own machine. They
communicate through gloo, because NCCL refuses two processes on one GPU.
"""

import os
import sys

import torch.distributed as dist

from pydino.cli import main

if __name__ == "__main__":
    os.environ.update(LOCAL_RANK="0", LOCAL_WORLD_SIZE="1")
    init_process_group = dist.init_process_group
    dist.init_process_group = lambda backend, device_id=None, **options: init_process_group("gloo", **options)
    sys.exit(main())
