"""Preparations of real corpora, on tiny trees of their official layout: names, labels, trials, and error
messages.
"""

import argparse
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from local import prepare_emodb, prepare_librispeech, prepare_speechocean762, prepare_wavdir
from pydino.base import UserError

ROOT = Path(__file__).resolve().parents[1]
REAL = Path(os.environ.get("PYDINO_REALDATA", "/nonexistent"))


def prepare(module, *arguments) -> None:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    module.prepare(parser.parse_args([str(argument) for argument in arguments]))


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"audio")


def table(path: Path) -> dict[str, str]:
    return dict(line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines())


@pytest.fixture
def speechocean762(tmp_path):
    """Two speakers of two utterances to train, two of two to test; tables are tab-separated, audio is .WAV,
    as published.
    """
    root = tmp_path / "speechocean762"
    for name, speakers in {
        "train": {"0001": ("6", "m"), "0005": ("34", "f")},
        "test": {"0003": ("15", "f"), "0009": ("19", "m")},
    }.items():
        tables = {"wav.scp": [], "utt2spk": [], "spk2age": [], "spk2gender": []}
        for speaker, (age, gender) in speakers.items():
            tables["spk2age"].append(f"{speaker}\t{age}")
            tables["spk2gender"].append(f"{speaker}\t{gender}")
            for number in ("0011", "0035"):
                utterance = f"0{speaker}{number}"
                touch(root / f"WAVE/SPEAKER{speaker}/{utterance}.WAV")
                tables["wav.scp"].append(f"{utterance}\tWAVE/SPEAKER{speaker}/{utterance}.WAV")
                tables["utt2spk"].append(f"{utterance}\t{speaker}")
        (root / name).mkdir()
        for file, lines in tables.items():
            (root / name / file).write_text("\n".join(lines) + "\n")
    return root


def test_speechocean762_names_labels_and_trials(speechocean762, tmp_path, capsys):
    prepare(prepare_speechocean762, speechocean762, tmp_path / "data")
    assert "6 trials of 6 pairs" in (said := capsys.readouterr().err) and ".new" not in said
    train, test = tmp_path / "data" / "train", tmp_path / "data" / "test"
    assert table(train / "utt2spk") == {f"{s}-0{s}{n}": s for s in ("0001", "0005") for n in ("0011", "0035")}
    assert table(train / "wav.scp")["0001-000010011"] == str(
        speechocean762 / "WAVE/SPEAKER0001/000010011.WAV"
    )
    assert list(table(test / "utt2child").values()) == ["child", "child", "adult", "adult"]
    assert list(table(test / "utt2age").values()) == ["15", "15", "19", "19"]
    assert list(table(test / "utt2gender").values()) == ["f", "f", "m", "m"]
    trials = (test / "trials").read_text().splitlines()
    assert (
        len(trials) == 6
        and "0003-000030011 0003-000030035 target" in trials
        and "0003-000030011 0009-000090011 nontarget" in trials
    )
    assert not (train / "trials").exists()


def test_speechocean762_refuses_what_is_not_whole(speechocean762, tmp_path):
    (speechocean762 / "WAVE/SPEAKER0001/000010035.WAV").unlink()
    with pytest.raises(UserError, match=r"1 of 4 recordings are missing or empty: .*000010035\.WAV"):
        prepare(prepare_speechocean762, speechocean762, tmp_path / "data")
    touch(speechocean762 / "WAVE/SPEAKER0001/000010035.WAV")
    utt2spk = speechocean762 / "train" / "utt2spk"
    utt2spk.write_text(utt2spk.read_text().replace("000010011\t0001\n", ""))
    with pytest.raises(UserError, match="no speaker for utterance 000010011"):
        prepare(prepare_speechocean762, speechocean762, tmp_path / "data")
    assert not (tmp_path / "data").exists() or not list((tmp_path / "data").iterdir())


@pytest.mark.parametrize(
    "file, old, new, message",
    [
        ("utt2spk", "000010011\t0001", "000010011", "no speaker for utterance 000010011"),
        (
            "utt2spk",
            "000010035\t0001",
            "000010011\t0001",
            r"train.utt2spk, line 2: '000010011' occurs twice",
        ),
        ("spk2age", "0001\t6", "0001\tsix", "the age of 0001 is 'six'"),
        ("spk2gender", "0001\tm", "0001\tx", "the gender of 0001 is 'x'"),
        ("spk2age", "0001\t6\n", "", "speaker 0001 has no age or no gender"),
    ],
)
def test_speechocean762_names_the_broken_line(speechocean762, tmp_path, file, old, new, message):
    path = speechocean762 / "train" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=message):
        prepare(prepare_speechocean762, speechocean762, tmp_path / "data")


