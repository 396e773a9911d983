"""Models remember the recordings that they were trained on; a test recording among them is found under any name,
and refused unless the task is transductive.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from test_infer_model_folder import configuration, tdnn
from tiny_corpora import RATE, speech

from pydino.base import UserError, dump_config
from pydino.cli import main
from pydino.cli._embeddings import read_overlap
from pydino.cli._task_results import is_first
from pydino.downstream import TaskConfig, TaskDir, refuse_overlap
from pydino.infer import hashes_of, overlap, read_training_audio, save_model
from pydino.kaldi import Overlap, read_audio_hashes, read_table
from pydino.train.model_folders import average_models, union

WRAPPER = str(Path(__file__).parent.parent / "utils/run_local.sh")
TRAINING = {
    "method": "dino",
    "epochs": 1,
    "batch_size": 4,
    "on_collapse": "warn",
    "head": {"hidden_dim": 8, "bottleneck_dim": 4, "output_dim": 16},
    "crops": {"num_local": 1, "global_seconds": [0.4, 0.5], "local_seconds": [0.3, 0.4]},
    "encoder": {"name": "tdnn", "channels": 8, "pooled_channels": 8, "embedding_dim": 8},
}


def make_data(name, recordings):
    """A data directory with features and VAD, of key -> (speaker, utterance)."""
    data = Path("data", name)
    (data / "wav").mkdir(parents=True)
    for key, which in recordings.items():
        soundfile.write(data / f"wav/{key}.flac", speech(*which, 1.2), RATE)
    for table, value in {"wav.scp": lambda key: data / f"wav/{key}.flac", "utt2spk": lambda key: key}.items():
        (data / table).write_text("".join(f"{key} {value(key)}\n" for key in sorted(recordings)))
    for verb, kind in (("make-fbank", "fbank"), ("compute-vad", "vad")):
        call = [verb, "--nj", "1", f"--{kind}-config", f"conf/{kind}.yaml", "--cmd", WRAPPER, str(data)]
        assert main(call) == 0


def train(exp, *options, config=TRAINING, data="data/ssl"):
    dump_config(config, f"{Path(exp).name}.yaml")
    call = ["train", "--config", f"{Path(exp).name}.yaml", "--num-threads", "1", *options, data, exp]
    assert main(call) == 0


def extract(model, data, out):
    call = ["extract-embeddings", "--nj", "2", "--cmd", WRAPPER, model, data, out]
    assert main(call) == 0
    return yaml.safe_load(Path(out, "meta.yaml").read_text())["training_overlap"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Trained on eight recordings; data/test has two of them under other names, and three others."""
    path = tmp_path_factory.mktemp("overlap")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        Path("conf").mkdir()
        Path("conf/fbank.yaml").write_text("num_mel_bins: 12\ndither: 0.0\n")
        Path("conf/vad.yaml").write_text("vad_energy_threshold: 1.0\n")
        make_data("train", {f"u{i}": (i, 0) for i in range(8)})
        make_data("more", {f"v{i}": (i, 1) for i in range(8)})
        make_data("test", {f"t{i}": (i, 0) for i in range(6, 11)})
        for name in ("train", "more"):
            target = {"train": "data/ssl", "more": "data/ssl_more"}[name]
            assert main(["make-train-set", "--min-duration", "0.1", f"data/{name}", target]) == 0
        train("exp/first")
        extract("exp/first/teacher", "data/test", "exp/first/xvectors_test")
    return path


@pytest.fixture(autouse=True)
def inside(place, monkeypatch):
    monkeypatch.chdir(place)


def hashes(*names):
    values = [int(value, 16) for name in names for value in read_audio_hashes(f"data/{name}").values()]
    return np.array(sorted(values), dtype=np.uint64)


def task(**changes):
    return TaskDir(
        Path("data/tasks/emotion"), TaskConfig("emotion", data=["data/test"], **changes), *[{}] * 5
    )


def test_every_model_folder_of_a_run_says_what_it_was_trained_on():
    for role in ("teacher", "student"):
        np.testing.assert_array_equal(read_training_audio(f"exp/first/{role}"), hashes("train"))
        readme = Path(f"exp/first/{role}/README.md").read_text()
        assert "the 8 recordings that it was trained on" in readme


def test_extraction_finds_them_under_other_names():
    assert read_overlap("exp/first/xvectors_test") == Overlap(["t6", "t7"])
    assert Path("exp/first/xvectors_test/in_training.txt").read_text() == "t6\nt7\n"
    assert not list(Path("exp/first/xvectors_test").glob("xvector.*.json"))
    assert extract("exp/first/teacher", "data/train", "exp/first/xvectors_train") == {
        "known": True,
        "count": 8,
    }
    assert extract("exp/first/teacher", "data/more", "exp/first/xvectors_more") == {"known": True, "count": 0}
    assert not Path("exp/first/xvectors_more/in_training.txt").exists()
    # which of its utterances a training directory has does not make it another one
    assert overlap("exp/first/teacher", "data/test", ["t10", "t7"]) == Overlap(["t7"])


def test_a_task_refuses_them_unless_it_is_transductive(capsys):
    found = [read_overlap("exp/first/xvectors_test")]
    with pytest.raises(
        UserError, match=r"2 of the 5 test utterances.*first: t6.*--exclude data/test"
    ) as error:
        refuse_overlap(task(), [f"t{i}" for i in range(6, 11)], found)
    assert "transductive: true" in str(error.value)
    assert refuse_overlap(task(), ["t7", "t8"], found, transductive=True) == 1
    assert "marked as transductive" in capsys.readouterr().err
    assert refuse_overlap(task(), ["t8", "t9"], found) == 0  # the model heard others, that are not tested
    assert refuse_overlap(task(), ["t6"], []) == 0
    assert not capsys.readouterr().err


