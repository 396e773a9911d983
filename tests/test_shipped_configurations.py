"""The DINO configurations in the egs folders: every one can be loaded, and those of VoxCeleb are the systems
that they are named after.
"""

from pathlib import Path

import pytest

from pydino.base import config_to_dict, load_config, read_yaml
from pydino.models import DinoHead, build_encoder
from pydino.recipe.methods import method_of
from pydino.recipe.schema import Recipe
from pydino.train.config import TrainingConfig
from pydino.train.methods import load_training_config
from pydino.train.methods.dino import DinoConfig
from pydino.train.methods.xvector import XvectorConfig
from pydino.train.schedules import learning_rate

EGS = Path(__file__).parent.parent / "egs"
PATHS = sorted(path for pattern in ("dino", "sdpn", "rdino") for path in EGS.glob(f"*/conf/{pattern}*.yaml"))


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def voxceleb(name):
    return load_config(DinoConfig, EGS / "voxceleb/conf" / name)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.parent.name}-{path.stem}")
def test_every_configuration_is_valid_and_says_what_it_is(path):
    load_config(DinoConfig, path)
    assert path.read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("corpus", ["mini", "voxceleb"])
@pytest.mark.parametrize("system", ["sdpn", "rdino"])
def test_a_system_that_has_a_name_is_what_its_file_is_called(corpus, system):
    assert load_config(DinoConfig, EGS / corpus / "conf" / f"{system}.yaml").name == system


@pytest.mark.parametrize(
    "path", sorted(EGS.glob("*/conf/*.yaml")), ids=lambda path: f"{path.parent.parent.name}-{path.stem}"
)
def test_every_recipe_file_is_valid_and_its_program_is_there(path):
    if "stages" in read_yaml(path):
        recipe = load_config(Recipe, path)
        assert recipe.generated or (EGS.parent / f"local/{recipe.prepare}.py").exists()
        assert path.read_text(encoding="utf-8").startswith("# ")


CONTRASTIVE = sorted(path for name in ("simclr", "moco") for path in EGS.glob(f"*/conf/{name}.yaml"))


@pytest.mark.parametrize("path", CONTRASTIVE, ids=lambda path: f"{path.parent.parent.name}-{path.stem}")
def test_contrastive_configurations_are_what_their_names_say(path):
    method, config = load_training_config(path)
    assert config.name == path.stem and not method.reads_labels and not config.needs_clusters
    assert path.read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("name", ["simclr", "moco"])
def test_contrastive_systems_of_voxceleb_are_the_published_ones(name):
    _, config = load_training_config(EGS / f"voxceleb/conf/{name}.yaml")
    assert (config.epochs, config.batch_size, config.temperature, config.projector_dim) == (100, 256, 0.03, 0)
    assert {group.seconds for group in config.view_groups} == {(2.0, 2.0)} and config.input == "audio"
    assert (config.encoder["channels"], config.encoder["embedding_dim"]) == (1024, 512)
    assert (config.optimiser.lr, config.optimiser.weight_decay, config.compute.accumulation) == (1e-3, 0, 1)
    student, teacher = config.waveform_pair
    assert student == teacher and student.reverberation_probability == student.noise_probability == 1
    rate = learning_rate(100 * 4266, 10**6, 4266, config.optimiser)
    assert rate == pytest.approx(1e-3 * 0.95**20, rel=1e-3)
    if name == "moco":
        assert (config.queue, config.momentum) == (32768, 0.999)


ROUNDS = sorted(
    path for pattern in ("round*", "margin-a*", "ssrl") for path in EGS.glob(f"*/conf/{pattern}.yaml")
)


@pytest.mark.parametrize("path", ROUNDS, ids=lambda path: f"{path.parent.parent.name}-{path.stem}")
def test_every_configuration_of_a_round_is_valid_and_trained_on_clusters(path):
    _, config = load_training_config(path)
    assert method_of(str(path)).reads_clusters and path.read_text(encoding="utf-8").startswith("# ")
    assert method_of(str(path)).name == "xvector" or config.needs_clusters


