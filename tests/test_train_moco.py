"""InfoNCE, the queue and MoCo: against their definitions, written out one row after the other."""

import math
from collections import deque

import numpy as np
import pytest
import torch
from small_methods import ROWS, SMALL, Training
from test_train_dino import make_data, make_train_set

from pydino.base import ConfigError, config_from_dict
from pydino.ssl import enqueue, infonce, random_queue
from pydino.train.methods.moco import MocoConfig

NAMES = [f"u{i:02d}" for i in range(20)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moco")
    make_data(folder / "source", NAMES)
    make_train_set(folder / "source", folder / "train")
    return folder


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def by_definition(queries, keys, queue, temperature):
    """In float64; also the gradient of the loss by the queries of length one: 1/(B T) (sum_j p_j n_j - k)."""
    terms, found = [], 0
    for q, k in zip(unit(queries), unit(keys), strict=True):
        cosines = np.array([q @ k, *(q @ n for n in queue)])
        terms.append(-math.log(np.exp(cosines[0] / temperature) / np.exp(cosines / temperature).sum()))
        found += cosines.argmax() == 0
    return np.mean(terms), found / len(terms)


@pytest.mark.parametrize("parts", [1, 2, 6])
def test_infonce_is_its_definition_whole_or_in_parts(parts):
    draw = np.random.default_rng(0)
    queries, keys, queue = (
        3 * draw.normal(size=(6, 4)),
        draw.normal(size=(6, 4)),
        unit(draw.normal(size=(9, 4))),
    )
    keys += 0.5 * queries
    q, k, n = (torch.from_numpy(x).float() for x in (queries, keys, queue))
    found = [infonce(*both, n, 0.2) for both in zip(q.chunk(parts), k.chunk(parts), strict=True)]
    loss, accuracy = by_definition(queries, keys, queue, 0.2)
    assert np.mean([float(part[0]) for part in found]) == pytest.approx(loss, rel=1e-5)
    assert np.mean([float(part[1]) for part in found]) == pytest.approx(accuracy) and 0 < accuracy < 1


def test_one_point_is_a_loss_of_the_logarithm_of_all_candidates_and_nothing_is_found():
    same = torch.ones(4, 3)
    loss, accuracy = infonce(same, same, same[:1].expand(9, 3) / 3**0.5, 0.1)
    assert loss.item() == pytest.approx(math.log(10)) and accuracy == 0


def test_only_the_queries_have_a_gradient():
    """That of q of length one is 1 / (B T) (sum_j p_j n_j - (1 - p) k), less its part along q."""
    torch.manual_seed(0)
    q = torch.nn.functional.normalize(torch.randn(3, 5, dtype=torch.float64), dim=1).requires_grad_()
    k, n = torch.randn(3, 5, requires_grad=True), random_queue(7, 5)
    infonce(q, k, n, 0.5)[0].backward()
    assert k.grad is None and n.grad is None
    for row, key, found in zip(
        unit(q.detach().numpy()), unit(k.detach().numpy()), q.grad.numpy(), strict=True
    ):
        others = np.stack([key, *n.numpy()])
        p = np.exp(others @ row / 0.5)
        towards = ((p / p.sum()) @ others - key) / (3 * 0.5)
        np.testing.assert_allclose(found, towards - (towards @ row) * row, atol=1e-6)


def test_the_queue_holds_the_last_keys_the_newest_batch_first():
    queue, expected = random_queue(7, 3), deque(maxlen=7)
    expected.extend(reversed(queue.tolist()))
    for size in (3, 2, 7, 1, 5):
        keys = torch.randn(size, 3)
        enqueue(queue, keys)
        expected.extend(unit(keys.numpy())[::-1].tolist())
        np.testing.assert_allclose(queue.numpy(), list(expected)[::-1], atol=1e-6)


def test_a_run_is_momentum_contrast(world):
    """Query, key, teacher and queue, computed again beside the run from the weights before each step."""
    training = Training("moco", world)
    method, config = training.method, training.method.config
    queue = method.queue.numpy().copy()
    average = {name: value.detach().clone() for name, value in method.student.named_parameters()}
    for step in range(4):
        (batch,) = training.pipeline.sampler[step]
        query, key = training.pipeline.views(batch).tensors
        assert query.shape == key.shape and not torch.equal(query, key)
        with torch.no_grad():
            keys = method.teacher.projector(method.teacher.encoder(key)).numpy()
            queries = method.student.projector(method.student.encoder(query)).numpy()
        metrics = training.update(step)
        loss, accuracy = by_definition(queries, keys, queue, config.temperature)
        assert float(metrics["loss"]) == pytest.approx(loss, rel=1e-4)
        assert float(metrics["accuracy"]) == pytest.approx(accuracy)
        queue = np.concatenate([unit(keys), queue])[: len(queue)]
        np.testing.assert_allclose(method.queue.numpy(), queue, atol=1e-5)
        for name, value in method.student.named_parameters():
            average[name] = 0.9 * average[name] + 0.1 * value.detach()
            assert torch.allclose(method.teacher.get_parameter(name), average[name], atol=1e-6), name


def test_the_teacher_sees_its_own_augmentation_and_the_model_is_the_student():
    clean = {"noise_probability": 0.0, "time_mask_frames": 0}
    config = config_from_dict(MocoConfig, {**ROWS["moco"].config, "teacher_augment": clean})
    query, key = config.view_groups
    assert (query.seen_by, key.seen_by) == ("student", "teacher") and query.number == key.number == 1
    assert query.augment.noise_probability and query.augment.time_mask_frames
    assert not key.augment.noise_probability and not key.augment.time_mask_frames
    assert ROWS["moco"].method.roles == ("student", "teacher") and config.name == "moco"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"crops": {"num_local": 1}}, "crops.num_global to 2"),
        ({"crops": {"num_global": 1}}, "crops.num_global to 2"),
        ({"queue": 7}, "queue must be between 8 and"),
        ({"momentum": 1.1}, "momentum must be in"),
        ({"temperature": 0}, "temperature"),
        ({"projector_dim": -1}, "projector_dim"),
    ],
)
def test_impossible_options(change, message):
    with pytest.raises(ConfigError, match=message):
        config_from_dict(MocoConfig, {**SMALL, "method": "moco", **change})
