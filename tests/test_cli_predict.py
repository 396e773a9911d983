"""pydino predict: real files in, the library's probabilities out, in each format; mistakes get a message."""

import csv
import importlib.util
import json
import re

import numpy as np
import pytest
import soundfile
from test_infer_classifier import CLASSES, make
from test_infer_embed import RATE, run, speech
from test_infer_model_folder import configuration, tdnn

import pydino
from pydino.infer import classifier as classifier_module
from pydino.infer import save_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("classifier")
    make(path, statistics=True, chunk_seconds=0.8, temperature=1.4)
    return path


@pytest.fixture
def recordings(tmp_path):
    paths = [tmp_path / "b.flac", tmp_path / "mit Leerzeichen.wav"]
    for seed, path in enumerate(paths):
        soundfile.write(path, speech(1.5 + seed, seed), RATE)
    return paths


def expected(folder, paths):
    classifier = pydino.load(folder)
    return [
        list(classifier.predict(soundfile.read(path, dtype="float32")[0], RATE).values()) for path in paths
    ]


def test_the_table_has_what_the_library_returns(folder, recordings, capsys):
    status, said = run(capsys, "predict", folder, *recordings)
    assert status == 0
    header, *rows = [line.split() for line in said.out.splitlines()]
    assert header == ["recording", "class", *CLASSES]
    assert [row[0] for row in rows] == ["b", "mit_Leerzeichen"]
    for row, values in zip(rows, expected(folder, recordings), strict=True):
        assert row[1] == CLASSES[int(np.argmax(values))]
        np.testing.assert_allclose(np.array(row[2:], dtype=float), values, atol=6e-4)
    starts = [[m.start() for m in re.finditer(r"\S+", line)] for line in said.out.splitlines()]
    assert all(start == starts[0] for start in starts)  # columns are aligned
    (note,) = said.err.splitlines()
    assert "For research only. Not a medical device" in note


def test_each_format_holds_the_same(folder, recordings, tmp_path, capsys):
    for name in ("x.csv", "x.txt", "x.json"):
        status, said = run(capsys, "predict", folder, *recordings, "--output", tmp_path / name)
        assert status == 0 and said.out == ""
    wanted = expected(folder, recordings)
    for name, delimiter in (("x.csv", ","), ("x.txt", "\t")):
        with open(tmp_path / name, newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter=delimiter))
        assert [row["recording"] for row in rows] == ["b", "mit_Leerzeichen"]
        found = [[float(row[f"p_{name}"]) for name in CLASSES] for row in rows]
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    stored = json.loads((tmp_path / "x.json").read_text())
    assert stored["task"] == "emotion" and "research" in stored["note"]
    for row, values in zip(stored["predictions"], wanted, strict=True):
        assert row["probabilities"] == pytest.approx(dict(zip(CLASSES, values, strict=True)), abs=1e-5)


def test_the_average_is_that_of_log_posteriors(folder, recordings, tmp_path, capsys):
    output = tmp_path / "x.json"
    assert run(capsys, "predict", folder, *recordings, "--average", "--output", output)[0] == 0
    (row,) = json.loads(output.read_text())["predictions"]
    product = np.prod(np.array(expected(folder, recordings)) ** 0.5, axis=0)
    np.testing.assert_allclose(list(row["probabilities"].values()), product / product.sum(), atol=1e-5)
    assert row["recording"] == "average"


def test_numbers(tmp_path, recordings, capsys):
    make(tmp_path / "age", kind="number", unit="years")
    status, said = run(capsys, "predict", tmp_path / "age", *recordings)
    assert status == 0 and said.out.splitlines()[0].split() == ["recording", "years"]
    classifier = pydino.load(tmp_path / "age")
    values = [float(line.split()[1]) for line in said.out.splitlines()[1:]]
    for path, value in zip(recordings, values, strict=True):
        wanted = classifier.predict(soundfile.read(path, dtype="float32")[0], RATE)["value"]
        assert value == pytest.approx(wanted, rel=1e-3)
    assert run(capsys, "predict", tmp_path / "age", *recordings, "--output", tmp_path / "x.csv")[0] == 0
    assert (tmp_path / "x.csv").read_text().splitlines()[0] == "recording,value,unit"


