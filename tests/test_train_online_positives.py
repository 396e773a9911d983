"""Targets from a memory of other utterances: which they are, when they begin, and what is refused. That processes,
micro-batches, kills and names make no difference: test_train_every_method.py.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_methods import OSPS, ROWS, Training, row
from test_train_dino import make_data, make_train_set

from pydino.base import ConfigError, config_from_dict
from pydino.train import DistributedContext
from pydino.train.methods.contrastive import ContrastiveConfig
from pydino.train.methods.dino import DinoConfig
from pydino.train.online_positives import OnlinePositives
from pydino.train.positives_config import OnlinePositivesConfig
from pydino.train.run import LATER, _is_default


def online(nearest_clusters=0, seed=0):
    """Two utterances a step; from step 4 on, three clusters on the axes of three dimensions, two views."""
    config = OnlinePositivesConfig(start_epoch=2, clusters=3, memory=2, nearest_clusters=nearest_clusters)
    of_run = SimpleNamespace(osps=config, crops=SimpleNamespace(num_global=2))
    setup = SimpleNamespace(config=of_run, seed=seed, steps_per_epoch=2.0, distributed=DistributedContext())
    made = OnlinePositives(setup, 3)
    made.clusters.centroids.copy_(torch.nn.functional.normalize(torch.tensor(AXES), dim=-1))
    return made


# the second is nearest to the first, and the third to the second
AXES = [[1.0, 0.0, 0.0], [0.9, 0.5, 0.0], [0.0, 1.0, 1.0]]


def seen(step, *hashes):
    return SimpleNamespace(
        step=step, hashes=np.array(hashes, dtype=np.uint64), visits=np.full(len(hashes), step // 2)
    )


def of_clusters(*numbers):
    """Embeddings (2, b, 3) that are each one's own, near to centroids; the views differ in length."""
    own = torch.tensor([AXES[k] for k in numbers]) * torch.arange(1.0, len(numbers) + 1)[:, None]
    return torch.stack([own, 10 * own])


def test_the_target_is_another_utterance_of_the_nearest_cluster_in_an_earlier_step():
    positives = online()
    first = of_clusters(0, 2)
    assert positives.targets(first, seen(3, 11, 12)) is first and positives.share(0) == 0
    positives.end_step()
    now = of_clusters(2, 0, 1)
    found = positives.targets(now, seen(4, 13, 14, 15))
    # of both views, that of the same view; the third's cluster has nothing yet, and not the others of the step
    assert torch.equal(found[:, :2], first[:, [1, 0]]) and torch.equal(found[:, 2], now[:, 2])
    assert positives.share(0) == pytest.approx(2 / 3)
    positives.end_step()
    # an utterance is not its own other one
    again = of_clusters(1)
    assert torch.equal(positives.targets(again, seen(5, 15)), again) and positives.share(0) == 0
    found = positives.targets(again, seen(5, 16))
    assert torch.equal(found, now[:, 2:]) and positives.share(1) == 1


def test_or_of_the_nearest_other_clusters():
    positives, first = online(nearest_clusters=1), of_clusters(0, 1, 2)
    positives.targets(first, seen(3, 11, 12, 13))
    positives.end_step()
    found = positives.targets(of_clusters(0, 1, 2), seen(4, 21, 22, 23))
    assert torch.equal(found, first[:, [1, 0, 1]])
    both = online(nearest_clusters=2)
    both.targets(first, seen(3, 11, 12, 13))
    both.end_step()
    many = both.targets(of_clusters(*[0] * 200), seen(4, *range(20, 220)))
    drawn = [(many[0, :, :] == first[0, k]).all(1).sum().item() for k in range(3)]
    assert drawn[0] == 0 and sum(drawn) == 200 and 70 < drawn[1] < 130


def test_what_is_drawn_depends_on_seed_utterance_and_visit_alone():
    def targets(order, seed=0, step=4):
        positives = online(seed=seed)
        positives.targets(of_clusters(*[0] * 40), seen(3, *range(40)))
        positives.end_step()
        now = of_clusters(*[0] * 30)[:, order]
        return positives.targets(now, seen(step, *(100 + np.arange(30)[order])))[:, np.argsort(order)]

    forward, shuffled = np.arange(30), np.random.default_rng(0).permutation(30)
    assert torch.equal(targets(forward), targets(shuffled))
    assert not torch.equal(targets(forward), targets(forward, seed=1))
    assert not torch.equal(targets(forward), targets(forward, step=6))


def test_revived_clusters_have_no_memory():
    positives = online()
    positives.targets(of_clusters(0, 1), seen(0, 11, 12))
    positives.end_step()
    assert positives.end_epoch(1) == {"clusters_in_use": 0.6667}
    assert positives.memory.pushed.tolist() == [1, 1, 0]
    assert positives.end_epoch(2) == {"clusters_in_use": 0.0}
    assert positives.memory.pushed[:2].tolist() == [0, 0]


def test_a_run_is_dino_until_it_begins(tmp_path, monkeypatch):
    make_data(tmp_path / "source", [f"u{i:02d}" for i in range(20)])
    make_train_set(tmp_path / "source", tmp_path / "train")
    own = {**ROWS["dino with osps"].config, "positives": "own", "osps": {}}
    monkeypatch.setitem(ROWS, "own", row(**own))
    runs, shares = {name: Training(name, tmp_path) for name in ("dino with osps", "own")}, []
    for step in range(5):  # 2.5 steps an epoch
        watched = {name: run.update(step) for name, run in runs.items()}
        shares.append(watched["dino with osps"]["from_memory"].item())
        a, b = (run.method.student.state_dict() for run in runs.values())
        assert all(torch.equal(a[name], b[name]) for name in a) == (step < 3)
    assert shares[:3] == [0, 0, 0] and shares[3] > 0
    # nothing is as long as the corpus
    sizes = {
        size for buffer in runs["dino with osps"].method.online_positives.buffers() for size in buffer.shape
    }
    assert sizes <= {6, 2, 8}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"positives": "own"}, "set positives: osps, or remove osps"),
        ({"osps": {"start_epoch": 2}}, "osps.start_epoch .2. must be before the end of the run"),
        ({"osps": {"clusters": 3, "nearest_clusters": 3}}, "nearest_clusters .3. must be below clusters .3."),
        ({"osps": {"momentum": 1.5}}, "momentum must be in"),
        ({"osps": {"cluster": 3}}, "did you mean 'clusters'"),
    ],
)
def test_impossible_options(change, message):
    with pytest.raises(ConfigError, match=message):
        config_from_dict(DinoConfig, {"epochs": 2, "positives": "osps", "osps": OSPS, **change})


def test_contrastive_learning_has_no_memory():
    with pytest.raises(ConfigError, match="positives.*own.*cluster.*ssps"):
        config_from_dict(ContrastiveConfig, {"positives": "osps"})


def test_a_finished_run_of_before_this_option_is_still_finished():
    assert "osps" in LATER and _is_default(DinoConfig(), "osps")
