"""A run measured without labels: the list of views, the record, the verdict, the choice of a snapshot."""

import json
import shutil

import numpy as np
import pytest
from test_train_dino import CONFIG, data, make_data, make_train_set, train  # noqa: F401

from pydino.backend.label_free import label_free_scores
from pydino.base import UserError, utterance_hash
from pydino.cli import main
from pydino.data.view_list import VIEWS, ViewList, choose_views, listed_views
from pydino.infer import load
from pydino.kaldi import read_table, write_table
from pydino.train.health import best_snapshot, judge
from pydino.train.label_free import LabelFree

# Crops of the tiny training set are short; two snapshots.
SHORT = {**CONFIG, "epochs": 2, "snapshot_epochs": 1}


def measured(exp):
    return [json.loads(line) for line in (exp / "monitor.jsonl").read_text().splitlines()]


def hashes_of(count):
    return np.array(sorted(utterance_hash(str(i)) for i in range(count)), dtype=np.uint64)


def test_views_lie_in_the_utterance_and_neighbours_do_not_overlap():
    hashes = hashes_of(300)
    lengths = np.random.default_rng(0).integers(150, 1500, 300)
    views = choose_views("data", hashes, lengths, 0.01)
    assert views.frames == min(200, int(np.median(lengths)) // 2)
    length_of = dict(zip(hashes.tolist(), lengths.tolist(), strict=True))
    own = np.array([length_of[key] for key in views.hashes.tolist()])
    assert len(own) == (lengths >= 2 * views.frames).sum() and views.starts.shape[1] == VIEWS
    assert (views.starts >= 0).all() and (views.starts + views.frames <= own[:, None]).all()
    for first in range(0, VIEWS, 2):
        apart = np.abs(views.starts[:, first] - views.starts[:, first + 1])
        assert (apart >= views.frames).all()
    # where there is room, all six are disjoint
    roomy = np.sort(views.starts[own >= VIEWS * views.frames], axis=1)
    assert len(roomy) and (np.diff(roomy, axis=1) >= views.frames).all()


def test_the_choice_depends_on_hashes_alone_and_has_an_end(monkeypatch):
    hashes, lengths = hashes_of(60), np.random.default_rng(0).integers(150, 900, 60)
    order = np.random.default_rng(1).permutation(60)
    one, other = (
        choose_views("a", hashes, lengths, 0.01),
        choose_views("b", hashes[order], lengths[order], 0.01),
    )
    assert np.array_equal(one.hashes, other.hashes) and np.array_equal(one.starts, other.starts)
    assert not (np.sort(one.hashes) == one.hashes).all()  # the self-EER takes neighbours as others
    monkeypatch.setattr("pydino.data.view_list.MOST_UTTERANCES", 20)
    few = choose_views("a", hashes, lengths, 0.01)
    assert np.array_equal(few.hashes, one.hashes[:20]) and np.array_equal(few.starts, one.starts[:20])
    with pytest.raises(UserError, match="room for two views"):
        choose_views("a", hashes[:1], lengths[:1], 0.01)


@pytest.fixture
def run(data, tmp_path):  # noqa: F811
    """A run of two snapshots, measured without labels."""
    assert train(data, tmp_path / "exp", config=SHORT) == 0
    assert main(["monitor", str(tmp_path / "exp"), "--data", str(data)]) == 0
    return tmp_path / "exp"


def test_a_run_is_measured_once_on_one_list_and_judged(data, run, capsys):  # noqa: F811
    lines = measured(run)
    assert [line["model"] for line in lines] == [
        "untrained",
        "snapshots/epoch0001/teacher",
        "snapshots/epoch0002/teacher",
    ]
    assert [line["stability"] is None for line in lines] == [True, True, False]
    assert all(0 <= line["self_eer"] <= 100 and 1 <= line["lidar"] <= 8.001 for line in lines)
    text, listed = (run / "monitor.jsonl").read_text(), (run / "monitor/views.json").read_text()
    capsys.readouterr()
    assert main(["monitor", str(run)]) == 0  # the list knows where its utterances are
    said = capsys.readouterr()
    assert (run / "monitor.jsonl").read_text() == text and (run / "monitor/views.json").read_text() == listed
    verdict = json.loads((run / "monitor/health.json").read_text())
    assert (
        verdict["sentence"] in said.err
        and verdict["epochs"] == 2
        and "in brackets a healthy and a collapsed run" in said.err
    )
    assert said.out == ""
    assert main(["monitor", str(run), "--choose", "true"]) == 0
    chosen = capsys.readouterr().out.strip()
    assert load(chosen).config.role == "teacher" and chosen == str(run / best_snapshot(lines))


def test_scores_are_those_of_the_listed_views(data, run):  # noqa: F811
    evaluation = LabelFree(run, None)
    model = load(run / "snapshots/epoch0002/teacher")
    pipeline = evaluation._pipeline
    batches = list(listed_views(evaluation.views, pipeline.source, pipeline.views))
    assert [rows.stop for rows, _ in batches][-1] == len(evaluation.views.hashes)
    by_hand = np.concatenate(
        [[[model.embed_features([view])[0] for view in own] for own in views] for _, views in batches]
    )
    line = measured(run)[-1]
    expected = label_free_scores(by_hand)
    assert {name: line[name] for name in expected} == pytest.approx(expected, abs=1e-3)
    # what is embedded is the speech at the places listed, but for the augmentation
    place = np.searchsorted(pipeline.source.hashes, evaluation.views.hashes[0])
    assert evaluation.views.starts[0].max() + evaluation.views.frames <= pipeline.source.lengths[place]


def test_renamed_utterances_have_the_same_scores(run, data, tmp_path):  # noqa: F811
    for name in ("feats.scp", "vad.scp", "utt2hash", "utt2num_frames", "utt2spk", "spk2utt"):
        table = read_table(data / name)
        rename = {key: f"{9 - int(key[-1])}x{key}" for key in table}
        write_table(
            data / name,
            {
                rename[key]: rename[key] if name.endswith(("spk", "utt")) else value
                for key, value in table.items()
            },
        )
    shutil.copytree(run, tmp_path / "again", ignore=shutil.ignore_patterns("monitor*"))
    (data / ".done").unlink(missing_ok=True)
    assert main(["monitor", str(tmp_path / "again"), "--data", str(data)]) == 0
    assert measured(tmp_path / "again") == measured(run)


def test_trials_are_measured_beside_the_list_where_there_is_one(run, tmp_path, capsys):
    source = tmp_path / "source"
    keys = sorted(read_table(source / "utt2spk"))
    pairs = [(a, b) for i, a in enumerate(keys) for b in keys[:i]]
    text = "".join(f"{a} {b} {'target' if a[:2] == b[:2] else 'nontarget'}\n" for a, b in pairs)
    (tmp_path / "trials").write_text(text)
    options = ["--data", str(source), "--trials", str(tmp_path / "trials")]
    before = len(measured(run))
    assert main(["monitor", str(run), *options]) == 0
    added = measured(run)[before:]
    assert len(added) == 4 and all("eer" in line for line in added)
    assert "self-EER" in capsys.readouterr().err
    shutil.rmtree(run / "monitor")
    assert main(["monitor", str(run), *options]) == 0
    assert "and no verdict: run pydino monitor" in capsys.readouterr().err
    assert main(["monitor", str(run), *options, "--choose", "true"]) == 1
    assert "--choose" in capsys.readouterr().err


def test_mistakes_speak(run, tmp_path, capsys):
    def said(*options):
        assert main(["monitor", *map(str, options)]) == 1
        return capsys.readouterr().err

    assert "give --data DATA" in said(run, "--trials", "x")
    assert "--labels are what neighbours vote on" in said(run, "--labels", "x")
    make_data(tmp_path / "other_source", [f"s{i % 4}-u{i:02d}" for i in range(6, 11)])
    make_train_set(tmp_path / "other_source", tmp_path / "other")
    (run / "monitor.jsonl").unlink()
    assert "of the list of views are not in it any more" in said(run, "--data", tmp_path / "other")
    listed = json.loads((run / "monitor/views.json").read_text())
    listed["starts"] = {"1": [0] * VIEWS, "2": [0] * VIEWS}
    (run / "monitor/views.json").write_text(json.dumps(listed))
    assert "2 of 2 utterances of the list of views are not in it any more" in said(run)
    for text in ('{"data": 3}', '{"data": "x", "frames": 9, "starts": [1, 2]}'):
        (run / "monitor/views.json").write_text(text)
        assert "is not a list of views; remove it" in said(run)
    shutil.rmtree(run / "monitor")
    assert "give --data DATA, the directory that the run was trained on" in said(run)
    (tmp_path / "empty").mkdir()
    assert "is not the folder of a training run" in said(tmp_path / "empty", "--data", tmp_path / "train")


def test_without_a_model_the_log_alone_decides(data, run, capsys):  # noqa: F811
    for folder in ("snapshots", "teacher", "student"):
        shutil.rmtree(run / folder)
    assert main(["monitor", str(run)]) == 0
    said = capsys.readouterr().err
    assert "by the log of the training alone: no model in" in said and "no snapshot is scored yet" not in said
    (run / "monitor.jsonl").unlink()  # as of a run that has just begun
    assert main(["monitor", str(run)]) == 0
    assert "too early to tell, after 2 of 2 epochs: no snapshot is scored yet" in capsys.readouterr().err
    assert main(["monitor", str(run), "--choose", "true"]) == 1
    (run / "log.jsonl").unlink()
    assert main(["monitor", str(run)]) == 1
    assert "nothing to measure" in capsys.readouterr().err


def test_a_list_is_what_was_written(tmp_path):
    views = choose_views("data/x", hashes_of(30), np.full(30, 700), 0.01)
    views.write(tmp_path / "views.json")
    again = ViewList.read(tmp_path / "views.json")
    assert again.data == "data/x" and again.frames == views.frames
    assert np.array_equal(again.hashes, views.hashes) and np.array_equal(again.starts, views.starts)


# ---- the verdict

GOOD = {
    "teacher_entropy": 0.4,
    "mean_teacher_entropy": 2.4,
    "kl": 0.5,
    "embedding_spread": 0.99,
    "effective_rank": 40.0,
    "embeddings": 1200.0,
    "epoch": 20.0,
}
START = {"role": "untrained", "epoch": 0, "self_eer": 34.0, "lidar": 90.0, "rankme": 25.0}
SCORED = {"role": "teacher", "epoch": 20, "self_eer": 12.0, "lidar": 80.0, "rankme": 90.0}


@pytest.mark.parametrize(
    ("changes", "scored", "state", "said"),
    [
        ({}, {}, "healthy", "self-EER 12.0 % (34.0 % untrained)"),
        ({"epoch": 5.0}, {"epoch": 5}, "too early to tell", "its scores may still turn"),
        (
            {"epoch": 5.0, "effective_rank": 2.0},
            {"epoch": 5},
            "too early to tell",
            "so far: partial collapse",
        ),
        ({"effective_rank": 2.0}, {}, "partly collapsed", "2.0 directions of 128"),
        ({"mean_teacher_entropy": 0.5}, {}, "collapsed", "collapse to a point"),
        ({"mean_teacher_entropy": 1.0, "teacher_entropy": 0.9}, {}, "partly collapsed", "0.10 nats"),
        ({}, {"self_eer": 33.0}, "learnt little", "little better than by the untrained encoder"),
        ({}, {"self_eer": 36.0}, "learnt little", "no better than by the untrained encoder"),
        ({}, {"lidar": 2.5}, "partly collapsed", "few directions (LiDAR 2.5)"),
        ({}, {"self_eer": 47.0}, "collapsed", "self-EER 47.0 %"),
        ({}, {"self_eer": None}, "collapsed", "embeddings not a number"),
        ({"loss": None}, {}, "collapsed", "loss not a number"),
        ({"embedding_spread": 0.001, "kl": 0.5}, {}, "collapsed", "collapse to a point"),
    ],
)
def test_verdicts(changes, scored, state, said):
    health = judge([GOOD | changes], [START, SCORED | scored], 24, 1024, 128)
    assert health.state == state and said in health.sentence and health.sentence.startswith(state)


def test_verdicts_without_a_head_without_scores_and_without_a_log():
    contrastive = {"epoch": 20.0, "embedding_spread": 0.9, "effective_rank": 30.0, "embeddings": 900.0}
    assert judge([contrastive], [START, SCORED], 24, None, 128).state == "healthy"
    assert judge([contrastive | {"embedding_spread": 0.0}], [], 24, None, 128).state == "collapsed"
    weak = judge([contrastive], [START, SCORED | {"self_eer": 33.0}], 24, None, 128)
    assert weak.sentence.endswith("train for more steps, or lower optimiser.lr")  # there is no teacher
    assert judge([GOOD], [], 24, 1024, 128).state == "too early to tell"
    assert judge([], [SCORED], 24, 1024, 128).state == "healthy"
    lost = START | {"self_eer": None}
    assert judge([], [lost, SCORED], 24, 1024, 128).state == "healthy"


def test_nothing_is_advised_that_the_run_has_or_cannot_have():
    few = {"effective_rank": 2.0}
    for changes, advised in (({}, True), ({"koleo": -1.0}, False)):
        said = [
            judge([GOOD | changes | few], [], 24, 1024, 128).sentence,
            judge([GOOD | changes], [START, SCORED | {"self_eer": 47.0}], 24, 1024, 128).sentence,
        ]
        assert all(("koleo_weight" in sentence) == advised for sentence in said)
        point = judge([GOOD | changes | {"embedding_spread": 0.001}], [], 24, 1024, 128).sentence
        assert ("KoLeo" in point) == advised
    without_teacher = {"epoch": 20.0, "embeddings": 900.0, **few}
    assert "teacher" not in judge([without_teacher], [], 24, None, 128).sentence


def test_a_run_that_collapsed_is_called_so(data, tmp_path):  # noqa: F811
    """Without a centre that follows slowly, every utterance gets the same output."""
    config = {
        **SHORT,
        "epochs": 12,
        "snapshot_epochs": 6,
        "koleo_weight": 0.0,
        "loss": {"centre_momentum": 1.0},
    }
    config["optimiser"] = {"warmup_epochs": 1, "lr": 0.02}
    assert train(data, tmp_path / "exp", config=config) == 0
    assert main(["monitor", str(tmp_path / "exp"), "--data", str(data)]) == 0
    verdict = json.loads((tmp_path / "exp/monitor/health.json").read_text())
    assert verdict["state"] in ("collapsed", "partly collapsed")


def test_the_snapshot_of_the_least_self_eer_is_chosen():
    def line(epoch, self_eer, model=None):
        return {"model": model or f"e{epoch}", "role": "teacher", "epoch": epoch, "self_eer": self_eer}

    lines = [START | {"model": "untrained", "self_eer": 5.0}, line(1, 20), line(2, 10), line(3, 12)]
    assert best_snapshot(lines) == "e2"
    assert best_snapshot([*lines, line(4, 10)]) == "e4"  # of equal ones the latest
    assert best_snapshot([*lines, line(5, None), line(2, 30)]) == "e3"  # trained again, and measured again
    with pytest.raises(UserError, match="no model that is there"):
        best_snapshot([lines[0], line(1, None)])
