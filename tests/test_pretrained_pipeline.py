"""Frame-level pre-trained models through the whole pipeline: baseline, training by every method, extraction,
pydino.load, and fine-tuning for a task.
"""

import json
import os
import shutil

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from test_train_audio import ROOT, corpus  # noqa: F401
from test_train_dino import equal, weights
from tiny_pretrained import make_folder

import pydino
from pydino.base import UserError, config_to_dict, dump_config, read_yaml
from pydino.cli import extract_crops, main, parser_of
from pydino.infer import ClassifierConfig, FrontEnd, StoredFrames, load, save_classifier, stored_inputs
from pydino.kaldi import read_scp_objects, read_table, write_table
from pydino.models import ClassifierHead
from pydino.train import frozen_weights, load_training_config

ENCODER = {"name": "wavlm", "pooling": "mhfa", "heads": 2, "compressed_dim": 4, "embedding_dim": 8}
CONFIG = {
    "method": "dino",
    "epochs": 1,
    "batch_size": 6,
    "on_collapse": "warn",
    "head": {"hidden_dim": 16, "bottleneck_dim": 8, "output_dim": 32},
    "crops": {"num_local": 1, "global_seconds": [0.6, 0.8], "local_seconds": [0.3, 0.5]},
    "optimiser": {"lr": 0.01, "warmup_epochs": 0},
}


@pytest.fixture
def folder(tmp_path):
    make_folder(tmp_path / "wavlm-tiny", "wavlm")
    return tmp_path / "wavlm-tiny"


def train(data, exp, config, *options):
    dump_config(config, exp.parent / f"{exp.name}.yaml")
    words = ["train", "--config", exp.parent / f"{exp.name}.yaml", "--num-threads", 1, *options, data, exp]
    return main([str(word) for word in words])


def extract(model, data, out):
    words = ["extract-embeddings", "--nj", "1", "--part", "1/1", model, data, out]
    out.mkdir()
    assert main([str(word) for word in words]) == 0
    return dict(read_scp_objects(out / "xvector.1.scp"))


def check_extraction(model_dir, data, out):
    """Stage 5, pydino.load and pydino embed give the same."""
    stored, model = extract(model_dir, data, out), pydino.load(model_dir)
    assert len(stored) == 12 and model.config.front_end.input == "waveform"
    for key, path in read_table(data / "wav.scp").items():
        samples, rate = soundfile.read(path, dtype="float32")
        vector = model.embed(samples, rate, name=key)
        assert np.abs(vector - stored[key]).max() <= 1e-5 * np.linalg.norm(vector)
    return stored


@pytest.mark.parametrize("silence", ["kept", "removed"])
def test_a_published_model_as_a_baseline(corpus, folder, tmp_path, silence):  # noqa: F811
    source = tmp_path / "data"
    shutil.copytree(corpus / "source", source)
    if silence == "kept":
        (source / "vad.scp").unlink()
    config = {
        **CONFIG,
        "encoder": {"name": "wavlm", "folder": str(folder), "pooling": "statistics", "layer": 2},
    }
    dump_config(config, tmp_path / "like.yaml")
    words = [
        "make-baseline",
        "--kind",
        "pretrained",
        "--like",
        tmp_path / "like.yaml",
        source,
        tmp_path / "model",
    ]
    assert main([str(word) for word in words]) == 0
    shutil.rmtree(folder)  # all that it needs is in the model folder
    described = read_yaml(tmp_path / "model/config.yaml")
    assert described["labels"] == "none" and described["train_set"] == "wavlm-tiny"
    assert described["encoder"]["folder"] == "" and len(described["encoder"]["hash"]) == 64
    vectors = check_extraction(tmp_path / "model", source, tmp_path / "xvectors")
    assert all(vector.shape == (32,) for vector in vectors.values())
    overlap = json.loads((tmp_path / "xvectors/xvector.1.json").read_text())
    assert "training_audio" in overlap["unknown"]  # what it was pre-trained on is not known


