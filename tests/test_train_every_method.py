"""What every method promises, on tiny archives: several processes train as one, a run that was killed resumes
exactly, neither names nor labels that it does not read have a say, micro-batches add up, and no step waits. The
methods are those of small_methods.py.
"""

import json

import pytest
import torch
from forks import Forks
from small_methods import ROWS, Training
from test_train_dino import log_lines, make_data, make_train_set
from torch.utils._python_dispatch import TorchDispatchMode

from pydino.base import dump_config
from pydino.kaldi import read_table, write_table
from pydino.train import find_method, method_names

NAMES = [f"s{i % 4}-u{i:02d}" for i in range(20)]
RENAMED = [f"x{(i * 7) % 20:02d}" for i in range(20)]  # in another order
EVERY = pytest.mark.parametrize("name", ROWS)


def test_every_method_has_a_row():
    """Of those that are trained for a task, test_train_classifier.py tests the same."""
    trained = {name for name in method_names() if not find_method(name).of_task}
    missing = trained - {row.config["method"] for row in ROWS.values()}
    assert not missing, f"add to ROWS in tests/small_methods.py: {', '.join(sorted(missing))}"


def make_world(folder, names, groups, emotions):
    """A pre-training directory, and labels and clusters of its utterances; ``emotions`` and the speakers in the
    names are labels that no training may read.
    """
    make_data(folder / "source", names, labels={"utt2emotion": dict(zip(names, emotions, strict=True))})
    make_train_set(folder / "source", folder / "train")
    (folder / "clusters").mkdir()
    for path in ("labels", "clusters/utt2cluster"):
        write_table(folder / path, dict(zip(names, groups, strict=True)))
    (folder / "clusters/clusters.json").write_text(json.dumps({"labels": "pseudo"}))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two copies of the same recordings, of which everything has another name in the second."""
    folder = tmp_path_factory.mktemp("every")
    one, other = folder / "one", folder / "other"
    make_world(one, NAMES, [f"c{i % 6}" for i in range(20)], ["sad" if i % 3 else "happy" for i in range(20)])
    make_world(
        other, RENAMED, [f"z{9 - i % 6}" for i in range(20)], ["happy" if i % 4 else "sad" for i in range(20)]
    )
    hashes = read_table(one / "train/utt2hash")
    table = {new: hashes[old] for old, new in zip(NAMES, RENAMED, strict=True)}
    write_table(other / "train/utt2hash", table)
    return folder


@pytest.fixture(scope="module")
def forks():
    with Forks() as forks:
        yield forks


@pytest.fixture(scope="module")
def train(world, forks):
    """A function that trains a row once in every way that is asked for; returns the folder of the run."""

    def run(name, exp, of="one", **options):
        where = world / "exp" / name / exp
        where.parent.mkdir(parents=True, exist_ok=True)
        dump_config(ROWS[name].config, where.parent / "conf.yaml")
        words = ["--config", str(where.parent / "conf.yaml"), "--num-threads", "1"]
        if ROWS[name].option:
            words += [ROWS[name].option, str(world / of / ROWS[name].option.removeprefix("--"))]
        if not (where / ".done.train").exists():
            forks.run(["train", *words, str(world / of / "train"), str(where)], **options)
        return where

    return run


def state(exp):
    """All that a checkpoint has of the method: networks, queues, labels."""
    newest = sorted((exp / "checkpoints").glob("*.pt"))[-1]
    found = torch.load(newest, weights_only=True)["method"]
    return {name: value.nan_to_num(9) for name, value in found.items()}


def assert_same_run(a, b):
    one, other = state(a), state(b)
    assert one.keys() == other.keys() and not [
        name for name in one if not torch.equal(one[name], other[name])
    ]
    assert log_lines(a) == log_lines(b)


@EVERY
def test_two_processes_train_as_one(train, name):
    """Batch norm, what is gathered from all processes, with and without gradient, clipping, means in the log."""
    one, two = train(name, "one"), train(name, "two", processes=2)
    a, b = state(one), state(two)
    apart = {key: (a[key].double() - b[key].double()).abs().max().item() for key in a}
    assert not {key: far for key, far in apart.items() if far > 1e-4}
    for line, other in zip(log_lines(one), log_lines(two), strict=True):
        assert line == pytest.approx(other, rel=2e-3, abs=1e-5)


@EVERY
def test_killed_inside_an_epoch_and_resumed_equals_uninterrupted(train, name):
    """Bit for bit: networks, and whatever else chooses what comes next, such as queues and labels."""
    whole = train(name, "one")
    step = 3 * log_lines(whole)[-1]["step"] // 4
    train(name, "cut", killed_after=step)
    assert sorted((whole.parent / "cut/checkpoints").glob("*.pt"))[-1].name == f"step{step:09d}.pt"
    assert_same_run(whole, train(name, "cut"))


@EVERY
def test_names_and_labels_that_are_not_read_have_no_say(train, name):
    """Utterances, and the clusters or labels that a method is given, have other names and another order; the
    speakers and emotions beside the recordings are others.
    """
    assert_same_run(train(name, "one"), train(name, "renamed", of="other"))


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.method.splits_batch])
def test_micro_batches_add_up_to_the_large_batch(world, name):
    """The same updates, batch norm's statistics aside: here they are held fixed."""
    outcomes = []
    for number in (1, 4):
        training = Training(name, world / "one", number)
        for network in training.method.children():
            network.eval()
        watched = [training.update(step) for step in range(6)][-1]
        outcomes.append((training.method.state_dict(), watched))
    (whole, one), (parts, several) = outcomes
    for key in whole:
        assert torch.allclose(whole[key], parts[key], atol=1e-4, equal_nan=True), key
    for key in one:
        assert torch.allclose(one[key].float(), several[key].float(), rtol=1e-3, atol=1e-4), key


class NoReading(TorchDispatchMode):
    """Fails where a number is read back, for which a GPU would have to finish all that was given to it."""

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        waits = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::is_nonzero")
        assert function.name().split(".")[0] not in waits, function
        return function(*arguments, **(keywords or {}))


@EVERY
def test_a_step_asks_the_device_for_nothing(world, name):
    """Between the batch and the update; step 3 is inside the second epoch."""
    training = Training(name, world / "one")
    batches = training.pipeline.sampler[3]
    with NoReading():
        training.update(3, batches)
