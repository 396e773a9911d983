"""The larger encoders: their blocks against plain formulas, sizes, lengths, gradients, activation checkpointing
and channels last.
"""

import numpy as np
import pytest
import torch

from pydino.base import UserError
from pydino.models import ENCODERS, build_encoder, resolve_encoder
from pydino.models.blocks import SqueezeExcitation
from pydino.models.campplus import CamPlusPlusConfig, ContextMask, DenseBlock
from pydino.models.ecapa_tdnn import EcapaTdnnConfig, SeRes2Block
from pydino.models.eres2net import AttentionalFusion, Res2Block
from pydino.models.pooling import AttentivePooling
from pydino.models.transformer_library import CLASSES

SUCCESSOR = {
    "activation": "swish",
    "norm_before": False,
    "dropout": 0.01,
    "pooling": "attentive",
    "embedding_dim": 192,
}
SMALL = [
    {"name": "tdnn", "channels": 8, "pooled_channels": 12, "embedding_dim": 6},
    {"name": "lresnet34", "base_channels": 4, "embedding_dim": 6},
    {
        "name": "lresnet34",
        "base_channels": 4,
        **SUCCESSOR,
        "dropout": 0.2,
        "attention_dim": 5,
        "embedding_dim": 6,
    },
    {"name": "fwse-resnet34", "base_channels": 4, "dropout": 0.2, "attention_dim": 5, "embedding_dim": 6},
    {
        "name": "ecapa-tdnn",
        "channels": 16,
        "scale": 4,
        "pooled_channels": 24,
        "dropout": 0.2,
        "attention_dim": 5,
        "embedding_dim": 6,
    },
    {
        "name": "ecapa-tdnn",
        "channels": 16,
        "scale": 2,
        "pooled_channels": 24,
        "norm_before": True,
        "activation": "relu",
    },
    {"name": "resnet34", "base_channels": 4, "embedding_dim": 6},
    {
        "name": "campplus",
        "front_channels": 4,
        "channels": 8,
        "layers": [2, 3, 2],
        "growth": 4,
        "bottleneck_channels": 6,
        "segment_frames": 9,
        "embedding_dim": 6,
    },
    {"name": "eres2net", "base_channels": 4, "embedding_dim": 6},
]
every_encoder = pytest.mark.parametrize("config", SMALL, ids=lambda config: config["name"])


def built(config, feature_dim=20):
    torch.manual_seed(0)
    return build_encoder(config, feature_dim)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_every_encoder_of_features_that_trains_is_tried_here():
    """Those of frame-level pre-trained models are in test_models_pretrained.py."""
    assert {config["name"] for config in SMALL} == set(ENCODERS) - {"statistics"} - set(CLASSES)


PUBLISHED = [  # millions; the embedding's affine layer is counted, what follows it in training is not
    # Snyder et al. 2018, section 2.3: 24 features, without segment7 and the softmax
    ("tdnn", {"channels": 512, "pooled_channels": 1500, "embedding_dim": 512}, 24, 4.2),
    # WeSpeaker, examples/voxceleb/v2: x-vector (4.61, of which 0.26 are segment7), ECAPA-TDNN, ResNet34, CAM++
    ("tdnn", {"channels": 512, "pooled_channels": 1500, "embedding_dim": 512}, 80, 4.35),
    ("ecapa-tdnn", {}, 80, 6.19),
    ("ecapa-tdnn", {"channels": 1024, "se_reduction": 8}, 80, 14.65),
    ("resnet34", {}, 80, 6.63),
    ("campplus", {}, 80, 7.18),
    # 3D-Speaker, its base model
    ("eres2net", {}, 80, 6.61),
]


@pytest.mark.parametrize(
    ("name", "options", "features", "millions"),
    PUBLISHED,
    ids=lambda value: value if type(value) is str else "",
)
def test_published_parameter_counts(name, options, features, millions):
    counted = parameters(build_encoder({"name": name, **options}, features)) / 1e6
    assert round(counted, len(str(millions).split(".")[1])) == millions


