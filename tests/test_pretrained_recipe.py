"""A frame-level pre-trained model given to a recipe: stages 5 to 7 and 10 take it like any other model. It is
tiny and has random weights, so that only the plumbing is tested; no number of it means anything.
"""

import shutil
import subprocess

from smoke import ROOT, objects, results, run
from tiny_pretrained import make_folder

from pydino.base import dump_config, read_json


def test_a_recipe_takes_a_model_of_waveforms(finished, tmp_path):
    work = tmp_path / "work"
    shutil.copytree(finished, work, symlinks=True)
    folder = tmp_path / "wavlm-tiny"
    make_folder(folder, "wavlm")
    encoder = {"name": "wavlm", "folder": str(folder), "pooling": "weighted", "embedding_dim": 16}
    dump_config({"method": "dino", "encoder": encoder}, tmp_path / "like.yaml")
    words = [ROOT / "steps/make_baseline.sh", "--kind", "pretrained", "--like", tmp_path / "like.yaml"]
    subprocess.run([*words, work / "data/train", tmp_path / "model"], check=True, capture_output=True)
    shutil.rmtree(folder)
    done = run(work, "--model", tmp_path / "model", "--stage", 5)
    assert done.returncode == 0, done.stderr[-6000:]
    assert "differ in where they are cut alone" in done.stderr
    assert "of the encoder wavlm, and" in done.stderr  # rounds start from models of their own encoder
    mine = [row for row in results(work) if row["model"] == "pretrained"]
    scored = {(row["backend"], row["treatment"]) for row in mine if row["task"] == "sv"}
    assert {("cosine", "wccn"), ("plda", "raw")} <= scored
    assert ("cosine", "centred, calibrated on clusters with norm") in scored
    classified = {(row["task"], row["backend"], row["treatment"]) for row in mine if row["task"] != "sv"}
    assert {("emotion", "logreg", "with statistics"), ("impairment", "logreg", "raw")} <= classified
    assert ("emotion", "affine-then-all", "with statistics") in classified
    (exp,) = work.glob("exp/pretrained_model-*/seed0")
    where = exp.relative_to(work)
    embedded, crops = (
        objects(work, where / f"{folder}/xvector.scp") for folder in ("xvectors_test", "crops_train_ssl")
    )
    assert (
        embedded.keys() == objects(work, "exp/fbank-stats-cmn_smoke/seed0/xvectors_test/xvector.scp").keys()
    )
    assert crops.keys() == objects(work, "exp/fbank-stats-cmn_smoke/seed0/crops_train_ssl/xvector.scp").keys()
    assert read_json(exp / "clusters/clusters.json")["clusters"] > 1