def test_frames_of_recordings_are_those_of_training(corpus, folder, tmp_path):  # noqa: F811
    """What an encoder sees of a whole utterance in training is what it sees in extraction."""
    from pydino.data import UtteranceCropConfig
    from pydino.infer import read_front_end
    from pydino.train.config import NormalisationConfig
    from pydino.train.distributed import DistributedContext
    from pydino.train.embedding_pass import ByLength, PassConfig
    from pydino.train.pipeline import open_pipeline

    encoder = {**ENCODER, "folder": str(folder)}
    crops = UtteranceCropConfig(short="mask", whole_up_to_seconds=10.0)
    config = PassConfig(batch_size=4, encoder=encoder, crops=crops)
    assert config.input == "audio"
    data = corpus / "trimmed"
    front_end = read_front_end(data, NormalisationConfig(kind="none"), "waveform")
    pipeline = open_pipeline(config, data, front_end, 0, DistributedContext(0))
    order = pipeline.sampler.order = ByLength(pipeline.source.lengths, 4)
    stored = stored_inputs(corpus / "source", FrontEnd(front_end))
    wanted = {int(h): stored.read(key)[0] for key, h in read_table(data / "utt2hash").items()}
    seen = 0
    for step in range(len(order)):
        (batch,) = pipeline.sampler[step]
        views = pipeline.views(batch)
        for value, frames, row in zip(
            batch.hashes.tolist(), views.frames[0].tolist(), views.tensors[0], strict=True
        ):
            assert torch.allclose(row[:frames], wanted[value], atol=1e-6) and row.shape[1] == 160
            assert len(wanted[value]) == frames
            seen += 1
    assert seen == 12


@pytest.mark.parametrize("tuning", ["frozen", "lora", "all"])
def test_dino_trains_what_is_to_be_tuned(corpus, folder, tmp_path, capfd, tuning):  # noqa: F811
    config = {**CONFIG, "encoder": {**ENCODER, "folder": str(folder), "tuning": tuning, "lora_rank": 2}}
    config["compute"] = {"compile": True}  # a line says that it is off
    exp, data = tmp_path / "exp", corpus / "trimmed"
    assert train(data, exp, config) == 0
    assert "compute.compile is off: it does not pay for the encoder wavlm" in capfd.readouterr().err
    given = load_file(folder / "model.safetensors")
    found = load_file(exp / "student/model.safetensors")
    moved = [
        name
        for name, value in given.items()
        for key in (
            f"network.{name}",
            f"network.{name.removesuffix('.weight')}.parametrizations.weight.original",
        )
        if key in found and not torch.equal(found[key], value)
    ]
    assert bool(moved) == (tuning == "all")
    assert ("q_proj" in " ".join(key for key in found if "added" in key)) == (tuning == "lora")
    shutil.rmtree(folder)
    described = read_yaml(exp / "teacher/config.yaml")
    assert described["labels"] == "none" and described["front_end"]["normalisation"]["kind"] == "none"
    assert not (exp / "teacher/training_audio.npy").exists()  # not all that it has heard is known
    check_extraction(exp / "teacher", corpus / "source", tmp_path / "xvectors")
    if tuning == "lora":  # a second run starts from the first, without the folder
        resolved = {**config, "encoder": described["encoder"]}
        assert train(data, tmp_path / "second", resolved, "--init", exp / "student") == 0


def test_a_run_resumes_and_knows_its_weights(corpus, folder, tmp_path, capfd):  # noqa: F811
    config = {**CONFIG, "epochs": 2, "encoder": {**ENCODER, "folder": str(folder), "tuning": "adapters"}}
    data, waveform = corpus / "trimmed", {"gain_db": 3.0}
    config |= {"waveform": waveform, "speed_factors": [0.9, 1.0]}
    assert train(data, tmp_path / "whole", config) == 0
    assert train(data, tmp_path / "workers", config, "--data-workers", "1") == 0
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "workers"))
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    assert (
        train(data, tmp_path / "whole", {**config, "encoder": {**config["encoder"], "folder": str(moved)}})
        == 0
    )
    assert "is finished and up to date" in capfd.readouterr().err
    make_folder(moved, "wavlm")  # other weights
    assert (
        train(data, tmp_path / "whole", {**config, "encoder": {**config["encoder"], "folder": str(moved)}})
        == 1
    )