def test_parameter_counts():
    # By hand from the recipe's sizes: bins 80, 40, 20, 10; biases on all convolutions; affine layer of the
    # embedding without one.
    blocks, inputs = 0, 64
    for width, bins, count in ((64, 80, 3), (128, 40, 4), (256, 20, 6), (512, 10, 3)):
        for index in range(count):
            blocks += (
                9 * (inputs if index == 0 else width) * width
                + 9 * width**2
                + 2 * width
                + 4 * width
                + 2 * bins * (bins // 4)
            )
        blocks += (inputs + 1) * width if inputs != width else 0
        inputs = width
    attention = 128 * 5120 + 128 * 2 * 5120 + 2 * 128 + (128 + 1) * 5120
    fwse = 10 * 64 + 2 * 64 + blocks + attention + 2 * 5120 * 192 + 2 * 192
    assert parameters(build_encoder({"name": "fwse-resnet34"}, 80)) == fwse == 25_889_960

    block = 2 * (512 + 1) * 512 + 2 * 512 * 2 + 7 * ((3 * 64 + 1) * 64 + 2 * 64) + 2 * 512 * 128
    attention = 128 * 1536 + 128 * 2 * 1536 + 2 * 128 + (128 + 1) * 1536
    ecapa = (
        (5 * 80 + 1) * 512
        + 2 * 512
        + 3 * block
        + (1536 + 1) * 1536
        + 2 * 1536
        + attention
        + 2 * 1536 * 192
        + 2 * 192
    )
    assert parameters(build_encoder({"name": "ecapa-tdnn"}, 80)) == ecapa == 6_186_048

    light = (
        1_988_912 - 2560 * 256 - 2 * 256 + 2560 * 192 + 2 * 192 + 128 * 3 * 1280 + 2 * 128 + (128 + 1) * 1280
    )
    # biases of the convolutions; no norm in the shortcuts
    light += 16 + 2 * (3 * 16 + 4 * 32 + 6 * 64 + 3 * 128) - (32 + 64 + 128)
    assert parameters(build_encoder({"name": "lresnet34", **SUCCESSOR}, 80)) == light


def test_names_of_the_papers_encoder_stay():
    """Stored models hold them."""
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    names = ["stem.0.weight", *(f"stem.1.{name}" for name in norm)]
    for block in range(16):
        for part in ("conv1", "norm1", "conv2", "norm2", "shortcut.0", "shortcut.1"):
            if block in (3, 7, 13) or "shortcut" not in part:
                conv = part.startswith("conv") or part == "shortcut.0"
                names += [f"blocks.{block}.{part}.{name}" for name in (["weight"] if conv else norm)]
    names += ["embedding.weight", *(f"embedding_norm.{name}" for name in norm)]
    assert list(build_encoder({"name": "lresnet34"}, 80).state_dict()) == names


@pytest.mark.parametrize("axis", [1, 2])
def test_squeeze_excitation(axis):
    torch.manual_seed(0)
    layer = SqueezeExcitation(8, 4, "swish", axis).double()
    x = torch.randn(3, 8, 8, 5).double()
    z = x.numpy().mean(axis=tuple({1, 2, 3} - {axis}))
    inner = z @ layer.reduce.weight.detach().numpy().T
    weights = 1 / (1 + np.exp(-(inner / (1 + np.exp(-inner))) @ layer.expand.weight.detach().numpy().T))
    expected = np.einsum("bcft,bc->bcft" if axis == 1 else "bcft,bf->bcft", x.numpy(), weights)
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, atol=1e-12)


def test_attentive_pooling():
    torch.manual_seed(0)
    layer = AttentivePooling(6, 4).double()
    torch.nn.init.uniform_(layer.norm.weight)
    torch.nn.init.normal_(layer.norm.bias)
    x = torch.randn(3, 2, 3, 9).double()
    h = x.numpy().reshape(3, 6, 9)
    context = np.concatenate([h.mean(-1), np.sqrt(h.var(-1) + 1e-5)], axis=1)
    w1, w0, w2 = (m.weight.detach().numpy() for m in (layer.frame, layer.context, layer.weight))
    inner = np.einsum("ic,bct->bit", w1[:, :, 0], h) + (context @ w0.T)[:, :, None]
    inner = (inner - inner.mean((0, 2), keepdims=True)) / np.sqrt(inner.var((0, 2), keepdims=True) + 1e-5)
    inner = np.tanh(
        inner * layer.norm.weight.detach().numpy()[:, None] + layer.norm.bias.detach().numpy()[:, None]
    )
    a = np.exp(np.einsum("ci,bit->bct", w2[:, :, 0], inner) + layer.weight.bias.detach().numpy()[:, None])
    a /= a.sum(-1, keepdims=True)
    mean = (a * h).sum(-1)
    deviation = np.sqrt((a * h**2).sum(-1) - mean**2 + 1e-5)
    np.testing.assert_allclose(
        layer(x).detach().numpy(), np.concatenate([mean, deviation], axis=1), atol=1e-9
    )


