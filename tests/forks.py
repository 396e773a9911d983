"""Runs of pydino in processes of their own, without the seconds that importing PyTorch takes: one process has
imported everything and computed nothing, and forks for each run.

    with Forks() as forks:
        forks.run(arguments)                            # one run, to its end
        forks.run(arguments, processes=2)               # that many processes train together
        forks.run(arguments, killed_after=5)            # kill -9 once the checkpoint of step 5 is saved
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

SECONDS = 120  # no run takes longer


class Forks:
    """The process that forks, as its caller sees it."""

    def __enter__(self):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen([sys.executable, __file__], env=environment, text=True, **pipes)
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def run(self, arguments: list[str], processes: int = 1, killed_after: int = 0) -> str:
        """Return what a run of pydino printed; it has ended well, or as ``killed_after`` demands."""
        with tempfile.TemporaryDirectory() as folder:
            job = {
                "arguments": arguments,
                "processes": processes,
                "killed_after": killed_after,
                "folder": folder,
            }
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            statuses = json.loads(self._process.stdout.readline())
            output = Path(folder, "output").read_text()
        assert statuses == [-9 if killed_after else 0] * processes, f"{statuses}: {output}"
        return output


def _child(arguments: list[str], rank: int, processes: int, killed_after: int, folder: str) -> None:
    """Be one of the processes of a run."""
    import torch.distributed as dist

    import pydino.train.loop as loop
    from pydino.cli import main

    output = os.open(f"{folder}/output", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(output, 1), os.dup2(output, 2)
    save, start = loop.save_checkpoint, dist.init_process_group

    def save_then_die(folder, state, *more):
        save(folder, state, *more)
        if state["step"] == killed_after:
            os.kill(os.getpid(), 9)

    if killed_after:
        loop.save_checkpoint = save_then_die
    if processes > 1:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(processes), "GLOO_SOCKET_IFNAME": "lo"}
        os.environ |= {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(processes)}
        meet = {"init_method": f"file://{folder}/meet", "rank": rank, "world_size": processes}
        dist.init_process_group = lambda backend, **others: start(backend, **others, **meet)
    try:
        status = main(arguments)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(status)  # without the ends of what the parent has begun


def _statuses(children: list[int]) -> list[int]:
    """Wait for children, and kill those that are left when one fails or SECONDS are over."""
    deadline, ended = time.monotonic() + SECONDS, {}
    while len(ended) < len(children):
        for child in children:
            if child not in ended and (found := os.waitpid(child, os.WNOHANG))[0]:
                ended[child] = os.waitstatus_to_exitcode(found[1])
        if any(ended.values()) or time.monotonic() > deadline:
            for child in set(children) - ended.keys():
                os.kill(child, 9)
        time.sleep(0.005)
    return [ended[child] for child in children]


def _serve() -> None:
    import torch._dynamo  # noqa: F401  (optimisers import it)
    import torch._inductor  # noqa: F401
    import torch.distributed  # noqa: F401

    import pydino.cli
    import pydino.train.methods as registry
    import pydino.train.training  # noqa: F401

    for name in registry.method_names():
        registry.find_method(name)
    for line in sys.stdin:
        job = json.loads(line)
        children = []
        for rank in range(job["processes"]):
            child = os.fork()
            if not child:
                _child(job["arguments"], rank, job["processes"], job["killed_after"], job["folder"])
            children.append(child)
        print(json.dumps(_statuses(children)), flush=True)


if __name__ == "__main__":
    _serve()
