"""Crops, joined embeddings and clusters as steps: real folders, the same result for other names and any number
of jobs, and what they say to mistakes.
"""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from test_backend_pseudo_speakers import speakers
from test_infer_model_folder import configuration, tdnn
from test_steps_extract import make_data

from pydino.cli import main
from pydino.cli._steps import STEPS, pending
from pydino.infer import save_model
from pydino.kaldi import ArchiveWriter, read_scp_objects, read_table, write_table

ROOT = Path(__file__).resolve().parent.parent
WRAPPER = str(ROOT / "utils" / "run_local.sh")
CROPS = {"number": 3, "seconds": 0.6, "augment": {"time_mask_frames": 0, "frequency_mask_bands": 0}}
HASHES = {"utt0": 50, "utt1": 7, "utt2": 90, "utt3": 12, "utt4": 33, "utt6": 41}  # utt5 is silent

SETTINGS = "{lda_dim: 10, neighbours: [6], rounds: 2, splits: 1}\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A pre-training directory of six utterances, some shorter than a crop, and a model."""
    path = tmp_path_factory.mktemp("crops") / "Aufnahmen für Öl"
    make_data(path / "data/all")
    hide(path / "data/all", path / "data/train_ssl", {key: key for key in HASHES})
    config = configuration()
    config["front_end"]["features"]["energy_floor"] = 1.0
    save_model(path / "teacher", tdnn(), config, "")
    (path / "crops.yaml").write_text(yaml.safe_dump(CROPS))
    return path


def hide(source, target, new_name):
    """Make a pre-training directory by hand, with new names for some of the utterances."""
    shutil.copytree(source / "conf", target / "conf")
    for name in ("feats.scp", "vad.scp"):
        table = read_table(source / name)
        write_table(target / name, {new: table[old] for old, new in new_name.items()})
    write_table(target / "utt2spk", {new: new for new in new_name.values()})
    write_table(target / "utt2hash", {new: HASHES[old] for old, new in new_name.items()})


def crops_of(place, data, out, *options):
    call = ["extract-crops", "--config", str(place / "crops.yaml"), *options]
    assert main([*call, str(place / "teacher"), str(data), str(out)]) == 0


@pytest.fixture(scope="module")
def crops(place):
    crops_of(place, place / "data/train_ssl", place / "exp/crops", "--nj", "2", "--cmd", WRAPPER)
    return dict(read_scp_objects(place / "exp/crops/xvector.scp"))


def one_part(place, data, out):
    """What a single job leaves, by this process."""
    crops_of(place, data, out, "--part", "1/1")
    return dict(read_scp_objects(out / "xvector.1.scp"))


def test_every_utterance_has_its_crops(place, crops):
    assert sorted(crops) == [f"{key}#{number}" for key in sorted(HASHES) for number in (1, 2, 3)]
    folder = place / "exp/crops"
    assert read_table(folder / "crop2utt") == {key: key.split("#")[0] for key in crops}
    assert read_table(folder / "utt2hash") == {key: str(value) for key, value in HASHES.items()}
    meta = yaml.safe_load((folder / "meta.yaml").read_text())
    assert meta["crops"] == CROPS and meta["data"] == "train_ssl" and meta["model"] == "dino"
    assert sorted(p.name for p in folder.glob("xvector.*")) == ["xvector.ark", "xvector.scp"]
    for key in HASHES:
        own = np.stack([crops[f"{key}#{number}"] for number in (1, 2, 3)])
        assert np.isfinite(own).all() and np.ptp(own, axis=0).max() > 0, key


def test_crops_depend_neither_on_the_number_of_jobs_nor_on_names(place, crops):
    again = one_part(place, place / "data/train_ssl", place / "exp/crops1")
    for key, vector in crops.items():
        np.testing.assert_array_equal(again[key], vector)
    new_name = {key: f"x{9 - int(key[3:])}" for key in HASHES}
    hide(place / "data/all", place / "data/renamed", new_name)
    renamed = one_part(place, place / "data/renamed", place / "exp/renamed")
    for key, vector in crops.items():
        utterance, _, number = key.partition("#")
        np.testing.assert_array_equal(renamed[f"{new_name[utterance]}#{number}"], vector)


