"""Preparations of ADReSS and ADReSSo, on tiny trees of their layout with the quirks of real copies."""

import random
import shutil
from collections import Counter

import pytest
import tiny_corpora
from test_local_corpora import prepare, table

from local import interviews, prepare_adress, prepare_adresso
from pydino.base import UserError


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    place = tmp_path_factory.mktemp("alzheimer")
    made = {}
    for name in ("adress", "adresso"):
        made |= getattr(tiny_corpora, name)(place / name, subjects=2, tested=1)
    return made


@pytest.fixture
def tree(trees, tmp_path, request):
    """A copy of the corpus that the test is named after."""
    name = "adresso" if "adresso" in request.node.name else "adress"
    shutil.copytree(trees[name], tmp_path / "corpus")
    return tmp_path / "corpus"


def seconds(folder):
    """Recording -> (begin, end) of its utterances."""
    found = {}
    for line in table(folder / "segments").values():
        recording, begin, end = line.split()
        found.setdefault(recording, []).append((float(begin), float(end)))
    return found


def test_turns_of_one_speaker_become_utterances_without_the_other():
    """Against a second by second account of who speaks."""
    draw = random.Random(0)
    for _ in range(300):
        turns, others = ([(b := draw.randrange(60), b + draw.randrange(12)) for _ in range(4)] for _ in "ab")
        found = interviews.utterances_of(turns, others, longest=15)
        speaks = [any(b <= t < e for b, e in turns) for t in range(80)]
        other = [any(b <= t < e for b, e in others) for t in range(80)]
        covered = Counter(t for begin, end in found for t in range(begin, end))
        assert all(count == 1 for count in covered.values())
        for time in range(80):
            assert not (covered[time] and other[time])
            assert covered[time] or other[time] or not speaks[time]
        for begin, end in found:
            assert 0 < end - begin <= 15
        for (_, end), (begin, _) in zip(found, found[1:], strict=False):
            assert end <= begin


def test_turns_are_joined_divided_and_dropped():
    def cut(*arguments):
        return interviews.utterances_of(*arguments, longest=30_000)

    assert cut([(0, 2000), (2700, 4000), (5000, 6500)], [(4000, 4800)]) == [(0, 4000), (5000, 6500)]
    assert cut([(0, 20_000), (21_000, 35_000)], []) == [(0, 20_000), (21_000, 35_000)]
    assert cut([(0, 60_001)], []) == [(0, 20_000), (20_000, 40_000), (40_000, 60_001)]
    assert cut([(0, 10_000)], [(400, 3000), (2500, 9000)]) == [(0, 400), (9000, 10_000)]
    assert cut([(5, 5), (9, 3)], []) == []


def test_adress_tables(tree, tmp_path, capsys):
    prepare(prepare_adress, "--partial", "true", tree, tmp_path / "data")
    assert "train, cc: 2, expected 54" in capsys.readouterr().err
    train, test, interviewer = (tmp_path / f"data/adress_{name}" for name in ("train", "test", "interviewer"))
    # The pause between two of the participant's turns is kept, the interviewer's turn is not.
    expected = [(1.0, 5.0), (5.8, 7.3)]
    assert seconds(train) == dict.fromkeys(("S001", "S002", "S079", "S080"), expected)
    assert seconds(test) == dict.fromkeys(("S160", "S161"), expected)
    assert seconds(interviewer) == dict.fromkeys((*seconds(train), *seconds(test)), [(0.0, 1.0), (5.0, 5.8)])
    first = "S001-0001000-0005000"
    assert table(train / "spk2gender") == {"S001": "m", "S002": "f", "S079": "m", "S080": "f"}
    for name, value in {
        "utt2spk": "S001",
        "utt2subject": "S001",
        "utt2recording": "S001",
        "utt2diagnosis": "cc",
        "utt2mmse": "28",
        "utt2age": "61",
        "utt2gender": "m",
    }.items():
        assert table(train / name)[first] == value, name
    assert not any(utterance.startswith("S002") for utterance in table(train / "utt2mmse"))
    assert table(test / "utt2diagnosis") == {
        u: "cc" if "S160" in u else "cd" for u in table(test / "utt2spk")
    }
    assert table(test / "utt2gender")["S161-0001000-0005000"] == "f"
    one = "S001-interviewer-0000000-0001000"
    assert table(interviewer / "utt2spk")[one] == "S001-interviewer"
    assert table(interviewer / "utt2subject")[one] == "S001"