def test_res2_groups_add_up():
    """Of three groups the second gets the first one's output added, and the third passes through."""
    torch.manual_seed(0)
    block = SeRes2Block(2, EcapaTdnnConfig(channels=6, scale=3, se_reduction=2, dropout=0)).double().eval()
    x = torch.randn(2, 6, 11).double()
    swish, conv1d = torch.nn.functional.silu, torch.nn.functional.conv1d
    a, b, c = block.first[2](swish(block.first[0](x))).split(2, dim=1)
    a = block.groups[0][2](swish(block.groups[0][0](a)))
    b = block.groups[1][2](
        swish(conv1d(a + b, block.groups[1][0].weight, block.groups[1][0].bias, padding=2, dilation=2))
    )
    y = block.norm(swish(block.excitation(block.last(torch.cat([a, b, c], 1))) + x))
    assert torch.allclose(block(x), y, atol=1e-12)


def test_context_mask():
    """Segment by segment in numpy: three of five frames, and one of two."""
    torch.manual_seed(0)
    layer = ContextMask(6, 4, 2, frames=5).double()
    x = torch.randn(3, 6, 17).double()
    w1, b1, w2, b2 = (p.detach().numpy() for p in layer.parameters())
    values, expected = x.numpy(), []
    for start in range(0, 17, 5):
        context = values.mean(-1) + values[..., start : start + 5].mean(-1)
        hidden = np.maximum(context @ w1[..., 0].T + b1, 0)
        expected.append(1 / (1 + np.exp(-(hidden @ w2[..., 0].T + b2))))
    np.testing.assert_allclose(layer(x).detach().numpy(), np.stack(expected, -1), atol=1e-12)


