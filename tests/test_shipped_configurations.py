"""The DINO configurations in the egs folders: every one can be loaded, and those of VoxCeleb are the systems
that they are named after.
"""

from pathlib import Path

import pytest

from pydino.base import load_config
from pydino.models import DinoHead, build_encoder
from pydino.train.methods.dino import DinoConfig

EGS = Path(__file__).parent.parent / "egs"
PATHS = sorted(EGS.glob("*/conf/dino*.yaml"))


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def voxceleb(name):
    return load_config(DinoConfig, EGS / "voxceleb/conf" / name)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.parent.name}-{path.stem}")
def test_every_configuration_is_valid_and_says_what_it_is(path):
    load_config(DinoConfig, path)
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