def test_a_thousand_classes(tmp_path, recordings, capsys):
    make(tmp_path / "many", classes=[f"speaker{number}" for number in range(1000)])
    status, said = run(capsys, "predict", tmp_path / "many", *recordings)
    assert status == 0
    assert [len(line.split()) for line in said.out.splitlines()] == [3, 3, 3]
    assert run(capsys, "predict", tmp_path / "many", *recordings, "--output", tmp_path / "x.csv")[0] == 0
    with open(tmp_path / "x.csv", newline="") as stream:
        rows = list(csv.reader(stream))
    assert [len(row) for row in rows] == [1002] * 3
    assert sum(map(float, rows[1][2:])) == pytest.approx(1, abs=1e-3)


def test_names_of_strangers_do_not_reach_the_terminal_or_break_a_table(tmp_path, recordings, capsys):
    classes = ["\x1b[31mred", 'a,"b"\tc\nd', "é\u202e"]
    make(tmp_path / "odd", classes=classes, note="\x1b]0;title\x07 use\nit")
    status, said = run(capsys, "predict", tmp_path / "odd", *recordings)
    assert status == 0 and len(said.out.splitlines()) == 3 and len(said.err.splitlines()) == 1
    assert not {"\x1b", "\t", "\x07", "\u202e"} & set(said.out + said.err)
    for name, delimiter in (("x.csv", ","), ("x.txt", "\t")):
        assert run(capsys, "predict", tmp_path / "odd", *recordings, "--output", tmp_path / name)[0] == 0
        with open(tmp_path / name, newline="") as stream:
            assert [len(row) for row in csv.reader(stream, delimiter=delimiter)] == [5, 5, 5]
    assert run(capsys, "predict", tmp_path / "odd", *recordings, "--output", tmp_path / "x.json")[0] == 0
    stored = json.loads((tmp_path / "x.json").read_text())
    assert list(stored["predictions"][0]["probabilities"]) == classes


def test_the_model_is_loaded_once(folder, tmp_path, capsys, monkeypatch):
    for number in range(20):
        soundfile.write(tmp_path / f"{number}.wav", speech(0.3, number), RATE)
    calls, load = [], classifier_module.load
    monkeypatch.setattr(classifier_module, "load", lambda *of: calls.append(of) or load(*of))
    status, said = run(capsys, "predict", folder, *tmp_path.glob("*.wav"))
    assert status == 0 and len(said.out.splitlines()) == 21 and len(calls) == 1


def test_silence_alone_is_classified_with_a_warning(folder, tmp_path, capsys):
    soundfile.write(tmp_path / "zero.wav", np.zeros(RATE), RATE)
    status, said = run(capsys, "predict", folder, tmp_path / "zero.wav")
    assert status == 0 and "zero: no voiced frame" in said.err and "nan" not in said.out


def test_mistakes_get_a_message(folder, recordings, tmp_path, capsys):
    save_model(tmp_path / "plain", tdnn(), configuration(), "")
    soundfile.write(tmp_path / "wide.wav", np.zeros((RATE, 2)), RATE)
    soundfile.write(tmp_path / "b.wav", speech(1), RATE)
    (tmp_path / "text.wav").write_text("no sound")
    for arguments, said in (
        ((tmp_path / "plain", *recordings), "plain: this model gives embeddings and has no classifier"),
        ((tmp_path / "none", *recordings), "no model folder"),
        ((folder, *recordings, tmp_path / "b.wav"), "would both be called b"),
        ((folder, tmp_path / "wide.wav"), "wide.wav: 2 channels"),
        ((folder, tmp_path / "text.wav", tmp_path / "missing.wav"), "2 of 2 recordings cannot be classified"),
        ((folder, *recordings, "--output", tmp_path / "x.mat"), "must be one of .csv, .txt, .json"),
        ((folder, *recordings, "--output", tmp_path / "text.wav" / "x.csv"), "x.csv"),
        ((folder, *recordings, "--channel", 3), "channel"),
        ((folder, *recordings, "--device", "cuda:99"), "cuda:99"),
    ):
        status, captured = run(capsys, "predict", *arguments)
        assert status == 1 and said in captured.err and "Traceback" not in captured.err
        assert captured.out == ""


def test_other_verbs_on_a_classifier(folder, recordings, tmp_path, capsys):
    """They take the encoder, and say so where the classifier stays behind."""
    assert run(capsys, "embed", folder, *recordings)[0] == 0
    status, said = run(capsys, "average-models", tmp_path / "mean", folder, folder)
    assert status == 1 and "holds a classifier" in said.err and not (tmp_path / "mean").exists()
    if importlib.util.find_spec("onnxscript"):
        status, said = run(capsys, "export", folder, tmp_path / "model.onnx")
        assert status == 0 and "the classifier" in said.err and "is not in the file" in said.err