def test_a_dense_block_joins_what_its_layers_add():
    """Two layers of a block: bottleneck, convolution of frames two apart, weights of the frame's segment."""
    torch.manual_seed(0)
    config = CamPlusPlusConfig(channels=5, growth=3, bottleneck_channels=4, segment_frames=4)
    block = DenseBlock(5, 2, 2, config).double().eval()
    for module in block.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            for values in (module.weight.data, module.running_var):
                values.uniform_(0.5, 2)
            for values in (module.bias.data, module.running_mean):
                values.normal_()

    def norm_and_relu(norm, x):
        x = (x - norm.running_mean[:, None]) / (norm.running_var[:, None] + 1e-5).sqrt()
        return (x * norm.weight[:, None] + norm.bias[:, None]).relu()

    x = torch.randn(2, 5, 10).double()
    y = x
    for layer in block.layers:
        first, _, matrix, second, _ = layer.bottleneck
        inner = norm_and_relu(second, matrix.weight[..., 0] @ norm_and_relu(first, y))
        new = torch.zeros(2, 3, 10).double()
        for tap, shift in enumerate((-2, 0, 2)):
            for frame in range(10):
                if 0 <= frame + shift < 10:
                    new[..., frame] += inner[..., frame + shift] @ layer.conv.weight[..., tap].T
        weights = layer.context(inner)
        y = torch.cat([y, new * weights[..., torch.arange(10) // 4]], dim=1)
    norm, _, matrix = block.transition
    assert torch.allclose(block(x), matrix.weight[..., 0] @ norm_and_relu(norm, y), atol=1e-12)
    assert block(x).shape == (2, (5 + 2 * 3) // 2, 10)


def test_fusion_weighs_one_against_the_other():
    torch.manual_seed(0)
    fusion = AttentionalFusion(8).double().eval()
    x, y = torch.randn(2, 2, 8, 3, 5).double()
    w1, b1, w2, b2 = fusion.attention[0].weight, fusion.attention[0].bias, *fusion.attention[3].parameters()
    hidden = torch.einsum("ic,bcft->bift", w1[..., 0, 0], torch.cat([x, y], 1)) + b1[:, None, None]
    hidden = torch.nn.functional.silu(hidden / (1 + 1e-5) ** 0.5)
    a = torch.einsum("ci,bift->bcft", w2[..., 0, 0], hidden) + b2[:, None, None]
    a = (a / (1 + 1e-5) ** 0.5).tanh()
    assert torch.allclose(fusion(x, y), x + y + a * (x - y), atol=1e-12)
    assert torch.allclose(fusion(x, x), 2 * x)  # the weights add up to two


@pytest.mark.parametrize("fused", [False, True])
def test_groups_of_a_res2_block(fused):
    torch.manual_seed(0)
    block = Res2Block(6, 4, 2, fused).double().eval()
    x = torch.randn(2, 6, 7, 9).double()
    a, b = block.first(x[..., ::2, ::2]).chunk(2, dim=1)
    a = block.groups[0](a)
    b = block.groups[1](block.fusions[0](a, b) if fused else a + b)
    expected = (block.last(torch.cat([a, b], 1)) + block.shortcut(x[..., ::2, ::2])).relu()
    assert block(x).shape == (2, 8, 4, 5) and torch.allclose(block(x), expected, atol=1e-12)


@every_encoder
def test_an_embedding_does_not_depend_on_the_others(config):
    encoder = built(config).eval()
    for frames in (encoder.min_input, 33):
        x = torch.randn(4, frames, 20)
        y = encoder(x)
        assert y.shape == (4, encoder.embedding_dim) and torch.isfinite(y).all()
        assert torch.allclose(encoder(x[2:3]), y[2:3], atol=1e-5)


@every_encoder
@pytest.mark.parametrize("half", [False, True])
def test_gradients_are_finite_and_everywhere(config, half):
    encoder = built(config)
    x = torch.randn(4, 30, 20)
    x[1] = 0  # a constant channel has a standard deviation of zero
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        y = encoder(x)
    y.float().square().mean().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
@every_encoder
def test_a_gpu_computes_what_the_cpu_does(config):
    encoder, x = (
        built({**config, "dropout": 0.0} if "dropout" in resolve_encoder(config) else config),
        torch.randn(4, 40, 20),
    )
    results = []
    with torch.backends.cudnn.flags(allow_tf32=False):
        for device in ("cpu", "cuda"):
            encoder.zero_grad()
            encoder.to(device)
            y = encoder(x.to(device))
            y.square().mean().backward()
            results.append({"y": y, **{name: p.grad for name, p in encoder.named_parameters()}})
            results[-1] = {name: value.detach().cpu().clone() for name, value in results[-1].items()}
    cpu, gpu = results
    for name, expected in cpu.items():
        assert (gpu[name] - expected).norm() <= 1e-3 * expected.norm() + 1e-5, name


@pytest.mark.parametrize("config", [SMALL[1], SMALL[3], SMALL[4]], ids=lambda config: config["name"])
def test_statistics_are_float32_under_autocast(config):
    encoder = built(config)
    pooled = []
    encoder.pooling.register_forward_hook(lambda module, inputs, output: pooled.append(output))
    with torch.autocast("cpu", torch.bfloat16):
        encoder(torch.randn(2, 30, 20))
    assert pooled[0].dtype == torch.float32


@every_encoder
def test_checkpointing_changes_neither_gradients_nor_running_statistics(config):
    results = []
    for checkpointed in (False, True):
        encoder = built(config)
        encoder.checkpointed = checkpointed
        torch.manual_seed(1)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t
        ):
            y = encoder(torch.randn(5, 31, 20))
        after = torch.randn(3)  # the generator's state is the same too
        y.square().mean().backward()
        state = {
            **encoder.state_dict(),
            **{f"{name}.grad": p.grad for name, p in encoder.named_parameters()},
            "y": y,
            "after": after,
        }
        results.append((state, sum(sizes)))
    (plain, much), (again, little) = results
    assert little < 0.8 * much
    for name, value in plain.items():
        assert torch.equal(value, again[name]), name


@pytest.mark.parametrize(
    "config",
    [config for config in SMALL if "resnet34" in config["name"]],
    ids=lambda config: config["name"],
)
def test_channels_last_is_the_same(config):
    encoder = built({**config, "dropout": 0.0})
    torch.manual_seed(2)
    x = torch.randn(8, 100, 20)
    expected = encoder(x)
    gradient = torch.autograd.grad(expected.square().sum(), encoder.stem[0].weight)[0]
    encoder.to(memory_format=torch.channels_last)
    layouts = []
    for block in encoder.blocks:
        block.register_forward_hook(
            lambda module, inputs, output: layouts.append(
                output.is_contiguous(memory_format=torch.channels_last)
            )
        )
    y = encoder(x)
    assert all(layouts)  # nothing goes back and forth between the layouts
    assert torch.allclose(y, expected, atol=1e-3)
    other = torch.autograd.grad(y.square().sum(), encoder.stem[0].weight)[0]
    assert (other - gradient).norm() < 1e-2 * gradient.norm()


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("ecapa-tdnn", "scale", 7),
        ("campplus", "layers", [12, 24]),
        ("eres2net", "base_channels", 5),
        ("fwse-resnet34", "dropout", 1.0),
        ("lresnet34", "pooling", "attention"),
    ],
)
def test_impossible_options(name, option, value):
    with pytest.raises(UserError, match=option):
        build_encoder({"name": name, option: value}, 80)