def test_finished_crops_are_skipped_and_others_are_redone(place, crops, capsys):
    call = ["steps/extract_crops.sh", "--config", f"{place}/crops.yaml", f"{place}/teacher"]
    call += [f"{place}/data/train_ssl", f"{place}/exp/crops"]
    assert pending(call) == {}
    (place / "more.yaml").write_text(yaml.safe_dump(CROPS | {"number": 4}))
    call[2] = f"{place}/more.yaml"
    assert "configuration" in next(iter(pending(call).values()))
    assert main(["extract-crops", *call[1:4], f"{place}/data/all", f"{place}/exp/x"]) == 1
    assert "steps/make_train_set.sh" in capsys.readouterr().err
    (place / "long.yaml").write_text(yaml.safe_dump(CROPS | {"seconds": 2500}))
    call = ["extract-crops", "--config", f"{place}/long.yaml", *call[3:4], f"{place}/data/train_ssl"]
    assert main([*call, f"{place}/exp/x"]) == 1
    assert "long.yaml: seconds must be at most 60" in capsys.readouterr().err
    assert not (place / "exp/x/log").exists()  # said before any job


def write_folder(folder, keys, vectors, **meta):
    with ArchiveWriter(str(folder / "xvector.ark"), str(folder / "xvector.scp")) as archive:
        for key, vector in sorted(zip(keys, vectors, strict=True)):
            archive.write(key, np.asarray(vector, dtype=np.float32))
    meta = {"model": "dino", "system": folder.parent.name, "model_labels": "none", **meta}
    (folder / "meta.yaml").write_text(yaml.safe_dump(meta))
    return str(folder)


def corpus(folder, names):
    """Folders of embeddings, statistics and crops of 20 speakers under ``names``; and the speakers."""
    vectors, classes, hashes = speakers(20, 8, spread=0.4)
    draw = np.random.default_rng(1)
    other = vectors[:, :6] + 0.3 * draw.normal(size=(len(vectors), 6))
    hash_of = dict(zip(names, hashes.tolist(), strict=True))
    made = {}
    for system, values in (("dino", vectors), ("stats", other)):
        made[system] = write_folder(folder / system / "xvectors", names, values)
        crop_keys = [f"{name}#{number}" for name in names for number in (1, 2, 3)]
        noise = 0.4 * draw.normal(size=(len(crop_keys), values.shape[1]))
        made[f"{system} crops"] = write_folder(
            folder / system / "crops", crop_keys, np.repeat(values, 3, axis=0) + noise
        )
        write_table(folder / system / "crops/crop2utt", {key: key.split("#")[0] for key in crop_keys})
        write_table(folder / system / "crops/utt2hash", hash_of)
    return made, classes


def test_crops_of_another_model_of_the_same_dimension_are_warned_of(tmp_path, capsys):
    vectors, names = np.random.default_rng(0).normal(size=(60, 8)), [f"u{i}" for i in range(30)]
    keys = [f"{name}#{number}" for name in names for number in (1, 2)]
    (tmp_path / "conf.yaml").write_text(SETTINGS)
    for folder in ("whole", "crops"):
        (tmp_path / folder).mkdir()
    whole = write_folder(tmp_path / "whole", names, vectors[:30], model_dir="exp/one/teacher")
    write_table(tmp_path / "crops/crop2utt", {key: key.split("#")[0] for key in keys})
    for model, warned in (("exp/two/teacher", True), (os.path.abspath("exp/one/teacher"), False)):
        crops = write_folder(tmp_path / "crops", keys, vectors, model_dir=model)
        call = ["cluster", "--config", str(tmp_path / "conf.yaml"), "--crops", crops, whole]
        assert main([*call, str(tmp_path / model.replace("/", "-"))]) == 0
        assert ("exp/two/teacher" in capsys.readouterr().err) == warned


def names_of(count, seed=None):
    numbers = np.arange(count) if seed is None else np.random.default_rng(seed).permutation(count)
    return [f"u{number:04d}" for number in numbers]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clusters")
    (folder / "cluster.yaml").write_text(SETTINGS)
    made, classes = corpus(folder, names_of(160))
    return folder, made, classes