def test_adress_chunks_are_the_organisers(tree, tmp_path):
    prepare(prepare_adress, "--audio", "chunks", "--partial", "true", tree, tmp_path / "data")
    train = tmp_path / "data/adress_train"
    assert not (train / "segments").exists() and len(table(train / "utt2spk")) == 12
    assert table(train / "utt2subject")["S079-1-1000-3000-1-0-2000"] == "S079"
    assert table(train / "wav.scp")["S079-1-1000-3000-1-0-2000"].endswith("/cd/S079-1-1000-3000-1-0-2000.wav")
    assert (tmp_path / "data/adress_interviewer/segments").exists()


def test_adress_counts_are_strict(tree, tmp_path):
    with pytest.raises(UserError, match=r"adress is not whole: train, cc: 2, expected 54; .*partial: 'true'"):
        prepare(prepare_adress, tree, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_adress_options_of_the_turns(tree, tmp_path, capsys):
    prepare(
        prepare_adress,
        "--max-seconds",
        1.6,
        "--min-seconds",
        0.9,
        "--partial",
        "true",
        tree,
        tmp_path / "data",
    )
    assert seconds(tmp_path / "data/adress_train")["S001"] == [
        (1.0, 2.0),
        (2.0, 3.0),
        (3.7, 5.0),
        (5.8, 7.3),
    ]
    assert (
        "adress: 6 left out, shorter than 0.9 s: S001-interviewer-0005000-0005800 " in capsys.readouterr().err
    )
    with pytest.raises(UserError, match="must be above zero and below"):
        prepare(prepare_adress, "--min-seconds", 30, tree, tmp_path / "data")


@pytest.mark.parametrize("fault", ["wave", "transcript", "row", "times", "table"])
def test_adress_names_what_is_not_there(fault, tree, tmp_path, capsys):
    train = tree / "ADReSS-IS2020-train/ADReSS-IS2020-data/train"
    rows = train / "cc_meta_data.txt"
    if fault == "wave":
        (train / "Full_wave_enhanced_audio/cc/S001.wav").unlink()
        message = "Full_wave_enhanced_audio lacks 1 of the corpus's tables: S001"
    elif fault == "transcript":
        (train / "transcription/cc/S001.cha").unlink()
        message = "transcription has no file of 1 recordings: S001"
    elif fault == "row":
        rows.write_text("".join(line for line in rows.open() if "S001" not in line))
        message = "Full_wave_enhanced_audio has 1 that the corpus's tables lack: S001"
    elif fault == "times":
        (train / "transcription/cc/S001.cha").write_text("*PAR:\tthe boy .\n")
        message = r"no times on \*PAR in the transcripts of S001"
    else:
        rows.unlink()
        message = "has no cc_meta_data.txt"
    with pytest.raises(UserError, match=message):
        prepare(prepare_adress, tree, tmp_path / "data")
    prepare(prepare_adress, "--partial", "true", tree, tmp_path / "data")
    assert "S001" not in table(tmp_path / "data/adress_train/utt2subject").values()
    if fault != "table":
        assert "S001" in capsys.readouterr().err
        assert "S001\t" in (tmp_path / "data/left_out.adress.txt").read_text()


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("train/cc_meta_data.txt", "S002", "S001", "subject S001 occurs twice"),
        ("train/cc_meta_data.txt", "S002", "S079", "S079 is in both cc_meta_data.txt and cd_meta_data.txt"),
        ("train/cc_meta_data.txt", "ID ", "Nr ", "expected a table with the columns ID"),
        ("train/cc_meta_data.txt", "S002", "2", "'2' is not the name of a subject"),
        (
            "train/cc_meta_data.txt",
            "; 28",
            "; 31",
            "mmse of S001 is '31', expected a number from 0 to 30, or NA",
        ),
        ("train/cc_meta_data.txt", "; male", "; mael", "gender of S001 is 'mael', expected 0 1 male"),
        ("test/meta_data_test.txt", "Label", "Lebal", "no labels of the test subjects.*test-labels"),
        ("test/meta_data_test.txt", "; 1 ; 17", "; NA ; 17", "no Label for 1 subjects: S161"),
        ("test/meta_data_test.txt", "; 1 ; 17", "; 2 ; 17", "label of S161 is '2', expected 0 1 cc cd"),
        ("test/meta_data_test.txt", "S161", "S079", "1 subjects are in both train and test: S079"),
    ],
)
def test_adress_names_what_is_wrong_in_a_table(name, old, new, message, tree, tmp_path):
    part, file = name.split("/")
    path = tree / f"ADReSS-IS2020-{part}/ADReSS-IS2020-data" / (name if part == "train" else file)
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=message):
        prepare(prepare_adress, "--partial", "true", tree, tmp_path / "data")


