"""Utterances in chunks: every frame is in one, all are full, and their embeddings are those of the pieces alone."""

import numpy as np
import pytest
import torch

from pydino.infer import FrontEnd, FrontEndConfig, Model, chunks
from pydino.models import build_encoder

BANDS = 5


def numbered(frames):
    return torch.arange(frames * BANDS, dtype=torch.float32).view(frames, BANDS)


@pytest.mark.parametrize(
    "frames, length", [(10, 10), (11, 10), (19, 10), (20, 10), (21, 10), (400, 7), (1, 1)]
)
def test_chunks_are_full_and_cover_the_utterance(frames, length):
    features = numbered(frames)
    cut = chunks(features, length, "repeat")
    assert len(cut) == -(-frames // length) and all(chunk.shape == (length, BANDS) for chunk in cut)
    at = torch.stack([chunk[:, 0] / BANDS for chunk in cut]).int()
    assert (at.diff(dim=1) == 1).all() if length > 1 else True
    assert at[0, 0] == 0 and set(at.flatten().tolist()) == set(range(frames))
    assert at[:-1, 0].tolist() == [length * i for i in range(len(cut) - 1)]


def test_a_shorter_utterance():
    features = numbered(3)
    (repeated,) = chunks(features, 7, "repeat")
    assert torch.equal(repeated, features[[0, 1, 2, 0, 1, 2, 0]])
    (left,) = chunks(features, 7, "mask")
    assert torch.equal(left, features)


def test_whole():
    assert torch.equal(chunks(numbered(30), 0, "repeat")[0], numbered(30))


def test_embeddings_of_chunks():
    torch.manual_seed(0)
    encoder = build_encoder({"name": "tdnn", "channels": 8, "pooled_channels": 8, "embedding_dim": 6}, BANDS)
    features = {"kind": "fbank", "num_mel_bins": BANDS, "sample_frequency": 16000}
    model = Model(encoder, FrontEnd(FrontEndConfig(16000, features)), None)
    utterances = [np.random.default_rng(i).normal(size=(n, BANDS)) for i, n in enumerate((95, 31, 60))]
    found = model.embed_chunks(utterances, 40)
    assert [len(rows) for rows in found] == [3, 1, 2]
    for matrix, rows in zip(utterances, found, strict=True):
        alone = model.embed_features(chunks(torch.from_numpy(matrix), 40, "repeat"))
        assert np.array_equal(rows, alone)
    # a padded and masked batch of the encoder gives the same as chunks of the rule "mask"
    (short,) = model.embed_chunks(utterances[1:2], 40, "mask")
    padded = torch.cat([torch.from_numpy(utterances[1]).float(), torch.full((9, BANDS), 5.0)]).unsqueeze(0)
    masked = model.encoder(padded, torch.tensor([31])).numpy()
    assert np.abs(short - masked).max() < 1e-6 < 1e-4 < np.abs(short - found[1]).max()