@pytest.fixture
def librispeech(tmp_path):
    root = tmp_path / "LibriSpeech"
    for name in ("19/198/19-198-0000", "19/198/19-198-0001", "196/122/196-122-0000"):
        touch(root / "train-clean-100" / f"{name}.flac")
    for name in ("1688/142285/1688-142285-0000", "1688/142286/1688-142286-0000", "367/130/367-130-0003"):
        touch(root / "test-other" / f"{name}.flac")
    touch(root / "dev-clean/84/121/84-121-0000.flac")
    return root


SPEAKERS = """;ID  |SEX| SUBSET           |MINUTES| NAME
19   | F | train-clean-100  | 25.19 | Kara Shallenberg
196  | M | train-clean-100  | 25.10 | A | B
1688 | F | test-other       | 8.05  | Name
367  | M | test-other       | 8.05  | Näme
84   | F | dev-clean        | 8.05  | Name
"""


def test_librispeech_splits_become_train_and_test(librispeech, tmp_path):
    prepare(prepare_librispeech, "--train-sets", "train-clean-100 dev-clean", librispeech, tmp_path / "data")
    train, test = tmp_path / "data" / "train", tmp_path / "data" / "test"
    assert table(train / "utt2spk") == {
        "19-198-0000": "19",
        "19-198-0001": "19",
        "196-122-0000": "196",
        "84-121-0000": "84",
    }
    assert (train / "spk2utt").read_text().splitlines()[0] == "19 19-198-0000 19-198-0001"
    assert sorted((test / "trials").read_text().splitlines()) == [
        "1688-142285-0000 1688-142286-0000 target",
        "1688-142285-0000 367-130-0003 nontarget",
        "1688-142286-0000 367-130-0003 nontarget",
    ]
    assert not (test / "spk2gender").exists()


def test_librispeech_gender_comes_from_speakers_txt(librispeech, tmp_path):
    (librispeech / "SPEAKERS.TXT").write_text(SPEAKERS, encoding="utf-8")
    # the folder that holds LibriSpeech does as well
    prepare(prepare_librispeech, librispeech.parent, tmp_path / "data")
    assert table(tmp_path / "data/train/spk2gender") == {"19": "f", "196": "m"}
    assert table(tmp_path / "data/test/utt2gender") == {
        "1688-142285-0000": "f",
        "1688-142286-0000": "f",
        "367-130-0003": "m",
    }
    (librispeech / "SPEAKERS.TXT").write_text(SPEAKERS.replace("196  |", "197  |"), encoding="utf-8")
    with pytest.raises(UserError, match="SPEAKERS.TXT: no line for speaker 196"):
        prepare(prepare_librispeech, librispeech, tmp_path / "other")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1"])
@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_librispeech_speakers_in_another_encoding(librispeech, tmp_path, encoding, end):
    (librispeech / "SPEAKERS.TXT").write_bytes(SPEAKERS.replace("\n", end).encode(encoding))
    prepare(prepare_librispeech, librispeech, tmp_path / "data")
    assert table(tmp_path / "data/train/spk2gender") == {"19": "f", "196": "m"}


def test_librispeech_refuses_unknown_splits_strange_names_and_seen_speakers(librispeech, tmp_path):
    with pytest.raises(UserError, match="no split 'test-othr' .did you mean 'test-other'"):
        prepare(prepare_librispeech, "--test-sets", "test-othr", librispeech, tmp_path / "data")
    with pytest.raises(UserError, match="none twice"):
        prepare(prepare_librispeech, "--test-sets", "train-clean-100", librispeech, tmp_path / "data")
    touch(librispeech / "test-other/19/198/19-198-0002.flac")
    with pytest.raises(UserError, match="speaker 19 is in train .* and in test"):
        prepare(prepare_librispeech, librispeech, tmp_path / "data")
    touch(librispeech / "train-clean-100/19/198/copy of 19-198-0002.flac")
    with pytest.raises(
        UserError, match="copy of 19-198-0002.flac: expected train-clean-100/<speaker>/<chapter>/"
    ):
        prepare(prepare_librispeech, librispeech, tmp_path / "data")


def test_emodb_reads_speaker_and_emotion_from_the_names(tmp_path):
    root = tmp_path / "emodb"
    letters = {
        "W": "anger",
        "L": "boredom",
        "E": "disgust",
        "A": "fear",
        "F": "happiness",
        "T": "sadness",
        "N": "neutral",
    }
    touch(*(root / "wav" / f"03a01{letter}a.wav" for letter in letters), root / "wav" / "16b10Wb.wav")
    prepare(prepare_emodb, root, tmp_path / "data")
    folder = tmp_path / "data" / "emodb"
    assert table(folder / "utt2emotion") == {
        **{f"03-a01{letter}a": name for letter, name in letters.items()},
        "16-b10Wb": "anger",
    }
    assert table(folder / "utt2spk") == {**{f"03-a01{letter}a": "03" for letter in letters}, "16-b10Wb": "16"}
    assert table(folder / "spk2gender") == {"03": "m", "16": "f"}
    touch(root / "wav" / "03a01Xa.wav", root / "wav" / "99a01Wa.wav")
    with pytest.raises(UserError, match="2 names not of the form 03a01Fa.wav .*: 03a01Xa.wav 99a01Wa.wav"):
        prepare(prepare_emodb, root, tmp_path / "data")


