"""Encoders of frame-level pre-trained models: the library's values, masks, and what is trained."""

import copy

import numpy as np
import pytest
import torch
from tiny_pretrained import LARGE, MODELS, make_folder, transformers

from pydino.audio import Fbank, FbankConfig
from pydino.base import ConfigError, UserError, config_to_dict
from pydino.infer import FrontEndConfig, check_front_end
from pydino.models import build_encoder, transformer_library
from pydino.models.layer_pooling import Mhfa, WeightedStatistics
from pydino.ssl import make_teacher
from pydino.train.parameter_groups import grouped

KINDS = [(name, sizes) for name in MODELS for sizes in ({}, LARGE) if name != "wav2vec2-bert" or not sizes]
SMALL = {"heads": 4, "compressed_dim": 8, "embedding_dim": 12, "lora_rank": 2, "adapter_dim": 4}


def width(name):
    return 20 if name == "wav2vec2-bert" else 160


def encoder_of(folder, name, **options):
    encoder = build_encoder({"name": name, "folder": str(folder), **SMALL, **options}, width(name))
    encoder.load_pretrained()
    return encoder.eval()


def draw(name, batch=2, frames=50):
    torch.manual_seed(1)
    return 0.1 * torch.randn(batch, frames, width(name))


def without_dropout(encoder):
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return encoder.train()


@pytest.mark.parametrize("layer", [1, 2, 3, -1])
@pytest.mark.parametrize("name, sizes", KINDS)
def test_states_are_those_of_the_library(tmp_path, name, sizes, layer):
    """The input is normalised as by the library's own preprocessor; layers above the chosen one are left out."""
    network = make_folder(tmp_path, name, **sizes)
    encoder, x = encoder_of(tmp_path, name, pooling="statistics", layer=layer), draw(name)
    if name == "wav2vec2-bert":
        normal = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + 1e-7).sqrt()
        taken = normal.reshape(2, 25, 40)
    else:
        prepare = transformers.Wav2Vec2FeatureExtractor.from_pretrained(tmp_path)
        taken = torch.stack(
            [
                prepare(row.flatten().numpy(), sampling_rate=16000, return_tensors="pt").input_values[0]
                for row in x
            ]
        )
    with torch.no_grad():
        found = network(taken, output_hidden_states=True)
        states = found.last_hidden_state if layer == -1 else found.hidden_states[layer]
        if layer == 3 and sizes:
            states = found.last_hidden_state  # normalised, as the last one is
        wanted = torch.cat([states.mean(1), (states.var(1, correction=0) + 1e-5).sqrt()], dim=1)
        assert torch.allclose(encoder(x), wanted, atol=1e-5)
    assert encoder.embedding_dim == 32 and len(encoder.network.encoder.layers) == (
        3 if layer == -1 else layer
    )


def test_input_that_the_preprocessor_does_not_normalise_is_not(tmp_path):
    make_folder(tmp_path, "wavlm", do_normalize=False, **LARGE)
    encoder, x = encoder_of(tmp_path, "wavlm"), 0.01 * draw("wavlm")
    assert not torch.allclose(encoder(x), encoder(3 * x), atol=1e-4)
    make_folder(tmp_path, "wavlm", do_normalize=True, **LARGE)
    encoder, x = encoder_of(tmp_path, "wavlm"), draw("wavlm")
    assert torch.allclose(encoder(x), encoder(3 * x), atol=1e-4)


@pytest.mark.parametrize("pooling", ["statistics", "weighted", "mhfa"])
@pytest.mark.parametrize("name, sizes", KINDS)
def test_a_padded_row_has_the_embedding_of_its_frames_alone(tmp_path, name, sizes, pooling):
    make_folder(tmp_path, name, **sizes)
    encoder, x = encoder_of(tmp_path, name, pooling=pooling), draw(name)
    padded = x.clone()
    padded[1, 31:] = torch.nan
    with torch.no_grad():
        both = encoder(padded, torch.tensor([50, 31]))
        assert torch.allclose(both[:1], encoder(x[:1]), atol=1e-5)
        assert torch.allclose(both[1:], encoder(x[1:, :31]), atol=1e-5)