def test_adress_labels_of_the_test_may_be_elsewhere(tree, tmp_path):
    path = tree / "ADReSS-IS2020-test/ADReSS-IS2020-data/meta_data_test.txt"
    shutil.move(path, tmp_path / "mine.txt")
    with pytest.raises(UserError, match="no labels of the test subjects: none of meta_data_test.txt"):
        prepare(prepare_adress, "--partial", "true", tree, tmp_path / "data")
    prepare(
        prepare_adress,
        *("--partial", "true", "--test-labels", tmp_path / "mine.txt", tree, tmp_path / "data"),
    )
    with pytest.raises(UserError, match="no file .*theirs.txt"):
        prepare(prepare_adress, "--test-labels", tmp_path / "theirs.txt", tree, tmp_path / "data")
    shutil.move(tmp_path / "mine.txt", path.parent / "test/META_DATA.txt")
    prepare(prepare_adress, "--partial", "true", tree, tmp_path / "data")


def test_adress_is_found_at_every_depth_once(tree, tmp_path):
    both = tmp_path / "ADReSS-IS2020-data"
    for part in ("train", "test"):
        shutil.copytree(tree / f"ADReSS-IS2020-{part}/ADReSS-IS2020-data", both, dirs_exist_ok=True)
    prepare(prepare_adress, "--partial", "true", both, tmp_path / "data")
    (tmp_path / "twice").mkdir()
    shutil.move(both, tmp_path / "twice")
    shutil.move(tree, tmp_path / "twice")
    with pytest.raises(UserError, match="holds several copies of adress: .*train .*train; give one of them"):
        prepare(prepare_adress, "--partial", "true", tmp_path / "twice", tmp_path / "data")
    with pytest.raises(UserError, match="does not look like adress: no folder train.*found nothing"):
        (tmp_path / "empty").mkdir()
        prepare(prepare_adress, tmp_path / "empty", tmp_path / "data")
    with pytest.raises(UserError, match="adress not found: no folder"):
        prepare(prepare_adress, tmp_path / "nowhere", tmp_path / "data")


def test_adresso_tables(tree, tmp_path, capsys):
    prepare(prepare_adresso, "--partial", "true", tree, tmp_path / "data")
    said = capsys.readouterr().err
    assert "1 files list only the interviewer; the rest is the participant's: adrso003" in said
    assert "train: 2 recordings of ad, others report 87" in said
    train, test = tmp_path / "data/adresso_train", tmp_path / "data/adresso_test"
    assert seconds(train) == {
        "adrso001": [(1.0, 5.0), (5.8, 7.3)],
        "adrso002": [(1.0, 5.0), (5.8, 7.3)],
        "adrso003": [(1.0, 5.0), (5.8, 7.6)],  # to the end of the recording
        "adrso004": [(1.0, 5.0), (5.8, 7.3)],
    }
    assert set(table(test / "utt2subject").values()) == {"adrsdt1", "adrsdt2"}
    of = {utterance[:8]: value for utterance, value in table(train / "utt2diagnosis").items()}
    assert of == {"adrso001": "ad", "adrso002": "ad", "adrso003": "cn", "adrso004": "cn"}
    assert {u.split("-")[0]: v for u, v in table(test / "utt2mmse").items()} == {
        "adrsdt1": "17",
        "adrsdt2": "29",
    }
    assert seconds(tmp_path / "data/adresso_interviewer")["adrso003"] == [(0.0, 1.0), (5.0, 5.8)]


