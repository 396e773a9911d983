"""Preparation of a folder of recordings with a table of labels, as people and spreadsheets write them."""

import unicodedata

import pytest
from test_local_corpora import prepare, table, touch

from local import prepare_labelled
from local.prepare_labelled import Recordings
from local.tables import read_records, read_rows
from pydino.base import UserError

FILES = ["anna/Café 1.wav", "anna/two.flac", "ben/one.WAV", "ben/two.ogg"]


@pytest.fixture
def folder(tmp_path):
    touch(*(tmp_path / "my data" / name for name in FILES))
    touch(tmp_path / "my data/._x.wav", tmp_path / "my data/notes.doc")
    return tmp_path / "my data"


def labels_of(folder, tmp_path, text, *options, name="labels.csv", encoding="utf-8"):
    """Recording -> label, for a table."""
    (folder / name).write_bytes(text.encode(encoding))
    prepare(prepare_labelled, *options, folder, tmp_path / "data")
    data = tmp_path / "data/labelled"
    path_of = table(data / "wav.scp")
    return {path_of[u].removeprefix(f"{folder}/"): label for u, label in table(data / "utt2label").items()}


EXPECTED = dict(zip(FILES, ["happy", "sad", "happy", "sad"], strict=True))
ROWS = list(EXPECTED.items())


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"{name},{label}\n" for name, label in ROWS),
        "\ufefffile;label\r\n" + "".join(f"{name};{label}\r\n" for name, label in ROWS),
        "label\tname\n" + "".join(f" {label} \t{name} \n" for name, label in ROWS),
        "".join(f"{name} {label}\n" for name, label in ROWS),
        "file,label\n" + "".join(f'"{name.rpartition(".")[0]}","{label}"\n\n' for name, label in ROWS),
        "path,emotion\n"
        + "".join(f"D:\\old\\my data\\{name},{label}\n".replace("/", "\\") for name, label in ROWS),
        "path,emotion\n" + "".join(f"/somewhere/my data/{name.upper()},{label}\n" for name, label in ROWS),
        "path,emotion\n"
        + "".join(f"./{unicodedata.normalize('NFD', name)},{label}\n" for name, label in ROWS),
        "".join(f"{label},{name}\n" for name, label in [*ROWS, ROWS[0]]),
        "\ufeffsep=;\r\nfile;label\r\n" + "".join(f"{name};{label}\r\n" for name, label in ROWS),
    ],
    ids="plain semicolons tabs blanks quotes windows absolute mac repeated named".split(),
)
def test_a_table_of_two_columns(text, folder, tmp_path):
    assert labels_of(folder, tmp_path, text) == EXPECTED


def test_two_columns_say_what_was_taken_for_what(folder, tmp_path, capsys):
    labels_of(folder, tmp_path, "".join(f"{label};{name}\n" for name, label in ROWS))
    said = capsys.readouterr().err
    assert "labels.csv: no header; file from column 2; label from column 1\n" in said
    assert "no column speaker or subject: each recording counts as a speaker of its own" in said
    utt2spk = table(tmp_path / "data/labelled/utt2spk")
    assert utt2spk == {utterance: utterance for utterance in utt2spk} and "anna-Café_1" in utt2spk
    assert not (tmp_path / "data/labelled/utt2fold").exists()


def test_further_columns(folder, tmp_path, capsys):
    text = "wav,Age,Speaker ID,feeling,Split,hash,patient,Was heißt das\n"
    people = ["Anna-Maria", "Anna-Maria", "Ben", "Ben"]
    for (name, label), who, split in zip(ROWS, people, ["Training", "train", "val", "TEST"], strict=True):
        text += f"{name},{'' if who == 'Ben' else 30},{who},very {label},{split},x,P{who[0]},y\n"
    found = labels_of(folder, tmp_path, text, "--label-column", "Feeling")
    assert found["ben/two.ogg"] == "very_sad"
    data = tmp_path / "data/labelled"
    assert table(data / "utt2spk") == {
        "Anna_Maria-anna-Café_1": "Anna_Maria",
        "Anna_Maria-anna-two": "Anna_Maria",
        "Ben-ben-one": "Ben",
        "Ben-ben-two": "Ben",
    }
    assert list(table(data / "utt2fold").values()) == ["train", "train", "dev", "test"]
    assert list(table(data / "utt2subject").values()) == ["PA", "PA", "PB", "PB"]
    assert table(data / "utt2age") == dict.fromkeys(list(table(data / "utt2spk"))[:2], "30")
    assert not (data / "utt2hash").exists()
    assert "further label maps utt2age; not used: 'hash', 'Was heißt das'" in capsys.readouterr().err