@pytest.mark.parametrize(
    "path",
    sorted(EGS.glob("*/conf/*-[so]sps.yaml")),
    ids=lambda path: f"{path.parent.parent.name}-{path.stem}",
)
def test_every_configuration_that_finds_its_positives_does_so_before_it_ends(path):
    _, config = load_training_config(path)
    assert config.positives == path.stem.rpartition("-")[2] and not config.needs_clusters
    if config.positives == "ssps":
        assert config.ssps.start_epoch + config.ssps.every_epochs < config.epochs
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_the_papers_system():
    config = voxceleb("dino.yaml")
    encoder = build_encoder(config.encoder, 80)
    assert parameters(encoder) == 1_988_912
    assert parameters(DinoHead(config.head, encoder.embedding_dim)) == 5_247_232 + 16_777_216
    assert config.method == "dino" and config.optimiser.name == "adam" and config.optimiser.clip == 0
    student, teacher = config.waveform_pair
    assert student == teacher and student.reverberation_probability == 0.45
    assert student.noise_probability == 0.7 and len(student.rirs) == 3


def test_small_memory_is_the_papers_system_computed_otherwise():
    papers, small = voxceleb("dino.yaml"), voxceleb("dino-small-memory.yaml")
    small.compute, small.augmentation_data = papers.compute, papers.augmentation_data
    assert small == papers


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dino-lresnet34.yaml", 2_483_520),
        ("dino-fwse-resnet34.yaml", 25_889_960),
        ("dino-ecapa.yaml", 6_186_048),
    ],
)
def test_the_successors_systems(name, expected):
    config = voxceleb(name)
    encoder = build_encoder(config.encoder, 80)
    assert parameters(encoder) == expected and encoder.embedding_dim == 192
    student, teacher = config.waveform_pair
    assert (
        teacher.reverberation_probability == 0.3
        and teacher.rirs == ["smallroom"]
        and teacher.noise_snr_db == [10, 28]
    )
    assert (
        student.reverberation_probability == 0.45 and teacher.noise_probability == student.noise_probability
    )
    assert config.optimiser.schedule == "exponential" and config.batch_size == 256


