"""Classifiers' folders: what is saved is what predicts; what does not fit is named; nothing is run."""

import pickle

import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch
import yaml
from test_infer_embed import RATE, speech
from test_infer_model_folder import Trap, configuration, tdnn

import pydino
from pydino.audio import open_channel
from pydino.base import UserError, config_from_dict
from pydino.infer import (
    Classifier,
    ClassifierConfig,
    Model,
    chunks,
    default_note,
    load,
    load_classifier,
    save_classifier,
    save_model,
)
from pydino.models import ClassifierHead, build_encoder

CLASSES = ["angry", "neutral", "sad"]


def make(folder, kind="class", statistics=False, hidden=0, classes=CLASSES, **more):
    """Write a classifier of random numbers, and return its head."""
    torch.manual_seed(1)
    head = ClassifierHead(12 + 40 * statistics, len(classes) if kind == "class" else 1, hidden)
    with torch.no_grad():
        head.mean.normal_()
        head.scale.uniform_(0.5, 2)
    config = ClassifierConfig(
        task="emotion",
        kind=kind,
        classes=list(classes) if kind == "class" else [],
        statistics=statistics,
        hidden=hidden,
        **more,
    )
    save_classifier(folder, tdnn(), head, configuration(), config, "# how it was made\n")
    return head


@pytest.fixture
def folder(tmp_path):
    make(tmp_path / "Klasse ü")
    return tmp_path / "Klasse ü"


def test_what_predicts_is_what_was_saved(folder):
    classifier = pydino.load(folder)
    head = make(folder)
    x = speech(1.5)
    with torch.no_grad():
        expected = head(torch.from_numpy(classifier.embed(x, RATE))[None]).softmax(1)[0]
    found = classifier.predict(x, RATE)
    assert list(found) == CLASSES and sum(found.values()) == pytest.approx(1)
    np.testing.assert_allclose(list(found.values()), expected, atol=1e-6)
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md", "classifier.safetensors", "config.yaml", "model.safetensors",
    ]  # fmt: skip


def test_a_classifier_embeds_like_its_encoder(folder, tmp_path):
    save_model(tmp_path / "plain", tdnn(), configuration(), "")
    x = speech(1.5)
    plain = pydino.load(tmp_path / "plain")
    assert isinstance(plain, Model) and isinstance(pydino.load(folder), Classifier)
    np.testing.assert_array_equal(load(folder).embed(x, RATE), plain.embed(x, RATE))
    assert "classifier" not in yaml.safe_load((tmp_path / "plain" / "config.yaml").read_text())
    with pytest.raises(UserError, match=r"classifier\.safetensors.*train_classifier\.sh"):
        plain.predict(x, RATE)
    with pytest.raises(UserError, match="plain: this model gives embeddings"):
        load_classifier(tmp_path / "plain")


def test_a_model_in_its_place_leaves_no_classifier_behind(folder):
    save_model(folder, tdnn(), configuration(), "")
    assert not (folder / "classifier.safetensors").exists()
    assert isinstance(pydino.load(folder), Model)


def test_statistics_are_those_of_the_baseline(tmp_path):
    """Those of the kept frames before normalisation, as of the embedding of the model fbank-stats."""
    head = make(tmp_path / "with", statistics=True, hidden=4)
    front_end = configuration()["front_end"] | {"normalisation": {"kind": "none"}}
    baseline = configuration(
        encoder={"name": "statistics", "mean": True}, embedding_dim=40, front_end=front_end
    )
    save_model(tmp_path / "stats", build_encoder(baseline["encoder"], 20), baseline, "")
    x, classifier = speech(2), pydino.load(tmp_path / "with")
    vector = np.concatenate([classifier.embed(x, RATE), pydino.load(tmp_path / "stats").embed(x, RATE)])
    with torch.no_grad():
        expected = head(torch.from_numpy(vector)[None]).softmax(1)[0]
    np.testing.assert_allclose(list(classifier.predict(x, RATE).values()), expected, atol=1e-5)
    with pytest.raises(ValueError, match="statistics of shape"):
        classifier.outputs([torch.randn(50, 20)])