def test_what_is_not_known_is_said(capsys):
    shutil.copytree("exp/first/teacher", "exp/older", dirs_exist_ok=True)
    Path("exp/older/training_audio.npy").unlink()
    assert extract("exp/older", "data/test", "exp/older/xvectors_test")["known"] is False
    assert refuse_overlap(task(), ["t6"], [read_overlap("exp/older/xvectors_test")]) == 0
    said = capsys.readouterr().err
    assert "task emotion: whether the model was trained on test recordings cannot be checked" in said
    assert "exp/older has no training_audio.npy" in said
    unknown = read_overlap("exp/older/xvectors_test")
    refuse_overlap(task(), ["t6"], [unknown, unknown])
    assert capsys.readouterr().err.count("cannot be checked") == 1
    refuse_overlap(task(), ["t6"], [unknown], say_unknown=False)  # another back-end has said it
    assert not capsys.readouterr().err
    assert is_first("exp/transfer/svm")
    Path("exp/transfer/logreg").mkdir(parents=True)
    Path("exp/transfer/logreg/.done").touch()
    assert is_first("exp/transfer/logreg") and not is_first("exp/transfer/svm")
    shutil.copytree("data/test", "data/bare", dirs_exist_ok=True)
    table = Path("data/bare/utt2audiohash")
    table.write_text("".join(table.read_text().splitlines(keepends=True)[1:]))
    assert (
        "data/bare/utt2audiohash is missing or incomplete"
        in overlap("exp/first/teacher", "data/bare", read_table("data/bare/feats.scp")).unknown
    )
    Path("exp/embedded").mkdir(exist_ok=True)
    assert "before hashes were compared" in read_overlap("exp/embedded").unknown


def test_a_run_that_starts_from_a_model_was_trained_on_its_recordings_too():
    train("exp/second", "--init", "exp/first/teacher", data="data/ssl_more")
    np.testing.assert_array_equal(read_training_audio("exp/second/teacher"), hashes("train", "more"))
    shutil.copytree("exp/first/teacher", "exp/unknown", dirs_exist_ok=True)
    Path("exp/unknown/training_audio.npy").unlink()
    train("exp/third", "--init", "exp/unknown", data="data/ssl_more")
    assert read_training_audio("exp/third/teacher") is None
    assert "is not recorded" in Path("exp/third/teacher/README.md").read_text()


def test_the_mean_of_models_was_trained_on_what_they_were():
    average_models("exp/mean", ["exp/first/teacher", "exp/first/teacher"])
    np.testing.assert_array_equal(read_training_audio("exp/mean"), hashes("train"))
    one, two = (np.array(values, dtype=np.uint64) for values in ([1, 5], [5, 1 << 63]))
    assert union([one, two]).tolist() == [1, 5, 1 << 63] and union([one, None]) is None


def test_weights_and_marks_do_not_depend_on_the_hashes():
    shutil.copytree("data/ssl", "data/ssl_bare", dirs_exist_ok=True)
    Path("data/ssl_bare/utt2audiohash").unlink()
    train("exp/bare", data="data/ssl_bare")
    for role in ("teacher", "student"):
        weights = [Path(f"exp/{run}/{role}/model.safetensors").read_bytes() for run in ("first", "bare")]
        assert weights[0] == weights[1]
    assert read_training_audio("exp/bare/teacher") is None
    marks = [Path(f"exp/{run}/.done.train").read_text().replace("_bare", "") for run in ("first", "bare")]
    marks[1] = marks[1].replace("exp/bare", "exp/first")
    assert marks[0] == marks[1]


def test_untrained_weights_heard_nothing():
    save_model("exp/untrained", tdnn(), configuration(train_set="none"), "")
    assert read_training_audio("exp/untrained").tolist() == []
    assert overlap("exp/untrained", "data/nowhere", ["t6"]) == Overlap([])


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY garbage", "pickle", "unsorted"])
def test_a_damaged_file_is_refused_and_no_pickle_is_read(content):
    save_model("exp/damaged", tdnn(), configuration(), "")
    path = Path("exp/damaged/training_audio.npy")
    if content == "pickle":
        np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    elif content == "unsorted":
        np.save(path, np.array([3, 2], dtype=np.uint64))
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match="training_audio.npy"):
        read_training_audio("exp/damaged")


def test_saving_a_model_anew_forgets_what_another_heard():
    save_model("exp/again", tdnn(), configuration(), "", np.array([7, 3, 7], dtype=np.uint64))
    assert read_training_audio("exp/again").tolist() == [3, 7]
    save_model("exp/again", tdnn(), configuration(), "")
    assert read_training_audio("exp/again") is None


def test_scoring_warns_of_them(capsys):
    Path("trials").write_text("t6 t7\nt8 t9\n")
    folder = "exp/first/xvectors_test"
    assert main(["score", "trials", folder, folder, "exp/first/scores.txt"]) == 0
    assert f"was trained on 2 utterances of {folder}" in capsys.readouterr().err


def test_hashes_come_in_the_order_of_the_utterances():
    table = read_audio_hashes("data/test")
    assert hashes_of("data/test", ["t9", "t10"]).tolist() == [int(table["t9"], 16), int(table["t10"], 16)]
    assert hashes_of("data/test", ["t9", "t11"]) is None