def cluster_call(made, config, *more):
    return [
        *("cluster", "--config", str(config), "--crops", made["dino crops"], "--beside", made["stats"]),
        *("--beside-crops", made["stats crops"], *more),
    ]


@pytest.fixture(scope="module")
def clustered(embedded):
    folder, made, _ = embedded
    call = cluster_call(made, folder / "cluster.yaml", made["dino"], str(folder / "clusters"))
    assert main(call) == 0
    return folder / "clusters", call


def partition(utt2cluster):
    members = {}
    for key, cluster in utt2cluster.items():
        members.setdefault(cluster, set()).add(key)
    return members


def test_clusters_are_written_with_how_they_were_chosen(embedded, clustered):
    folder, _ = clustered
    utt2cluster = read_table(folder / "utt2cluster")
    assert list(utt2cluster) == names_of(160)
    assert utt2cluster["u0000"] == "c00001"  # of the smallest hash
    members = partition(utt2cluster)
    assert {c: set(text.split()) for c, text in read_table(folder / "cluster2utt").items()} == members
    said = json.loads((folder / "clusters.json").read_text())
    assert said["method"] == "pseudo-speakers" and said["labels"] == "pseudo" and said["system"] == "dino"
    assert said["clusters"] == len(members) and said["utterances"] == 160 and said["beside"] == ["stats"]
    assert {c["start"] for c in said["candidates"]} == {"centred + statistics", "wccn + statistics", "all"}
    chosen = said["candidates"][said["chosen"]]
    assert chosen["self_eer"] == said["self_eer"] == min(c["self_eer"] for c in said["candidates"])
    assert chosen["num_clusters"] == said["clusters"]


def test_other_names_give_the_same_clusters(embedded, clustered, tmp_path):
    (tmp_path / "cluster.yaml").write_text(SETTINGS)
    names = names_of(160, seed=2)
    made, _ = corpus(tmp_path, names)
    call = cluster_call(made, tmp_path / "cluster.yaml", made["dino"], str(tmp_path / "clusters"))
    assert main(call) == 0
    before, now = (read_table(f / "utt2cluster") for f in (clustered[0], tmp_path / "clusters"))
    assert {old: now[new] for old, new in zip(names_of(160), names, strict=True)} == before


def test_agreement_is_measured_beside_the_clusters(embedded, clustered):
    folder, made, classes = embedded
    labels = dict(zip(names_of(160), (f"s{c}" for c in classes), strict=True))
    labels.pop("u0003")
    write_table(folder / "utt2spk", labels)
    before = pending(["steps/cluster.sh", *clustered[1][1:]])
    assert main(["measure-clusters", str(folder / "utt2spk"), str(clustered[0])]) == 0
    found = json.loads((clustered[0] / "agreement.json").read_text())
    assert found["pair_precision"] > 0.9 and found["pair_recall"] > 0.6
    assert found["utterances"] == 159 and found["without_label"] == 1
    assert before == pending(["steps/cluster.sh", *clustered[1][1:]]) == {}
    # nothing that reads clusters is out of date because they were measured
    assert not [path.name for path in clustered[0].glob(".done*") if path.name != ".done"]


def test_other_methods_and_the_labels_that_the_model_has_seen(embedded, tmp_path):
    folder, made, _ = embedded
    (tmp_path / "ward.yaml").write_text("{method: ward, num_clusters: 20, lda_dim: 10}\n")
    seen = tmp_path / "xvectors"
    shutil.copytree(made["dino"], seen)
    meta = yaml.safe_load((seen / "meta.yaml").read_text())
    (seen / "meta.yaml").write_text(yaml.safe_dump(meta | {"model_labels": "train"}))
    assert main(["cluster", "--config", f"{tmp_path}/ward.yaml", str(seen), f"{tmp_path}/c"]) == 0
    said = json.loads((tmp_path / "c/clusters.json").read_text())
    assert (said["method"], said["labels"], said["clusters"]) == ("ward", "train", 20)