def test_wavdir_makes_safe_unique_names_that_depend_on_no_order(tmp_path):
    folder = tmp_path / "my recordings"
    names = ["Café visit 1.WAV", "2019/a.wav", "2019/a.flac", "b|c.ogg.mp3"]
    touch(
        *(folder / name for name in names[:3]),
        folder / "notes.txt",
        folder / ".hidden.wav",
        folder / ".trash/x.wav",
    )
    prepare(prepare_wavdir, folder, tmp_path / "data")
    wav_scp = table(tmp_path / "data/train/wav.scp")
    assert wav_scp["Café_visit_1"] == str(folder / "Café visit 1.WAV")
    assert sorted(Path(path).name for path in wav_scp.values()) == ["Café visit 1.WAV", "a.flac", "a.wav"]
    utt2spk = table(tmp_path / "data/train/utt2spk")
    assert all(
        utterance == speaker and not set(utterance) & set(" /|\t") for utterance, speaker in utt2spk.items()
    )
    (folder / "Café visit 1.WAV").unlink()
    prepare(prepare_wavdir, folder, tmp_path / "again")
    assert set(table(tmp_path / "again/train/wav.scp")) == set(wav_scp) - {"Café_visit_1"}
    touch(folder / names[3])
    with pytest.raises(UserError, match="rename the file"):
        prepare(prepare_wavdir, folder, tmp_path / "data")


def test_wavdir_without_a_recording_says_what_was_expected(tmp_path):
    touch(tmp_path / "folder" / "notes.txt")
    with pytest.raises(UserError, match=r"no recording in .*\.wav, \.flac.*others there: 1"):
        prepare(prepare_wavdir, tmp_path / "folder", tmp_path / "data")


FREE = ["speechocean762", "librispeech", "emodb", "ravdess"]


@pytest.mark.parametrize("name", [*FREE, "wavdir", "iemocap", "crema_d", "msp_podcast"])
def test_a_missing_corpus_root_tells_what_to_do(name, tmp_path):
    command = [
        sys.executable,
        str(ROOT / "local" / f"prepare_{name}.py"),
        str(tmp_path / "nowhere"),
        str(tmp_path / "data"),
    ]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert str(tmp_path / "nowhere") in done.stderr
    assert "give the folder" in done.stderr and ("--download true" in done.stderr) == (name in FREE)


def test_a_folder_that_is_no_data_directory_is_not_replaced(tmp_path):
    touch(tmp_path / "folder" / "a.wav", tmp_path / "data" / "train" / "thesis.tex")
    with pytest.raises(UserError, match="is not a data directory"):
        prepare(prepare_wavdir, tmp_path / "folder", tmp_path / "data")
    assert os.listdir(tmp_path / "data" / "train") == ["thesis.tex"]


def test_a_changed_corpus_replaces_the_set_whole(tmp_path):
    touch(tmp_path / "folder" / "a.wav")
    prepare(prepare_wavdir, tmp_path / "folder", tmp_path / "data")
    (tmp_path / "data/train/feats.scp").write_text("a feats.ark:2\n")
    touch(tmp_path / "folder" / "b.wav")
    prepare(prepare_wavdir, tmp_path / "folder", tmp_path / "data")
    assert sorted(os.listdir(tmp_path / "data" / "train")) == ["spk2utt", "utt2spk", "wav.scp"]
    assert os.listdir(tmp_path / "data") == ["train"]


@pytest.mark.realdata
@pytest.mark.skipif(not REAL.is_dir(), reason="PYDINO_REALDATA does not name a folder with speech")
def test_real_corpora_have_their_counts(tmp_path):
    prepare(prepare_speechocean762, REAL / "speechocean762", tmp_path / "speechocean762")
    prepare(prepare_librispeech, REAL / "LibriSpeech", tmp_path / "librispeech")
    prepare(prepare_emodb, REAL / "emodb", tmp_path / "emodb")
    counts = {str(p.parent.relative_to(tmp_path)): len(table(p)) for p in tmp_path.rglob("utt2spk")}
    assert counts == {
        "speechocean762/train": 1125,
        "speechocean762/test": 320,
        "librispeech/train": 251,
        "librispeech/test": 100,
        "emodb/emodb": 535,
    }
    emotions = Counter(table(tmp_path / "emodb/emodb/utt2emotion").values())
    assert emotions == {
        "anger": 127,
        "boredom": 81,
        "disgust": 46,
        "fear": 69,
        "happiness": 71,
        "sadness": 62,
        "neutral": 79,
    }