def test_what_is_not_trained_is_stored_once_beside_the_checkpoints(
    corpus,
    folder,
    tmp_path,
    monkeypatch,
    capfd,  # noqa: F811
):
    """And a run that resumes has the weights of one that did not, and of one that stores everything."""
    encoder = {**ENCODER, "folder": str(folder), "tuning": "lora", "lora_rank": 2}
    config = {**CONFIG, "epochs": 3, "checkpoint_steps": 1, "encoder": encoder}
    data, exp = corpus / "trimmed", tmp_path / "exp"
    assert train(data, tmp_path / "in full", config) == 0
    monkeypatch.setattr(frozen_weights, "LEAST_BYTES", 0)
    assert train(data, exp, config) == 0
    assert equal(weights(exp), weights(tmp_path / "in full"))
    sizes = {path.name: path.stat().st_size for path in (exp / "checkpoints").iterdir()}
    in_full = [path.stat().st_size for path in (tmp_path / "in full/checkpoints").iterdir()]
    assert len(sizes) == 3 and len(in_full) == 2
    of_transformer = (folder / "model.safetensors").stat().st_size
    assert max(sizes.values()) < max(in_full) - 1.8 * of_transformer  # those of student and teacher
    last = sorted((exp / "checkpoints").glob("*.pt"))[-1]
    assert not any(
        "q_proj" in name for name in torch.load(last, weights_only=True)["method"] if "added" not in name
    )
    before = weights(exp)
    for path in (last, exp / ".done.train", exp / "teacher/config.yaml"):
        path.unlink()
    assert train(data, exp, config) == 0 and "resuming" in capfd.readouterr().err
    assert equal(weights(exp), before)
    assert main(["release", str(exp), str(tmp_path / "out")]) == 0
    (exp / ".done.train").unlink()
    stored = exp / "checkpoints/frozen.safetensors"
    stored.write_bytes(stored.read_bytes()[:-1] + b"x")
    assert train(data, exp, config) == 1
    assert "no checkpoint in" in capfd.readouterr().err


@pytest.mark.parametrize("method", ["xvector", "contrastive"])
def test_other_methods(corpus, folder, tmp_path, method):  # noqa: F811
    config = {**CONFIG, "method": method, "encoder": {**ENCODER, "folder": str(folder)}}
    del config["head"]
    options = []
    if method == "xvector":
        config["crops"] = {"num_global": 1, "num_local": 0, "global_seconds": [0.6, 0.8]}
        options = ["--labels", corpus / "source/utt2spk"]
    else:
        config["crops"] = {"num_global": 2, "num_local": 0, "global_seconds": [0.6, 0.8]}
    assert train(corpus / "trimmed", tmp_path / "exp", config, *options) == 0
    assert load(tmp_path / "exp/model").encoder.config.pooling == "mhfa"


def test_w2v_bert_takes_stored_features(corpus, tmp_path):  # noqa: F811
    make_folder(tmp_path / "w2v", "wav2vec2-bert")
    encoder = {**ENCODER, "name": "wav2vec2-bert", "folder": str(tmp_path / "w2v")}
    assert train(corpus / "trimmed", tmp_path / "exp", {**CONFIG, "encoder": encoder}) == 0
    stored = extract(tmp_path / "exp/teacher", corpus / "source", tmp_path / "x")
    model = pydino.load(tmp_path / "exp/teacher")
    assert model.config.front_end.input == "features"
    for key, path in read_table(corpus / "source/wav.scp").items():
        samples, rate = soundfile.read(path, dtype="float32")
        assert np.allclose(model.embed(samples, rate, name=key), stored[key], atol=1e-5)