def test_without_a_name_the_label_is_the_first_column_that_is_nothing_else(folder, tmp_path, capsys):
    text = "speaker,file,mood,other\n" + "".join(f"s,{name},{label},z\n" for name, label in ROWS)
    assert labels_of(folder, tmp_path, text) == EXPECTED
    assert (
        "label from 'mood'; speaker from 'speaker'; further label maps utt2other" in capsys.readouterr().err
    )


def test_changed_labels_keep_the_features_and_removed_columns_their_tables_not(folder, tmp_path, capsys):
    def rows(label, fold="", names=FILES):
        text = f"file,label{',fold' if fold else ''}\n"
        return text + "".join(f"{n},{label if i else 'x'}{fold and f',{i}'}\n" for i, n in enumerate(names))

    labels_of(folder, tmp_path, rows("sad", "fold"))
    data = tmp_path / "data/labelled"
    (data / "conf").mkdir()
    kept = {"feats.scp": "a feats.ark:2\n", ".done.features": "{}", "conf/fbank.yaml": "num_mel_bins: 80\n"}
    for name, text in kept.items():
        (data / name).write_text(text)
    labels_of(folder, tmp_path, rows("glad", "fold"))
    assert {name: (data / name).read_text() for name in kept} == kept
    assert "its recordings did not, and their features are kept" in capsys.readouterr().err
    labels_of(folder, tmp_path, rows("glad"))
    assert not (data / "utt2fold").exists() and (data / "feats.scp").exists()
    labels_of(folder, tmp_path, rows("glad", names=FILES[1:]))
    assert not (data / "feats.scp").exists() and not (data / ".done.features").exists()
    assert "features in it have to be recomputed" in capsys.readouterr().err


def test_folds_of_other_names_are_kept(folder, tmp_path):
    text = "file,label,fold\n" + "".join(f"{n},{label},{i % 2 + 1}\n" for i, (n, label) in enumerate(ROWS))
    labels_of(folder, tmp_path, text)
    assert list(table(tmp_path / "data/labelled/utt2fold").values()) == ["1", "2", "1", "2"]


def test_numbers_have_points_or_commas(folder, tmp_path):
    text = "".join(
        f"{name};{number}\n" for name, number in zip(FILES, ["3,5", "4", "2.25", "-1"], strict=True)
    )
    assert labels_of(folder, tmp_path, text, "--kind", "number") == dict(
        zip(FILES, ["3.5", "4", "2.25", "-1"], strict=True)
    )
    for mistake in ("old", "nan"):
        with pytest.raises(UserError, match=f"label '{mistake}' is not a number"):
            labels_of(folder, tmp_path, text.replace("3,5", mistake), "--kind", "number")


