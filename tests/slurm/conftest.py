"""A Slurm cluster of two nodes on this machine's loopback: munge, the controller and two slurmd, in a
temporary folder, for one session.
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

SBIN = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
PROGRAMS = ["munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "sinfo"]
NODES = ["127.0.0.2", "127.0.0.3"]  # an address is a name that needs no /etc/hosts

CONF = """\
ClusterName=t
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/munge.sock,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
DefMemPerCPU=2000
AccountingStorageType=accounting_storage/none
MinJobAge=3600
FirstJobId={port}
KillWait=2
ReturnToService=2
EnforcePartLimits=ALL
SlurmdTimeout=30
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
"""


class Cluster:
    """The daemons, and what a person does to a cluster."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.conf = folder / "slurm.conf"
        self.environment = {**os.environ, "PATH": SBIN, "SLURM_CONF": str(self.conf)}
        self.daemons: dict[str, subprocess.Popen] = {}

    def start(self) -> None:
        ports = _free_ports(3)
        host, user = (
            socket.gethostname().partition(".")[0],
            subprocess.check_output(["id", "-un"], text=True).strip(),
        )
        for name in ("munge", "state", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir()
        text = CONF.format(host=host, port=ports[0], user=user, folder=self.folder)
        for node, port in zip(NODES, ports[1:], strict=True):
            text += f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 "
            text += "RealMemory=16000 Gres=gpu:2 State=UNKNOWN\n"
        nodes = ",".join(NODES)
        text += f"PartitionName=batch Nodes={nodes} Default=YES PriorityTier=1 "
        text += "PreemptMode=REQUEUE GraceTime=0 DefaultTime=10\n"
        text += f"PartitionName=hi Nodes={nodes} PriorityTier=10 PreemptMode=OFF DefaultTime=10\n"
        self.conf.write_text(text)
        (self.folder / "gres.conf").write_text("AutoDetect=off\nName=gpu File=/dev/null,/dev/zero\n")
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        munge = self.folder / "munge"
        (munge / "key").touch(mode=0o600)
        (munge / "key").write_bytes(os.urandom(128))
        self._start(
            "munged",
            "munged",
            "-F",
            f"--socket={munge}/munge.sock",
            f"--key-file={munge}/key",
            f"--pid-file={munge}/pid",
            f"--log-file={munge}/log",
            f"--seed-file={munge}/seed",
            "--origin=127.0.0.1",
        )
        self.until(lambda: (munge / "munge.sock").exists())
        self.start_controller("-c")
        for node in NODES:
            self.start_node(node)
        self.until_ready()

    def _start(self, name: str, *command: str) -> None:
        log = open(self.folder / f"{name}.out", "ab")
        libc = ctypes.CDLL(None)  # the daemons end with us, however we end
        self.daemons[name] = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=self.environment,
            start_new_session=True,
            preexec_fn=lambda: libc.prctl(1, signal.SIGTERM),
        )

    def start_controller(self, *options: str) -> None:
        self._start("slurmctld", "slurmctld", "-D", *options)

    def start_node(self, node: str) -> None:
        self._start(node, "slurmd", "-D", "-N", node)

    def stop_daemon(self, name: str, number: int = signal.SIGTERM) -> None:
        daemon = self.daemons.pop(name)
        daemon.send_signal(number)
        daemon.wait(timeout=20)

    def ask(self, *command: str) -> str:
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        return done.stdout if done.returncode == 0 else ""

    def show(self, job: str) -> str:
        return self.ask("scontrol", "-o", "show", "job", job)

    def queue(self) -> list[str]:
        """The tasks in the queue, but for the one that is there to be late."""
        lines = self.ask("squeue", "-h", "-r", "-o", "%i %j").splitlines()
        return [line.split()[0] for line in lines if not line.endswith(" late")]

    def steps_of(self, job: str) -> list[int]:
        """The processes of Slurm that run a job of this cluster; another on this machine may have one of the
        same number.
        """
        pids = map(int, self.ask("pgrep", "-f", rf"slurmstepd: \[{job}\.").split())
        return [
            pid
            for pid in pids
            if f"SLURM_CONF={self.conf}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes()
        ]

    def until(self, condition, seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                logs = [
                    f"{log}:\n{log.read_text(errors='replace')[-1500:]}"
                    for log in sorted(self.folder.glob("*.log"))
                ]
                pytest.fail("waited in vain; " + "\n".join(logs))
            time.sleep(0.05)

    def until_ready(self) -> None:
        nodes = ["sinfo", "-h", "-N", "-p", "batch", "-t", "idle,mixed,allocated", "-o", "%N"]
        self.until(lambda: not self.queue() and self.ask(*nodes).split() == NODES)

    def stop(self) -> None:
        self.ask("scancel", "--user", str(os.getuid()))
        end = time.monotonic() + 10
        while self.ask("squeue", "-h") and time.monotonic() < end:
            time.sleep(0.1)
        for name in reversed(list(self.daemons)):
            daemon = self.daemons[name]
            daemon.terminate()
            try:
                daemon.wait(timeout=10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports


@pytest.fixture(scope="session")
def cluster():
    missing = [name for name in PROGRAMS if not shutil.which(name, path=SBIN)]
    if missing:
        pytest.skip(
            f"Slurm is not installed here: no {', '.join(missing)} (Debian: slurmctld slurmd slurm-client "
            "munge)"
        )
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)  # munged will not have its socket where others cannot go
        cluster = Cluster(Path(folder))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