def test_fine_tuning_for_a_task(corpus, folder, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "data/source"
    shutil.copytree(corpus / "source", source)
    speakers = read_table(source / "utt2spk")
    write_table(source / "utt2subject", {key: key for key in speakers})
    write_table(source / "utt2side", {key: "xy"[int(key[-1]) % 2] for key in speakers})
    words = ["make-task", "--name", "side", "--labels", "utt2side", "--folds", "2", "data/source", "task"]
    assert main(words) == 0
    like = {**CONFIG, "encoder": {**ENCODER, "folder": str(folder), "tuning": "lora", "lora_rank": 2}}
    dump_config(like, "like.yaml")
    assert main(["make-baseline", "--kind", "pretrained", "--like", "like.yaml", "data/source", "model"]) == 0
    shutil.rmtree(folder)
    tune = {"method": "classifier", "epochs": 1, "batch_size": 4, "crops": {"global_seconds": [0.5, 0.5]}}
    dump_config({**tune, "trainable": ["embedding"]}, "affine.yaml")
    dump_config({**tune, "lr_scales": {"frames": 0.1}}, "all.yaml")
    words = ["finetune", "--config", "affine.yaml", "--config", "all.yaml", "task", "model", "data/source"]
    monkeypatch.setenv("PATH", f"{ROOT / 'utils'}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert main([*words, "--resamples", "10", "exp/m/transfer/side/affine-then-all"]) == 0
    out = tmp_path / "exp/m/transfer/side/affine-then-all"
    assert len((out / "posteriors.txt").read_text().splitlines()) == 12
    classifier = pydino.load(out / "fold_final/classifier")
    samples, rate = soundfile.read(next(iter(read_table(source / "wav.scp").values())), dtype="float32")
    assert set(classifier.predict(samples, rate)) == {"x", "y"}


@pytest.mark.parametrize("path", sorted(ROOT.glob("conf/pretrained-*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_are_valid(folder, path):
    _, config = load_training_config(
        path, [f"encoder.folder={folder}", "encoder.heads=2", "encoder.lora_rank=4"]
    )
    assert config.input == "audio" and config.encoder["heads"] == 2
    with pytest.raises(UserError, match="hf download"):
        load_training_config(path)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"augment": {"noise_probability": 1.0}}, "augment is of filter banks"),
        ({"normalisation": {"kind": "sliding"}}, "normalisation is of filter banks"),
    ],
)
def test_what_waveforms_cannot_have(corpus, folder, tmp_path, capfd, change, message):  # noqa: F811
    config = {**CONFIG, "encoder": {**ENCODER, "folder": str(folder)}, **change}
    assert train(corpus / "trimmed", tmp_path / "exp", config) == 1
    assert message in capfd.readouterr().err


def published(folder, data, out):
    """A model folder of a published model as it is."""
    config = {**CONFIG, "encoder": {"name": "wavlm", "folder": str(folder), "pooling": "statistics"}}
    dump_config(config, out.parent / f"{out.name}.yaml")
    words = ["make-baseline", "--kind", "pretrained", "--like", out.parent / f"{out.name}.yaml", data, out]
    assert main([str(word) for word in words]) == 0
    return out


def test_what_is_of_filter_banks_is_refused_or_left_out(folder, corpus, tmp_path, capfd):  # noqa: F811
    model = pydino.load(published(folder, corpus / "source", tmp_path / "model"))
    assert StoredFrames([corpus / "source"], model).model is None  # controls are statistics alone
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "x.onnx")]) == 1
    said = capfd.readouterr().err
    assert "controls are made of statistics" in said and "this one takes waveforms" in said


def crops_of(model, data, out, config, jobs=1):
    """The embeddings of augmented crops, by as many jobs one after another."""
    dump_config(config, out.parent / f"{out.name}.yaml")
    out.mkdir()
    found = {}
    for number in range(1, jobs + 1):
        words = ["extract-crops", "--config", out.parent / f"{out.name}.yaml", "--part", f"{number}/{jobs}"]
        assert main([str(word) for word in [*words, model, data, out]]) == 0
        found |= dict(read_scp_objects(out / f"xvector.{number}.scp"))
    return found