def test_numbers_taken_for_classes_are_mentioned(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(prepare_labelled, "MANY", 3)
    text = "".join(
        f"{name};{number}\n" for name, number in zip(FILES, ["3,5", "4", "2.25", "-1"], strict=True)
    )
    labels_of(folder, tmp_path, text)
    assert "4 classes, all of them numbers" in capsys.readouterr().err
    labels_of(folder, tmp_path, text.replace("3,5", "old"))
    assert "all of them numbers" not in capsys.readouterr().err


def test_another_column_may_be_the_speaker(folder, tmp_path, capsys):
    labels_of(folder, tmp_path, "Datei;Emotion;Sprecher\n" + "".join(f"{n};{label};s\n" for n, label in ROWS))
    assert "add the column, or call it so if it is one of 'Sprecher'" in capsys.readouterr().err


def test_what_is_left_out_is_named(folder, tmp_path, capsys):
    text = "anna/two.flac,sad\nben/one.WAV,\nben/three.wav,happy\ncarl/two.ogg,happy\n"
    assert labels_of(folder, tmp_path, text) == {"anna/two.flac": "sad"}
    said = capsys.readouterr().err
    assert "2 of 4 rows of" in said and "have no recording: ben/three.wav carl/two.ogg" in said
    assert (tmp_path / "data/left_out.labelled.txt").read_text().splitlines() == [
        "anna/Café 1.wav\tthe table has no label for it",
        "ben/one.WAV\tits label is empty",
        "ben/three.wav\tthe table names it, but there is no such recording",
        "ben/two.ogg\tthe table has no label for it",
        "carl/two.ogg\tthe table names it, but there is no such recording",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("two.flac,sad\ntwo,happy\n", r"'two' may be anna/two.flac ben/two.ogg; write the folder"),
        ("ben/two,sad\nben/two.ogg,happy\n", "ben/two.ogg has several rows, which differ"),
        ("x.wav,sad\ny.wav,happy\n", r"no row names a recording; the first is 'x.wav sad'"),
        ("file,label\nben/two,\n", "no row with a label names a recording"),
        ("ben/two.ogg\n", "expected a file and a label in each row"),
        ("", "expected a file and a label in each row"),
        ("file,speaker,fold\nben/two,a,b\n", "no column of labels; call it 'label'"),
        ("file,label,speaker\nben/two,sad,\n", "no speaker in 1 rows: ben/two.ogg"),
        (
            "file,label,speaker\nben/two,a,b c\nben/one,a,b_c\n",
            "speakers 'b_c' and 'b c' would both be called",
        ),
        ('file,label\n"ben/two,sad\n', "unexpected end of data; correct the quotation marks"),
    ],
)
def test_mistakes_in_a_table(text, message, folder, tmp_path):
    with pytest.raises(UserError, match=message):
        labels_of(folder, tmp_path, text)
    assert not (tmp_path / "data/labelled").exists()


def test_which_table(folder, tmp_path):
    with pytest.raises(UserError, match="expected one table of labels, labels.csv, and there is none"):
        prepare(prepare_labelled, folder, tmp_path / "data")
    (folder / "a.xlsx").write_text("")
    with pytest.raises(UserError, match="a.xlsx is a spreadsheet; save it as labels.csv there"):
        prepare(prepare_labelled, folder, tmp_path / "data")
    (folder / "a.csv").write_text("ben/one,x\n")
    prepare(prepare_labelled, folder, tmp_path / "data")
    (folder / "b.tsv").write_text("ben/one\tx\n")
    with pytest.raises(UserError, match="there are a.csv b.tsv"):
        prepare(prepare_labelled, folder, tmp_path / "data")
    prepare(prepare_labelled, "--labels", "b.tsv", folder, tmp_path / "data")
    with pytest.raises(UserError, match="no table .*c.csv"):
        prepare(prepare_labelled, "--labels", "c.csv", folder, tmp_path / "data")
    assert labels_of(folder, tmp_path, "ben/one x\n", name="labels.txt") == {"ben/one.WAV": "x"}
    with pytest.raises(UserError, match="no column 'feelin'.*did you mean 'feeling'"):
        labels_of(
            folder, tmp_path, "file,feeling\nben/one,x\n", "--label-column", "feelin", name="labels.txt"
        )
    with pytest.raises(UserError, match="no folder .*nowhere. Give the folder that holds"):
        prepare(prepare_labelled, tmp_path / "nowhere", tmp_path / "data")


def test_a_path_must_agree_in_all_folders_that_both_name():
    found = Recordings(["a/1/x.wav", "a/2/x.wav", "x.flac"])
    assert found.find("2/x.wav") == ["a/2/x.wav"]
    assert found.find("/far/a/2/x") == ["a/2/x.wav"]
    assert found.find("b/2/x.wav") == []
    assert found.find("x.wav") == ["a/1/x.wav", "a/2/x.wav"]
    assert found.find("b/x.flac") == found.find("x.mp3")[-1:] == ["x.flac"]
    assert found.find("") == found.find("./") == []


def test_tables_of_corpora(tmp_path):
    path = tmp_path / "table.txt"
    path.write_text("ID   ; age ; NAME \nS001 ; 70 ; A, B\nS002 ; NA\n")
    assert read_records(path) == [
        {"id": "S001", "age": "70", "name": "A, B"},
        {"id": "S002", "age": "NA", "name": ""},
    ]
    path.write_text('a,"b;c"\nd,"e;f"\n')
    assert read_rows(path) == [["a", "b;c"], ["d", "e;f"]]
    path.write_text("a;b\nc;d;e\n")
    with pytest.raises(UserError, match=r"table.txt, row 2: 3 fields, but the header has 2 \(a, b\)"):
        read_records(path)