def test_adresso_counts_are_strict(tree, tmp_path):
    with pytest.raises(UserError, match="recordings, train: 4, expected 166"):
        prepare(prepare_adresso, tree, tmp_path / "data")


def test_adresso_without_the_ground_truth(tree, tmp_path):
    test = tree / "ADReSSo21/diagnosis/test-dist"
    for task in ("task1", "task2"):
        shutil.move(test / f"{task}.csv", tmp_path)
    options = ["--partial", "true"]
    with pytest.raises(UserError, match=r"no diagnoses of the test.*groundtruth/task1\.csv.*test-labels"):
        prepare(prepare_adresso, *options, tree, tmp_path / "data")
    options += ["--test-labels", tmp_path / "task1.csv"]
    with pytest.raises(
        UserError, match=r"no MMSE scores of the test.*groundtruth/task2\.csv.*test-mmse: none"
    ):
        prepare(prepare_adresso, *options, tree, tmp_path / "data")
    prepare(prepare_adresso, *options, "--test-mmse", "none", tree, tmp_path / "data")
    assert not (tmp_path / "data/adresso_test/utt2mmse").exists()
    shutil.copy(tmp_path / "task2.csv", test.parent / "label_test_task2.csv")
    prepare(prepare_adresso, *options, tree, tmp_path / "data")
    assert (tmp_path / "data/adresso_test/utt2mmse").exists()


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("train/adresso-train-mmse-scores.csv", '"adrso003"', '"adrso009"', "lacks 1 of .*: adrso009"),
        ("train/adresso-train-mmse-scores.csv", '"cn"', '"ad"', "adrso003 is 'ad', but its audio is in cn/"),
        ("train/adresso-train-mmse-scores.csv", ",16,", ",x,", "mmse of adrso00. is 'x'"),
        (
            "test-dist/task1.csv",
            "ProbableAD",
            "MCI",
            "Dx of adrsdt1 is 'mci', expected ProbableAD or Control",
        ),
        ("test-dist/task1.csv", "adrsdt2", "adrsdt1", "adrsdt1 occurs twice"),
        ("test-dist/task1.csv", "adrsdt2", "adrso001", "in both train and test: adrso001"),
        ("test-dist/task1.csv", "ID", "Nr", "expected a column ID"),
        ("test-dist/task2.csv", "adrsdt2", "adrsdt9", "adrsdt9 is not in the table of diagnoses"),
        (
            "train/segmentation/ad/adrso001.csv",
            "begin",
            "start",
            "expected the columns speaker, begin and end",
        ),
        ("train/segmentation/ad/adrso001.csv", "1000", "one", "times in milliseconds, found speaker INV"),
    ],
)
def test_adresso_names_what_is_wrong_in_a_table(name, old, new, message, tree, tmp_path):
    path = tree / "ADReSSo21/diagnosis" / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=message):
        options = () if "lacks" in message else ("--partial", "true")
        prepare(
            prepare_adresso,
            *options,
            "--test-mmse",
            "" if "task2" in name else "none",
            tree,
            tmp_path / "data",
        )


def test_adresso_progression_is_a_part_of_its_own(tree, tmp_path, capsys):
    for number, name in enumerate(("decline/adrsp001", "no_decline/adrsp003")):
        tiny_corpora.adresso_recording(tree / "ADReSSo21/progression/train", name, number + 1)
    prepare(prepare_adresso, "--task", "progression", tree, tmp_path / "data")
    folder = tmp_path / "data/adresso_progression"
    of = {utterance[:8]: value for utterance, value in table(folder / "utt2decline").items()}
    assert of == {"adrsp001": "decline", "adrsp003": "no_decline"}
    assert "1 recordings of decline, others report 15" in capsys.readouterr().err
    assert (tmp_path / "data/adresso_progression_interviewer/segments").exists()
