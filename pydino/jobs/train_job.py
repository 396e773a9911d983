"""Submit a training as a job, show its lines, and pass signals on to it. No torch: this process only
waits.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from pydino.base import UserError

OURS = ("run_local.sh", "run_slurm.sh")
LOCAL = ("run_local.sh", "run.pl")
# Lines of the log that are shown: the training's own, and its launcher's.
_SHOWN = re.compile(r"^([0-9: -]+)?pydino (train|launch): ")
_SPECIAL = re.compile(rb"[^A-Za-z0-9_./:=,+@%-]")


def submit_training(args) -> int:
    """Run ``pydino train`` with ``args`` (of its command line) as a job of ``args.cmd``, until it has ended.

    SIGINT and SIGTERM reach the job as SIGTERM, SIGUSR1 as SIGUSR1; the run is saved before it ends.

    Returns:
        exit status: of the job, or 128 and the number of the signal.

    Raises:
        UserError: several nodes without a scheduler.
    """
    wrapper = os.path.basename(args.cmd.split()[0]) if args.cmd.split() else ""
    if not wrapper:
        raise UserError(
            "--cmd is empty; give run_local.sh, or any wrapper with the interface of Kaldi's run.pl"
        )
    if wrapper in LOCAL and args.num_nodes > 1:
        raise UserError(
            f"--num-nodes {args.num_nodes} needs a scheduler that has several machines, and '{args.cmd}' "
            "runs jobs on "
            "this one; choose the back-end slurm in cmd.sh, or omit --num-nodes"
        )
    processes = args.ngpu or args.num_processes
    threads = args.num_threads or _threads(wrapper in LOCAL, processes)
    if shutil.which(args.cmd.split()[0]) is None:
        raise UserError(
            f"cannot run '{args.cmd.split()[0]}', the wrapper that --cmd names; it must be on PATH"
        )
    log = Path(args.exp, "log", "train.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = _environment(args)
    command = [
        *args.cmd.split(),
        *("--num-threads", str(threads)),
        *(("--gpu", str(args.ngpu)) if args.ngpu else ()),
        *(("--num-nodes", str(args.num_nodes)) if args.num_nodes > 1 else ()),
        str(log),
        *_words(wrapper, environment, _launched(args, processes, threads, wrapper in LOCAL)),
    ]
    return _run(command, environment, log)


def _launched(args, processes: int, threads: int, local: bool) -> list[str]:
    """Return the command of the job: the launcher, and what each of its processes runs."""
    options = [
        *(("--config", args.config) if args.config else ()),
        *(word for override in args.set for word in ("--set", override)),
        *("--seed", str(args.seed)),
        *(word for path in args.labels for word in ("--labels", path)),
        *(("--init", args.init) if args.init else ()),
        *("--ngpu", str(args.ngpu), "--num-threads", str(threads)),
        *(("--data-workers", str(args.data_workers)) if args.data_workers is not None else ()),
        *("--allow-pipes", str(args.allow_pipes).lower()),
    ]
    launch = ["pydino", "launch", "--scheduler", "none" if local else "auto", "--processes", str(processes)]
    launch += ["--num-nodes", str(args.num_nodes), "--max-restarts", str(args.max_restarts)]
    return [*launch, "--", "train", *options, args.data, args.exp]


def _environment(args) -> dict[str, str]:
    """Return the variables of the wrapper."""
    environment = dict(os.environ)
    # For sbatch, through whatever wrapper calls it (a site's own options come later and win): two minutes
    # before the time limit the steps of the job receive SIGUSR1; Slurm may queue it again; its log is then
    # continued.
    environment.setdefault("SBATCH_SIGNAL", "USR1@120")
    environment |= {"SBATCH_REQUEUE": "1", "SBATCH_OPEN_MODE": "append"}
    if args.force:  # a token of this call: a job that a scheduler starts again discards nothing once more
        environment.setdefault("PYDINO_FORCE", f"{time.strftime('%Y%m%d%H%M%S')}-{os.getpid()}")
    # A job of another configuration is another job.
    digest = hashlib.sha256()
    for path in (args.config, Path(args.data) / "utt2spk", *args.labels):
        digest.update(Path(path).read_bytes() if path else b"")
    environment["PYDINO_MADE_FROM"] = digest.hexdigest()[:16]
    return environment


def _words(wrapper: str, environment: dict[str, str], words: list[str]) -> list[str]:
    """Return the command as a wrapper takes it: ours take words as they are, Kaldi's join them for a shell,
    and may pass no variables on to their jobs.
    """
    if wrapper in OURS:
        return words
    force = environment.get("PYDINO_FORCE")
    return [_quoted(word) for word in [*(("env", f"PYDINO_FORCE={force}") if force else ()), *words]]


def _quoted(word: str) -> str:
    """Return a word as bash reads it back, without a blank or a character that anything else would expand.

    ``run.pl`` and its relatives leave words without blanks to the shell, and put others into double quotes;
    ``$'...'`` with every special byte as ``\\xHH`` passes through all of them.
    """
    data = os.fsencode(word)
    if data and not _SPECIAL.search(data):
        return word
    return "$'" + _SPECIAL.sub(lambda match: b"\\x%02x" % match[0][0], data).decode("ascii") + "'"


def _threads(local: bool, processes: int) -> int:
    """Return how many threads a job gets by default: those of this machine, if it runs here; else eight a
    process, or as many as the largest node of the cluster has.
    """
    if local:
        return len(os.sched_getaffinity(0))
    try:
        answer = subprocess.run(
            ["sinfo", "-h", "-o", "%c"], capture_output=True, text=True, timeout=60
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        answer = ""
    cores = [int(found) for found in re.findall(r"\d+", answer)]
    return min(8 * processes, max(cores)) if cores else 8 * processes


def _run(command: list[str], environment: dict[str, str], log: Path) -> int:
    """Run the wrapper and follow the job's log; return the exit status."""
    asked = 0
    start = log.stat() if log.exists() else None
    # Ctrl-C in a terminal reaches every process there: the job is to get the SIGTERM of this one, and that
    # alone.
    job = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )

    def pass_on(number, _):
        nonlocal asked
        asked = asked or number
        if job.poll() is None:
            job.send_signal(signal.SIGUSR1 if number == signal.SIGUSR1 else signal.SIGTERM)

    before = {n: signal.signal(n, pass_on) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    ended = threading.Event()
    follower = threading.Thread(target=_follow, args=(log, start, ended), daemon=True)
    follower.start()
    try:
        status = job.wait()
    finally:
        ended.set()
        follower.join(timeout=2)
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        return 128 + asked
    return status if status >= 0 else 128 - status


def _follow(log: Path, before, ended: threading.Event) -> None:
    """Print the lines of the training that are added to the log, which may be replaced, until ``ended`` is
    set.
    """
    stream, rest = None, ""
    if before is not None:
        stream = open(log, encoding="utf-8", errors="replace")
        if os.fstat(stream.fileno()).st_ino == before.st_ino:
            stream.seek(before.st_size)
    while True:
        last = ended.wait(0.2)
        try:
            if stream is None or os.stat(log).st_ino != os.fstat(stream.fileno()).st_ino:
                if stream is not None:
                    rest = _show(rest + stream.read())
                    stream.close()
                stream = open(log, encoding="utf-8", errors="replace")
            elif os.stat(log).st_size < stream.tell():
                stream.seek(0)  # cut short and written from the beginning
        except OSError:
            stream = None
        if stream is not None:
            rest = _show(rest + stream.read())
        if last:
            return


def _show(text: str) -> str:
    """Print the lines of a text that are for people; return the rest, a line that has not ended."""
    *lines, rest = text.split("\n")
    for line in lines:
        if _SHOWN.match(line):
            print(line, file=sys.stderr, flush=True)
    return rest
