"""What a user may write into a YAML file by mistake, at every key of every configuration: an error that names the
key, or a configuration that can be built; never an error of Python's or PyTorch's own.
"""

import copy

import pytest
import torch
from small_methods import ROWS
from test_shipped_configurations import EGS

from pydino.audio import KINDS, VadConfig
from pydino.backend.clustering import clustering_settings
from pydino.backend.clustering.methods import METHODS
from pydino.base import ConfigError, config_from_dict, config_to_dict, read_yaml
from pydino.data import AugmentedCropsConfig
from pydino.models import ENCODERS, DinoHead, HeadConfig, build_encoder, resolve_encoder
from pydino.models.architecture import KEYS
from pydino.recipe.schema import Recipe
from pydino.recipe.study import Study
from pydino.train import find_method

# of a wrong sign, too large, no number, another type, of another length
WRONG = [
    -1,
    0,
    0.5,
    10**12,
    float("nan"),
    -1e308,
    1e308,
    "x",
    "",
    None,
    True,
    [],
    [0],
    [-1, -1],
    [1e12] * 2,
    {},
]
PRETRAINED = tuple(KEYS)
NEEDED = dict.fromkeys(("kmeans", "ward", "average"), {"num_clusters": 9})
NEEDED["plda-ahc"] = {"num_clusters": 9, "first_num_clusters": 20}


def keys_of(mapping, prefix=()):
    for key, value in mapping.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from keys_of(value, (*prefix, key))


def wrong(mapping):
    """Yield every mapping in which one value is another."""
    for path in keys_of(mapping):
        for value in WRONG:
            changed = copy.deepcopy(mapping)
            group = changed
            for key in path[:-1]:
                group = group[key]
            group[path[-1]] = value
            yield ".".join(path), value, changed


def check(mapping, build, least_refused):
    """``build`` a configuration of every mapping that is wrong in one place."""
    refused, names = 0, [path[-1] for path in keys_of(mapping)]
    for key, value, changed in wrong(mapping):
        try:
            build(changed)
        except ConfigError as error:
            # its own, or that of another that it does not go with
            assert any(name in str(error) for name in names), (key, value, error)
            refused += 1
        except Exception as error:
            raise AssertionError(f"{key}: {value!r}: {type(error).__name__}: {error}") from error
    assert refused >= least_refused


def views_of(cls):
    """A function that builds a configuration of a training, and its views."""

    def build(mapping):
        config = config_from_dict(cls, mapping, "x.yaml")
        assert config.view_groups and config.longest_seconds > 0 and config.name
        if isinstance(getattr(config, "head", None), HeadConfig):
            with torch.device("meta"):
                DinoHead(config.head, 8)

    return build


@pytest.mark.parametrize("name", sorted(set(ENCODERS) - set(PRETRAINED)))
def test_encoders(name):
    """Those of frame-level pre-trained models: test_models_pretrained_folder.py."""

    def build(mapping):
        with torch.device("meta"):  # no memory is taken
            build_encoder(mapping, 80)

    check(resolve_encoder({"name": name}), build, 10)


@pytest.mark.parametrize(
    "name", ["sdpn with osps", "contrastive with ssps", "moco", "xvector", "ssrl", "dlg-lc"]
)
def test_trainings(name):
    cls = ROWS[name].method.Config
    mapping = config_to_dict(config_from_dict(cls, ROWS[name].config))
    mapping["encoder"] = {"name": "tdnn"}
    check(mapping, views_of(cls), 400)


def test_trainings_for_a_task():
    cls = find_method("classifier").Config
    mapping = config_to_dict(config_from_dict(cls, {"method": "classifier"}))
    check(mapping, views_of(cls), 400)


@pytest.mark.parametrize("kind", [*KINDS, "vad", "crops"])
def test_the_front_end(kind):
    cls = {"vad": VadConfig, "crops": AugmentedCropsConfig}.get(kind) or KINDS[kind][0]
    check(config_to_dict(cls()), lambda mapping: config_from_dict(cls, mapping), 20)


@pytest.mark.parametrize("name", METHODS)
def test_clusters(name):
    mapping = {"method": name, **NEEDED.get(name, {})}
    mapping = {"method": name, **config_to_dict(clustering_settings(mapping, "x.yaml")[1])}
    check(mapping, lambda mapping: clustering_settings(mapping, "x.yaml"), 20)


@pytest.mark.parametrize("path", ["mini/conf/smoke.yaml", "voxceleb/conf/recipe.yaml"])
def test_recipes(path):
    check(read_yaml(EGS / path), lambda mapping: config_from_dict(Recipe, mapping), 100)


@pytest.mark.parametrize("path", sorted(EGS.glob("*/conf/studies/*.yaml")), ids=lambda path: path.stem)
def test_studies(path):
    check(read_yaml(path), lambda mapping: config_from_dict(Study, mapping), 10)
