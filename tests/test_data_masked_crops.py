"""Crops that are padded and masked, and whole utterances: what the encoder gets is the utterance and nothing else."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pytest
import torch
from test_data_audio_set import OPTIONS, RATE, Corpus, keys_of
from test_data_copy_paste import HASHES, SILENT, Numbered
from test_train_dino import BANDS, make_data, make_train_set

from pydino.audio import Fbank, normalise
from pydino.base import config_from_dict
from pydino.data import (
    CopyPasteConfig,
    CropConfig,
    EpochSampler,
    Labels,
    NormalisationConfig,
    TrainingSet,
    UtteranceCropConfig,
    ViewSampler,
    view_groups,
)
from pydino.data.view_maker import normalise_batch
from pydino.infer import FrontEndConfig
from pydino.models import build_encoder
from pydino.train import DistributedContext
from pydino.train.config import TrainingConfig
from pydino.train.pipeline import open_pipeline

FRONT_END = FrontEndConfig(16000, {"kind": "fbank", "num_mel_bins": BANDS, "sample_frequency": 16000})


@dataclass
class LabelledConfig(TrainingConfig):
    method: Literal["labelled"] = "labelled"
    crops: UtteranceCropConfig = field(default_factory=UtteranceCropConfig)
    copy_paste: CopyPasteConfig = field(default_factory=CopyPasteConfig)


def configured(crops, **options):
    silent = {**vars(SILENT)}
    encoder = {"name": "tdnn", "channels": 8, "pooled_channels": 8, "embedding_dim": 8}
    return config_from_dict(
        LabelledConfig, {"batch_size": 4, "crops": crops, "augment": silent, "encoder": encoder, **options}
    )


@pytest.fixture
def data(tmp_path):
    make_data(tmp_path / "source", [f"s{i % 4}-u{i:02d}" for i in range(14)])
    make_train_set(tmp_path / "source", tmp_path / "train")
    return tmp_path / "train"


def batches_of(data, config, steps=7, labels=None):
    pipeline = open_pipeline(config, data, FRONT_END, 0, DistributedContext(), labels=labels)
    for step in range(steps):
        (batch,) = pipeline.sampler[step]
        yield batch, pipeline.views(batch), pipeline.source


def utterance(source, index):
    """The features (T, F) of an utterance, silence removed, normalised as a whole."""
    crops = source.collect(np.array([index]), np.zeros((1, 1), np.int64), source.lengths[[index]])
    return normalise(crops.values, NormalisationConfig(kind="mean"))


@pytest.mark.parametrize(
    "config", [{"kind": "mean"}, {"kind": "mean", "norm_vars": True}, {"kind": "sliding"}]
)
def test_padding_does_not_change_the_normalisation(config):
    config, frames = NormalisationConfig(**config), np.array([9, 40, 23, 9])
    x = torch.randn(4, 40, 3) * 2 + 5
    y = normalise_batch(x.clone(), config, frames)
    for row, before, length in zip(y, x, frames, strict=True):
        assert torch.allclose(row[:length], normalise(before[:length], config), atol=1e-4)


def test_whole_utterances(data):
    """One batch through the encoder, padded, gives the embeddings of each utterance by itself."""
    config = configured({"short": "mask", "whole_up_to_seconds": 30})
    encoder, seen = build_encoder(config.encoder, BANDS).eval(), set()
    for batch, views, source in batches_of(data, config):
        rows = np.searchsorted(source.hashes, batch.hashes)
        (x,), (frames,) = views.student, views.student_frames
        assert frames.tolist() == source.lengths[rows].tolist() and x.shape[1] == max(frames)
        assert batch.seconds == pytest.approx(0.01 * source.lengths[rows].sum())
        with torch.no_grad():
            embeddings = encoder(x, frames)
            alone = torch.cat([encoder(utterance(source, row).unsqueeze(0)) for row in rows])
        assert torch.allclose(embeddings, alone, atol=1e-4)
        assert all((row[n:] == 0).all() for row, n in zip(x, frames.tolist(), strict=True))
        seen.update(rows.tolist())
    assert len(seen) == 14


def test_a_longer_utterance_is_cut(data):
    config = configured({"short": "mask", "whole_up_to_seconds": 1.2})
    lengths = set()
    for _, views, _ in batches_of(data, config):
        assert views.tensors[0].shape[1] <= 120
        lengths.update(views.frames[0].tolist())
    assert max(lengths) == 120 and min(lengths) < 100


def test_short_utterances_are_padded_to_the_crop_and_begin_at_their_beginning(data):
    config = configured({"global_seconds": [1.2, 1.2], "short": "mask"})
    short = 0
    for batch, views, source in batches_of(data, config):
        rows = np.searchsorted(source.hashes, batch.hashes)
        (x,), (frames,) = views.tensors, views.frames
        assert x.shape == (4, 120, BANDS)
        assert frames.tolist() == np.minimum(source.lengths[rows], 120).tolist()
        for row, crop, n in zip(rows, x, frames.tolist(), strict=True):
            if n < 120:
                assert torch.allclose(crop[:n], utterance(source, row), atol=1e-4)
                short += 1
    assert short > 3


def test_one_that_is_too_short_for_the_encoder_is_repeated_up_to_that(data):
    config = configured(
        {"global_seconds": [1.5, 1.5], "short": "mask"},
        encoder={"name": "tdnn", "channels": 8, "pooled_channels": 8, "embedding_dim": 8, "stride": 17},
    )  # it needs 107 frames
    valid = np.concatenate([views.frames[0].numpy() for _, views, _ in batches_of(data, config)])
    lengths = np.concatenate(
        [
            source.lengths[np.searchsorted(source.hashes, batch.hashes)]
            for batch, _, source in batches_of(data, config)
        ]
    )
    assert lengths.min() < 107 and (valid == np.clip(lengths, 107, 150)).all()


def test_masked_and_joined(data):
    """CopyPaste of whole utterances: the joined crop is as long as its parts, and the encoder sees them alone."""
    config = configured(
        {"short": "mask", "whole_up_to_seconds": 30},
        copy_paste={"probability": 1.0},
        normalisation={"kind": "none"},
    )
    labels = Labels(TrainingSet(data).hashes, np.arange(14) % 2, ["a", "b"])
    for batch, views, source in batches_of(data, config, labels=labels):
        rows, length = np.searchsorted(source.hashes, batch.hashes), views.tensors[0].shape[1]
        assert length == source.lengths[rows].max()
        parts = np.minimum(source.lengths[rows], length - length // 2)
        assert (views.frames[0].numpy() > parts).all() and (views.frames[0].numpy() <= length).all()
        assert views.tensors[0].isfinite().all()


def test_whole_recordings(tmp_path):
    """From audio the frames are those of the speech of the whole recording, but where a window reaches beyond the end
    of it; with another speed there are as many more or fewer of them.
    """
    corpus = Corpus(tmp_path / "corpus")
    for number in range(6):
        corpus.file(f"u{number}-end", RATE + 3000 * number)
    data = corpus.write(tmp_path / "train")
    features = {key: value for key, value in vars(OPTIONS).items() if not key.startswith("_")}
    front_end = FrontEndConfig(RATE, {"kind": "fbank", **features})
    mask, off = (
        {"short": "mask", "whole_up_to_seconds": 5},
        {"normalisation": {"kind": "none"}, "input": "audio"},
    )
    for factors in ([1.0], [0.8, 1.25]):
        config, ratios = configured(mask, **off, speed_factors=factors), set()
        pipeline = open_pipeline(config, data, front_end, 0, DistributedContext())
        keys = keys_of(data, pipeline.source)
        for step in range(6):
            (batch,) = pipeline.sampler[step]
            views = pipeline.views(batch)
            for row, x, n in zip(
                np.searchsorted(pipeline.source.hashes, batch.hashes),
                views.tensors[0],
                views.frames[0].tolist(),
                strict=True,
            ):
                whole = Fbank(OPTIONS)([corpus.speech(keys[row]).astype(np.float32)])[0]
                ratios.add(len(whole) / n)
                if factors == [1.0]:
                    assert torch.allclose(x[: n - 2], whole[: n - 2], atol=1e-3)
        assert all(min(abs(ratio / factor - 1) for factor in factors) < 0.02 for ratio in ratios)
        assert len(ratios) >= len(factors)


def test_in_two_processes_a_step_has_one_length():
    crops = UtteranceCropConfig(short="mask", whole_up_to_seconds=5)
    samplers = [
        ViewSampler(
            *(Numbered(), crops, view_groups(crops), EpochSampler(HASHES, 8, 3), 0.01, 3),
            rank=rank,
            world_size=2,
        )
        for rank in (0, 1)
    ]
    for step in range(4):
        (first,), (second,) = (sampler[step] for sampler in samplers)
        both = np.concatenate([first.frames, second.frames])
        assert first.content.sizes.tolist() == second.content.sizes.tolist() == [both.max()]


def test_plain_crops_have_no_mask_and_are_what_they_were():
    plain, utterances = CropConfig(num_global=1, num_local=0), UtteranceCropConfig(global_seconds=[4.0, 4.0])
    batches = [
        ViewSampler(Numbered(), crops, view_groups(crops), EpochSampler(HASHES, 8, 3), 0.01, 3)[5][0]
        for crops in (plain, utterances)
    ]
    assert batches[0].frames is None and batches[1].frames is None
    assert torch.equal(batches[0].content.values, batches[1].content.values)
    assert batches[0].seconds == batches[1].seconds


def test_configurations_that_cannot_be():
    for options, message in (
        ({"whole_up_to_seconds": 5}, "needs short: mask"),
        ({"whole_up_to_seconds": 5, "short": "mask", "window_seconds": [6, 6]}, "leaves nothing to place"),
        ({"short": "zeros"}, "short"),
    ):
        with pytest.raises(Exception, match=message):
            configured(options)
    with pytest.raises(Exception, match="placement: independent"):
        configured({"placement": "disjoint"}, copy_paste={"probability": 0.5})
