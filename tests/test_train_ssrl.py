"""Pseudo-labels that are corrected in training, by ssrl and dlg-lc, on tiny archives: wrong ones are found and
corrected; labels are frozen for an epoch.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_train_dino import BANDS, log_lines, make_data, make_train_set

from pydino.base import ConfigError, config_from_dict, dump_config
from pydino.cli import main
from pydino.data import EpochSampler, Labels, TrainingSet, ViewMaker, ViewSampler
from pydino.kaldi import ArchiveWriter, read_table, write_table
from pydino.ssl import NONE, fit_loss_mixture, mode_of_queue, new_queue, push
from pydino.train import DistributedContext, Setup, find_method, load_training_config
from pydino.train.label_correction import Records
from pydino.train.loop import completes, make_optimiser, parameters_of, update
from pydino.train.methods.dlg_lc import DlgLcConfig
from pydino.train.methods.ssrl import SsrlConfig

ROOT = Path(__file__).parent.parent
NAMES = [f"s{i % 4}-u{i:02d}" for i in range(20)]
CONFIG = {
    "epochs": 5,
    "batch_size": 8,
    "margin_warmup_epochs": 2,
    "on_collapse": "warn",
    "crops": {"global_seconds": [0.5, 0.6]},
    "clean_seconds": [0.7, 0.8],
    "encoder": {"name": "tdnn", "channels": 8, "pooled_channels": 8, "embedding_dim": 8},
    "optimiser": {"warmup_epochs": 1},
    "augment": {"babble_probability": 0.0},
}
SSRL = {**CONFIG, "method": "ssrl", "fixed_epochs": 1, "queue": 3, "copies": 1}
DLG_LC = {**CONFIG, "method": "dlg-lc", "ungated_epochs": 1, "uncorrected_epochs": 2, "confidence": 0.0}
BOTH = pytest.mark.parametrize("config", [SSRL, DLG_LC], ids=lambda config: config["method"])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("living")
    make_data(folder / "source", NAMES)
    make_train_set(folder / "source", folder / "train")
    return folder / "train"


def cluster_folder(folder, table):
    """What steps/cluster.sh leaves."""
    folder.mkdir(parents=True)
    write_table(folder / "utt2cluster", table)
    (folder / "clusters.json").write_text(json.dumps({"labels": "pseudo"}))
    return folder


@pytest.fixture(scope="module")
def clusters(tmp_path_factory):
    """Six clusters of three or four."""
    table = {name: f"c{i % 6}" for i, name in enumerate(NAMES)}
    return cluster_folder(tmp_path_factory.mktemp("clusters") / "clusters", table)


def arguments(data, clusters, exp, config):
    dump_config(config, exp.parent / f"{exp.name}.yaml")
    options = ["--config", str(exp.parent / f"{exp.name}.yaml"), "--num-threads", "1"]
    return ["train", *options, "--clusters", str(clusters), str(data), str(exp)]


def state(exp):
    newest = sorted((exp / "checkpoints").glob("*.pt"))[-1]
    return torch.load(newest, weights_only=True)["method"]


def method_and_sampler(data, config, micro_batches=1, **options):
    config = {**config, "compute": {"accumulation": micro_batches}, **options}
    method = find_method(config["method"])
    config = config_from_dict(method.Config, config)
    torch.manual_seed(0)
    dataset, groups = TrainingSet(data), config.view_groups
    sampler = ViewSampler(
        dataset,
        config.crops,
        groups,
        EpochSampler(dataset.hashes, config.batch_size, 0),
        0.01,
        0,
        accumulation=micro_batches,
    )
    views = ViewMaker(groups, config.normalisation, BANDS, 0.01, 0, "cpu")
    labels = Labels(dataset.hashes, np.arange(20) % 6, [str(i) for i in range(6)])
    return method(Setup(config, BANDS, 13, 2.5, DistributedContext(), labels)), views, sampler


def steps_of(method, views, sampler, steps):
    """Train, as the loop does; yield the step, its batches, and what :meth:`evaluate` returned."""
    parameters = parameters_of(method.parameter_groups())
    optimiser = make_optimiser(method.parameter_groups(), method.config.optimiser)
    for step in steps:
        batches = sampler[step]
        metrics = update(method, views, optimiser, parameters, batches, step, 0.01, 3.0)
        ended = completes(step + 1, 2.5)
        yield step, batches, metrics, method.evaluate((step + 1) / 2.5, False)[0] if ended else None


@pytest.mark.parametrize("method", ["ssrl", "dlg-lc"])
def test_wrong_labels_are_found_and_mended(tmp_path, method):
    """Four classes, told apart by which bands vary most; a fifth of the labels are of another class."""
    names = [f"u{i:02d}" for i in range(60)]
    make_data(tmp_path / "source", names, silence=False)
    with ArchiveWriter(tmp_path / "source/f.ark", tmp_path / "source/feats.scp") as feats:
        for i, (name, frames) in enumerate(read_table(tmp_path / "source/utt2num_frames").items()):
            width = np.where(np.arange(BANDS) % 4 == i % 4, 2.0, 0.5)
            frames = np.random.default_rng(i).normal(size=(int(frames), BANDS))
            feats.write(name, (frames * width).astype(np.float32))
    make_train_set(tmp_path / "source", tmp_path / "train")
    wrong = {name: (i // 5 + 1) % 4 if i % 5 == 0 else i % 4 for i, name in enumerate(names)}
    off = {i for i, name in enumerate(names) if wrong[name] != i % 4}
    config = {
        **CONFIG,
        **{
            "method": method,
            "epochs": 10,
            "batch_size": 12,
            "encoder": {"name": "statistics", "mean": False},
        },
        "optimiser": {"lr": 0.02, "warmup_epochs": 1},
        "augment": {"reverberation_probability": 0.0, "noise_probability": 0.0, "time_mask_frames": 0},
        **(
            {"momentum": 0.8, "final_momentum": 0.95}
            if method == "ssrl"
            else {"ungated_epochs": 3, "uncorrected_epochs": 4}
        ),
    }
    given = cluster_folder(tmp_path / "clusters", {name: f"c{label}" for name, label in wrong.items()})
    assert main(arguments(tmp_path / "train", given, tmp_path / "exp", config)) == 0
    trained, hashes = state(tmp_path / "exp"), read_table(tmp_path / "train/utt2hash")
    order = sorted(names, key=lambda name: int(hashes[name]))
    true = np.array([int(name[1:]) % 4 for name in order])
    labels, weights = trained["present"].numpy(), trained["weights"].numpy()
    named = {label: np.bincount(true[labels == label]).argmax() for label in range(4)}
    right = np.array([named[label] for label in labels]) == true
    assert len(off) == 12 and right[weights > 0].mean() > 0.98 and right.mean() > 0.9
    lines = log_lines(tmp_path / "exp")
    assert lines[1]["off_cluster"] == 0 and lines[1]["trusted"] == 1
    assert lines[2]["trusted"] == pytest.approx(0.8, abs=0.1)  # nothing is relabelled yet, but found out
    assert lines[-1]["off_cluster"] == pytest.approx(0.2, abs=0.1) and lines[-1]["classes"] == 4


def test_the_loss_is_the_weighted_cross_entropy_over_the_classes_that_are_left(data):
    """One row after the other, in float64; class 4 is gone."""
    method, views, sampler = method_and_sampler(
        data, SSRL, crops={"num_global": 2, "global_seconds": [0.5, 0.5]}
    )
    labels, weights = np.arange(20) % 4, np.linspace(0, 2, 20)
    method.present.copy_(torch.from_numpy(labels)), method.weights.copy_(torch.from_numpy(weights))
    method.living[4] = False
    method.student.eval()
    batch = sampler[4][0]
    loss, metrics = method.loss(batch, views(batch), 0)
    places = np.searchsorted(sampler.dataset.hashes, batch.hashes)
    with torch.no_grad():
        x = torch.cat([method.student.encoder(view) for view in views(batch).student]).double().numpy()
    classes = method.student.output.weight.detach().double().numpy()
    terms, right = [], []
    for row, place in zip(x, np.tile(places, 2), strict=True):
        angles = np.arccos(classes @ row / np.linalg.norm(classes, axis=1) / np.linalg.norm(row))
        best = np.delete(np.arange(6), 4)[np.delete(angles, 4).argmin()]
        right.append(weights[place] * (best == labels[place]))
        angles[labels[place]] += 0.2 * 4 / 5  # the margin is full after 5 steps
        logits = np.delete(30 * np.cos(angles), 4)
        entropy = (
            np.log(np.exp(logits - logits.max()).sum()) + logits.max() - 30 * np.cos(angles[labels[place]])
        )
        terms.append(weights[place] * entropy)
    assert loss.item() == pytest.approx(np.mean(terms), rel=1e-4)
    assert metrics["accuracy"].item() == pytest.approx(np.mean(right), rel=1e-4)


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_ssrl_takes_the_mode_of_what_the_teacher_answered(data, micro_batches):
    """Labels, weights and living classes, computed again beside the run, from what the teacher says after each
    step of the clean crops in it. Twenty utterances in batches of 8: epochs begin inside a step.
    """
    method, views, sampler = method_and_sampler(data, SSRL, micro_batches)
    method.student.eval()  # so that micro-batches change nothing
    hashes, answered = sampler.dataset.hashes, []
    labels, seen_labels = method.given.numpy().copy(), []
    queue, losses = new_queue(labels, 3, 1), np.full(20, np.nan)
    living = np.ones(6, bool)
    hear, said = method.judge, []
    method.judge = lambda *given: said.append((given[1], hear(*given))) or said[-1][1]
    for step, batches, _, figures in steps_of(method, views, sampler, range(13)):
        if step < 13 and len(said):
            for batch, (seen, values) in zip(batches, said, strict=True):
                assert torch.equal(seen.group("clean"), views(batch).group("clean"))
                places = np.searchsorted(hashes, batch.hashes)
                answered += zip(places.tolist(), *(value.double().tolist() for value in values), strict=True)
        said.clear()
        if figures is None:
            assert (method.present.numpy() == labels).all()  # frozen in an epoch
            continue
        places = np.array([row[0] for row in answered], dtype=np.int64)
        assert len(places) or step < 3
        push(queue, places, np.array([row[1] for row in answered], dtype=np.int64))
        changed = mode_of_queue(queue, labels)
        living &= np.isin(np.arange(6), changed)
        queue[np.isin(queue, np.flatnonzero(~living))] = NONE
        losses[changed != labels] = np.nan
        for place, answer, of_label, of_answer in answered:
            if changed[place] == answer or changed[place] == labels[place]:
                losses[place] = of_answer if changed[place] == answer else of_label
        known, p = np.isfinite(losses), np.ones(20)
        if (mixture := fit_loss_mixture(losses[known])) is not None:
            p[known] = mixture.clean_probability(losses[known])
        assert figures["relabelled"] == np.mean(changed != labels) and figures["classes"] == living.sum()
        assert figures["trusted"] == pytest.approx(p.mean())
        labels, answered = changed, []
        seen_labels.append(labels)
        assert (method.present.numpy() == labels).all() and (method.living.numpy() == living).all()
        assert method.weights.numpy() == pytest.approx(p / p.mean(), rel=1e-5)
    assert (seen_labels[0] != seen_labels[-1]).any()


def test_ssrl_lets_a_cluster_that_nobody_has_die_for_good(data):
    """Utterances 5, 11 and 17 leave cluster 5; what is known of a loss is that of the present label."""
    method, *_ = method_and_sampler(data, SSRL)
    leaving = np.array([5, 11, 17])
    for epoch, answers in ((1, [0, 0, 1]), (2, [0, 0, 1])):
        records = np.stack([answers, [1.0, 1.0, 1.0], [-3.0, -4.0, -5.0]], axis=1)
        labels, _ = method.relabel(Records(leaving, records), epoch)
        method.present.copy_(torch.from_numpy(labels))
        assert labels[leaving].tolist() == ([5, 5, 5] if epoch == 1 else answers)
        assert method.log_losses[leaving].tolist() == ([1, 1, 1] if epoch == 1 else [-3, -4, -5])
        assert method.living.tolist() == [True] * 5 + [epoch == 1]
    assert not (method.queue == 5).any()
    method.queue[2], method.log_losses[2] = torch.tensor([3, 3, 2]), -1.0  # it moves without a new answer
    labels, weights = method.relabel(Records(np.array([], np.int64), np.empty((0, 3))), 3)
    assert labels[2] == 3 and method.log_losses[2].isnan() and weights[2] == 1


def test_dlg_lc_rejects_what_is_beyond_the_gate_and_corrects_what_it_is_sure_of(data):
    method, _, _ = method_and_sampler(data, {**DLG_LC, "confidence": 0.5})
    losses = np.where(np.arange(20) % 5 == 0, 1.0, -4.0) + np.linspace(-0.3, 0.3, 20)
    gate = fit_loss_mixture(losses).gate
    answers, probabilities = (np.arange(20) + 1) % 6, np.where(np.arange(20) < 10, 0.6, 0.4)
    records = Records(np.arange(20), np.stack([losses, answers, probabilities], axis=1))
    given, beyond = np.arange(20) % 6, losses > gate
    assert beyond.sum() == 4
    for epoch, labels, weights in (
        (0, given, np.ones(20)),
        (1, given, ~beyond),
        (2, np.where(beyond & (probabilities > 0.5), answers, given), ~beyond | (probabilities > 0.5)),
    ):
        found = method.relabel(records, epoch)
        assert (found[0] == labels).all() and (found[1] == weights).all(), epoch
    found = method.relabel(Records(np.array([], np.int64), np.empty((0, 3))), 3)
    assert (found[0] == given).all() and (found[1] == ~beyond).all()  # nothing new is known: no corrections


@BOTH
def test_the_model_changes_neither_mode_nor_statistics_where_it_judges(data, config):
    method, views, sampler = method_and_sampler(data, config)
    list(steps_of(method, views, sampler, range(8)))
    assert all(module.training for module in method.student.modules())
    if config is SSRL:
        assert not any(module.training for module in method.teacher.modules())
    assert method.student.encoder.embedding_norm.num_batches_tracked == 8


def test_the_teacher_follows_weights_and_running_statistics(data):
    method, views, sampler = method_and_sampler(data, {**SSRL, "momentum": 0.5, "final_momentum": 0.5})
    average = {name: value.clone() for name, value in method.student.state_dict().items()}
    for _ in steps_of(method, views, sampler, range(3)):
        for name, value in method.student.state_dict().items():
            average[name] = 0.5 * (average[name] + value) if value.is_floating_point() else value.clone()
    for name, value in method.teacher.state_dict().items():
        assert torch.allclose(value, average[name], atol=1e-6), name


def test_labels_are_refused_and_clusters_needed(data, tmp_path, capsys):
    table = tmp_path / "utt2label"
    write_table(table, {name: f"s{i % 3}" for i, name in enumerate(NAMES)})
    words = arguments(data, tmp_path, tmp_path / "exp", SSRL)
    assert main([*words[:5], "--labels", str(table), *words[-2:]]) == 1
    assert "must not be given any" in capsys.readouterr().err
    assert main([*words[:5], *words[-2:]]) == 1
    assert "needs clusters" in capsys.readouterr().err


def test_impossible_values_are_refused():
    for config, wrong, message in (
        (SsrlConfig, {"margin": 1.6}, "margin must be in"),
        (SsrlConfig, {"clean_seconds": [3.0, 2.0]}, "clean_seconds must be"),
        (SsrlConfig, {"copies": 6}, "copies must be between 0 and queue"),
        (SsrlConfig, {"momentum": 0.9, "final_momentum": 0.8}, "momentum must rise"),
        (SsrlConfig, {"teacher_augment": {"gain_db": 1}}, "teacher_augment changes the views"),
        (DlgLcConfig, {"uncorrected_epochs": 2}, "must not be fewer than ungated_epochs"),
        (DlgLcConfig, {"confidence": 1.5}, "confidence"),
    ):
        with pytest.raises(ConfigError, match=message):
            config_from_dict(config, wrong)


@pytest.mark.parametrize(
    "path",
    sorted(path for name in ("ssrl", "dlg-lc") for path in ROOT.glob(f"egs/*/conf/{name}.yaml")),
    ids=lambda path: f"{path.parent.parent.name}-{path.stem}",
)
def test_shipped_configurations_are_valid(path):
    method, config = load_training_config(path)
    assert path.stem.startswith(config.method) and method.reads_clusters and not method.reads_labels
    assert (
        not config.view_groups[-1].augment.noise_probability and config.view_groups[-1].seen_by == "teacher"
    )
