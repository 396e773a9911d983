"""Partners: another utterance of the cluster, all alike, by hash; and the views that are made of them."""

from collections import Counter

import numpy as np
import pytest
from test_data_copy_paste import HASHES, SILENT, Numbered

from pydino.base import config_from_dict
from pydino.data import EpochSampler, Labels, NormalisationConfig, Partners, ViewMaker, ViewSampler
from pydino.train.methods.contrastive import ContrastiveConfig
from pydino.train.methods.dino import DinoConfig

CLUSTERS = np.append(np.arange(28) % 4, 4)  # the last utterance is alone
EVERYONE = np.arange(29)


def chooser(seed=3, drawn_for="test", hashes=HASHES, clusters=CLUSTERS):
    return Partners(hashes, clusters, 5, seed, drawn_for)


def test_partners_are_the_others_of_the_cluster_all_alike_and_who_is_alone_is_its_own():
    met = Counter()
    for visit in range(300):
        partners = chooser().partners(EVERYONE, np.full(29, visit))
        assert (CLUSTERS[partners] == CLUSTERS).all() and partners[28] == 28
        assert (partners[:28] != EVERYONE[:28]).all()
        met.update(zip(range(28), partners[:28].tolist(), strict=True))
    assert len(met) == 28 * 6 and max(abs(n - 50) for n in met.values()) < 4.5 * 50**0.5


def test_partners_depend_on_seed_visit_purpose_and_hash_alone():
    visits = np.full(29, 5)
    whole = chooser().partners(EVERYONE, visits)
    rows = np.array([17, 2, 9])
    assert (chooser().partners(rows, visits[:3]) == whole[rows]).all()
    for other in (chooser(4), chooser(drawn_for="another")):
        assert (other.partners(EVERYONE, visits) != whole).any()
    assert (chooser().partners(EVERYONE, visits + 1) != whole).any()
    renumbered = chooser(clusters=np.array([3, 0, 4, 1, 2])[CLUSTERS])
    assert (renumbered.partners(EVERYONE, visits) == whole).all()


def views_of(config, rank=0, world_size=1):
    """Batch and views of step 3; the features of a frame are (utterance, frame)."""
    labels, groups = Labels(HASHES, CLUSTERS, list("abcde")), config.view_groups
    sampler = ViewSampler(
        Numbered(),
        config.crops,
        groups,
        EpochSampler(HASHES, 12, 0),
        0.01,
        0,
        rank=rank,
        world_size=world_size,
        partners=Partners(HASHES, labels.of(HASHES), 5, 0, "partner of the cluster"),
    )
    maker = ViewMaker(groups, NormalisationConfig(kind="none"), 2, 0.01, 0, "cpu")
    (batch,) = sampler[3]
    return batch, maker(batch)


SMALL = {"global_seconds": [0.2, 0.4]}


@pytest.fixture(params=[(0, 1), (1, 2)], ids=["one process", "second of two"])
def share(request):
    return request.param


def clusters_of(view):
    """Cluster and utterance of each crop (N, L, 2), which has one utterance all through."""
    rows = view[:, :, 0].round().long().numpy()
    assert (rows == rows[:, :1]).all()
    return CLUSTERS[rows[:, 0]], rows[:, 0]


def test_a_contrastive_pair_is_two_utterances_of_a_cluster_in_crops_of_one_length(share):
    config = config_from_dict(
        ContrastiveConfig, {"positives": "cluster", "crops": SMALL, "augment": vars(SILENT)}
    )
    batch, views = views_of(config, *share)
    own, partner = views.student
    assert own.shape == partner.shape == (12 // share[1], own.shape[1], 2)
    (own_clusters, own_rows), (clusters, rows) = clusters_of(own), clusters_of(partner)
    assert (HASHES[own_rows] == batch.hashes).all() and (clusters == own_clusters).all()
    assert (rows != own_rows)[own_rows != 28].all()
    one, of_one = views_of(config)
    part = slice(share[0] * len(own), (share[0] + 1) * len(own))
    assert (one.hashes[part] == batch.hashes).all() and of_one.student[1][part].equal(partner)


def test_the_teacher_of_dino_sees_the_partner_alone_and_the_student_never():
    config = config_from_dict(
        DinoConfig,
        {
            "positives": "cluster",
            "crops": {**SMALL, "num_local": 2, "local_seconds": [0.1, 0.1]},
            "augment": vars(SILENT),
        },
    )
    batch, views = views_of(config)
    own = np.searchsorted(HASHES, batch.hashes)
    assert [len(x) for x in views.student] == [24, 24] and [len(x) for x in views.teacher] == [24]
    for view in views.student:
        assert (clusters_of(view)[1] == np.tile(own, 2)).all()
    clusters, rows = clusters_of(views.teacher[0])
    assert (clusters == np.tile(CLUSTERS[own], 2)).all() and (rows[:12] == rows[12:]).all()
    assert (rows != np.tile(own, 2))[np.tile(own, 2) != 28].all()
