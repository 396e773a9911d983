"""Leak controls: at chance where nothing tells the label, above it where a difference was planted."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import lfilter
from tiny_corpora import speech

import pydino.downstream.controls as controls
from pydino.audio import (
    Fbank,
    FbankConfig,
    VadConfig,
    channel_statistics,
    clipped_share,
    energy_vad,
)
from pydino.audio.utterances import extract, utterances
from pydino.backend import independent_draws, smallest_significant
from pydino.base import UserError, config_to_dict, dump_config
from pydino.cli import main
from pydino.cli._steps import pending
from pydino.downstream import (
    ENOUGH_UNITS,
    Control,
    TaskConfig,
    assign_folds,
    evaluate,
    metadata_vectors,
    not_measured,
    outputs_of,
    permutation_band,
    permute_labels,
    read_task,
    share_of_units,
    verdict,
    why_not_measured,
    write_task,
)
from pydino.infer import (
    StoredFrames,
    channel_vectors,
    crop_vectors,
    pause_vectors,
    silence_vectors,
    timing_vectors,
    whole_vectors,
)
from pydino.infer.silence_vectors import silences
from pydino.kaldi import ArchiveWriter, read_object, read_table, write_table
from pydino.report import suspicions

RATE, SUBJECTS, FOLDS = 8000, 40, 4
FBANK = FbankConfig(sample_frequency=RATE, num_mel_bins=23, dither=0.0, snip_edges=False, energy_floor=1.0)
VAD = VadConfig(5.5, 0.5, 2, 0.12)
NAMES = [f"s{number:02d}" for number in range(SUBJECTS)]
CLASS = dict(zip(NAMES, np.random.default_rng(3).permutation(SUBJECTS) % 2, strict=True))


# The rule


@pytest.mark.parametrize("hits, draws", [(31, 48), (43, 71), (64, 108), (95, 166)])
def test_the_smallest_significant_accuracy_is_the_one_of_the_binomial_distribution(hits, draws):
    def at_least(h):
        return sum(math.comb(draws, i) for i in range(h, draws + 1)) / 2**draws

    assert at_least(hits) <= 0.05 < at_least(hits - 1)
    assert smallest_significant(draws, 2) == pytest.approx(hits / draws)


def test_too_few_draws_are_never_significant():
    assert smallest_significant(4, 2) == math.inf and smallest_significant(0, 2) == math.inf
    assert smallest_significant(5, 2) == 1.0


def test_draws_of_unequal_classes_give_average_recall_the_variance_of_a_binomial():
    assert independent_draws(np.array([24, 24])) == 48
    assert independent_draws(np.array([36, 35])) == 71
    assert independent_draws(np.array([10, 0, 10])) == 20
    counts, rng = np.array([60, 12, 24]), np.random.default_rng(0)
    recalls = np.mean([rng.binomial(n, 1 / 3, 200_000) / n for n in counts], axis=0)
    draws = independent_draws(counts)
    assert recalls.var() == pytest.approx((1 / 3) * (2 / 3) / draws, rel=0.02)
    assert (recalls >= smallest_significant(draws, 3) - 1e-12).mean() <= 0.06


# What is measured


def test_clipped_samples_are_runs_of_the_extremes():
    wave = np.sin(np.arange(8000) * 0.05)
    assert clipped_share(wave) == 0
    assert clipped_share(np.zeros(100)) == 0
    clipped = np.clip(wave, -0.8, 0.9)
    expected = (wave >= 0.9).mean() + (wave <= -0.8).mean()
    assert clipped_share(clipped) == pytest.approx(expected, abs=5e-4)  # runs cut by the ends
    assert clipped_share((clipped * 20000).astype(np.int16)) == pytest.approx(expected, rel=0.05)


def test_the_channel_is_measured_without_the_pauses():
    rng = np.random.default_rng(0)
    features, energy = rng.normal(10, 1, (300, 23)), rng.normal(12, 1, 300)
    centres = np.linspace(100, 3900, 23)
    pause = np.full((200, 23), 2.0)
    with_pauses = channel_statistics(
        np.vstack([pause, features, pause]),
        np.concatenate([np.full(200, 3.0), energy, np.full(200, 3.0)]),
        centres,
    )
    np.testing.assert_allclose(channel_statistics(features, energy, centres), with_pauses)
    louder = channel_statistics(features + 2, energy + 2, centres)
    assert np.abs(louder - with_pauses)[[0, 30, -1]] == pytest.approx(2)
    np.testing.assert_allclose(louder[46:49], with_pauses[46:49])  # the roll-off is no matter of level


# A corpus with a difference between the classes, or none


@pytest.fixture(scope="module")
def voices():
    """Subject -> (S,) samples: noise, speech, noise, of a level and a colour that vary with the subject."""
    found = {}
    for number, name in enumerate(NAMES):
        rng = np.random.default_rng([9, number])
        spoken = speech(number, 0, 1.8, RATE) * rng.uniform(0.4, 0.6)
        padded = np.concatenate([np.zeros(RATE), spoken, np.zeros(RATE)])
        found[name] = padded + rng.normal(size=len(padded)) * rng.uniform(2.4e-4, 3.6e-4)
    return found


def noisy(samples):
    return samples + np.random.default_rng(len(samples)).normal(size=len(samples)) * 1.2e-3


def low_passed(samples):
    return lfilter([0.6], [1, -0.4], samples)


PLANTED = {"gain": lambda samples: 0.3 * samples, "low-pass": low_passed, "noise floor": noisy}


def data_dir(path, samples_of, speakers=None):
    """A data directory with audio, features, energies and VAD."""
    path.mkdir(parents=True)
    for name, samples in samples_of.items():
        soundfile.write(path / f"{name}.wav", samples, RATE, subtype="FLOAT")
    write_table(path / "wav.scp", {name: path / f"{name}.wav" for name in samples_of})
    write_table(path / "utt2spk", speakers or {name: name for name in samples_of})
    with (
        ArchiveWriter(path / "feats.ark", path / "feats.scp") as feats,
        ArchiveWriter(path / "energy.ark", path / "energy.scp") as energies,
        ArchiveWriter(path / "vad.ark", path / "vad.scp") as decisions,
    ):
        for made in extract(utterances(path), Fbank(FBANK), {}):
            feats.write(made.key, made.features.numpy())
            energies.write(made.key, made.energy.numpy())
            decisions.write(made.key, energy_vad(made.energy, VAD).float().numpy())
    (path / "conf").mkdir()
    dump_config(config_to_dict(FBANK), path / "conf" / "fbank.yaml")
    dump_config(config_to_dict(VAD), path / "conf" / "vad.yaml")
    return path


def task_dir(path, classes=CLASS, keep_silence=False, kind="class"):
    names = sorted(classes)
    label = {name: str(classes[name]) for name in names}
    labels = np.array([int(label[name]) for name in names]) if kind == "class" else None
    fold_of = assign_folds(np.arange(len(names)), FOLDS, labels)
    folds = {
        str(fold): {name: "test" if fold_of[i] == fold else "train" for i, name in enumerate(names)}
        for fold in range(FOLDS)
    }
    config = TaskConfig(
        name="ad",
        kind=kind,
        classes=sorted(set(label.values())) if kind == "class" else [],
        folds=list(folds),
        data=["data/corpus"],
        keep_silence=keep_silence,
    )
    own = {name: name for name in names}
    tables = {"utt2label": label, "utt2spk": own, "utt2unit": own, "utt2set": dict.fromkeys(names, "corpus")}
    write_task(path, config, tables, folds)
    return read_task(path)


def measured(task, name, vectors, left_out=False):
    done = evaluate(task, outputs_of(task, vectors, 0, left_out), 500, 0)
    return verdict(task, Control(name, "statistics", vectors, True, "", left_out), done, 500, 0)


@pytest.fixture(scope="module")
def plain(voices, tmp_path_factory):
    """A data directory without any difference between the classes."""
    return data_dir(tmp_path_factory.mktemp("plain") / "corpus", voices)


def test_controls_are_at_chance_where_the_label_is_independent_of_the_channel(plain, tmp_path):
    """Over four divisions into two classes, each control is as rarely above chance as a one-sided test at 5 %
    should be. Controls of one division are not independent: one class may happen to have the louder voices.
    """
    frames = StoredFrames([plain])
    vectors = {
        "silence": silence_vectors(frames, NAMES).statistics,
        "channel": channel_vectors(frames, NAMES).statistics,
        "timing": timing_vectors(frames, NAMES, {name: name for name in NAMES}).statistics,
    }
    beaten = dict.fromkeys(vectors, 0)
    for draw in range(4):
        classes = dict(zip(NAMES, np.random.default_rng(draw).permutation(SUBJECTS) % 2, strict=True))
        task = task_dir(tmp_path / str(draw), classes)
        for name, table in vectors.items():
            beaten[name] += measured(task, name, table)["beats_chance"]
    assert max(beaten.values()) <= 1, beaten  # of four; P(more than 1) = 1 %


def test_what_permuted_labels_reach_is_no_finding(tmp_path, monkeypatch):
    """Permutations are drawn where the interval holds the bound, and one that reaches the value decides."""
    task, rng = task_dir(tmp_path / "task"), np.random.default_rng(0)
    told = {name: np.array([CLASS[name] + 1.3 * rng.normal()]) for name in NAMES}
    value = measured(task, "channel", told)["value"]
    for other, beats in ((value, False), (value - 1, True)):
        monkeypatch.setattr(controls, "_permuted_values", lambda *_, other=other: iter([40.0, other]))
        entry = measured(task, "channel", told)
        assert entry["interval"][0] < entry["chance_bound"] < entry["value"]
        assert entry["beats_chance"] == beats
    monkeypatch.delattr(controls, "_permuted_values")  # where the whole interval is above it, none is
    assert measured(task, "channel", {name: np.array([10.0 * CLASS[name]]) for name in NAMES})["beats_chance"]


def test_a_control_that_half_of_the_units_lack_is_not_measured(tmp_path):
    task = task_dir(tmp_path / "task")
    vectors = {name: np.array([10.0 * CLASS[name]]) for name in NAMES[: SUBJECTS // 4]}
    assert share_of_units(task, vectors) == 0.25 < ENOUGH_UNITS
    control = Control("silence", "statistics", vectors, True, "frames")
    entry = not_measured(task, control, why_not_measured(task, control))
    assert entry["value"] is None and not entry["beats_chance"] and suspicions([entry]) == []
    assert entry["note"] == "not measured: 25 % of the units have a vector; frames"
    assert entry.keys() == measured(task, "silence", {name: np.ones(1) for name in NAMES}).keys()


@pytest.mark.parametrize("what", PLANTED)
def test_a_channel_difference_in_one_class_is_caught_by_silence_and_by_the_channel(what, voices, tmp_path):
    change = PLANTED[what]
    samples = {name: change(x) if CLASS[name] else x for name, x in voices.items()}
    frames, task = StoredFrames([data_dir(tmp_path / "corpus", samples)]), task_dir(tmp_path / "task")
    silence = measured(task, "silence", silence_vectors(frames, NAMES).statistics)
    channel = measured(task, "channel", channel_vectors(frames, NAMES).statistics)
    assert silence["beats_chance"] and silence["value"] > 80, silence
    assert channel["beats_chance"] and channel["value"] > 80, channel
    assert len(suspicions([silence, channel])) == 2


def test_duration_is_caught_by_timing_and_gone_in_crops(voices, tmp_path):
    samples = {name: x[RATE : RATE + (14000 if CLASS[name] else 9000)] for name, x in voices.items()}
    frames, task = StoredFrames([data_dir(tmp_path / "corpus", samples)]), task_dir(tmp_path / "task")
    timing = timing_vectors(frames, NAMES, {name: name for name in NAMES}).statistics
    assert measured(task, "metadata", timing)["value"] > 95
    crops = crop_vectors(frames, NAMES, keep_silence=True, seed=0)
    assert not measured(task, "duration", crops.statistics)["beats_chance"]
    assert crops.note == "crops of 1.13 s"


def test_silence_is_one_run_of_equal_length_from_the_same_place(plain, voices, tmp_path):
    frames = StoredFrames([plain])
    found = silence_vectors(frames, NAMES)
    assert "0.5 s from speech, before the first speech; 0 of 40" in found.note or "; 1 of 40" in found.note
    spoken = {name: int(np.flatnonzero(frames.voiced(name))[0]) for name in NAMES}
    length = int(np.percentile([first - 49 for first in spoken.values()], 5))
    for name in found.statistics:
        run = frames.features(name)[spoken[name] - 49 - length : spoken[name] - 49].astype(np.float64)
        np.testing.assert_allclose(found.statistics[name], [*run.mean(axis=0), *run.std(axis=0)])
    # Without silence at the ends of some, it is taken where most have it; the others are left out.
    short = {n: x[RATE if i % 5 < 2 else 0 : -RATE] for i, (n, x) in enumerate(voices.items())}
    found = silence_vectors(StoredFrames([data_dir(tmp_path / "corpus", short)]), NAMES)
    assert found.note == "0.10 s between speech; 12 of 40 utterances have less and are left out"
    assert len(found.statistics) == 28


def test_runs_without_speech_are_before_it_after_it_and_between():
    voiced = np.array([0, 0, 1, 1, 0, 1, 0, 0, 0, 1, 0], dtype=bool)
    assert silences(voiced) == ([(0, 2)], [(10, 11)], [(4, 5), (6, 9)])
    assert silences(np.ones(3, dtype=bool)) == silences(np.zeros(3, dtype=bool)) == ([], [], [])


def pausing(samples, long, ends):
    """The same speech with long or short pauses in it, of the recording's own noise; ``ends``: with silence
    before and after it, whose length goes with that of the pauses.
    """
    noise, middle = samples[:RATE], len(samples) // 2
    pauses = [noise[: int(0.7 * RATE)], noise[int(0.3 * RATE) :]] if long else [noise[: int(0.4 * RATE)]]
    parts = np.array_split(
        samples[RATE:-RATE] if ends else samples[RATE : middle + RATE // 2], len(pauses) + 1
    )
    joined = [parts[0]]
    for pause, part in zip(pauses, parts[1:], strict=True):
        joined += [pause, part]
    edge = [noise[: int((0.9 if long else 0.3) * RATE)]] if ends else []
    return np.concatenate([*edge, *joined, *edge])


@pytest.mark.parametrize("ends", [True, False], ids=["at the ends", "between speech"])
def test_pauses_in_one_class_are_a_signal_and_no_leak_and_a_channel_is_found_all_the_same(
    ends, voices, tmp_path
):
    samples = {name: pausing(x, CLASS[name], ends) for name, x in voices.items()}
    frames, task = StoredFrames([data_dir(tmp_path / "corpus", samples)]), task_dir(tmp_path / "task")
    pauses = measured(task, "pauses", pause_vectors(frames, NAMES).statistics)
    assert pauses["value"] > 90, pauses
    silent = silence_vectors(frames, NAMES)
    assert ("first speech" if ends else "between speech") in silent.note and len(silent.statistics) > 36
    assert not measured(task, "silence", silent.statistics, left_out=True)["beats_chance"], silent.note
    planted = {name: 0.3 * x if CLASS[name] else x for name, x in samples.items()}
    frames = StoredFrames([data_dir(tmp_path / "planted", planted)])
    found = measured(task, "silence", silence_vectors(frames, NAMES).statistics, left_out=True)
    assert found["beats_chance"] and found["value"] > 80, found


def test_utterances_without_enough_silence_are_left_out_as_which_they_are_may_tell_the_label(tmp_path):
    """All of one class have a vector, of noise, and half of the other."""
    rng, task = np.random.default_rng(0), task_dir(tmp_path / "task")
    vectors = {n: rng.normal(size=3) for i, n in enumerate(NAMES) if not CLASS[n] or i % 2}
    assert set(outputs_of(task, vectors, 0, left_out=True)) == set(vectors)
    entry = measured(task, "silence", vectors, left_out=True)
    assert entry["n"] == len(vectors) and not entry["beats_chance"]
    one_class = Control(
        "silence", "statistics", {n: vectors[n] for n in vectors if not CLASS[n]}, True, "", True
    )
    assert "a class has no utterance with a vector" in why_not_measured(task, one_class)
    assert why_not_measured(task, replace(one_class, left_out=False)) == ""


def test_utterances_without_a_vector_get_the_mean_of_the_training_part(tmp_path):
    task = task_dir(tmp_path / "task")
    rng = np.random.default_rng(0)
    vectors = {name: np.array([3.0 * CLASS[name], 0]) + rng.normal(size=2) for name in NAMES[:30]}
    outputs = outputs_of(task, vectors, 0)
    assert set(outputs) == set(NAMES)
    absent = np.exp([outputs[name] for name in NAMES[30:]])
    assert np.abs(absent - 0.5).max() < 0.2  # neither class
    with pytest.raises(UserError, match="no training utterance"):
        outputs_of(task, {}, 0)


def test_crops_are_of_equal_length_and_keyed(plain):
    frames = StoredFrames([plain])
    first, again = (crop_vectors(frames, NAMES[:8], False, 0).statistics for _ in range(2))
    other = crop_vectors(frames, NAMES[:8], False, 1).statistics
    alone = crop_vectors(frames, NAMES[:8][::-1], False, 0).statistics
    for name in NAMES[:8]:
        assert (first[name] == again[name]).all() and (first[name] == alone[name]).all()
    assert any((first[name] != other[name]).any() for name in NAMES[:8])


def test_the_band_of_permuted_labels_covers_chance(plain, tmp_path):
    frames = StoredFrames([plain])
    vectors = whole_vectors(frames, NAMES, keep_silence=False).statistics
    value, (low, high) = permutation_band(task_dir(tmp_path / "task"), vectors, 8, 0)
    assert low < 50 < high and 35 < value < 65


def test_labels_are_permuted_among_subjects_or_within_them(tmp_path):
    task = task_dir(tmp_path / "task")
    drawn = [permute_labels(task, draw, 0).labels for draw in (0, 1, 0)]
    assert drawn[0] == drawn[2] != drawn[1] and drawn[0] != task.labels
    assert sorted(drawn[0].values()) == sorted(task.labels.values())
    speaker = {name: f"p{number // 4}" for number, name in enumerate(NAMES)}
    write_table(task.path / "utt2spk", speaker)
    varied = permute_labels(read_task(task.path), 0, 0).labels  # several labels each: within the subject
    for subject in set(speaker.values()):
        own = [name for name in NAMES if speaker[name] == subject]
        assert sorted(varied[name] for name in own) == sorted(task.labels[name] for name in own)
    write_table(task.path / "utt2label", {name: str(int(speaker[name][1:]) % 2) for name in NAMES})
    blocks = permute_labels(read_task(task.path), 0, 0).labels  # one each: whole subjects
    assert all(len({blocks[name] for name in NAMES if speaker[name] == one}) == 1 for one in speaker.values())


def test_subjects_count_where_each_has_one_label(tmp_path):
    """Ten recordings each of eight subjects are eight draws, not eighty."""
    names = [f"p{subject}-{number}" for subject in range(8) for number in range(10)]
    task = task_dir(tmp_path / "task", {name: int(name[1]) % 2 for name in names})
    vectors = {name: np.array([float(name[1])]) for name in names}
    assert measured(task, "channel", vectors)["independent_draws"] == 80
    write_table(task.path / "utt2spk", {name: name[:2] for name in names})
    entry = measured(read_task(task.path), "channel", vectors)
    assert entry["independent_draws"] == 8 and entry["chance_bound"] == pytest.approx(100 * 7 / 8)


def test_numbers_are_compared_with_their_mean(tmp_path):
    rng = np.random.default_rng(0)
    age = dict(zip(NAMES, rng.integers(20, 80, SUBJECTS), strict=True))
    task = task_dir(tmp_path / "task", age, kind="number")
    told = measured(task, "channel", {name: np.array([age[name] + rng.normal()]) for name in NAMES})
    assert told["beats_chance"] and told["metric"] == "mae" and told["value"] < told["chance_bound"]
    assert "always answering the mean" in suspicions([told])[0]
    untold = measured(task, "channel", {name: rng.normal(size=3) for name in NAMES})
    assert not untold["beats_chance"] and suspicions([untold]) == []


def test_metadata_are_numbers_or_categories():
    tables = {"utt2age": {"a": "61", "b": "70.5", "c": "80"}, "utt2gender": {"a": "f", "b": "m"}}
    found = metadata_vectors(tables, ["a", "b", "c"])
    assert {name: vector.tolist() for name, vector in found.items()} == {"a": [61, 1, 0], "b": [70.5, 0, 1]}
    with pytest.raises(UserError, match="utt2id: 40 different values"):
        metadata_vectors({"utt2id": {name: name for name in NAMES}}, NAMES)
    with pytest.raises(UserError, match="none of the task's 1 utterances"):
        metadata_vectors({"utt2age": {"a": "61"}}, ["b"])


# The command


def run_controls(*words):
    return main(["run-controls", *map(str, words)])


def test_the_command_measures_every_control(plain, voices, tmp_path, capsys):
    # The interviewer speaks from another room to one of the classes; the other class is older.
    segments = {
        f"inv-{name}": low_passed(voices[name]) * 0.5 if CLASS[name] else voices[name] for name in NAMES
    }
    interviewer = data_dir(tmp_path / "interviewer", segments, dict.fromkeys(segments, "inv"))
    write_table(interviewer / "utt2subject", {f"inv-{name}": name for name in NAMES})
    write_table(plain / "utt2age", {name: 60 + 20 * CLASS[name] + i % 5 for i, name in enumerate(NAMES)})
    task_dir(tmp_path / "task", keep_silence=True)
    assert main(["make-baseline", "--kind", "fbank-stats", str(plain), str(tmp_path / "model")]) == 0
    words = ["--interviewer", interviewer, "--metadata", "utt2age", "--model", tmp_path / "model"]
    words += ["--permutations", 4, "--resamples", 200, tmp_path / "task", plain, tmp_path / "out"]
    assert run_controls(*words) == 0
    said = capsys.readouterr().err
    entries = json.loads((tmp_path / "out" / "controls.json").read_text())
    told = {(one["control"], one["vectors"]): one for one in entries}
    both = [
        (name, kind)
        for name in ("silence", "interviewer", "duration")
        for kind in ("statistics", "embedding")
    ]
    assert set(told) == {
        *both,
        ("pauses", "timing"),
        ("channel", "statistics"),
        ("metadata", "tables"),
        ("metadata", "timing"),
        ("permutation", "embedding"),
    }
    for name in both[2:4] + [("metadata", "tables")]:
        assert told[name]["beats_chance"] and told[name]["suspicious_if_above_chance"], told[name]
    # The statistics model embeds as statistics do: the same frames went through both.
    assert told[both[0]]["value"] == pytest.approx(told[both[1]]["value"])
    assert not told["metadata", "timing"]["suspicious_if_above_chance"]  # the task keeps its pauses
    assert not told["duration", "embedding"]["suspicious_if_above_chance"]
    found = suspicions(entries)
    assert any("the interviewer alone (embedding) reaches" in sentence for sentence in found)
    assert all(f"suspect: {sentence}" in said for sentence in found)
    (row, *_) = json.loads((tmp_path / "out/interviewer-embedding/ad.result.json").read_text())
    assert row["control"] == "interviewer"
    assert (row["model"], row["backend"], row["metric"]) == ("control-interviewer-embedding", "logreg", "uar")
    assert row["value"] == told["interviewer", "embedding"]["value"]
    assert len(read_table(tmp_path / "out/silence-statistics/predictions.txt")) == SUBJECTS
    assert main(["report", str(tmp_path)]) == 0
    page = (tmp_path / "RESULTS.md").read_text()
    assert (
        "## Leak controls: Alzheimer's disease" in page and "control-" not in page
    )  # in a table of their own
    assert "| metadata | tables | UAR % | yes: suspect | 100.0 [100.0, 100.0] | 50.0 | 65.0 |" in page
    capsys.readouterr()
    assert run_controls(*words) == 0
    assert "is up to date" in capsys.readouterr().err
    write_table(plain / "utt2age", {name: 60 + i % 5 for i, name in enumerate(NAMES)})
    (reason,) = pending(["steps/run_controls.sh", *map(str, words)]).values()
    assert reason == f"{plain}/utt2age changed"


@pytest.mark.parametrize(
    "words, said",
    [
        (["--controls", "silense"], "there is no 'silense' (did you mean 'silence'?)"),
        (["--controls", "interviewer"], "needs --interviewer DATA"),
        (["--metadata", "utt2nothing"], "utt2nothing"),
        (["--interviewer", "."], "feats.scp"),
    ],
)
def test_mistakes_are_named(words, said, plain, tmp_path, capsys):
    task_dir(tmp_path / "task")
    assert run_controls(*words, tmp_path / "task", plain, tmp_path / "out") == 1
    assert said in capsys.readouterr().err


def test_silence_needs_vad_and_commands_in_wav_scp_are_not_run(voices, tmp_path, capsys):
    folder = data_dir(tmp_path / "corpus", voices)
    task_dir(tmp_path / "task")
    write_table(folder / "wav.scp", {name: f"touch {tmp_path}/ran; cat {name}.wav |" for name in NAMES})
    (folder / "vad.scp").unlink()
    assert run_controls("--controls", "silence", tmp_path / "task", folder, tmp_path / "out") == 1
    assert "steps/compute_vad.sh" in capsys.readouterr().err
    assert run_controls("--controls", "channel", tmp_path / "task", folder, tmp_path / "out") == 0
    (entry,) = json.loads((tmp_path / "out" / "controls.json").read_text())
    assert entry["note"].startswith("without the share of clipped samples")
    assert not Path(tmp_path / "ran").exists()
    assert read_object(next(iter(read_table(folder / "feats.scp").values()))).shape[1] == 23
