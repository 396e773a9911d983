"""The mini recipe in its smoke configuration, through the same stages a user runs; then again, and after a
kill.
"""

import os
import signal
import subprocess
import time

from smoke import ROOT, command, objects, results, run

ROUND = "dino-koleo-smoke-round-1_smoke"


def test_every_model_is_beside_every_baseline(finished):
    rows = results(finished)
    systems = {
        (r["model"], r["treatment"])
        for r in rows
        if r["task"] == "sv" and r["metric"] == "eer" and r["backend"] == "cosine"
    }
    models = {model for model, _ in systems}
    without_labels = {"dino-koleo", "simclr-ssps", ROUND}  # rounds start from the first alone
    assert models == {*without_labels, "xvector", "untrained", "fbank-stats", "fbank-stats-cmn"}
    without = {"raw", "centred", "whitened", "centred, as-norm"}
    of_crops = without | {"wccn", "centred, calibrated on clusters with norm"}
    assert systems == {
        (model, treatment) for model in models for treatment in (without if model == "xvector" else of_crops)
    }
    fused = {r["model"] for r in rows if r["backend"] == "cosine + plda" and r["metric"] == "cllr"}
    assert {ROUND, "untrained"} < fused
    pseudo = {(r["model"], r["treatment"]) for r in rows if r["labels"] == "pseudo"}
    assert {(ROUND, "raw"), ("untrained", "raw")} <= pseudo
    assert {r["task"] for r in rows} == {"sv", "emotion", "impairment"}
    assert "calibration_error" in {row["metric"] for row in rows}
    for row in (row for row in rows if row["metric"] not in ("calibration_error", "min_cllr")):
        low, high = row["ci"]
        assert low <= row["value"] <= high and row["n"] > 0, row
    assert "plda" in {r["backend"] for r in rows if r["labels"] == "train"}
    report = (finished / "exp/report.html").read_text()
    assert report.startswith("<!DOCTYPE html>") and "http://" not in report.replace("http://www.w3.org", "")


def test_training_directory_holds_no_label(finished):
    folder = finished / "data/train_ssl"
    names = {path.name for path in folder.iterdir() if path.is_file()}
    assert not [
        name
        for name in names
        if name.startswith(("utt2", "spk2"))
        and name not in ("utt2spk", "spk2utt", "utt2hash", "utt2audiohash", "utt2num_frames", "utt2dur")
    ]
    assert all(len(set(line.split())) == 1 for line in (folder / "utt2spk").read_text().splitlines())


def test_a_rerun_skips_what_is_done(finished, tmp_path, monkeypatch):
    """Nor is anything submitted, were it only to find that out on a node."""
    for name in ("sbatch", "squeue", "scontrol", "sinfo"):
        refusal = f'touch "{tmp_path}/submitted"; exit 1' if name == "sbatch" else "exit 0"
        (tmp_path / name).write_text(f"#!/bin/sh\n{refusal}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("PYDINO_BACKEND", "slurm")
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*.ark")}
    done = run(finished, "--stage", 2)
    assert not (tmp_path / "submitted").exists(), done.stderr
    assert done.returncode == 0, done.stderr[-4000:]
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*.ark")} == before
    assert "up to date" in done.stderr


def test_embedding_a_recording_equals_stage_5(finished):
    import numpy as np

    from pydino.kaldi import read_table

    key, recording = next(iter(read_table(finished / "data/test/wav.scp").items()))
    model = next(finished.glob("exp/*_smoke/seed0/teacher"))
    done = subprocess.run([ROOT / "utils/pydino", "embed", model, recording], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    vector = np.array(done.stdout.split("[")[1].split("]")[0].split(), dtype=float)
    stored = objects(finished, model.parent.relative_to(finished) / "xvectors_test/xvector.scp")[key]
    assert np.abs(vector - stored).max() < 1e-5 * max(1.0, np.abs(stored).max())


def kill_in_stage(work, stage, after):
    """Run the pipeline and SIGKILL all of it some seconds into a stage."""
    process = subprocess.Popen(
        command(work), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    for line in process.stderr:
        if f"run.sh: stage {stage}: " in line:
            break
    time.sleep(after)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert process.returncode == -signal.SIGKILL, f"stage {stage} was over before it could be killed"


def test_killed_in_stages_2_4_and_5_it_ends_the_same(finished, tmp_path):
    for stage, after in ((2, 2.0), (4, 4.0), (5, 2.0)):
        kill_in_stage(tmp_path, stage, after)
    done = run(tmp_path, "--skip-stages", "9 10")
    assert done.returncode == 0, done.stderr[-4000:]
    expected = [row for row in results(finished) if row["task"] == "sv" and row["model"] != "xvector"]
    assert sorted(map(str, results(tmp_path))) == sorted(map(str, expected)) and len(expected) > 20
    for name in (
        "data/train/feats.scp",
        "data/train/vad.scp",
        "exp/dino-koleo-smoke_smoke/seed0/xvectors_test/xvector.scp",
    ):
        mine, theirs = (objects(work, name) for work in (tmp_path, finished))
        assert mine.keys() == theirs.keys() and all((mine[key] == theirs[key]).all() for key in mine), name