def test_crops_are_of_the_recordings(folder, corpus, tmp_path, monkeypatch):  # noqa: F811
    """Without augmentation they are pieces of what stage 5 embeds whole."""
    from pydino.data import CropConfig, ViewGroup, augmented_crops
    from pydino.data.crops import CropPlacer

    model_dir, data = published(folder, corpus / "source", tmp_path / "model"), corpus / "trimmed"
    config = {"number": 3, "seconds": 0.4, "seed": 5}
    found = crops_of(model_dir, data, tmp_path / "crops", config)
    model = pydino.load(model_dir)
    whole, hashes = stored_inputs(corpus / "source", model.front_end), read_table(data / "utt2hash")
    place = CropPlacer(CropConfig(), [ViewGroup("augmented", 3, (0.4, 0.4))], 0.01, 5)
    assert len(found) == 3 * len(hashes)
    for key, value in hashes.items():
        frames = whole.read(key)[0]
        numbers = np.array([int(value)], dtype=np.uint64), np.array([len(frames)])
        starts = place.starts(np.zeros(1, dtype=np.int64), *numbers, np.full(3, 40))[0]
        for number, start in enumerate(starts.tolist(), 1):
            piece = frames[torch.arange(start, start + 40) % len(frames)]
            assert np.allclose(found[f"{key}#{number}"], model.embed_features([piece])[0], atol=1e-5), key
    config |= {
        "waveform": {"noise_probability": 1.0, "reverberation_probability": 1.0},
        "augmentation_data": {"noise": str(corpus / "noise.scp"), "rirs": {"a": str(corpus / "room.scp")}},
    }
    monkeypatch.setattr(augmented_crops, "BATCH_UTTERANCES", 5)  # more than one batch
    noisy = crops_of(model_dir, data, tmp_path / "noisy", config)
    again = crops_of(model_dir, data, tmp_path / "again", config, jobs=2)
    assert all(not np.allclose(noisy[key], found[key], atol=1e-3) for key in found)
    assert noisy.keys() == again.keys() and all(np.array_equal(noisy[key], again[key]) for key in noisy)


def test_the_mark_of_crops_of_recordings_knows_their_lists(folder, corpus, tmp_path):  # noqa: F811
    model, data = published(folder, corpus / "source", tmp_path / "model"), tmp_path / "train"
    shutil.copytree(corpus / "trimmed", data)
    shutil.copy(corpus / "noise.scp", tmp_path / "noise.scp")
    crops = {"number": 2, "seconds": 0.4}
    dump_config({**crops, "augmentation_data": {"noise": str(tmp_path / "noise.scp")}}, tmp_path / "c.yaml")
    words = [str(word) for word in ("--config", tmp_path / "c.yaml", model, data, tmp_path / "crops")]

    def mark():
        return extract_crops.steps(parser_of("extract-crops", extract_crops).parse_args(words))[0].digest

    before = mark()
    with open(tmp_path / "noise.scp", "a") as stream:
        stream.write("two /nowhere.wav\n")
    assert mark() != before


def test_statistics_beside_embeddings_of_recordings(folder, corpus, tmp_path):  # noqa: F811
    """A classifier of both is given what fbank-stats gives of the same recording."""
    model = pydino.load(published(folder, corpus / "source", tmp_path / "model"))
    words = ["make-baseline", "--kind", "fbank-stats", corpus / "source", tmp_path / "stats"]
    assert main([str(word) for word in words]) == 0
    head = ClassifierHead(32 + 40, 2, 0)
    described = ClassifierConfig(
        task="t", kind="class", classes=["x", "y"], statistics=True, trained_on="t", back_end="logreg"
    )
    save_classifier(tmp_path / "c", model.encoder, head, config_to_dict(model.config), described, "")
    classifier, statistics = pydino.load(tmp_path / "c"), pydino.load(tmp_path / "stats")
    for key, path in read_table(corpus / "source/wav.scp").items():
        samples, rate = soundfile.read(path, dtype="float32")
        both = [one.embed(samples, rate, name=key) for one in (model, statistics)]
        with torch.no_grad():
            wanted = head(torch.from_numpy(np.concatenate(both))[None]).softmax(1)[0, 0]
        assert np.isclose(classifier.predict(samples, rate, name=key)["x"], wanted, atol=1e-5)


def test_long_recordings_are_embedded_in_pieces(folder, corpus, tmp_path):  # noqa: F811
    model = pydino.load(published(folder, corpus / "source", tmp_path / "model"))
    samples = 0.1 * np.random.default_rng(0).normal(size=16000 * 40).astype(np.float32)
    samples = np.clip(samples, -0.9, 0.9)
    whole = model.embed(samples, 16000, keep_silence=True)
    halves = [model.embed(part, 16000, keep_silence=True) for part in np.split(samples, 2)]
    assert np.allclose(whole, np.mean(halves, axis=0), atol=1e-5)