VALUES = {
    "voxceleb/common.yaml": {"input": "audio", "encoder.name": "lresnet34", "compute.precision": "bf16"},
    "voxceleb/dino.yaml": {
        "epochs": 70,
        "batch_size": 128,
        "encoder.name": "lresnet34",
        "encoder.embedding_dim": 256,
        "crops.placement": "independent",
        "augment.noise_probability": 0,
        "augment.time_mask_frames": 0,
        "waveform.noise_snr_db": [0, 18],
        "augmentation_data.rirs.realroom": "data/rirs/realroom.scp",
        "normalisation.cmn_window": 301,
        "loss.teacher_temperature": 0.04,
        "teacher.momentum_steps": 0,
        "optimiser.name": "adam",
        "optimiser.betas": [0.9, 0.95],
        "optimiser.lr": 0.0025,
        "optimiser.final_lr": 1e-6,
        "optimiser.weight_decay": 1e-4,
        "optimiser.warmup_epochs": 10,
        "freeze_last_layer_epochs": 1,
        "snapshot_epochs": 1,
        "koleo_weight": 0,
    },
    "voxceleb/dino-small-memory.yaml": {
        "batch_size": 128,
        "compute.precision": "fp16",
        "compute.channels_last": True,
        "compute.accumulation": 4,
        "augmentation_data.gigabytes": 1,
        "optimiser.lr": 0.0025,
    },
    "voxceleb/dino-lresnet34.yaml": {
        "epochs": 100,
        "head.output_dim": 65536,
        "head.hidden_dim": 768,
        "head.dropout": 0.01,
        "encoder.pooling": "attentive",
        "crops.num_local": 4,
        "crops.window_seconds": [6, 12],
        "augment.gain_db": 0,
        "augment.time_mask_frames": 5,
        "optimiser.name": "adamw",
        "optimiser.lr": 0.0025,
        "optimiser.betas": [0.9, 0.99],
        "optimiser.clip": 15,
        "optimiser.warmup_epochs": 5,
        "optimiser.warmup_steps": 15000,
        "teacher.momentum": 0.996,
        "teacher.momentum_steps": 500000,
        "freeze_last_layer_steps": 1500,
        "compute.precision": "bf16",
        "snapshot_epochs": 5,
        "log_steps": 100,
    },
    "voxceleb/dino-ecapa.yaml": {
        "epochs": 120,
        "encoder.name": "ecapa-tdnn",
        "encoder.dropout": 0.002,
        "head.hidden_dim": 768,
        "head.dropout": 0,
        "optimiser.lr": 0.005,
        "optimiser.final_lr": 1e-5,
        "optimiser.clip": 15,
        "compute.precision": "fp32",
        "compute.channels_last": False,
        "compute.accumulation": 1,
        "cosine_weight": 0,
    },
    "voxceleb/dino-fwse-resnet34.yaml": {
        "epochs": 100,
        "encoder.name": "fwse-resnet34",
        "head.dropout": 0.01,
        "cosine_weight": 0.1,
        "optimiser.lr": 0.005,
        "optimiser.final_lr": 1e-4,
        "optimiser.clip": 5,
        "optimiser.half_life_steps": 60000,
        "compute.accumulation": 4,
        "compute.channels_last": True,
    },
    "voxceleb/sdpn.yaml": {
        "epochs": 150,
        "batch_size": 384,
        "encoder.channels": 1024,
        "encoder.pooled_channels": 3072,
        "encoder.embedding_dim": 512,
        "head.hidden_dim": 2048,
        "head.bottleneck_dim": 256,
        "head.output_dim": 1024,
        "head.batch_norm": True,
        "head.norm_before": True,
        "head.shared_prototypes": True,
        "crops.num_global": 1,
        "crops.num_local": 4,
        "teacher_sees": "clean",
        "teacher_waveform.noise_probability": 0,
        "teacher_waveform.reverberation_probability": 0,
        "student_sees": "locals",
        "loss.target": "sinkhorn",
        "loss.student_temperature": 0.1,
        "loss.teacher_temperature": 0.025,
        "loss.sinkhorn_iterations": 3,
        "mean_entropy_weight": 1,
        "koleo_weight": 0.1,
        "koleo_views": "all",
        "waveform.noise_snr_db": [0, 15],
        "waveform.babble_speakers": [1, 1],
        "normalisation.kind": "mean",
        "normalisation.norm_vars": True,
        "optimiser.name": "sgd",
        "optimiser.lr": 0.6,
        "optimiser.final_lr": 1e-5,
        "optimiser.weight_decay": 5e-5,
        "optimiser.warmup_epochs": 10,
        "optimiser.clip": 3,
        "teacher.momentum": 0.996,
        "freeze_last_layer_epochs": 1,
    },
    "voxceleb/rdino.yaml": {
        "epochs": 70,
        "batch_size": 208,
        "encoder.channels": 1024,
        "head.output_dim": 65536,
        "head.shared_prototypes": False,
        "crops.num_global": 2,
        "teacher_sees": "augmented",
        "teacher_waveform.noise_probability": 0.71,
        "student_sees": "all",
        "loss.target": "centre",
        "loss.teacher_temperature": 0.04,
        "mean_entropy_weight": 0,
        "koleo_weight": 0,
        "variance_weight": 1.0,
        "covariance_weight": 0.2,
        "variance_ramp_epochs": 10,
        "optimiser.lr": 0.325,
    },
    "voxceleb/dino-ssps.yaml": {
        "epochs": 100,
        "batch_size": 128,
        "encoder.name": "ecapa-tdnn",
        "encoder.channels": 1024,
        "optimiser.name": "sgd",
        "optimiser.lr": 0.2,
        "optimiser.weight_decay": 5e-5,
        "ssps.start_epoch": 80,
        "ssps.every_epochs": 1,
        "ssps.nearest_clusters": 1,
        "ssps.cluster.method": "kmeans",
        "ssps.cluster.num_clusters": 25000,
        "ssps.cluster.num_iterations": 10,
    },
    "voxceleb/dino-osps.yaml": {
        "epochs": 100,
        "batch_size": 128,
        "optimiser.lr": 0.2,
        "osps.start_epoch": 75,
        "osps.clusters": 5000,
        "osps.momentum": 0.9,
        "osps.memory": 4,
        "osps.nearest_clusters": 1,
    },
    "voxceleb/dino-resnet34.yaml": {
        "epochs": 150,
        "batch_size": 384,
        "encoder.name": "resnet34",
        "head.batch_norm": True,
        "crops.global_seconds": [3, 3],
        "loss.teacher_temperature": 0.07,
        "loss.teacher_temperature_start": 0.04,
        "loss.teacher_temperature_epochs": 30,
        "optimiser.name": "sgd",
        "optimiser.lr": 0.3,
        "optimiser.final_lr": 7.5e-5,
        "optimiser.clip": 3,
        "optimiser.warmup_epochs": 20,
        "waveform.noise_snr_db": [0, 18],
        "average_snapshots": 10,
        "snapshot_epochs": 1,
    },
    "voxceleb/dino-campplus.yaml": {
        "epochs": 150,
        "encoder.name": "campplus",
        "optimiser.lr": 0.3,
        "compute.channels_last": True,
    },
    "voxceleb/round-affine.yaml": {
        "trainable": ["embedding"],
        "epochs": 30,
        "batch_size": 256,
        "crops.global_seconds": [4, 4],
        "scale": 30,
        "margin": 0.2,
        "margin_warmup_epochs": 10,
        "sub_centres": 2,
        "hard_negatives": 5,
        "hard_margin": 0.1,
        "start_from_centroids": True,
        "optimiser.name": "sgd",
        "optimiser.lr": 0.1,
        "optimiser.weight_decay": 2e-5,
        "optimiser.half_life_steps": 16000,
        "waveform.noise_snr_db": [0, 18],
    },
    "voxceleb/round-all.yaml": {
        "trainable": "all",
        "epochs": 70,
        "sub_centres": 2,
        "optimiser.lr": 0.01,
        "optimiser.half_life_steps": 32000,
    },
    "voxceleb/xvector.yaml": {
        "epochs": 70,
        "batch_size": 512,
        "crops.num_global": 1,
        "crops.num_local": 0,
        "crops.global_seconds": [4, 4],
        "scale": 30,
        "margin": 0.3,
        "margin_warmup_epochs": 20,
        "optimiser.name": "adam",
        "optimiser.lr": 0.05,
        "optimiser.final_lr": 1e-5,
        "optimiser.warmup_steps": 1000,
        "optimiser.weight_decay": 1e-5,
        "optimiser.clip": 0,
        "compute.precision": "bf16",
        "compute.accumulation": 4,
        "snapshot_epochs": 1,
    },
    "librispeech/dino-koleo.yaml": {"koleo_weight": 0.1, "epochs": 150},
    "librispeech/dino.yaml": {
        "epochs": 150,
        "batch_size": 64,
        "koleo_weight": 0,
        "optimiser.warmup_epochs": 15,
        "freeze_last_layer_epochs": 5,
    },
    "mini/dino-koleo.yaml": {"koleo_weight": 0.1, "epochs": 24},
    "mini/dino-koleo-ecapa.yaml": {
        "encoder.name": "ecapa-tdnn",
        "encoder.channels": 32,
        "encoder.pooled_channels": 96,
        "koleo_weight": 0.1,
        "epochs": 24,
    },
    "mini/dino.yaml": {"epochs": 24, "batch_size": 64, "koleo_weight": 0, "compute.precision": "auto"},
    "speechocean762/dino-koleo.yaml": {
        "epochs": 30,
        "koleo_weight": 0.1,
        "crops.num_global": 2,
        "crops.num_local": 4,
        "crops.global_seconds": [1.5, 2.0],
        "crops.local_seconds": [0.6, 1.0],
        "augment.noise_snr_db": [12, 30],
        "augment.babble_probability": 0,
    },
    "speechocean762/dino.yaml": {"koleo_weight": 0, "crops.local_seconds": [0.6, 1.0], "epochs": 30},
    "speechocean762/xvector.yaml": {
        "epochs": 30,
        "batch_size": 64,
        "margin_warmup_epochs": 10,
        "crops.num_global": 1,
        "crops.num_local": 0,
        "crops.global_seconds": [1.5, 2.0],
        "augment.reverberation_probability": 0.2,
        "augment.frequency_mask_bands": 5,
    },
}


@pytest.mark.parametrize("name", VALUES)
def test_what_the_configurations_resolve_to(name):
    path = EGS / name.replace("/", "/conf/")
    kind = {"common": TrainingConfig, "xvector": XvectorConfig}.get(path.stem, DinoConfig)
    kind = XvectorConfig if path.stem.startswith("round") else kind
    resolved = config_to_dict(load_config(kind, path))
    for key, value in VALUES[name].items():
        found = resolved
        for part in key.split("."):
            found = found[part]
        assert found == value, key
