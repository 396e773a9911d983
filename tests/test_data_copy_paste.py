"""CopyPaste: who is whose partner, how crops are joined, and that neither names, processes nor restarts change it."""

from collections import Counter

import numpy as np
import pytest
import torch
from test_data_views import HASHES, Spoken

from pydino.base import ConfigError
from pydino.data import (
    AugmentConfig,
    CopyPaste,
    CopyPasteConfig,
    EpochSampler,
    Labels,
    NormalisationConfig,
    UtteranceCropConfig,
    ViewMaker,
    ViewSampler,
    join_crops,
    view_groups,
    with_partners,
)
from pydino.data.training_set import Crops

NAMES = ["neutral", "angry", "sad", "rare"]
CLASSES = np.append(np.arange(28) % 3, 3)  # the last utterance is the only one of its class
LABELS = Labels(HASHES, CLASSES, NAMES)
EVERYONE = np.arange(29)
SILENT = AugmentConfig(0.0, gain_db=0.0, equaliser_db=0.0, noise_probability=0.0, babble_probability=0.0)
SILENT.time_mask_frames = SILENT.frequency_mask_bands = 0


class Numbered(Spoken):
    """Frame t of utterance i is (i, t): 29 utterances of 60 to 88 frames."""

    def collect(self, indices, starts, sizes, factors=None):
        views = []
        for view, size in enumerate(sizes):
            for index, start in zip(indices, starts[:, view], strict=True):
                t = (start + np.arange(size)) % self.lengths[index]
                views.append(np.column_stack([np.full(size, index), t]))
        return Crops(torch.from_numpy(np.concatenate(views).astype(np.float32)), np.asarray(sizes))


def chooser(partner="same", probability=1.0, seed=3):
    config = CopyPasteConfig(probability, partner, "neutral" if partner == "neutral" else "")
    return CopyPaste(config, HASHES, LABELS, seed)


def test_partners_of_the_same_class_are_all_the_others_alike():
    copy_paste, met = chooser(), Counter()
    for visit in range(400):
        partners = copy_paste.partners(EVERYONE, np.full(29, visit))
        assert (CLASSES[partners] == CLASSES).all()
        assert (partners[:28] != EVERYONE[:28]).all() and partners[28] == 28
        met.update(zip(EVERYONE[:28].tolist(), partners[:28].tolist(), strict=True))
    size = np.bincount(CLASSES)
    expected = {(i, j): 400 / (size[CLASSES[i]] - 1) for i, j in met}
    assert len(met) == sum(n * (n - 1) for n in size)
    assert max(abs(met[pair] - n) / n**0.5 for pair, n in expected.items()) < 4.5  # standard deviations


def test_neutral_partners():
    partners = chooser("neutral").partners(EVERYONE, np.zeros(29, dtype=np.int64))
    assert (CLASSES[partners] == 0).all() and (partners != EVERYONE).all()


def test_partners_depend_on_seed_visit_and_hash_alone():
    copy_paste = chooser()
    whole = copy_paste.partners(EVERYONE, np.full(29, 5))
    rows = np.array([17, 2, 9])
    assert (copy_paste.partners(rows, np.full(3, 5)) == whole[rows]).all()
    assert (chooser().partners(EVERYONE, np.full(29, 5)) == whole).all()
    assert (copy_paste.partners(EVERYONE, np.full(29, 6)) != whole).any()
    assert (chooser(seed=4).partners(EVERYONE, np.full(29, 5)) != whole).any()


def test_mistakes_are_named():
    with pytest.raises(ConfigError, match="no class 'neutrl'.*did you mean 'neutral'.*angry"):
        CopyPaste(CopyPasteConfig(0.5, "neutral", "neutrl"), HASHES, LABELS, 0)
    with pytest.raises(ConfigError, match="no utterance to train on is of class 'rare'"):
        CopyPaste(CopyPasteConfig(0.5, "neutral", "rare"), HASHES[:28], LABELS, 0)
    for wrong in (("neutral", ""), ("same", "neutral")):
        with pytest.raises(ValueError, match="partner: neutral needs 'neutral'"):
            CopyPasteConfig(0.5, *wrong)


