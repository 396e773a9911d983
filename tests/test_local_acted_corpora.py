"""Preparations of CREMA-D, RAVDESS and EmoDB, on tiny trees of their layout with the defects of the real ones."""

import shutil
from collections import Counter

import pytest
import tiny_emotion_corpora
from test_local_corpora import prepare, table, touch
from test_local_emotion_corpora import left_out

from local import prepare_crema_d, prepare_emodb, prepare_ravdess
from pydino.base import UserError

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    place = tmp_path_factory.mktemp("trees")
    return tiny_emotion_corpora.crema_d(place / "a") | tiny_emotion_corpora.ravdess(place / "b")


@pytest.fixture
def crema(trees, tmp_path):
    shutil.copytree(trees["crema_d"], tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def ravdess(trees, tmp_path):
    shutil.copytree(trees["ravdess"], tmp_path / "copy")
    return tmp_path / "copy"


def test_crema_d_reads_the_names_and_the_people(crema, tmp_path):
    prepare(prepare_crema_d, "--partial", "true", crema, tmp_path / "data")
    folder = tmp_path / "data/crema_d"
    emotions = table(folder / "utt2emotion")
    assert len(emotions) == 10 * 6 + 1
    assert emotions["1001-TIE_ANG_XX"] == "anger" and emotions["1040-ITH_SAD_XX"] == "sadness"
    assert table(folder / "utt2spk")["1001-TIE_ANG_XX"] == "1001"
    assert table(folder / "utt2sentence")["1001-TIE_ANG_XX"] == "TIE"
    assert table(folder / "utt2intensity")["1001-TIE_ANG_XX"] == "unspecified"
    assert (
        table(folder / "spk2gender")["1048"] == "f" and table(folder / "utt2age")["1048-TIE_ANG_XX"] == "68"
    )
    four = Counter(table(folder / "utt2emotion4").values())
    assert four == {"anger": 10, "happiness": 10, "neutral": 10, "sadness": 11}


def test_crema_d_leaves_out_ties_of_the_votes(crema, tmp_path, capsys):
    prepare(prepare_crema_d, "--partial", "true", crema, tmp_path / "data")
    folder = tmp_path / "data/crema_d"
    votes, seen = table(folder / "utt2vote"), table(folder / "utt2vote_multimodal")
    assert len(seen) == 61 and len(votes) == 61 - 6  # every tenth from the second on
    assert "1001-TIE_DIS_XX" not in votes and votes["1001-TIE_FEA_XX"] == "fear"
    assert set(table(folder / "utt2vote4").values()) == {"anger", "happiness", "neutral", "sadness"}
    assert "VoiceVote: 7 of 62 utterances are ties" in capsys.readouterr().err


def test_crema_d_folds_hold_whole_actors_of_both_sexes(crema, tmp_path):
    prepare(prepare_crema_d, "--partial", "true", crema, tmp_path / "data")
    folder = tmp_path / "data/crema_d"
    actors_of = {}
    for utterance, fold in table(folder / "utt2fold").items():
        assert actors_of.setdefault(utterance[:4], fold) == fold
    assert set(actors_of.values()) == {f"fold{k}" for k in range(1, 6)}

    people = {
        actor: ("30", "m" if position < 48 else "f") for position, actor in enumerate(prepare_crema_d.ACTORS)
    }
    fold_of = prepare_crema_d.deal(people)
    for gender, sizes in (("m", {9, 10}), ("f", {8, 9}), ("mf", {18, 19})):
        assert set(Counter(fold_of[a] for a in people if people[a][1] in gender).values()) == sizes


def test_crema_d_has_the_published_lists_of_audeering(crema, tmp_path):
    prepare(prepare_crema_d, "--partial", "true", crema, tmp_path / "data")
    part_of = {utterance[:4]: part for utterance, part in table(tmp_path / "data/crema_d/utt2part").items()}
    assert {actor for actor, part in part_of.items() if part == "dev"} == {"1049", "1061"}
    assert {actor for actor, part in part_of.items() if part == "test"} == {"1048", "1076"}
    sizes = {
        "dev": sum(prepare_crema_d.OF_ACTOR[str(actor)] for actor in prepare_crema_d.DEV),
        "test": sum(prepare_crema_d.OF_ACTOR[str(actor)] for actor in prepare_crema_d.TEST),
    }
    assert sizes == {"dev": 1476, "test": 1393}  # as audEERING counts them
    assert not prepare_crema_d.DEV & prepare_crema_d.TEST


def test_crema_d_names_the_silent_the_misnamed_and_the_twin_recordings(crema, tmp_path, capsys):
    prepare(prepare_crema_d, "--partial", "true", crema, tmp_path / "data")
    said = capsys.readouterr().err
    assert "1006_TIE_HAP_XX and 1006_TIE_NEU_XX are the same recording under two emotions" in said
    assert "1040_ITH_SAD_X.wav is taken for 1040_ITH_SAD_XX" in said
    reasons = {
        name.rpartition("/")[2]: reason for name, reason in left_out(tmp_path / "data", "crema_d").items()
    }
    assert reasons == {
        "1076_MTI_SAD_XX": "the published recording has no sound",
        "1002_IEO_ANG_LO": "it is in summaryTable.csv but has no recording",
        "copy of 1001_TIE_ANG_XX.wav": "its name is not of the form 1001_IEO_HAP_LO.wav",
    }
    assert {"1006-TIE_HAP_XX", "1006-TIE_NEU_XX"} <= table(tmp_path / "data/crema_d/utt2spk").keys()


def test_pointers_of_git_lfs_are_not_taken_for_recordings(crema, tmp_path):
    for name in ("1001_TIE_ANG_XX", "1003_TIE_ANG_XX"):
        (crema / f"AudioWAV/{name}.wav").write_text(POINTER)
    with pytest.raises(UserError, match=r"2 of 62 recordings in .* are pointers of Git LFS.*git lfs pull"):
        prepare(prepare_crema_d, "--partial", "true", crema, tmp_path / "data")


def test_a_part_of_crema_d_is_refused_unless_it_is_said_to_be_one(crema, tmp_path):
    with pytest.raises(UserError, match=r"crema_d is not whole: .*expected"):
        prepare(prepare_crema_d, crema, tmp_path / "data")
    assert not (tmp_path / "data/crema_d").exists()
    assert sum(prepare_crema_d.OF_EMOTION.values()) == sum(prepare_crema_d.OF_ACTOR.values()) == 7442
    assert [sum(counts) for counts in prepare_crema_d.OF_VOTE.values()] == [6798, 7022]


def test_crema_d_without_a_table(crema, tmp_path):
    (crema / "processedResults/summaryTable.csv").unlink()
    with pytest.raises(UserError, match="no file .*summaryTable.csv, which has the votes"):
        prepare(prepare_crema_d, crema, tmp_path / "data")
    prepare(prepare_crema_d, "--partial", "true", crema, tmp_path / "data")
    assert not list((tmp_path / "data/crema_d").glob("utt2vote*"))
    path = crema / "VideoDemographics.csv"
    path.write_text(path.read_text().replace("1005,25", "1005,twenty"))
    with pytest.raises(UserError, match="actor 1005 has the age 'twenty'"):
        prepare(prepare_crema_d, "--partial", "true", crema, tmp_path / "data")
    path.write_text('"ActorID","Age"\n')
    with pytest.raises(UserError, match="has no column Sex; it has ActorID, Age"):
        prepare(prepare_crema_d, "--partial", "true", crema, tmp_path / "data")


def test_crema_d_refuses_a_vote_for_no_emotion(crema, tmp_path):
    path = crema / "processedResults/summaryTable.csv"
    path.write_text(path.read_text().replace('"1001_TIE_FEA_XX","F"', '"1001_TIE_FEA_XX","Q"'))
    with pytest.raises(UserError, match="1001_TIE_FEA_XX has the VoiceVote 'Q'; there are A, D, F"):
        prepare(prepare_crema_d, "--partial", "true", crema, tmp_path / "data")


def test_ravdess_counts_copies_once_and_leaves_out_song_and_video(ravdess, tmp_path, capsys):
    prepare(prepare_ravdess, "--partial", "true", ravdess, tmp_path / "data")
    folder = tmp_path / "data/ravdess"
    utt2spk = table(folder / "utt2spk")
    assert len(utt2spk) == 12 * 8 and utt2spk["05-08-01-02-01"] == "05"
    assert Counter(table(folder / "utt2emotion").values()) == dict.fromkeys(
        prepare_ravdess.EMOTIONS.values(), 12
    )
    assert table(folder / "spk2gender")["05"] == "m" and table(folder / "spk2gender")["04"] == "f"
    assert table(folder / "utt2sentence")["05-08-01-02-01"] == "dogs"
    assert table(folder / "utt2intensity")["05-08-01-02-01"] == "normal"
    assert left_out(tmp_path / "data", "ravdess") == {
        "Actor_01/01-01-03-01-02-01-01.wav": "it is a song or belongs to a video",
        "Actor_01/03-02-03-01-02-01-01.wav": "it is a song or belongs to a video",
    }
    assert "96 files are there twice and count once" in capsys.readouterr().err


def test_ravdess_folds_are_those_of_emobox(ravdess, tmp_path):
    prepare(prepare_ravdess, "--partial", "true", ravdess, tmp_path / "data")
    members = {}
    for utterance, fold in table(tmp_path / "data/ravdess/utt2fold").items():
        members.setdefault(fold, set()).add(utterance[:2])
    assert members["fold1"] == {"01", "11"} and members["fold6"] == {"06", "13"} and len(members) == 6
    actors = sorted(actor for fold in prepare_ravdess.FOLDS for actor in fold.split())
    assert actors == list(prepare_ravdess.OF_ACTOR)
    assert sum(prepare_ravdess.OF_EMOTION.values()) == sum(prepare_ravdess.OF_ACTOR.values()) == 1440


def test_ravdess_refuses_a_part_and_files_of_one_name_that_differ(ravdess, tmp_path):
    with pytest.raises(UserError, match="ravdess is not whole: emotion, anger: 12, expected 192"):
        prepare(prepare_ravdess, ravdess, tmp_path / "data")
    (ravdess / "Actor_04/03-01-01-01-02-01-04.wav").write_bytes(b"another")
    with pytest.raises(UserError, match="have one name but differ; remove one of them"):
        prepare(prepare_ravdess, "--partial", "true", ravdess, tmp_path / "data")
    (ravdess / "Actor_04/nothing").mkdir()
    with pytest.raises(UserError, match="does not look like ravdess"):
        prepare(prepare_ravdess, ravdess / "Actor_04/nothing", tmp_path / "data")


def test_emodb_folds_are_speakers_and_the_second_release_adds_nothing(tmp_path, capsys):
    wavs = tmp_path / "emodb/wav"
    touch(*(wavs / name for name in ("03a01Fa.wav", "03a01Fb.wav", "08b10Wb.WAV", "08b10Wcxx.wav")))
    prepare(prepare_emodb, tmp_path / "emodb", tmp_path / "data")
    folds = {"03-a01Fa": "speaker03", "03-a01Fb": "speaker03", "08-b10Wb": "speaker08"}
    assert table(tmp_path / "data/emodb/utt2fold") == folds
    assert table(tmp_path / "data/emodb/utt2sentence") == {u: u[3:6] for u in folds}
    assert "1 utterances that release 2.0 adds are left out: 08b10Wcxx" in capsys.readouterr().err
