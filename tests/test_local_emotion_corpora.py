"""Preparations of IEMOCAP and MSP-Podcast, on tiny trees of their layout with the defects of the real ones."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
import tiny_emotion_corpora
from test_local_corpora import prepare, table

from local import prepare_iemocap, prepare_msp_podcast
from local.completeness import Completeness
from pydino.base import UserError


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    place = tmp_path_factory.mktemp("trees")
    return tiny_emotion_corpora.iemocap(place / "a") | tiny_emotion_corpora.msp_podcast(place / "b")


@pytest.fixture
def iemocap(trees, tmp_path):
    shutil.copytree(trees["iemocap"], tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def msp(trees, tmp_path):
    shutil.copytree(trees["msp_podcast"], tmp_path / "copy")
    return tmp_path / "copy"


def left_out(data: Path, corpus: str) -> dict[str, str]:
    lines = (data / f"left_out.{corpus}.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t") for line in lines)


def test_iemocap_takes_the_speaker_from_behind_the_scenario(iemocap, tmp_path):
    prepare(prepare_iemocap, "--partial", "true", iemocap, tmp_path / "data")
    folder = tmp_path / "data/iemocap"
    utt2spk = table(folder / "utt2spk")
    assert len(utt2spk) == 5 * 13
    assert utt2spk["Ses02F-Ses02M_impro01_F003"] == "Ses02F"
    assert table(folder / "utt2gender")["Ses02F-Ses02M_impro01_F003"] == "f"
    assert set(utt2spk.values()) == {f"Ses0{k}{letter}" for k in range(1, 6) for letter in "FM"}
    assert table(folder / "utt2recording")["Ses03M-Ses03F_script01_1b_M000"] == "Ses03F_script01_1b"
    assert table(folder / "utt2scenario")["Ses03M-Ses03F_script01_1b_M000"] == "script01_1b"
    assert table(folder / "wav.scp")["Ses02F-Ses02M_impro01_F000"].endswith("Ses02M_impro01_F000.WAV")
    assert table(folder / "utt2dominance")["Ses02F-Ses02M_impro01_F003"] == "4.0000"


def test_iemocap_folds_are_sessions_and_styles_are_told_apart(iemocap, tmp_path):
    prepare(prepare_iemocap, "--partial", "true", iemocap, tmp_path / "data")
    folder = tmp_path / "data/iemocap"
    for utterance, fold in table(folder / "utt2fold").items():
        assert fold == f"session{utterance[4]}"
    assert Counter(table(folder / "utt2style").values()) == {"improvised": 30, "scripted": 35}


def test_iemocap_has_four_five_and_six_emotions_and_all_labels(iemocap, tmp_path):
    prepare(prepare_iemocap, "--partial", "true", iemocap, tmp_path / "data")
    folder = tmp_path / "data/iemocap"
    counts = {name: Counter(table(folder / name).values()) for name in prepare_iemocap.LABELS}
    four = {"anger": 10, "happiness": 20, "neutral": 10, "sadness": 10}
    assert counts["utt2emotion4"] == four
    assert counts["utt2emotion5"] == four | {"frustration": 10}
    assert counts["utt2emotion6"] == four | {"frustration": 10, "happiness": 10, "excitement": 10}
    assert counts["utt2emotion"] == counts["utt2emotion6"] + Counter({"no-majority": 5})


def test_iemocap_names_what_has_no_recording_or_no_labels(iemocap, tmp_path, capsys):
    prepare(prepare_iemocap, "--partial", "true", iemocap, tmp_path / "data")
    assert left_out(tmp_path / "data", "iemocap") == {
        "Ses05F_script01_1b_M099": "it has labels but no recording",
        "Ses05F_script01_1b_MXX0": "it has a recording but no labels",
    }
    said = capsys.readouterr().err
    assert "iemocap: 1 left out, it has labels but no recording: Ses05F_script01_1b_M099" in said
    assert "iemocap is a part" in said


def test_iemocap_counts_are_those_of_the_publisher():
    assert sum(prepare_iemocap.OF_EMOTION.values()) == 10039
    assert sum(prepare_iemocap.OF_STYLE.values()) == sum(prepare_iemocap.OF_GENDER.values()) == 10039
    of_session = Counter()
    for speaker, counts in prepare_iemocap.OF_SPEAKER.items():
        of_session[speaker[4]] += sum(counts)
    assert of_session == {"1": 1085, "2": 1023, "3": 1151, "4": 1031, "5": 1241}
    for label, of_speakers in zip(
        prepare_iemocap.COUNTED, zip(*prepare_iemocap.OF_SPEAKER.values(), strict=True), strict=True
    ):
        assert sum(of_speakers) == prepare_iemocap.OF_EMOTION[label]


def test_a_part_of_iemocap_is_refused_unless_it_is_said_to_be_one(iemocap, tmp_path, monkeypatch):
    with pytest.raises(
        UserError, match=r"iemocap is not whole: emotion, anger: 10, expected 1,103.*--partial"
    ):
        prepare(prepare_iemocap, iemocap, tmp_path / "data")
    assert not (tmp_path / "data/iemocap").exists()

    six = dict.fromkeys(("anger", "happiness", "excitement", "sadness", "neutral", "frustration"), 10)
    monkeypatch.setattr(prepare_iemocap, "OF_EMOTION", six | {"no-majority": 5})
    monkeypatch.setattr(prepare_iemocap, "OF_STYLE", {"improvised": 30, "scripted": 35})
    monkeypatch.setattr(prepare_iemocap, "OF_GENDER", {"f": 30, "m": 35})
    speakers = dict.fromkeys((f"Ses0{k}{letter}" for k in range(1, 6) for letter in "FM"), (1, 1, 1, 1, 1))
    monkeypatch.setattr(prepare_iemocap, "OF_SPEAKER", speakers)
    prepare(prepare_iemocap, iemocap, tmp_path / "data")  # whole by these counts
    (iemocap / "Session1/sentences/wav/Ses01M_impro01/Ses01M_impro01_F000.wav").unlink()
    with pytest.raises(UserError, match="speaker and emotion, Ses01F anger: 0, expected 1"):
        prepare(prepare_iemocap, iemocap, tmp_path / "data")


def test_iemocap_without_a_session_or_its_labels(iemocap, tmp_path):
    shutil.rmtree(iemocap / "Session3/dialog")
    with pytest.raises(UserError, match="no folder .*Session3/dialog/EmoEvaluation, which has the labels"):
        prepare(prepare_iemocap, iemocap, tmp_path / "data")
    prepare(prepare_iemocap, "--partial", "true", iemocap, tmp_path / "data")
    assert "session3" not in table(tmp_path / "data/iemocap/utt2fold").values()
    with pytest.raises(UserError, match="does not look like IEMOCAP_full_release: expected Session1 or"):
        prepare(prepare_iemocap, iemocap / "Session1", tmp_path / "data")


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("\tang\t", "\tAngry\t", "no emotion has the code 'Angry'"),
        ("\tang\t[", "\tang\t", "line 3: expected '.START - END.<TAB>"),
        ("_F001", "_F000", "Ses01M_impro01_F000 has labels already"),
        ("_F001", "_X001", "line 8: expected"),
    ],
)
def test_iemocap_names_the_broken_line(iemocap, tmp_path, old, new, message):
    path = iemocap / "Session1/dialog/EmoEvaluation/Ses01M_impro01.txt"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        prepare(prepare_iemocap, "--partial", "true", iemocap, tmp_path / "data")


def test_a_link_of_iemocap_that_leads_nowhere_is_an_error(iemocap, tmp_path):
    (iemocap / "Session1/sentences/wav/Ses01M_impro01/more").symlink_to(tmp_path / "unmounted")
    with pytest.raises(UserError, match="which is not there; mount the disk"):
        prepare(prepare_iemocap, "--partial", "true", iemocap, tmp_path / "data")


def test_msp_podcast_keeps_the_partitions_and_no_speaker_of_a_test_set_in_training(msp, tmp_path, capsys):
    prepare(prepare_msp_podcast, "--partial", "true", msp, tmp_path / "data")
    data = tmp_path / "data"
    speakers = {
        part: table(data / f"msp_podcast_{part}/utt2spk") for part in ("train", "dev", "test1", "test2")
    }
    assert {part: len(of_part) for part, of_part in speakers.items()} == {
        "train": 24 + 4,
        "dev": 16,
        "test1": 17,
        "test2": 16,
    }
    assert set(speakers["dev"].values()) == {"00041", "00042"}
    assert speakers["train"]["00003-MSP-PODCAST_1024_0001_02"] == "00003"
    assert left_out(data, "msp_podcast") == {
        "MSP-PODCAST_1026_0001": "its speaker is also in test1",
        "MSP-PODCAST_1026_0002": "its speaker is also in dev",
        "MSP-PODCAST_1909_1017": "it has labels but no recording",
        "MSP-PODCAST_test3_0001": "it has no labels: of Test3, or removed from the release",
    }
    said = capsys.readouterr().err
    assert "train: 2 of 28 turns are of unknown speakers" in said and "test1: 1 of 17 turns" in said
    assert not (data / "msp_podcast_test3").exists()


def test_msp_podcast_takes_each_turn_of_an_unknown_speaker_for_a_speaker(msp, tmp_path):
    prepare(prepare_msp_podcast, "--partial", "true", msp, tmp_path / "data")
    utt2spk = table(tmp_path / "data/msp_podcast_train/utt2spk")
    unknown = {utterance: speaker for utterance, speaker in utt2spk.items() if "unknown" in utterance}
    assert len(unknown) == len(set(unknown.values())) == 2
    assert not unknown.keys() & table(tmp_path / "data/msp_podcast_train/utt2gender").keys()


def test_msp_podcast_has_four_five_and_eight_emotions(msp, tmp_path):
    prepare(prepare_msp_podcast, "--partial", "true", msp, tmp_path / "data")
    folder = tmp_path / "data/msp_podcast_train"
    counts = {name: Counter(table(folder / name).values()) for name in prepare_msp_podcast.LABELS}
    assert counts["utt2emotion4"] == {"anger": 4, "happiness": 3, "neutral": 4, "sadness": 3}
    assert counts["utt2emotion5"] == counts["utt2emotion4"] + Counter(disgust=3)
    assert len(counts["utt2emotion8"]) == 8 and counts["utt2emotion8"].total() == 26
    assert counts["utt2emotion"] == counts["utt2emotion8"] + Counter({"other": 1, "no-majority": 1})
    assert table(folder / "utt2dominance")["00003-MSP-PODCAST_1023_0235"] == "3.777778"
    assert table(folder / "utt2recording")["00003-MSP-PODCAST_1024_0001_02"] == "podcast1024"


def test_msp_podcast_prepares_a_third_test_set_that_has_labels(msp, tmp_path, capsys):
    with open(msp / "Labels/labels_consensus.csv", "a") as stream:
        stream.write("MSP-PODCAST_test3_0001.wav,A,2.0,2.0,2.0,500,Female,Test3\n")
    prepare(prepare_msp_podcast, msp, tmp_path / "data")
    assert table(tmp_path / "data/msp_podcast_test3/utt2emotion8") == {
        "00500-MSP-PODCAST_test3_0001": "anger"
    }
    assert "00500" not in table(tmp_path / "data/msp_podcast_train/utt2spk").values()
    assert "Test3 has labels here" in capsys.readouterr().err


def test_msp_podcast_of_an_older_release(msp, tmp_path):
    prepare(prepare_msp_podcast, "--partial", "true", msp, tmp_path / "new")
    (msp / "Labels").rename(msp / "labels")
    (msp / "Audios").rename(msp / "Audio")
    old = msp / "labels/labels_concensus.csv"
    (msp / "labels/labels_consensus.csv").rename(old)
    old.write_text(old.read_text().replace("Development", "Validation").replace("\n", "\r\n"))
    prepare(prepare_msp_podcast, "--partial", "true", msp, tmp_path / "old")
    for name in ("utt2spk", "utt2emotion"):
        for part in ("train", "dev"):
            assert table(tmp_path / f"old/msp_podcast_{part}/{name}") == table(
                tmp_path / f"new/msp_podcast_{part}/{name}"
            )


def test_msp_podcast_checks_the_counts_of_a_release(msp, tmp_path, monkeypatch, capsys):
    prepare(prepare_msp_podcast, msp, tmp_path / "data")  # whose release is not known
    assert "80 turns without Test3, as no release" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"turns of release 1.8, all: 80, expected 73,042"):
        prepare(prepare_msp_podcast, "--release", "1.8", msp, tmp_path / "data")
    monkeypatch.setitem(prepare_msp_podcast.RELEASES, "1.8", {"all": 80, "dev": 16, "test1": 18})
    with pytest.raises(UserError, match="turns of release 1.8, test1: 17, expected 18"):
        prepare(prepare_msp_podcast, msp, tmp_path / "data")


def test_msp_podcast_counts_are_those_of_the_publisher():
    for (release, part), counts in prepare_msp_podcast.OF_EMOTION.items():
        if release == "1.8":
            assert sum(counts.values()) == prepare_msp_podcast.RELEASES["1.8"][part]
    counts = prepare_msp_podcast.RELEASES["1.11"]
    assert counts["all"] == sum(counts.values()) - counts["all"] == 151654 - 2347


def test_msp_podcast_without_a_partition_a_table_or_a_recording(msp, tmp_path):
    path = msp / "Labels/labels_consensus.csv"
    whole = path.read_text()
    path.write_text("".join(line for line in whole.splitlines(True) if "Test2" not in line))
    with pytest.raises(UserError, match="has no turn of the partition Test2"):
        prepare(prepare_msp_podcast, msp, tmp_path / "data")
    path.write_text(whole)
    (msp / "Audios/MSP-PODCAST_1007_0001.wav").unlink()
    with pytest.raises(UserError, match="1 turns of .*have no recording: MSP-PODCAST_1007_0001"):
        prepare(prepare_msp_podcast, msp, tmp_path / "data")
    shutil.rmtree(msp / "Audios")
    with pytest.raises(UserError, match="has no folder Audios or Audio with the recordings"):
        prepare(prepare_msp_podcast, msp, tmp_path / "data")
    path.unlink()
    with pytest.raises(UserError, match="has no labels_consensus.csv in its folder Labels"):
        prepare(prepare_msp_podcast, msp, tmp_path / "data")


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("SpkrID", "Speaker", "has no column SpkrID; it has FileName, EmoClass"),
        (",A,", ",Anger,", "row 2: the EmoClass of MSP-PODCAST_1003_0000 is 'Anger'; there are A, S, H"),
        (",Train", ",Training", "the Split_Set of MSP-PODCAST_1003_0000 is 'Training'"),
        ("_1003_0001.wav", "_1003_0000.wav", "row 3: MSP-PODCAST_1003_0000 occurs twice"),
    ],
)
def test_msp_podcast_names_the_broken_line(msp, tmp_path, old, new, message):
    path = msp / "Labels/labels_consensus.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        prepare(prepare_msp_podcast, "--partial", "true", msp, tmp_path / "data")


def test_what_is_left_out_no_more_is_forgotten(tmp_path):
    before = Completeness("corpus", partial=False)
    before.leave_out("a b.wav", "of a reason")
    before.finish(tmp_path, "")
    assert left_out(tmp_path, "corpus") == {"a b.wav": "of a reason"}
    Completeness("corpus", partial=False).finish(tmp_path, "")
    assert list(tmp_path.iterdir()) == []
