"""Releases of trainings that hold more than networks, or were trained by several processes: positives that are found
in training, MoCo's queue, encoders that were pre-trained elsewhere.
"""

import shutil
import subprocess

import pytest
import torch
from forks import Forks
from safetensors.torch import load_file
from small_methods import ROWS
from smoke import ROOT
from test_train_audio import corpus  # noqa: F401
from test_train_dino import log_lines
from test_train_every_method import make_world, state

from pydino.base import dump_config, read_json, read_yaml
from pydino.cli import main
from pydino.train.methods.dino import Dino

SIZES = {"one": 21, "two": 18}  # utterances, which are the size of nothing else
CLASSES = {"one": 7, "two": 5}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("released kinds")
    for name, count in SIZES.items():
        names = [f"s{i % 4}-u{i:02d}" for i in range(count)]
        make_world(folder / name, names, [f"c{i % CLASSES[name]}" for i in range(count)], ["sad"] * count)
    return folder


@pytest.fixture(scope="module")
def forks():
    with Forks() as forks:
        yield forks


def words(config, data, exp, *options):
    dump_config(config, exp.parent / f"{exp.name}.yaml")
    given = ["train", "--config", exp.parent / f"{exp.name}.yaml", "--num-threads", 1, *options, data, exp]
    return [str(word) for word in given]


def test_positives_that_were_found_stay_behind(worlds, tmp_path, forks):
    """And are found again, from the first step on if that is asked for."""
    config = {**ROWS["dino with ssps"].config, "epochs": 3}
    forks.run(words(config, worlds / "one/train", tmp_path / "exp"))
    whole = state(tmp_path / "exp")
    assert any(SIZES["one"] in x.shape for x in whole.values())
    assert main(["release", str(tmp_path / "exp"), str(tmp_path / "out")]) == 0
    released = load_file(tmp_path / "out/training.safetensors")
    assert not [name for name, x in released.items() if SIZES["one"] in x.shape or "positive" in name]
    given = read_yaml(tmp_path / "out/config.yaml")
    given["ssps"]["start_epoch"] = 0
    said = forks.run(words(given, worlds / "two/train", tmp_path / "more", "--init", tmp_path / "out"))
    assert "encoder of student and teacher, head of student and teacher, criterion.centre" in said
    assert "what belongs to the data (positive_sampling)" in said
    found = state(tmp_path / "more")["positive_sampling.classes"]
    assert len(found) == SIZES["two"] and len(found.unique()) > 1


def test_several_processes_release_one_queue_and_go_on_from_it(worlds, tmp_path, forks):
    config = ROWS["moco"].config
    forks.run(words(config, worlds / "one/train", tmp_path / "exp"), processes=2)
    assert main(["release", str(tmp_path / "exp"), str(tmp_path / "out")]) == 0
    queue = load_file(tmp_path / "out/training.safetensors")["queue"]
    assert torch.equal(queue, state(tmp_path / "exp")["queue"]) and len(queue) == config["queue"]
    for processes in (1, 2):
        call = words(config, worlds / "two/train", tmp_path / f"more{processes}", "--init", tmp_path / "out")
        assert "queue; restarted" in forks.run(call, processes=processes)
    one, two = state(tmp_path / "more1"), state(tmp_path / "more2")
    assert max((one[key].double() - two[key].double()).abs().max() for key in one) < 1e-4
    for line, other in zip(log_lines(tmp_path / "more1"), log_lines(tmp_path / "more2"), strict=True):
        assert line == pytest.approx(other, rel=2e-3, abs=1e-5)


@pytest.mark.parametrize("tuning", ["frozen", "lora"])
def test_an_encoder_that_was_pre_trained_elsewhere(corpus, tmp_path, monkeypatch, tuning):  # noqa: F811
    """Whoever goes on from it needs the folder of the published model no more, and is not told where it was."""
    from test_pretrained_pipeline import CONFIG, ENCODER
    from tiny_pretrained import make_folder

    folder = tmp_path / "wavlm-tiny"
    make_folder(folder, "wavlm")
    encoder = {**ENCODER, "folder": str(folder), "tuning": tuning, "lora_rank": 2}
    assert main(words({**CONFIG, "encoder": encoder}, corpus / "trimmed", tmp_path / "exp")) == 0
    assert main(["release", str(tmp_path / "exp"), str(tmp_path / "out")]) == 0
    shutil.rmtree(folder)
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert not [name for name, content in files.items() if str(tmp_path).encode() in content]
    assert read_json(tmp_path / "out/release.json")["labels"] == "none"
    ended, begun = state(tmp_path / "exp"), {}
    monkeypatch.setattr(
        Dino,
        "before_first_step",
        lambda self, embed: begun.update({name: x.clone() for name, x in self.state_dict().items()}),
    )
    config = read_yaml(tmp_path / "out/config.yaml")
    assert main(words(config, corpus / "trimmed", tmp_path / "more", "--init", tmp_path / "out")) == 0
    assert begun.keys() == ended.keys() and all(torch.equal(begun[name], ended[name]) for name in ended)
    assert (tmp_path / "more/teacher/config.yaml").is_file()


def test_recordings_of_ones_own_from_a_release_to_the_report(finished, tmp_path):
    """egs/wavdir with --init, as docs/release.md has it; the release is of the smoke recipe's model."""
    assert main(["release", str(finished / "exp/dino-koleo-smoke_smoke/seed0"), str(tmp_path / "big")]) == 0
    words = ["--corpus-dir", ROOT / "egs/wavdir", "--root", finished / "downloads/mini/train", "--nj", 1]
    words = [ROOT / "run.sh", *words, "--work-dir", tmp_path / "mine", "--init", tmp_path / "big"]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-6000:]
    assert (
        "taken: encoder of student and teacher, head of student and teacher, criterion.centre" in done.stderr
    )
    exp = tmp_path / "mine/exp/dino-koleo-from-big_wavdir/seed0"
    recordings = len(list((finished / "downloads/mini/train").rglob("*.wav")))
    embedded = (exp / "xvectors_train/xvector.scp").read_text().splitlines()
    clustered = (exp / "clusters/utt2cluster").read_text().splitlines()
    assert len(embedded) == len(clustered) == recordings > 50
    assert 0 < read_json(exp / "threshold/threshold.json")["threshold"] < 1
    assert read_yaml(exp / "teacher/config.yaml")["labels"] == "none"
    assert (tmp_path / "mine/exp/report.html").is_file()