def test_degenerate_clusters_are_written_and_warned_of(embedded, clustered, tmp_path, capsys):
    folder, made, _ = embedded
    assert json.loads((clustered[0] / "clusters.json").read_text())["degenerate"] == ""
    for count, said in (
        (1, "the only cluster has 160 of the 160"),
        (160, "0 of the 160 clusters of 160"),
    ):
        (tmp_path / "ward.yaml").write_text(f"{{method: ward, num_clusters: {count}, lda_dim: 10}}\n")
        assert main(["cluster", "--config", f"{tmp_path}/ward.yaml", made["dino"], f"{tmp_path}/c"]) == 0
        assert f"{said} utterances" in capsys.readouterr().err
        assert json.loads((tmp_path / "c/clusters.json").read_text())["degenerate"].startswith(said)


def test_two_training_sets_are_clustered_together_with_one_folder_of_crops(embedded, clustered, tmp_path):
    folder, made, _ = embedded
    for system in ("dino", "stats"):
        keys, vectors = zip(*read_scp_objects(f"{made[system]}/xvector.scp"), strict=True)
        for name, part in (("one", slice(0, 70)), ("two", slice(70, 160))):
            (tmp_path / system).mkdir(exist_ok=True)
            write_folder(tmp_path / system / name, keys[part], vectors[part])
    one, two = ([f"{tmp_path}/{system}/{name}" for system in ("dino", "stats")] for name in ("one", "two"))
    call = cluster_call(made | {"stats": one[1]}, folder / "cluster.yaml")
    assert main([*call, "--beside", two[1], one[0], two[0], f"{tmp_path}/both"]) == 0
    assert read_table(tmp_path / "both/utt2cluster") == read_table(clustered[0] / "utt2cluster")
    assert json.loads((tmp_path / "both/clusters.json").read_text())["beside"] == ["stats"]


def test_utterances_without_crops_are_clustered_copies_of_one_recording_too(embedded, tmp_path):
    """Those that the pre-training directory omits have neither crops nor a stored hash."""
    folder, made, _ = embedded
    keys, vectors = zip(*read_scp_objects(f"{made['dino']}/xvector.scp"), strict=True)
    write_folder(tmp_path / "all", [*keys, "v1", "v2"], [*vectors, vectors[0], vectors[0]])
    call = ["cluster", "--config", f"{folder}/cluster.yaml", "--crops", made["dino crops"]]
    assert main([*call, f"{tmp_path}/all", f"{tmp_path}/c"]) == 0
    found = read_table(tmp_path / "c/utt2cluster")
    assert len(found) == 162 and found["v1"] == found["v2"] == found[keys[0]]


def test_utterances_outside_a_list_are_in_no_cluster(embedded, tmp_path):
    folder, made, _ = embedded
    keys = [line.split()[0] for line in open(f"{made['dino']}/xvector.scp")]
    (tmp_path / "listed").write_text("".join(f"{key} 1\n" for key in keys[:100]))
    call = cluster_call(made, folder / "cluster.yaml")
    assert main([*call, "--utterances", f"{tmp_path}/listed", made["dino"], f"{tmp_path}/c"]) == 0
    assert list(read_table(tmp_path / "c/utt2cluster")) == sorted(keys[:100])


def test_what_folders_are_for_is_in_the_marks(embedded, clustered, tmp_path):
    folder, made, _ = embedded
    call = ["cluster", "--config", f"{folder}/cluster.yaml", "--beside"]
    assert main([*call, made["stats"], made["dino"], f"{tmp_path}/c"]) == 0
    assert pending(["steps/cluster.sh", *call[1:], made["stats"], made["dino"], f"{tmp_path}/c"]) == {}
    assert pending(["steps/cluster.sh", *call[1:], made["dino"], made["stats"], f"{tmp_path}/c"])
    assert main(["join-embeddings", made["dino"], made["stats"], f"{tmp_path}/j"]) == 0
    assert pending(["steps/join_embeddings.sh", made["stats"], made["dino"], f"{tmp_path}/j"])


def test_labels_behind_the_second_embedding_are_not_hidden(embedded, tmp_path):
    folder, made, _ = embedded
    seen = tmp_path / "xvectors"
    shutil.copytree(made["stats"], seen)
    meta = yaml.safe_load((seen / "meta.yaml").read_text())
    (seen / "meta.yaml").write_text(yaml.safe_dump(meta | {"model_labels": "train"}))
    call = ["cluster", "--config", f"{folder}/cluster.yaml", "--beside", str(seen)]
    assert main([*call, made["dino"], f"{tmp_path}/c"]) == 0
    assert json.loads((tmp_path / "c/clusters.json").read_text())["labels"] == "train"
    assert main(["join-embeddings", made["dino"], str(seen), f"{tmp_path}/j"]) == 0
    assert yaml.safe_load((tmp_path / "j/meta.yaml").read_text())["model_labels"] == "train"