def one_by_one(own, partner, joined, first, own_frames, partner_frames):
    """The same in a loop over lists of frames."""
    crops, frames = [], []
    for row in range(len(own)):
        n, m = own_frames[row], partner_frames[row]
        mine, theirs = own[row, :n], partner[row, :m]
        if joined[row]:
            part = min(n, own.shape[1] - partner.shape[1])
            mine = torch.cat([mine[:part], theirs] if first[row] else [theirs, mine[n - part :]])
        crops.append(mine)
        frames.append(len(mine))
    return crops, frames


@pytest.mark.parametrize("length, half", [(8, 4), (9, 4)])
def test_joined_crops(length, half):
    draw = np.random.default_rng(0)
    own = torch.randn(200, length, 3)
    partner = torch.randn(200, half, 3)
    joined, first = draw.random((2, 200)) < 0.5
    n, m = draw.integers(1, length + 1, 200), draw.integers(1, half + 1, 200)
    x, frames = join_crops(own, partner, joined, first, n, m)
    expected, lengths = one_by_one(own, partner, joined, first, n, m)
    assert frames.tolist() == lengths and x.shape == own.shape
    assert all(torch.equal(row[:k], wanted) for row, k, wanted in zip(x, lengths, expected, strict=True))
    # nothing is masked
    x, frames = join_crops(own, partner, joined, first)
    n, m = np.full(200, length), np.full(200, half)
    assert frames is None
    assert torch.equal(x, torch.stack(one_by_one(own, partner, joined, first, n, m)[0]))


def made(crops, probability=1.0, rank=0, world_size=1, kind="none"):
    groups = view_groups(crops, (SILENT, SILENT))
    copy_paste = chooser(probability=probability)
    if probability:
        groups = with_partners(groups)
    order = EpochSampler(HASHES, 8, 3)
    sampler = ViewSampler(
        *(Numbered(), crops, groups, order, 0.01, 3),
        rank=rank,
        world_size=world_size,
        partners=copy_paste if probability else None,
    )
    views = ViewMaker(
        *(groups, NormalisationConfig(kind=kind), 2, 0.01, 3, "cpu"),
        copy_paste=copy_paste if probability else None,
    )
    return [(batch, views(batch)) for step in range(6) for batch in sampler[step]]


def test_views_are_half_the_utterance_and_half_its_partner():
    crops = UtteranceCropConfig(num_global=2, global_seconds=[0.4, 0.4])
    seen = Counter()
    for batch, views in made(crops):
        assert [group.name for group in views.groups] == ["global"] and views.frames == [None]
        rows = np.tile(np.searchsorted(HASHES, batch.hashes), 2)
        for row, x in zip(rows.tolist(), views.group("global").round(), strict=True):
            owners = x[:, 0].int().tolist()
            assert len(set(owners[:20])) == len(set(owners[20:])) == 1  # two halves
            assert row in owners and all(CLASSES[owner] == CLASSES[row] for owner in owners)
            assert all((half.diff() == 1).all() for half in x[:, 1].split(20))  # in the order of the frames
            seen[owners[0] == row] += 1
    assert 0.3 < seen[True] / sum(seen.values()) < 0.7


def test_crops_that_are_not_joined_are_those_without_copy_paste():
    crops = UtteranceCropConfig(global_seconds=[0.3, 0.4])
    some, none = made(crops, probability=0.4), made(crops, probability=0.0)
    same = [
        torch.allclose(a, b, atol=1e-4)
        for (_, x), (_, y) in zip(some, none, strict=True)
        for a, b in zip(x.group("global"), y.group("global"), strict=True)
    ]
    assert 0.3 < np.mean(same) < 0.9  # of 48 crops 60 % are not joined


def test_processes_share_a_step():
    crops = UtteranceCropConfig(global_seconds=[0.4, 0.4])
    whole = torch.cat([views.tensors[0] for _, views in made(crops)])
    shares = [[views.tensors[0] for _, views in made(crops, rank=rank, world_size=2)] for rank in (0, 1)]
    assert torch.equal(torch.cat([part for step in zip(*shares, strict=True) for part in step]), whole)


def test_the_mean_of_a_joined_crop_is_subtracted():
    crops = UtteranceCropConfig(global_seconds=[0.4, 0.4])
    for _, views in made(crops, kind="mean"):
        assert views.tensors[0].mean(1).abs().max() < 1e-3