@pytest.mark.parametrize("tuning, trained", [("frozen", 0), ("lora", 12), ("adapters", 18), ("all", None)])
@pytest.mark.parametrize("name", MODELS)
def test_what_is_trained(tmp_path, name, tuning, trained):
    """Low-rank updates and adapters change nothing at first; a step of training changes what is trained, and
    nothing else.
    """
    make_folder(tmp_path, name)
    encoder = encoder_of(tmp_path, name, tuning=tuning)
    plain = encoder_of(tmp_path, name, tuning="frozen")
    for part in ("pooling", "embedding"):
        getattr(plain, part).load_state_dict(getattr(encoder, part).state_dict())
    x = draw(name)
    assert torch.allclose(encoder(x), plain(x), atol=1e-6)
    groups = grouped(encoder, list(encoder.parameters()))
    in_groups = {id(p) for group in groups for p in group.parameters}
    scales = {id(p): group.lr_scale for group in groups for p in group.parameters}
    assert scales[id(encoder.pooling.layers.weights)] == 10
    for p in encoder.parameters():
        p.requires_grad_(id(p) in in_groups)
    network = [p for p in encoder.network.parameters() if p.requires_grad]
    assert len(network) == (len(list(encoder.network.parameters())) if trained is None else trained)
    before = copy.deepcopy(encoder.state_dict())
    optimiser = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):  # the first moves only one of the two matrices of an update
        optimiser.zero_grad()
        without_dropout(encoder)(x).square().sum().backward()
        optimiser.step()
    assert all(p.grad is not None for p in encoder.parameters() if p.requires_grad)
    named = dict(encoder.named_parameters())
    for key, value in encoder.state_dict().items():
        is_trained = key in named and named[key].requires_grad
        assert is_trained or torch.equal(value, before[key]), key
    assert not torch.allclose(encoder.eval()(x), plain(x), atol=1e-4)


@pytest.mark.parametrize("tuning", ["lora", "adapters", "all"])
@pytest.mark.parametrize("name", ["wavlm", "wav2vec2-bert"])
def test_recomputed_activations_have_the_same_gradients(tmp_path, name, tuning):
    make_folder(tmp_path, name)
    encoder, x, gradients = encoder_of(tmp_path, name, tuning=tuning), draw(name), []
    for checkpointed in (False, True):
        copied = without_dropout(copy.deepcopy(encoder))
        copied.checkpointed = checkpointed
        views = [copied(x, torch.tensor(frames)) for frames in ([50, 40], [30, 50])]
        torch.cat(views).square().sum().backward()
        gradients.append([p.grad for p in copied.parameters()])
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_a_teacher_draws_nothing(tmp_path, name):
    make_folder(tmp_path, name, hidden_dropout=0.3, attention_dropout=0.3, activation_dropout=0.3)
    student, x = encoder_of(tmp_path, name, tuning="all").train(), draw(name)
    teacher = make_teacher(student)
    with torch.no_grad():
        assert not torch.equal(student(x), student(x)) and torch.equal(teacher(x), teacher(x))


@pytest.mark.parametrize("name", MODELS)
def test_half_precision(tmp_path, name):
    make_folder(tmp_path, name)
    for pooling in ("weighted", "mhfa"):
        encoder, x = encoder_of(tmp_path, name, tuning="lora", pooling=pooling), draw(name)
        wanted = encoder(x, torch.tensor([50, 31]))
        with torch.autocast("cpu", torch.bfloat16):
            found = encoder(x, torch.tensor([50, 31]))
            found.float().sum().backward()
        assert torch.allclose(found.float(), wanted, atol=0.05)


def test_a_copy_does_not_share_its_updates(tmp_path):
    """A teacher is a copy of its student."""
    make_folder(tmp_path, "wavlm")
    for tuning in ("lora", "adapters"):
        encoder, x = encoder_of(tmp_path, "wavlm", tuning=tuning), draw("wavlm")
        teacher, before = copy.deepcopy(encoder), encoder(x)
        with torch.no_grad():
            for name, p in encoder.named_parameters():
                if "added" in name:
                    p.add_(torch.randn_like(p))
        assert torch.equal(teacher(x), before) and not torch.allclose(encoder(x), before, atol=1e-4)