def test_joined_embeddings_stand_side_by_side(embedded, tmp_path):
    _, made, _ = embedded
    write_table(Path(made["dino"]) / "spk2utt", {"s": "u0000 u0001"})
    assert main(["join-embeddings", made["dino"], made["stats"], f"{tmp_path}/both"]) == 0
    first, second, both = (
        dict(read_scp_objects(Path(f) / "xvector.scp"))
        for f in (made["dino"], made["stats"], tmp_path / "both")
    )
    assert list(both) == list(first)
    for key in first:
        np.testing.assert_array_equal(both[key], np.concatenate([first[key], second[key]]))
    meta = yaml.safe_load((tmp_path / "both/meta.yaml").read_text())
    assert meta["beside"] == ["stats"] and meta["system"] == "dino"
    assert (tmp_path / "both/spk2utt").read_text() == "s u0000 u0001\n"
    (Path(made["dino"]) / "spk2utt").unlink()


def failing(call, capsys):
    assert main([str(word) for word in call]) == 1
    return capsys.readouterr().err


def test_mistakes_are_named(embedded, clustered, tmp_path, capsys):
    folder, made, _ = embedded
    config, out = folder / "cluster.yaml", tmp_path / "out"
    (tmp_path / "wrong.yaml").write_text("{method: word}\n")
    (tmp_path / "odd.yaml").write_text("{neighbour: [6]}\n")
    (tmp_path / "where.yaml").write_text("{method: ward}\n")
    (tmp_path / "starts.yaml").write_text("{starts: [wccn]}\n")
    (tmp_path / "name.yaml").write_text("{method: ward, num_clusters: 9, treatment: whitened}\n")
    keys, vectors = zip(*read_scp_objects(f"{made['dino']}/xvector.scp"), strict=True)
    write_folder(tmp_path / "few", keys[:-1], vectors[:-1])
    shutil.copytree(made["dino crops"], tmp_path / "twins")
    write_table(tmp_path / "twins/utt2hash", dict.fromkeys(keys[:2], 7))
    write_table(tmp_path / "strangers", {"x": "s"})
    cluster = ["cluster", "--config"]
    for call, said in (
        ([*cluster, tmp_path / "wrong.yaml", made["dino"], out], "density, got 'word'"),
        ([*cluster, tmp_path / "odd.yaml", made["dino"], out], "neighbours"),
        ([*cluster, tmp_path / "where.yaml", made["dino"], out], "num_clusters or threshold"),
        ([*cluster, tmp_path / "name.yaml", made["dino"], out], "'whitened' is none of centred"),
        ([*cluster, tmp_path / "starts.yaml", made["dino"], out], "'wccn' is none of centred"),
        ([*cluster, config, made["dino"], made["dino"], out], "give each utterance once"),
        ([*cluster, config, "--beside-crops", made["stats crops"], made["dino"], out], "--beside"),
        ([*cluster, config, "--beside", tmp_path / "few", made["dino"], out], "first: u0159"),
        ([*cluster, config, "--crops", made["stats crops"], made["dino"], out], "6 dimensions"),
        ([*cluster, config, "--crops", tmp_path / "twins", made["dino"], out], "have the same hash"),
        (["join-embeddings", made["dino"], tmp_path / "few", out], "u0159"),
        (["join-embeddings", tmp_path / "few", made["dino"], out], "u0159"),
        (["join-embeddings", made["dino"], made["dino"]], "required"),
        (["measure-clusters", tmp_path / "strangers", clustered[0]], "none of the 160"),
    ):
        if said == "required":
            with pytest.raises(SystemExit):
                main([str(word) for word in call])
            continue
        assert said in failing(call, capsys), call
    assert not list(out.glob("*")) or os.listdir(out) == []


def test_the_verbs_are_steps():
    assert {"extract-crops", "join-embeddings", "cluster", "measure-clusters"} <= set(STEPS)
