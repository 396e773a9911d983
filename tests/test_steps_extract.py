"""Extraction as a step: equal to embedding the files, whatever the number of jobs; strict counts; features of
another making refused.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from test_infer_embed import RATE, speech
from test_infer_model_folder import configuration, tdnn

from pydino.cli import main
from pydino.cli._extraction import part_of_each
from pydino.infer import save_model
from pydino.kaldi import ArchiveWriter, read_scp_objects, read_table

ROOT = Path(__file__).resolve().parent.parent
LENGTHS = (2.0, 0.3, 1.1, 0.06, 3.0, 1.1, 0.8)


def make_data(data, lengths=LENGTHS):
    """A data directory with uncompressed features and VAD, one utterance of which is silent."""
    (data / "wav").mkdir(parents=True)
    keys = [f"utt{i}" for i in range(len(lengths))]
    for i, (key, seconds) in enumerate(zip(keys, lengths, strict=True)):
        waveform = speech(seconds, i) if i != 5 else np.zeros(int(seconds * RATE), dtype=np.float32)
        soundfile.write(data / "wav" / f"{key}.wav", waveform, RATE)
    (data / "wav.scp").write_text("".join(f"{key} {data}/wav/{key}.wav\n" for key in keys))
    (data / "utt2spk").write_text("".join(f"{key} {key}\n" for key in keys))
    config = configuration()["front_end"]
    (data / "fbank.yaml").write_text(
        yaml.safe_dump({k: v for k, v in config["features"].items() if k != "kind"} | {"energy_floor": 1.0})
    )
    (data / "vad.yaml").write_text(yaml.safe_dump(config["vad"]))
    for verb, kind in (("make-fbank", "fbank"), ("compute-vad", "vad")):
        compress = ["--compress", "false"] if kind == "fbank" else []
        call = [verb, "--nj", "1", f"--{kind}-config", str(data / f"{kind}.yaml"), *compress]
        assert (
            main([*call, "--cmd", f"{ROOT}/utils/run_local.sh", str(data), f"{data}/log", f"{data}/ark"]) == 0
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a space and a letter outside ASCII in its name, a model in it and a data directory."""
    path = tmp_path_factory.mktemp("extract") / "Aufnahmen für Öl"
    make_data(path / "data/test")
    config = configuration()
    config["front_end"]["features"]["energy_floor"] = 1.0
    save_model(path / "teacher", tdnn(), config, "")
    return path


