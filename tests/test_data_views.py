"""Which utterances a step sees, which crops of them, and that neither processes, micro-batches, workers nor restarts
change it.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pydino.base import UserError
from pydino.data import (
    AugmentConfig,
    Batch,
    CropConfig,
    EpochSampler,
    NormalisationConfig,
    ViewGroup,
    ViewMaker,
    ViewSampler,
    batches,
    view_groups,
)
from pydino.data.crops import CropPlacer
from pydino.data.training_set import Crops

HASHES = np.sort(np.random.default_rng(0).integers(0, 2**63, 29, dtype=np.uint64))


class Spoken:
    """A data set whose crops encode their utterance and frames."""

    hashes, lengths = HASHES, np.arange(60, 89)

    def __len__(self):
        return len(HASHES)

    def collect(self, indices, starts, sizes, factors=None):
        return Crops(torch.from_numpy(np.column_stack([indices, starts])), sizes)


def sampler(rank=0, world_size=1, accumulation=1, kind="shuffled"):
    crops = CropConfig(num_local=1, global_seconds=[0.3, 0.4], local_seconds=[0.2, 0.2])
    return ViewSampler(
        Spoken(),
        crops,
        view_groups(crops),
        EpochSampler(HASHES, 8, 3, kind),
        0.01,
        3,
        rank=rank,
        world_size=world_size,
        accumulation=accumulation,
    )


def rows(micro_batches):
    return [tuple(row) for batch in micro_batches for row in batch.content.values.tolist()]


def test_an_epoch_visits_every_utterance_once_in_an_order_of_its_own():
    visits = [
        (int(e), int(h))
        for step in range(29)
        for batch in sampler()[step]
        for e, h in zip(batch.visits, batch.hashes, strict=True)
    ]
    assert sorted(visits) == sorted((e, int(h)) for e in range(8) for h in HASHES)
    assert [h for e, h in visits if e == 0] != [h for e, h in visits if e == 1]


@pytest.mark.parametrize("world_size, accumulation", [(2, 1), (1, 2), (2, 2), (4, 1)])
def test_processes_and_micro_batches_share_a_step_without_changing_it(world_size, accumulation):
    shares = [sampler(rank, world_size, accumulation) for rank in range(world_size)]
    for step in (0, 9):
        shared = [share[step] for share in shares]
        assert all(len(share) == accumulation for share in shared)
        in_order = [
            row for number in range(accumulation) for share in shared for row in rows([share[number]])
        ]
        assert in_order == rows(sampler()[step])


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_ahead_changes_nothing(workers):
    read = list(batches(sampler(), 5, 12, workers))
    assert [micro_batches[0].step for micro_batches in read] == list(range(5, 12))
    assert [rows(micro_batches) for micro_batches in read] == [rows(sampler()[step]) for step in range(5, 12)]


def test_an_error_of_a_reader_reaches_the_step():
    broken = sampler()
    broken.dataset.collect = lambda *_: (_ for _ in ()).throw(UserError("the archive is gone"))
    with pytest.raises(UserError, match="the archive is gone"):
        next(batches(broken, 0, 3))


def test_drawn_with_replacement_an_epoch_misses_some_and_no_visit_is_like_another():
    line = [batch for step in range(29) for batch in sampler(kind="with_replacement")[step]]
    visits = np.concatenate([batch.visits for batch in line])
    assert len(set(visits.tolist())) == len(visits) == 8 * 29
    first = np.concatenate([batch.hashes for batch in line])[:29]
    assert 10 <= len(set(first.tolist())) <= 24  # 1 - 1/e of 29 is 18
    assert rows(sampler(kind="with_replacement")[7]) == rows(sampler(kind="with_replacement")[7])


def test_what_cannot_be_divided_is_refused():
    with pytest.raises(UserError, match="cannot be divided among 3 processes"):
        sampler(world_size=3)
    with pytest.raises(UserError, match="batch_size is 30 but there are only 29"):
        EpochSampler(HASHES, 30, 0)


def placed(lengths, **options):
    crops = CropConfig(
        num_global=2, num_local=3, global_seconds=[0.4, 0.4], local_seconds=[0.2, 0.2], **options
    )
    place, count = CropPlacer(crops, view_groups(crops), 0.01, 5), 2000
    lengths = np.resize(lengths, count)
    sizes = place.sizes(0)
    assert sizes.tolist() == [40, 40, 20, 20, 20]
    return (
        place.starts(np.zeros(count, int), np.arange(count, dtype=np.uint64), lengths, sizes),
        lengths,
        sizes,
    )


def test_crops_lie_anywhere_in_the_utterance_and_short_ones_wrap():
    starts, lengths, sizes = placed([100])
    assert (starts >= 0).all() and (starts + sizes <= 100).all()
    for column, room in enumerate(100 - sizes):
        assert starts[:, column].min() == 0 and starts[:, column].max() == room
        assert np.bincount(starts[:, column], minlength=room + 1).max() < 3 * 2000 / (room + 1)
    starts, *_ = placed([30])
    # 40 frames of 30 start anywhere, 20 must fit
    assert starts[:, 0].max() == 29 and starts[:, 2].max() == 10


def test_disjoint_parts_do_not_overlap_and_either_comes_first():
    starts, _, sizes = placed([60, 75, 100], placement="disjoint")
    ends = starts + sizes
    assert (starts >= 0).all() and (ends <= np.resize([60, 75, 100], 2000)[:, None]).all()
    global_first = ends[:, :2].max(1) <= starts[:, 2:].min(1)
    local_first = ends[:, 2:].max(1) <= starts[:, :2].min(1)
    assert (global_first | local_first).all() and 0.4 < global_first.mean() < 0.6
    starts, *_ = placed([59], placement="disjoint")  # too short for both side by side: as independent ones
    assert (starts == placed([59])[0]).all()


def test_a_window_holds_all_crops_of_a_visit():
    starts, lengths, sizes = placed([300], window_seconds=[0.6, 0.8])
    spans = (starts + sizes).max(1) - starts.min(1)
    assert spans.max() <= 80 and (starts + sizes).max() == 300 and starts.min() == 0
    starts, _, sizes = placed([50], window_seconds=[0.6, 0.8])
    assert (starts == placed([50])[0]).all()


@pytest.mark.parametrize(
    "options, complaint",
    [
        ({"num_global": 0}, "num_global must be between 1 and 1000"),
        ({"local_seconds": [2.0, 1.0]}, "local_seconds must be"),
        ({"window_seconds": [3.0, 6.0]}, "must not be shorter than a crop"),
    ],
)
def test_impossible_crops_are_refused(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        CropConfig(**options)


def test_views_are_the_same_whatever_the_precision_of_the_network():
    """Where KoLeo wants the embeddings of several micro-batches first, views are made among the computations in 16
    bits.
    """
    crops, sizes = CropConfig(num_local=1), np.array([30, 30, 20])
    values = torch.from_numpy(
        np.random.default_rng(0).normal(10, 2, (8 * sizes.sum(), 12)).astype(np.float32)
    )
    batch = Batch(0, np.zeros(8, dtype=np.int64), HASHES[:8], Crops(values, sizes), 0.0)
    views = ViewMaker(view_groups(crops), NormalisationConfig(kind="mean"), 12, 0.01, 0, "cpu")
    with torch.autocast("cpu", torch.bfloat16):
        among = views(batch).tensors
    assert all(torch.equal(a, b) for a, b in zip(among, views(batch).tensors, strict=True))


def test_views_of_a_partner_are_of_the_partner():
    """Groups may be of another utterance: its frames, its length, and the draws of the row they stand in."""
    crops = CropConfig(num_local=1, global_seconds=[0.3, 0.3], local_seconds=[0.2, 0.2])
    own = view_groups(crops)
    other = ViewGroup("partner", 2, (0.25, 0.25), seen_by="teacher", owner="partner")
    partners, order = np.roll(np.arange(29), 7), EpochSampler(HASHES, 8, 3)
    groups = [own[0], other, own[1]]
    read = ViewSampler(Spoken(), crops, groups, order, 0.01, 3, partners=partners)
    plain = ViewSampler(Spoken(), crops, own, order, 0.01, 3)
    batch, without = read[4][0], plain[4][0]
    rows, starts = batch.partner.values[:, 0].numpy(), batch.partner.values[:, 1:].numpy()
    assert (rows == partners[without.content.values[:, 0].numpy()]).all()
    assert batch.partner.sizes.tolist() == [30, 30, 25, 25, 20] and starts.shape == (8, 2)
    assert (starts + 25 <= Spoken.lengths[rows][:, None]).all()
    # the global views are those of a run without partners
    assert torch.equal(batch.content.values[:, :3], without.content.values[:, :3])
    with pytest.raises(ValueError, match="needs partners, but none were given"):
        ViewSampler(Spoken(), crops, groups, order, 0.01, 3)


def test_each_network_gets_the_groups_that_it_sees():
    crops, columns = CropConfig(num_local=1), 12
    groups = [
        *view_groups(crops),
        ViewGroup("other", 1, (0.25, 0.25), seen_by="teacher", owner="partner"),
    ]
    sizes = np.array([30, 30, 20, 25])
    draw = np.random.default_rng(0)

    def content(frames):
        values = draw.normal(10, 2, (8 * frames, columns)).astype(np.float32)
        return Crops(torch.from_numpy(values), sizes)

    batch = Batch(0, np.zeros(8, dtype=np.int64), HASHES[:8], content(80), 0.0, content(25))
    none = AugmentConfig(
        reverberation_probability=0,
        noise_probability=0,
        babble_probability=0,
        gain_db=0,
        equaliser_db=0,
        time_mask_frames=0,
        frequency_mask_bands=0,
    )
    groups = [replace(group, augment=none) for group in groups]
    views = ViewMaker(groups, NormalisationConfig(kind="none"), columns, 0.01, 0, "cpu")(batch)
    assert [len(x) for x in views.student] == [16, 8] and [len(x) for x in views.teacher] == [16, 8]
    assert [x.shape[1] for x in views.student] == [30, 20] and [x.shape[1] for x in views.teacher] == [30, 25]
    assert torch.allclose(views.group("other").flatten(0, 1), batch.partner.values, atol=1e-4)
    assert torch.allclose(views.group("local").flatten(0, 1), batch.content.values[-160:], atol=1e-4)
