"""Two machines as far as the network goes: namespaces of their own with a cable between them, and no
names.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_train_distributed import CONFIG, data, outcome, train  # noqa: F401   (data is a fixture)

from pydino.base import dump_config

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def machines():
    """Two network namespaces; their addresses are 10.9.0.1 and .2, and the machine's name still resolves to
    the loopback.
    """
    names = [f"pydino{os.getpid()}-{i}" for i in (1, 2)]
    a, b = names
    commands = [
        f"ip netns add {a}",
        f"ip netns add {b}",
        f"ip link add m1 netns {a} type veth peer name m2 netns {b}",
    ]
    for i, name in enumerate(names, 1):
        commands += [
            f"ip -n {name} link set lo up",
            f"ip -n {name} addr add 10.9.0.{i}/24 dev m{i}",
            f"ip -n {name} link set m{i} up",
        ]
    try:
        for command in commands:
            done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"network namespaces need root and ip: {done.stderr.strip()}")
        yield [["nsenter", f"--net=/run/netns/{name}"] for name in names]
    finally:
        for name in names:
            subprocess.run(["sh", "-c", f"ip netns del {name}"], capture_output=True)


def test_two_machines_meet_without_names_and_train_as_one(data, machines, tmp_path):
    train(data, tmp_path / "one", 1)
    dump_config(CONFIG, tmp_path / "two.yaml")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("GLOO_SOCKET_IFNAME", None)
    ask = "from pydino.jobs.launch.addresses import address_towards; print(address_towards(['node2', '10.9.0.2']))"
    here = subprocess.check_output(
        [*machines[0], sys.executable, "-c", ask], env=environment, text=True
    ).strip()
    assert here == "10.9.0.1"
    launch = [
        sys.executable,
        "-m",
        "pydino",
        "launch",
        "--num-nodes",
        "2",
        "--meet",
        f"{here}:20123",
        "--",
        "train-dino",
        "--threads",
        "1",
    ]
    processes = [
        subprocess.Popen(
            [*machine, *launch, "--config", str(tmp_path / "two.yaml"), str(data), str(tmp_path / "two")],
            env={**environment, "SLURM_NODEID": str(i)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i, machine in enumerate(machines)
    ]
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    (one, _), (two, _) = outcome(tmp_path / "one"), outcome(tmp_path / "two")
    for name in one:
        assert torch.allclose(one[name].float(), two[name].float(), atol=2e-5), name