def step(place, *arguments):
    """Run steps/extract_embeddings.sh in ``place``; returns the finished process."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = ["bash", ROOT / "steps/extract_embeddings.sh", *arguments]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def extracted(place):
    done = step(place, "--nj", "3", "teacher", "data/test", "exp/xvectors_test")
    assert done.returncode == 0, done.stderr
    return place / "exp/xvectors_test"


def one_part(place, data, out, *options):
    """What a job of the step runs, in this process; returns the exit status."""
    where = [str(place / "teacher"), str(data), str(place / out)]
    return main(["extract-embeddings", "--part", "1/1", *options, *where])


def embeddings(place, folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)  # the script names the archive as it was given
        return dict(read_scp_objects(folder / "xvector.scp"))


def test_the_step_equals_embedding_the_files(place, extracted, capsys):
    found = embeddings(place, extracted)
    assert list(found) == [f"utt{i}" for i in range(len(LENGTHS))]
    wavs = [str(place / f"data/test/wav/{key}.wav") for key in found]
    assert main(["embed", str(place / "teacher"), *wavs, "--output", str(place / "files.npz")]) == 0
    assert "utt5: no voiced frame" in capsys.readouterr().err
    for key, vector in np.load(place / "files.npz").items():
        np.testing.assert_allclose(found[key], vector, atol=1e-5, err_msg=key)


def test_the_step_leaves_what_others_rely_on(place, extracted):
    assert sorted(p.name for p in extracted.iterdir()) == [
        ".done",
        "log",
        "meta.yaml",
        "xvector.ark",
        "xvector.scp",
    ]
    meta = yaml.safe_load((extracted / "meta.yaml").read_text())
    assert meta == {
        "model": "dino",
        "role": "teacher",
        "encoder": "tdnn",
        "system": "",
        "model_labels": "none",
        "varied": {},
        "seed": 0,
        "train_set": "train_ssl",
        "data": "test",
        "data_dir": "data/test",
        "model_dir": "teacher",
        "keep_silence": False,
        "training_overlap": {
            "known": False,
            "why": "teacher has no training_audio.npy, the list of what it was trained on",
        },
        "version": "0.1.0",
        "command": "steps/extract_embeddings.sh teacher data/test exp/xvectors_test",
    }
    assert "without a voiced frame" in "".join(
        log.read_text() for log in (extracted / "log").glob("extract.*.log")
    )


def test_the_number_of_jobs_changes_no_bit_and_a_rerun_does_nothing(place, extracted):
    done = step(place, "--nj", "1", "teacher", "data/test", "exp/xvectors_test")
    assert done.returncode == 0 and "up to date" in done.stderr
    done = step(place, "--nj", "1", "teacher", "data/test", "exp/one_job")
    assert done.returncode == 0, done.stderr
    assert (place / "exp/one_job/xvector.ark").read_bytes() == (extracted / "xvector.ark").read_bytes()


def test_kept_silence_needs_no_vad_and_is_another_embedding(place, extracted, capsys):
    data = place / "data/no_vad"
    data.mkdir()
    (data / "conf").mkdir()
    for name in ("feats.scp", "utt2spk", "conf/fbank.yaml"):
        (data / name).write_text((place / "data/test" / name).read_text())
    assert one_part(place, data, "exp/x") == 1
    assert "run steps/compute_vad.sh" in capsys.readouterr().err
    assert one_part(place, data, "exp/x", "--keep-silence", "true") == 0
    kept = dict(read_scp_objects(place / "exp/x/xvector.1.scp"))
    removed = embeddings(place, extracted)
    assert not np.allclose(kept["utt0"], removed["utt0"], atol=1e-3)


def test_one_call_embeds_all_sets_and_redoes_only_what_is_out_of_date(place, extracted):
    copy_of(place, "other")
    arguments = ["--nj", "2", "teacher", "data/test", "exp/many/x_test", "data/other", "exp/many/x_other"]
    arguments += ["--with-silence", "data/test", "exp/many/x_silence"]
    done = step(place, *arguments)
    assert done.returncode == 0, done.stderr
    assert sorted(log.name for log in (place / "exp/many").rglob("extract.*.log")) == [
        "extract.1.log",
        "extract.2.log",
    ]
    one = (extracted / "xvector.ark").read_bytes()
    for name in ("x_test", "x_other"):
        assert (place / f"exp/many/{name}/xvector.ark").read_bytes() == one
    meta = yaml.safe_load((place / "exp/many/x_silence/meta.yaml").read_text())
    assert meta["keep_silence"] is True and meta["system"] == "many"
    alone = step(place, "--keep-silence", "true", "teacher", "data/test", "exp/silence")
    assert alone.returncode == 0, alone.stderr
    whole = (place / "exp/silence/xvector.ark").read_bytes()
    assert (place / "exp/many/x_silence/xvector.ark").read_bytes() == whole != one
    before = (place / "exp/many/x_test/xvector.ark").stat().st_mtime_ns
    (place / "exp/many/x_other/xvector.ark").unlink()
    done = step(place, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("is up to date") == 2 and "x_other/xvector.ark is missing" in done.stderr
    assert (place / "exp/many/x_test/xvector.ark").stat().st_mtime_ns == before
    assert (place / "exp/many/x_other/xvector.ark").read_bytes() == one


def test_parts_have_about_the_same_number_of_frames_and_lose_nothing():
    rng = np.random.default_rng(0)
    sets = [
        {f"{name}{i}": int(n) for i, n in enumerate(rng.integers(10, 3000, size))}
        for name, size in (("a", 700), ("b", 0), ("c", 41))
    ]
    total = sum(sum(one.values()) for one in sets)
    for count in (1, 3, 8):
        parts = [part_of_each(sets, (index, count)) for index in range(1, count + 1)]
        for place, one in enumerate(sets):
            assert [key for part in parts for key in part[place]] == list(one)
        for part in parts:
            frames = sum(one[key] for one, keys in zip(sets, part, strict=True) for key in keys)
            assert abs(frames - total / count) <= 3000
    assert part_of_each([{"a": 0}], (1, 1)) == [["a"]]


def copy_of(place, name, **changed):
    """A data directory with the features of data/test and some of its files changed."""
    data = place / "data" / name
    (data / "conf").mkdir(parents=True)
    for file in ("feats.scp", "vad.scp", "utt2spk", "conf/fbank.yaml", "conf/vad.yaml"):
        text = (place / "data/test" / file).read_text()
        (data / file).write_text(changed[file](text) if file in changed else text)
    return data


@pytest.mark.parametrize(
    "file, key, value, said",
    [
        (
            "conf/fbank.yaml",
            "num_mel_bins",
            23,
            "num_mel_bins is 23, but the model was trained with num_mel_bins: 20",
        ),
        ("conf/fbank.yaml", "sample_frequency", 8000.0, "sample_frequency is 8000.0"),
        (
            "conf/vad.yaml",
            "vad_energy_threshold",
            5.0,
            "make the features again with steps/compute_vad.sh --vad-config",
        ),
    ],
)
def test_features_of_another_making_are_refused(place, capsys, file, key, value, said):
    data = copy_of(
        place, f"other_{key}", **{file: lambda text: yaml.safe_dump(yaml.safe_load(text) | {key: value})}
    )
    assert one_part(place, data, "exp/refused") == 1
    message = capsys.readouterr().err
    assert said in message and file in message and "Traceback" not in message
    assert not (place / "exp/refused/xvector.1.scp").exists()


def test_options_that_only_choose_recordings_do_not_matter(place):
    allowed = {
        "conf/fbank.yaml": lambda text: text.replace("allow_downsample: false", "allow_downsample: true")
    }
    data = copy_of(place, "resampled", **allowed)
    assert "allow_downsample: true" in (data / "conf/fbank.yaml").read_text()
    assert one_part(place, data, "exp/resampled") == 0


def test_an_utterance_without_features_is_counted_and_named(place):
    data = copy_of(
        place,
        "short",
        **{"feats.scp": lambda text: "".join(line for line in text.splitlines(True) if "utt2 " not in line)},
    )
    done = step(place, "--nj", "2", "teacher", "data/short", "exp/short")
    assert done.returncode == 1
    assert (
        "1 of 7 utterances" in done.stderr
        and "utt2 has no features" in done.stderr
        and "fix_data_dir.sh" in done.stderr
    )
    assert not (place / "exp/short/.done").exists()
    done = step(place, "--max-drop", "0.2", "teacher", "data/short", "exp/short")
    assert done.returncode == 0, done.stderr
    assert (place / "exp/short/dropped.txt").read_text() == "utt2 has no features\n"
    assert len(read_table(place / "exp/short/xvector.scp")) == 6
    assert data.exists()


def test_vad_of_other_features_is_named(place, tmp_path, capsys):
    with ArchiveWriter(tmp_path / "vad.ark", tmp_path / "vad.scp") as archive:
        for i in range(len(LENGTHS)):
            archive.write(f"utt{i}", np.ones(3, dtype=np.float32))
    data = copy_of(place, "mixed", **{"vad.scp": lambda _: (tmp_path / "vad.scp").read_text()})
    assert one_part(place, data, "exp/mixed") == 1
    assert "utt0: 200 frames of features but 3 of voice activity" in capsys.readouterr().err


def test_mistakes_of_the_call_are_named(place):
    for arguments, said in (
        (("teacher", "data/test"), "expected MODEL_DIR DATA XVECTOR_DIR [DATA XVECTOR_DIR ...], got 2"),
        (("nowhere", "data/test", "exp/x"), "no such file: nowhere/config.yaml"),
        (("teacher", "nowhere", "exp/x"), "no such file: nowhere/feats.scp"),
        (("teacher", *2 * ("data/test", "exp/x")), "exp/x is given for two sets"),
        (("--nj", "0", "teacher", "data/test", "exp/x"), "--nj: should be a whole number from 1 on"),
        (("--keep-silences", "true", "teacher", "data/test", "exp/x"), "keep-silence"),
    ):
        done = step(place, *arguments)
        assert done.returncode == 1 and said in done.stderr


@pytest.mark.parametrize("role, labels", [("model", "none"), ("teacher", "train"), ("model", "pseudo")])
def test_what_the_model_was_trained_on_is_what_its_folder_says(place, tmp_path, role, labels):
    config = configuration(role=role, labels=labels)
    config["front_end"]["features"]["energy_floor"] = 1.0
    save_model(tmp_path / "m", tdnn(), config, "")
    done = step(place, "--nj", "1", str(tmp_path / "m"), "data/test", str(tmp_path / "x"))
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load((tmp_path / "x/meta.yaml").read_text())["model_labels"] == labels


def test_a_wrapper_that_does_not_run_its_jobs_is_named_and_a_missing_one_costs_nothing(place, extracted):
    scp = place / extracted / "xvector.scp"
    before = scp.read_text()
    done = step(place, "--system", "other", "--cmd", "nosuch.pl", "teacher", "data/test", str(extracted))
    assert done.returncode == 1 and "cannot run 'nosuch.pl'" in done.stderr and scp.read_text() == before
    done = step(place, "--nj", "2", "--cmd", "true", "teacher", "data/test", "exp/nothing")
    assert done.returncode == 1 and "job 1 of 2 left no output" in done.stderr