def test_mhfa_is_its_formula():
    torch.manual_seed(0)
    layers, heads, inner = 3, 2, 5
    pooling = Mhfa(layers, 8, inner, heads).double()
    states = [torch.randn(1, 7, 8, dtype=torch.float64) for _ in range(layers)]
    with torch.no_grad():
        for module in (pooling.key_layers, pooling.value_layers):
            module.weights.copy_(torch.randn(layers))
        shares = [module.weights.softmax(0).double() for module in (pooling.key_layers, pooling.value_layers)]
        keys, values = (sum(w * x[0] for w, x in zip(share, states, strict=True)).numpy() for share in shares)
        linear = {
            name: (module.weight.numpy(), module.bias.numpy())
            for name, module in pooling.named_children()
            if isinstance(module, torch.nn.Linear)
        }
        compressed = {
            "key": keys @ linear["key"][0].T + linear["key"][1],
            "value": values @ linear["value"][0].T + linear["value"][1],
        }
        wanted = []
        for h in range(heads):
            logits = compressed["key"] @ linear["attention"][0][h] + linear["attention"][1][h]
            weights = np.exp(logits) / np.exp(logits).sum()
            wanted.append(weights @ compressed["value"])
        assert np.allclose(pooling(states)[0].numpy(), np.concatenate(wanted))


def test_layers_have_equal_weights_at_first():
    states = [torch.randn(2, 9, 4) for _ in range(5)]
    mean = torch.stack(states).mean(0)
    wanted = torch.cat([mean.mean(1), (mean.var(1, correction=0) + 1e-5).sqrt()], dim=1)
    assert torch.allclose(WeightedStatistics(5, 4)(states), wanted, atol=1e-5)


def test_filter_banks_are_those_that_the_model_was_trained_on():
    """Of w2v-BERT 2.0, whose preprocessor imitates Kaldi's."""
    samples = (np.random.default_rng(0).normal(size=16000) * 1000).astype(np.int16)
    theirs = transformers.SeamlessM4TFeatureExtractor()(
        samples / 32768, sampling_rate=16000, do_normalize_per_mel_bins=False, return_tensors="np"
    )["input_features"][0]
    config = FbankConfig(num_mel_bins=80, dither=0.0, snip_edges=True, use_energy=False)
    (ours,) = Fbank(config)([samples.astype(np.float32)])
    assert np.allclose(ours[: len(ours) // 2 * 2].reshape(-1, 160).numpy(), theirs, atol=2e-3)


def test_sizes_can_be_known_without_memory(tmp_path):
    make_folder(tmp_path, "wavlm")
    with torch.device("meta"):
        assert (
            build_encoder({"name": "wavlm", "folder": str(tmp_path), "tuning": "adapters"}, 160).min_input
            == 3
        )


def test_the_library_is_optional(tmp_path, monkeypatch):
    make_folder(tmp_path, "wavlm")
    monkeypatch.setattr(transformer_library, "is_installed", lambda: False)
    with pytest.raises(UserError, match="utils/setup.sh transformers"):
        encoder_of(tmp_path, "wavlm")


def test_data_of_another_rate_or_other_filter_banks_are_refused():
    features = {"kind": "fbank", "sample_frequency": 8000.0}
    with pytest.raises(UserError, match="sample_frequency: 16000"):
        check_front_end({"name": "wavlm", "sample_rate": 16000}, FrontEndConfig(8000, features), "data/train")
    features = {"kind": "fbank", **config_to_dict(FbankConfig(high_freq=7600.0))}
    with pytest.raises(UserError, match="'high_freq: 0.0'"):
        check_front_end({"name": "wav2vec2-bert"}, FrontEndConfig(16000, features), "data/train")


def test_filter_banks_of_another_size_are_refused(tmp_path):
    make_folder(tmp_path, "wav2vec2-bert")
    with pytest.raises(ConfigError, match="num_mel_bins: 20"):
        build_encoder({"name": "wav2vec2-bert", "folder": str(tmp_path)}, 24)
