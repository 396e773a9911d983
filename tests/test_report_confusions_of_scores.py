"""What is confused: error rates of parts of the trials, from planted effects to the table of the report."""

import json

import numpy as np
import pytest

from pydino.backend import TrialCurve, equal_error_rate
from pydino.backend.subset_errors import eer_threshold, subset_errors
from pydino.kaldi.trials import PairTable, read_trials, write_scores, write_trials
from pydino.report.figure_cache import FigureCache
from pydino.report.gather import gather_det_curves
from pydino.report.score_confusions import confusion_tables, label_maps, score_confusions

SPEAKERS, EACH = 24, 6


def spoken(seed=0):
    """All pairs of utterances; a common emotion raises a score by 2, whoever speaks. The gender is the
    speaker's.
    """
    rng = np.random.default_rng(seed)
    keys = [f"u{s:02d}-{i}" for s in range(SPEAKERS) for i in range(EACH)]
    speaker_of = {key: key[1:3] for key in keys}
    emotion_of = {key: ("angry", "sad", "calm")[int(key[-1]) % 3] for key in keys}
    gender_of = {key: "fm"[int(key[1:3]) % 2] for key in keys}
    rows, columns = np.triu_indices(len(keys), 1)
    speakers, emotions = (np.array([table[key] for key in keys]) for table in (speaker_of, emotion_of))
    is_target = speakers[rows] == speakers[columns]
    scores = rng.normal(3.0 * is_target + 2.0 * (emotions[rows] == emotions[columns]), 1)
    return PairTable(keys, keys, rows, columns, is_target), scores, speaker_of, emotion_of, gender_of


def test_the_threshold_of_all_trials_is_where_both_errors_are_equal():
    trials, scores, *_ = spoken()
    threshold = eer_threshold(scores, trials.values)
    miss, false_alarm = (
        (scores[trials.values] < threshold).mean(),
        (scores[~trials.values] >= threshold).mean(),
    )
    assert abs(miss - false_alarm) <= 1 / trials.values.sum()
    assert miss == pytest.approx(equal_error_rate(scores, trials.values), abs=0.01)
    lowest = np.abs(np.subtract(*TrialCurve(scores, trials.values).rates())).min()
    assert abs(miss - false_alarm) == pytest.approx(lowest)


def test_a_planted_confusion_is_found():
    trials, scores, speaker_of, emotion_of, gender_of = spoken()
    maps = {"emotion": emotion_of, "gender": gender_of}
    by_emotion, by_gender = score_confusions(trials, scores, maps, speaker_of)
    same, different = by_emotion.same, by_emotion.different
    assert same.targets + different.targets == trials.values.sum()
    # Each part by itself is as easy as the other; with one threshold, one is accepted and one rejected.
    assert same.eer.value == pytest.approx(different.eer.value, abs=0.03)
    assert same.false_alarm.value > different.false_alarm.value + 0.2
    assert same.miss.value < different.miss.value - 0.1
    assert same.eer.interval[0] < same.eer.value < same.eer.interval[1]
    low, high = different.miss.interval
    assert low < different.miss.value < high
    # A speaker has one gender: no target differs in it.
    assert (by_gender.different.targets, by_gender.different.eer, by_gender.different.miss) == (0, None, None)
    assert by_gender.different.false_alarm.value == pytest.approx(by_gender.same.false_alarm.value, abs=0.05)


def test_what_is_not_known_is_left_out():
    trials, scores, speaker_of, emotion_of, _ = spoken()
    some = {key: value for key, value in emotion_of.items() if key >= "u12"}
    (found,) = score_confusions(trials, scores, {"emotion": some})
    half = SPEAKERS // 2 * EACH
    counts = [n for part in (found.same, found.different) for n in (part.targets, part.nontargets)]
    assert sum(counts) == half * (half - 1) // 2
    assert found.same.eer.interval is None  # without speakers
    few = subset_errors(np.arange(30.0), np.arange(30) < 15, None, None, 0.0)
    assert (few.eer, few.miss, few.false_alarm, few.targets) == (None, None, None, 15)


def write_map(path, table):
    path.write_text("".join(f"{key} {table[key]}\n" for key in sorted(table)))


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """data/test with label maps, and the scores of two seeds of one model and of a baseline."""
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data" / "test"
    data.mkdir(parents=True)
    for seed, model in ((0, "dino"), (1, "dino"), (0, "fbank-stats")):
        trials, scores, *tables = spoken(seed)
        folder = tmp_path / "exp" / model / f"seed{seed}" / "scores"
        folder.mkdir(parents=True)
        write_trials(data / "trials", trials.models, trials.rows, trials.columns, trials.values)
        write_scores(folder / "test.txt", read_trials(data / "trials"), scores)
        described = {"model": model, "backend": "cosine", "treatment": "raw"}
        det = described | {"trials": "test", "false_alarm": [], "miss": []}
        det |= {"scores": f"{folder}/test.txt", "trials_file": "data/test/trials"}
        (folder / "test.det.json").write_text(json.dumps(det))
        result = described | {
            "train_set": "t",
            "labels": "none",
            "config": model,
            "model_labels": "none",
            "seed": seed,
        }
        (folder / "test.result.json").write_text(json.dumps([result | {"metric": "eer", "value": 1}]))
    for name, table in zip(("spk", "emotion", "gender"), tables, strict=True):
        write_map(data / f"utt2{name}", table)
    keys = list(tables[0])
    write_map(data / "utt2dur", {key: 3.5 for key in keys})
    write_map(data / "utt2age", {key: 20 + i / 100 for i, key in enumerate(keys[1:])} | {keys[0]: 20.01})
    write_map(data / "utt2text", {key: f"sentence {i}" for i, key in enumerate(keys)})
    return tmp_path


def test_tables_of_the_report(recipe):
    assert list(label_maps(recipe / "data" / "test")) == ["emotion", "gender"]
    curves, cache = gather_det_curves(recipe / "exp"), FigureCache(recipe / "report")
    emotion, gender = confusion_tables(curves, cache)
    assert emotion.title == "What is confused: test, by emotion"
    assert emotion.header[:4] == ["model", "configuration", "back-end", "treatment"]
    assert emotion.header[-2:] == ["false alarms %, same emotion", "false alarms %, different emotion"]
    (dino, baseline) = emotion.rows
    assert (dino[0], baseline[0]) == ("dino", "fbank-stats")
    assert " to " in dino[-1] and "[" not in dino[-1]  # of two seeds a range, of one an interval
    assert "[" in baseline[-1]
    assert "fewer than 20" in gender.caption and "EER %, different gender" not in gender.header
    assert "false alarms %, different gender" in gender.header


def test_tables_are_made_again_only_where_something_changed(recipe, monkeypatch):
    from pydino.report import score_confusions as module

    curves = gather_det_curves(recipe / "exp")
    first = confusion_tables(curves, FigureCache(recipe / "report"))
    read = []
    real = module.read_scores
    monkeypatch.setattr(module, "read_scores", lambda path: read.append(path) or real(path))
    assert [table.rows for table in confusion_tables(curves, FigureCache(recipe / "report"))] == [
        table.rows for table in first
    ]
    assert read == []
    path = recipe / "exp" / "fbank-stats" / "seed0" / "scores" / "test.txt"
    path.write_text(path.read_text().replace("u00-0 u00-1 ", "u00-0 u00-1 1"))
    confusion_tables(curves, FigureCache(recipe / "report"))
    assert [str(one) for one in read] == [str(path)]
