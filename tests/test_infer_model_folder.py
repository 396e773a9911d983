"""Model folders: what is saved is what is loaded; what is wrong is named; nothing in a folder is run."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

import pydino
from pydino.base import ConfigError, UserError
from pydino.infer import save_model
from pydino.models import build_encoder

TDNN = {"name": "tdnn", "channels": 8, "pooled_channels": 16, "embedding_dim": 12}


def configuration(**changes):
    return {
        "encoder": TDNN,
        "embedding_dim": 12,
        "role": "teacher",
        "method": "dino",
        "seed": 0,
        "train_set": "train_ssl",
        "labels": "none",
        "front_end": {
            "sample_rate": 16000,
            "waveform_scale": 32768,
            "normalise_after_vad": True,
            "features": {"kind": "fbank", "num_mel_bins": 20, "dither": 0.0, "snip_edges": False},
            "vad": {"vad_energy_threshold": 5.5},
            "normalisation": {"kind": "mean"},
        },
    } | changes


def tdnn(seed=0):
    torch.manual_seed(seed)
    encoder = build_encoder(TDNN, 20)
    # as after training: the running statistics are not those it was made with
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return encoder.eval()


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "Modell mit Ümlaut"
    save_model(path, tdnn(), configuration(), "# how it was made\n")
    return path


def test_what_is_loaded_is_what_was_saved(folder):
    encoder = tdnn()
    model = pydino.load(folder)
    x = torch.randn(2, 60, 20)
    with torch.no_grad():
        torch.testing.assert_close(model.encoder(x), encoder(x), rtol=0, atol=0)
    assert (model.embedding_dim, model.config.method, model.config.role) == (12, "dino", "teacher")
    assert (
        model.front_end.options.num_mel_bins == 20 and model.front_end.config.vad.vad_energy_threshold == 5.5
    )
    assert (folder / "README.md").read_text() == "# how it was made\n"
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "config.yaml", "model.safetensors"]


def test_every_option_is_written_so_that_no_default_can_change_a_model(folder):
    written = yaml.safe_load((folder / "config.yaml").read_text())
    assert written["encoder"]["stride"] == 3 and written["front_end"]["features"]["frame_shift"] == 10.0


def test_an_unknown_key_is_named_with_the_nearest(folder):
    config = configuration()
    config["front_end"]["normalization"] = config["front_end"].pop("normalisation")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(
        ConfigError,
        match=r"config\.yaml: unknown key 'front_end\.normalization' \(did you mean 'normalisation'\?\)",
    ):
        pydino.load(folder)


@pytest.mark.parametrize(
    "place, value, said",
    [
        (("encoder", "chanels"), 3, "chanels.*channels"),
        (("front_end", "features", "num_mel_bin"), 3, "num_mel_bins"),
        (("front_end", "features", "kind"), "fbanks", "fbank"),
        (("front_end", "sample_rate"), 8000, "must agree"),
        (("embedding_dim",), 13, "embedding_dim is 13"),
        (("role",), "../pupil", "role must be a name"),
        (("encoder", "channels"), 9, "does not match the encoder"),
        (("encoder", "channels"), 20000, "does not match the encoder"),  # 10 GB, if it were made
        (("encoder", "channels"), 10**7, "channels must be between 1 and 20000"),
        (("encoder", "channels"), 10**30, "channels must be between 1 and 20000"),
        (("encoder", "stride"), 10**9, "between 1 and 1000"),
        (("encoder", "name"), ["tdnn"], "unknown name"),
        (("front_end", "features", "num_mel_bins"), 10**9, "too many"),
        (("front_end", "features", "frame_length"), 1e9, "is no length of a window"),
        (("front_end", "vad", "vad_frames_context"), 10**9, "outside 0 to 10000"),
        (("encoder", "folder"), "/etc", "no other is read"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(folder, place, value, said):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    inner = config
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=said):
        pydino.load(folder)


class Trap:
    """A pickle that leaves a file behind when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_in_place_of_the_weights_is_refused_and_not_run(folder, tmp_path):
    (folder / "model.safetensors").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(UserError, match="not a safetensors file"):
        pydino.load(folder)
    assert not (tmp_path / "sprung").exists()


def test_a_yaml_tag_that_would_run_code_is_refused_and_not_run(folder, tmp_path):
    with (folder / "config.yaml").open("a") as stream:
        stream.write(f"\nmethod: !!python/object/apply:os.system ['touch {tmp_path}/sprung']\n")
    with pytest.raises(UserError, match=r"config\.yaml"):
        pydino.load(folder)
    assert not (tmp_path / "sprung").exists()


def test_a_truncated_file_is_named(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="model.safetensors is not a safetensors file"):
        pydino.load(folder)


def test_weights_of_another_encoder_are_refused(folder):
    config = configuration(encoder=TDNN | {"channels": 9})
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"does not match the encoder.*\(8, .*\(9, "):
        pydino.load(folder)


def test_a_folder_that_is_none_says_where_the_model_is(tmp_path):
    with pytest.raises(UserError, match="no model folder"):
        pydino.load(tmp_path / "nowhere")
    save_model(tmp_path / "seed0/teacher", tdnn(), configuration(), "")
    with pytest.raises(UserError, match="seed0/teacher is one"):
        pydino.load(tmp_path / "seed0")


def test_saving_over_a_model_never_leaves_a_mixture(folder, monkeypatch):
    def full(*_):
        raise UserError("disk full")

    monkeypatch.setattr("pydino.infer.model_folder.write_text", full)
    with pytest.raises(UserError, match="disk full"):
        save_model(folder, tdnn(1), configuration(), "new")
    with pytest.raises(UserError, match="no config.yaml"):
        pydino.load(folder)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("device, said", [("cuda", "0 NVIDIA GPUs"), ("tpux", "unknown device")])
def test_a_device_that_is_not_there(folder, device, said):
    with pytest.raises(UserError, match=said):
        pydino.load(folder, device=device)


def test_importing_the_package_is_light():
    code = (
        "import sys, pydino; assert pydino.load and 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_statistics_model_is_a_folder_too(tmp_path):
    encoder = build_encoder({"name": "statistics", "mean": True}, 20)
    config = configuration(
        encoder={"name": "statistics", "mean": True},
        embedding_dim=40,
        role="statistics",
        method="fbank-stats",
    )
    save_model(tmp_path, encoder, config, "")
    x = np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)
    vector = pydino.load(tmp_path).embed_features([x])[0]
    np.testing.assert_allclose(vector[:20], x.mean(axis=0), atol=1e-6)