def test_chunks_are_full_and_cover_the_utterance():
    x = torch.arange(23.0)[:, None]
    assert [piece[:, 0].tolist()[::9] for piece in chunks(x, 10)] == [[0, 9], [10, 19], [13, 22]]
    assert len(chunks(x[:20], 10)) == 2 and len(chunks(x, 0)) == 1
    assert chunks(x[:4], 10)[0][:, 0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert len(chunks(x[:4], 10, short="mask")[0]) == 4


def test_log_posteriors_are_averaged_over_chunks_and_then_tempered(tmp_path):
    head = make(tmp_path / "c", chunk_seconds=0.5, temperature=2.5)
    classifier = load_classifier(tmp_path / "c")
    x = [torch.randn(130, 20), torch.randn(30, 20), torch.randn(50, 20)]
    each = [classifier.model.embed_features(chunks(one, 50)) for one in x]
    assert [len(one) for one in each] == [3, 1, 1]
    with torch.no_grad():
        mean = torch.stack([head(torch.from_numpy(one)).log_softmax(1).mean(0) for one in each])
    expected = (mean / 2.5).log_softmax(1)
    np.testing.assert_allclose(classifier.outputs(x), expected, atol=1e-5)
    assert classifier.outputs([]).shape == (0, 3)


def test_a_number_comes_with_its_unit(tmp_path):
    head = make(tmp_path / "age", kind="number", unit="years")
    classifier = pydino.load(tmp_path / "age")
    x = speech(1)
    with torch.no_grad():
        expected = float(head(torch.from_numpy(classifier.embed(x, RATE))[None]))
    assert classifier.predict(x, RATE) == {"value": pytest.approx(expected, abs=1e-5), "unit": "years"}


def test_silence_is_kept_as_in_training_unless_asked(tmp_path):
    make(tmp_path / "kept", keep_silence=True)
    make(tmp_path / "removed")
    kept, removed, x = pydino.load(tmp_path / "kept"), pydino.load(tmp_path / "removed"), speech(2)
    assert kept.predict(x, RATE) == removed.predict(x, RATE, keep_silence=True) != removed.predict(x, RATE)
    assert kept.predict(x, RATE, keep_silence=False) == removed.predict(x, RATE)


def test_an_open_recording_gives_the_same(folder, tmp_path):
    soundfile.write(tmp_path / "a.wav", speech(2), RATE, subtype="FLOAT")
    classifier = pydino.load(folder)
    with open_channel(str(tmp_path / "a.wav")) as recording:
        found = classifier.as_dict(classifier.recording_outputs(recording, name="waveform"))
    assert found == pytest.approx(classifier.predict(speech(2), RATE), abs=1e-4)


def test_what_it_must_not_be_used_for_is_in_the_folder(tmp_path, folder):
    assert "not to be used for any decision about a person" in (folder / "README.md").read_text()
    head = ClassifierHead(12, 2)
    config = ClassifierConfig("Alzheimers-adress", classes=["ad", "control"])
    save_classifier(tmp_path / "ad", tdnn(), head, configuration(), config, "# x\n")
    note = pydino.load(tmp_path / "ad").config.note
    assert "no diagnosis" in note and note in (tmp_path / "ad" / "README.md").read_text()
    assert "100 utterances of emotion" in default_note("emotion", 100)
    assert "probabilities" not in ClassifierConfig("age", kind="number").note


def test_values_of_numpys_own_types_are_written(tmp_path):
    classes, temperature = list(np.array(["a", "b"])), np.float64(1.5)
    config = ClassifierConfig("t", classes=classes, temperature=temperature)
    save_classifier(tmp_path / "c", tdnn(), ClassifierHead(12, 2), configuration(), config, "")
    assert pydino.load(tmp_path / "c").config.temperature == 1.5


def rewrite(folder, **changes):
    path = folder / "classifier.safetensors"
    state = safetensors.torch.load_file(path) | changes
    safetensors.torch.save_file({key: value for key, value in state.items() if value is not None}, path)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"mean": torch.zeros(13)}, r"mean is \(13,\) in the file and \(12,\)"),
        ({"mean": None}, r"mean is missing in the file and \(12,\)"),
        ({"extra": torch.zeros(2)}, r"extra is \(2,\) in the file and unknown"),
        ({"layers.bias": torch.full((3,), torch.nan)}, r"layers\.bias holds values that are not finite"),
        ({"scale": torch.full((12,), torch.inf)}, "scale holds values that are not finite"),
        ({"scale": torch.ones(12, dtype=torch.int32)}, "scale holds values that are not finite"),
    ],
)
def test_numbers_that_do_not_fit_are_named(folder, changes, said):
    rewrite(folder, **changes)
    with pytest.raises(UserError, match=rf"classifier\.safetensors.*{said}"):
        pydino.load(folder)


def test_a_pickle_in_place_of_the_head_is_refused_and_not_run(folder, tmp_path):
    (folder / "classifier.safetensors").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(UserError, match="not a safetensors file"):
        pydino.load(folder)
    assert not (tmp_path / "sprung").exists()
    (folder / "classifier.safetensors").unlink()
    with pytest.raises(UserError, match=r"no .*classifier\.safetensors"):
        pydino.load(folder)


def test_a_head_of_absurd_size_is_refused_before_memory_is_taken(folder):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["classifier"]["hidden"] = 10**12
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"does not match the classifier"):
        pydino.load(folder)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"classes": ["a", "a"]}, "'a' is there twice"),
        ({"classes": ["a"]}, "two or more"),
        ({"kind": "number", "classes": ["a", "b"]}, "kind number has none"),
        ({"classes": ["a", "b"], "temperature": 0}, "temperature"),
        ({"classes": ["a", "b"], "temperature": float("nan")}, "temperature"),
        ({"classes": ["a", "b"], "chunk_seconds": -1}, "chunk_seconds"),
        ({"classes": ["a", "b"], "clases": []}, "did you mean 'classes'"),
    ],
)
def test_a_configuration_that_does_not_fit(changes, said):
    with pytest.raises(UserError, match=said):
        config_from_dict(ClassifierConfig, {"task": "t"} | changes)


def test_a_head_that_does_not_fit_is_not_saved_and_the_old_one_stays(folder):
    before = pydino.load(folder).predict(speech(1), RATE)
    with pytest.raises(UserError, match="does not match"):
        save_classifier(
            folder, tdnn(), ClassifierHead(12, 2), configuration(), ClassifierConfig("t", classes=CLASSES), ""
        )
    assert pydino.load(folder).predict(speech(1), RATE) == before
