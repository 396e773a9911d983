"""The synthetic corpus: the same for every number of processes, complete after an interruption, with
independent labels.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from local.mini import sessions, voices
from local.mini.keyed_draws import KeyedDraws
from local.prepare_mini import VERSION, WORDS, draw_speakers

ROOT = Path(__file__).resolve().parents[1]
needs_programs = pytest.mark.skipif(
    shutil.which("espeak-ng") is None or shutil.which("sox") is None,
    reason="needs espeak-ng and sox (apt-get install espeak-ng sox)",
)
SMALL = (
    "--num-train-speakers",
    "2",
    "--num-train-utterances",
    "2",
    "--num-test-speakers",
    "4",
    "--num-test-utterances",
    "4",
)


def make(audio: Path, data: Path, *options, **environment) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        str(ROOT / "local" / "prepare_mini.py"),
        *SMALL,
        *options,
        str(audio),
        str(data),
    ]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )


def samples(audio: Path) -> dict[str, str]:
    return {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in audio.rglob("*.wav")}


def table(path: Path) -> dict[str, str]:
    return dict(line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mini à b")  # a blank and a letter that is not ASCII in every path
    done = make(folder / "audio", folder / "data", "--nj", "2")
    assert done.returncode == 0, done.stderr
    return folder


@needs_programs
def test_samples_do_not_depend_on_the_number_of_processes(corpus, tmp_path):
    assert make(tmp_path / "audio", tmp_path / "data", "--nj", "1").returncode == 0
    assert samples(tmp_path / "audio") == samples(corpus / "audio")
    assert len(samples(corpus / "audio")) == 2 * 2 + 4 * 4


@needs_programs
def test_directories_are_kaldi_with_labels_and_all_trials(corpus):
    test = corpus / "data" / "test"
    utterances = table(test / "utt2spk")
    assert all(utterance.startswith(f"{speaker}-") for utterance, speaker in utterances.items())
    for name in ("wav.scp", "utt2emotion", "utt2gender", "utt2impairment"):
        assert list(table(test / name)) == list(utterances) == sorted(utterances), name
    assert all(os.path.isabs(path) and os.path.isfile(path) for path in table(test / "wav.scp").values())
    trials = [line.split() for line in (test / "trials").read_text().splitlines()]
    assert len(trials) == 16 * 15 // 2
    assert sum(kind == "target" for *_, kind in trials) == 4 * (4 * 3 // 2)
    assert all((utterances[a] == utterances[b]) == (kind == "target") for a, b, kind in trials)
    assert not (corpus / "data" / "train" / "trials").exists()


@needs_programs
def test_audio_is_16_khz_16_bit_and_not_clipped(corpus):
    for path in (corpus / "audio").rglob("*.wav"):
        audio, rate = soundfile.read(path, dtype="int16")
        assert rate == 16000 and soundfile.info(path).subtype == "PCM_16"
        assert 1.0 < len(audio) / rate < 15.0
        assert np.mean(np.abs(audio.astype(int)) >= 32767) < 0.001


@needs_programs
def test_an_interrupted_run_makes_only_what_is_missing(corpus, tmp_path):
    shutil.copytree(corpus / "audio", tmp_path / "audio")
    gone = sorted((tmp_path / "audio").rglob("*.wav"))[3]
    gone.rename(gone.with_suffix(".tmp"))  # as a kill leaves it: written aside, not renamed
    gone.with_suffix(".tmp").write_bytes(b"half")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "audio").rglob("*.wav")}
    done = make(tmp_path / "audio", tmp_path / "data")
    assert "1 of 6 speakers" in done.stderr
    assert samples(tmp_path / "audio") == samples(corpus / "audio")
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert not list((tmp_path / "audio").rglob("*.tmp"))


@needs_programs
def test_a_rerun_leaves_the_directories_alone_and_another_seed_replaces_them(corpus, tmp_path):
    shutil.copytree(corpus / "audio", tmp_path / "audio")
    make(tmp_path / "audio", tmp_path / "data")
    (tmp_path / "data" / "test" / "feats.scp").write_text("made later\n")
    assert "is up to date" in make(tmp_path / "audio", tmp_path / "data").stderr
    assert (tmp_path / "data" / "test" / "feats.scp").exists()
    done = make(tmp_path / "audio", tmp_path / "data", "--seed", "1")
    assert done.returncode == 0 and "another seed" in done.stderr
    assert not (tmp_path / "data" / "test" / "feats.scp").exists()
    assert set(samples(tmp_path / "audio")) == set(samples(corpus / "audio"))
    assert not set(samples(tmp_path / "audio").values()) & set(samples(corpus / "audio").values())


@needs_programs
def test_a_folder_of_somebody_else_is_not_touched(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    done = make(tmp_path / "mine", tmp_path / "data")
    assert (
        done.returncode == 1
        and "was not made by this program" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert os.listdir(tmp_path / "mine") == ["thesis.tex"]


def test_a_missing_program_is_named_with_the_command_that_installs_it(tmp_path):
    done = make(tmp_path / "audio", tmp_path / "data", PATH=str(tmp_path))
    assert (
        done.returncode == 1
        and "apt-get install espeak-ng sox" in done.stderr
        and "Traceback" not in done.stderr
    )


def test_gender_and_style_are_balanced_and_drawn_apart():
    speakers, emotions = draw_speakers(0, "train", 400, 10)
    for first in (0, 100, 398):  # in any even stretch, so in a small set too
        pair = speakers[first : first + 2]
        assert {s.gender for s in pair} == {"f", "m"} and {s.impaired for s in pair} == {False, True}
    impaired_women = sum(s.impaired for s in speakers if s.gender == "f")
    assert 75 < impaired_women < 125  # of 200; independent coins: mean 100, deviation 7
    styles = np.array([s.impaired for s in speakers], dtype=float)
    for quality in ("pitch", "rate", "flutter", "breath"):
        assert abs(np.corrcoef(styles, [getattr(s, quality) for s in speakers])[0, 1]) < 0.2  # 4 deviations
    assert all(2 <= kinds.count(kind) <= 3 for kinds in emotions for kind in voices.EMOTIONS)


def test_more_speakers_leave_the_first_ones_as_they_were():
    few, many = draw_speakers(3, "test", 4, 8), draw_speakers(3, "test", 10, 8)
    for a, b in zip(few[0], many[0][:4], strict=True):
        assert a.name == b.name and a.pitch == b.pitch and np.array_equal(a.formants, b.formants)
    assert few[1] == many[1][:4]
    assert draw_speakers(4, "test", 4, 8)[0][0].pitch != few[0][0].pitch


def test_what_is_spoken_changes_only_with_the_version():
    """The done-mark of the audio is VERSION: draws that change without it would leave old audio under new
    labels.
    """
    words = voices.read_words(WORDS)
    text = [repr(value) for name, value in sorted(vars(sessions).items()) if name.isupper()]
    for speaker in draw_speakers(0, "test", 20, 1)[0]:
        draws = KeyedDraws(0, f"{speaker.name}-00")
        for emotion in voices.EMOTIONS.values():
            text.append(voices.voice_file(speaker, emotion, draws))
            text.append(f"{speaker.accent} {voices.words_per_minute(speaker, emotion, draws)}")
        text.append(voices.draw_sentence(draws, words, speaker.impaired))
    assert (VERSION, hashlib.md5("\n".join(text).encode()).hexdigest()) == (
        1,
        "0ce491215d42705787212ed8eb772e96",
    )


def test_an_impaired_speaker_repeats_and_hesitates():
    words = voices.read_words(WORDS)
    fluent = [voices.draw_sentence(KeyedDraws(0, f"u{n}"), words, impaired=False) for n in range(200)]
    halting = [voices.draw_sentence(KeyedDraws(0, f"u{n}"), words, impaired=True) for n in range(200)]
    assert not any("," in sentence for sentence in fluent)
    pauses = sum(sentence.count(",") for sentence in halting) / sum(
        len(sentence.split()) for sentence in halting
    )
    assert 0.2 < pauses < 0.5
    assert len(set(fluent)) == 200


def test_a_session_has_the_level_and_the_noise_that_were_drawn(monkeypatch):
    monkeypatch.setattr(sessions, "REVERBERATION_PROBABILITY", 0.0)
    monkeypatch.setattr(sessions, "EQUALISER_DB", 0.0)
    monkeypatch.setattr(sessions, "SNR_DB", (20.0, 20.0))
    monkeypatch.setattr(sessions, "LEVEL_DB", (-20.0, -20.0))
    tone = np.sin(2 * np.pi * 440 * np.arange(32000) / 16000)  # 2 s of a whole number of periods
    recorded = sessions.record(tone, 16000, KeyedDraws(0, "u")).astype(float)
    assert recorded.shape == tone.shape
    assert 20 * np.log10(np.sqrt(np.mean(recorded**2)) / 32768) == pytest.approx(-20, abs=0.05)
    signal = tone * (recorded @ tone) / (tone @ tone)
    assert 10 * np.log10(np.mean(signal**2) / np.mean((recorded - signal) ** 2)) == pytest.approx(20, abs=0.5)


def test_sessions_of_two_utterances_differ_and_silence_stays_finite():
    speech = np.random.default_rng(0).standard_normal(16000)
    first, again, other = (sessions.record(speech, 16000, KeyedDraws(0, name)) for name in ("a", "a", "b"))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert sessions.record(np.zeros(8000), 16000, KeyedDraws(0, "a")).shape == (8000,)
