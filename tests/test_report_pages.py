"""The report from a made-up experiment folder: the numbers, their order, and a page that needs nothing from
outside.
"""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml

from pydino.base import ingredients, write_mark
from pydino.cli import main
from pydino.kaldi import ArchiveWriter, read_table
from pydino.report import (
    comparison_table,
    embeddings,
    gather_results,
    markdown_page,
    plots,
    result_tables,
)
from pydino.report.gather import gather_det_curves
from pydino.report.task_tables import task_tables

SPEAKERS, UTTERANCES = 14, 5


def result(**changes):
    return {
        "task": "sv",
        "model": "dino-koleo",
        "model_labels": "none",
        "backend": "cosine",
        "treatment": "raw",
        "labels": "none",
        "train_set": "train_ssl",
        "test_set": "test",
        "metric": "eer",
        "value": 14.832,
        "unit": "percent",
        "ci": [13.5, 16.25],
        "n": 12880,
        "seed": 0,
        "config": "dino-koleo_mini/teacher",
        "version": "0.1.0",
        "command": "pydino evaluate-scores data/test/trials scores.txt",
    } | changes


def baseline(model="fbank-stats", **changes):
    about = {
        "model": model,
        "train_set": "none",
        "config": f"{model}_mini/model",
        "value": 28.3,
        "ci": [26.0, 30.5],
    }
    return result(**about | changes)


def write_system(root, name, meta, separation, rng):
    """Embeddings, scores, DET curve and results of one made-up system, as the steps leave them."""
    folder = root / "exp" / name
    speakers = rng.normal(size=(SPEAKERS, 1, 16)) * separation
    vectors = (speakers + rng.normal(size=(SPEAKERS, UTTERANCES, 16))).reshape(-1, 16).astype(np.float32)
    keys = [f"s{s:02d}-u{u}" for s in range(SPEAKERS) for u in range(UTTERANCES)]
    (folder / "xvectors_test").mkdir(parents=True)
    with ArchiveWriter(
        str(folder / "xvectors_test/xvector.ark"), str(folder / "xvectors_test/xvector.scp")
    ) as archive:
        for key, vector in zip(keys, vectors, strict=True):
            archive.write(key, vector)
    said = {
        "role": "teacher",
        "seed": 0,
        "data": "test",
        "data_dir": "data/test",
        "keep_silence": False,
    } | meta
    (folder / "xvectors_test/meta.yaml").write_text(yaml.safe_dump(said))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = folder / "scores"
    scores.mkdir()
    trials, lines, values, targets = [], [], [], []
    for i, one in enumerate(keys):
        for j in range(i):
            target = one[:3] == keys[j][:3]
            trials.append(f"{one} {keys[j]} {'target' if target else 'nontarget'}\n")
            lines.append(f"{one} {keys[j]} {unit[i] @ unit[j]:.6f}\n")
            values.append(float(unit[i] @ unit[j]))
            targets.append(target)
    (root / "data/test").mkdir(parents=True, exist_ok=True)
    (root / "data/test/trials").write_text("".join(trials))
    (root / "data/test/utt2spk").write_text("".join(f"{key} {key[:3]}\n" for key in keys))
    (scores / "test.cosine.raw.txt").write_text("".join(lines))
    order = np.argsort(values)
    hits = np.array(targets)[order]
    curve = {
        "trials": "test",
        "model": meta["model"],
        "backend": "cosine",
        "treatment": "raw",
        "miss": (np.cumsum(hits) / hits.sum()).tolist(),
        "false_alarm": (1 - np.cumsum(~hits) / (~hits).sum()).tolist(),
        "scores": f"exp/{name}/scores/test.cosine.raw.txt",
        "trials_file": "data/test/trials",
    }
    (scores / "test.cosine.raw.det.json").write_text(json.dumps(curve))
    return scores


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A recipe folder after all stages, with two trained models and three baselines."""
    root = tmp_path_factory.mktemp("mini")
    rng = np.random.default_rng(0)
    systems = {  # model: (how far its speakers are apart, EER)
        "dino-koleo": (1.2, 14.832),
        "dino": (0.9, 21.8),
        "fbank-stats": (0.5, 28.3),
        "fbank-stats-cmn": (0.4, 33.0),
        "untrained": (0.3, 41.0),
    }
    for model, (separation, value) in systems.items():
        scores = write_system(root, f"{model}_mini/seed0", {"model": model}, separation, rng)
        make = result if model.startswith("dino") else baseline
        rows = []
        for treatment, shift in (("raw", 0.0), ("centred", -1.0), ("whitened", 0.5)):
            about = {"model": model, "treatment": treatment, "config": f"{model}_mini"}
            rows.append(make(**about, value=value + shift, ci=[value + shift - 2, value + shift + 2]))
            rows.append(make(**about, metric="mindcf_0.01", unit="", value=0.9 + shift / 50, ci=[0.85, 0.95]))
            rows.append(make(**about, metric="mindcf_0.05", unit="", value=0.8 + shift / 50, ci=None))
        (scores / "test.result.json").write_text(json.dumps(rows))
        uar = make(
            **about,
            task="emotion",
            backend="logreg",
            labels="train",
            metric="uar",
            value=60 - value / 2,
            ci=[35, 70],
            n=480,
        )
        (scores.parent / "emotion.result.json").write_text(json.dumps(uar))
        if model.startswith("dino"):
            epochs = [
                {
                    "epoch": e,
                    "loss": 7 - e / 3,
                    "teacher_entropy": 6 - e / 4,
                    "student_entropy": 6.5 - e / 4,
                    "kl": 0.3,
                    "lr": 1e-3 / e,
                }
                for e in range(1, 11)
            ]
            log = "".join(json.dumps(epoch) + "\n" for epoch in epochs)
            (scores.parent / "log.jsonl").write_text(log + '{"epoch": 11, "lo')  # killed while it wrote
    return root


@pytest.fixture(scope="module")
def written(recipe):
    """The recipe folder after the report was made there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(recipe)
        assert main(["report", "exp", "--title", "Häkchen & <tags>"]) == 0
    return recipe / "exp"


class Checker(HTMLParser):
    """Fails on tags that are not closed in order; collects visible text."""

    VOID = {"meta", "br", "img", "hr", "link"}

    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> at {self.getpos()} closes nothing"

    def handle_data(self, text):
        self.text.append(text)


def test_the_page_is_well_formed_and_needs_nothing_from_outside(written):
    html = (written / "report.html").read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    assert "http" not in html and "<script" not in html and "src=" not in html and "@import" not in html
    assert "Häkchen & <tags>" in "".join(checker.text)
    assert html.count("<svg") >= 4  # training, DET, histogram, map
    identities = re.findall(r'\bid="([^"]+)"', html)
    assert len(identities) == len(set(identities)), "two drawings share an id"
    for used in re.findall(r'(?:href="#|url\(#)([^")]+)', html):
        assert used in identities


def test_the_tables_hold_the_numbers_trained_models_first(written):
    text = (written / "RESULTS.md").read_text(encoding="utf-8")
    assert (
        "| dino-koleo | cosine | none | raw | 14.83 [12.83, 16.83] | 0.900 [0.850, 0.950] | 0.800 |" in text
    )
    table = text[text.index("## Speaker verification: test") : text.index("## Emotion")]
    models = re.findall(r"^\| ([a-z-]+) \| cosine", table, flags=re.MULTILINE)
    assert list(dict.fromkeys(models)) == [
        "dino",
        "dino-koleo",
        "untrained",
        "fbank-stats-cmn",
        "fbank-stats",
    ]
    assert "**13.83 [11.83, 15.83]**" in table  # the best EER: centred dino-koleo
    assert "Made by `pydino evaluate-scores data/test/trials scores.txt`" in table
    assert "one seed" in table and "12,880 trials" in table
    assert "| better, intervals disjoint |" in text
    explained = re.findall(r"^\* ([^:]+): ", text, flags=re.MULTILINE)  # what is there, and nothing else
    assert {"EER", "UAR", "treatment", "untrained", "entropy"} <= set(explained) and not {
        "xvector",
        "MAE",
    } & set(explained)


def test_results_json_is_the_list_of_all_results(written):
    results = json.loads((written / "results.json").read_text())
    assert len(results) == 5 * (9 + 1)
    assert list(results[0])[:16] == [
        "task",
        "model",
        "model_labels",
        "backend",
        "treatment",
        "labels",
        "train_set",
        "test_set",
        "metric",
        "value",
        "unit",
        "ci",
        "n",
        "seed",
        "config",
        "version",
    ]


def test_the_report_is_the_same_when_made_again(written, monkeypatch):
    names = ("results.json", "RESULTS.md", "report.html")
    before = [(written / name).read_bytes() for name in names]
    monkeypatch.chdir(written.parent)
    assert main(["report", "exp", "--title", "Häkchen & <tags>"]) == 0
    assert [(written / name).read_bytes() for name in names] == before


def test_trials_with_names_of_their_own_have_a_map_of_their_set(written, monkeypatch, tmp_path):
    shutil.copytree(written.parent, tmp_path / "mini")
    monkeypatch.chdir(tmp_path / "mini")
    for path in [*Path("exp").rglob("*.result.json"), *Path("exp").rglob("*.det.json")]:
        text = path.read_text()
        for key in ("test_set", "trials"):
            text = text.replace(f'"{key}": "test"', f'"{key}": "vox1-O"')
        path.write_text(text)
    assert main(["report", "exp"]) == 0
    page = Path("exp/report.html").read_text(encoding="utf-8")
    assert "Scores: vox1-O" in page and "Map of test" in page


def draws(monkeypatch):
    """Return the list in which every drawing that is made from now on leaves its name."""
    made = []
    for name in ("training_curves", "det_curve", "score_histograms", "embedding_maps"):
        drawing = getattr(plots, name)
        monkeypatch.setattr(
            plots, name, lambda *given, name=name, drawing=drawing: made.append(name) or drawing(*given)
        )
    return made


def test_only_figures_whose_inputs_have_changed_are_drawn(written, monkeypatch, tmp_path):
    shutil.copytree(written.parent, tmp_path / "mini")
    monkeypatch.chdir(tmp_path / "mini")
    report = ["report", "exp", "--title", "Häkchen & <tags>"]
    made = draws(monkeypatch)
    page = Path("exp/report.html").read_bytes()
    kept = set(Path("exp/report").iterdir())
    assert main(report) == 0 and made == [] and Path("exp/report.html").read_bytes() == page

    log = Path("exp/dino_mini/seed0/log.jsonl")
    log.write_text(log.read_text().replace("0.3", "0.4"))
    assert main(report) == 0 and made == ["training_curves"]
    scores = Path("exp/dino_mini/seed0/scores/test.cosine.raw.txt")
    scores.write_text(scores.read_text().replace(" 0.1", " 0.2"))
    assert main(report) == 0 and made[1:] == ["score_histograms"]
    scp = Path("exp/dino_mini/seed0/xvectors_test/xvector.scp")
    scp.write_text(re.sub(r" \S*/exp/", " exp/", scp.read_text()))
    scp.with_suffix(".ark").write_bytes(scp.with_suffix(".ark").read_bytes()[:-1] + b"A")
    assert main(report) == 0 and made[2:] == ["embedding_maps"]
    changed = Path("exp/report.html").read_bytes()
    assert changed != page and len(set(Path("exp/report").iterdir())) == len(kept)

    shutil.rmtree("exp/report")  # nothing depends on it
    assert main(report) == 0 and len(made) == 7 and Path("exp/report.html").read_bytes() == changed
    monkeypatch.setenv("PYDINO_FORCE", "true")
    assert main(report) == 0 and len(made) == 11


def write_embeddings(folder, vectors, meta):
    folder.mkdir(parents=True)
    with ArchiveWriter(str(folder / "xvector.ark"), str(folder / "xvector.scp")) as archive:
        for key, vector in vectors.items():
            archive.write(key, np.asarray(vector, dtype=np.float32))
    (folder / "meta.yaml").write_text(yaml.safe_dump({"data": "train", "data_dir": "data/train"} | meta))


@pytest.mark.parametrize("count", [1, 2, 4, 40])
def test_a_recipe_without_trials_and_tasks_is_reported_too(count, tmp_path, monkeypatch):
    """A folder of recordings: training curves, a map and nearest neighbours, however few there are."""
    rng = np.random.default_rng(0)
    vectors = {f"2019-visit_{i:02d}": rng.normal(size=16) for i in range(count)}
    if count == 4:  # two pairs of similar recordings, of different lengths of their vectors
        vectors = dict(zip(vectors, ([1, 0, 0], [0, 3, 0], [5, 0, 3.75], [0, 1, 1]), strict=True))
    exp = tmp_path / "exp"
    for model in ("dino-koleo", "fbank-stats"):
        write_embeddings(exp / f"{model}_wavdir/seed0/xvectors_train", vectors, {"model": model})
    (tmp_path / "data/train").mkdir(parents=True)
    (tmp_path / "data/train/utt2spk").write_text("".join(f"{key} {key}\n" for key in vectors))
    (exp / "dino-koleo_wavdir/seed0/log.jsonl").write_text('{"epoch": 1, "loss": 7.0}\n')
    monkeypatch.chdir(tmp_path)
    assert main(["report", "exp", "--title", "wavdir"]) == 0
    assert json.loads((exp / "results.json").read_text()) == []
    page, text = (exp / "report.html").read_text(), (exp / "RESULTS.md").read_text()
    assert page.count("<svg") == 2 and "Map of train" in page and "the speakers are unknown" in page
    assert "| dino-koleo_wavdir/seed0 | 1 | 7.000 |" in text and "no trials or tasks" in text
    assert ("Nearest neighbours: train" in text) == (count > 1)
    if count == 4:
        assert (
            "| 2019-visit_00 | 2019-visit_02 (0.80) | 2019-visit_01 (0.00) | 2019-visit_03 (0.00) |" in text
            and "| 2019-visit_01 | 2019-visit_03 (0.71) |" in text
        )
    if count == 40:
        assert (
            len(re.findall(r"^\| 2019-visit_\d\d \|( 2019-visit_\d\d \(-?\d\.\d\d\) \|){5}$", text, re.M))
            == 10
        )


def test_neighbours_are_the_same_whatever_the_size_of_a_block(tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    vectors = {f"u{i:02d}": rng.normal(size=8) for i in range(30)}
    write_embeddings(tmp_path / "x", vectors, {"model": "dino"})
    scp = read_table(tmp_path / "x/xvector.scp")
    unit = np.stack(list(vectors.values()))
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -1)
    for size in (4, 30, 31):
        monkeypatch.setattr(embeddings, "_BLOCK", size)
        found = embeddings.nearest(scp, ["u03", "u29"], 5)
        for row, i in zip(found, (3, 29), strict=True):
            order = np.argsort(-cosines[i])[:5]
            assert [key for key, _ in row] == [f"u{j:02d}" for j in order]
            assert [cosine for _, cosine in row] == pytest.approx(cosines[i][order], abs=1e-6)


def test_a_map_of_embeddings_that_are_all_the_same_is_one_point():
    positions = plots.flatten_to_plane(np.ones((50, 8)))
    assert positions.shape == (50, 2) and np.allclose(positions, 0)


def test_results_of_trials_that_have_changed_are_omitted(recipe, tmp_path, monkeypatch, capsys):
    """They are no reason to stop; those of other systems, and those that no step made, stay."""
    shutil.copytree(recipe, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    folders = sorted(path.parent for path in Path("exp").rglob("*.det.json"))
    stale, by_hand = folders[:2]
    trials = Path("data/test/trials")
    write_mark(stale / ".done.test.cosine.raw", ingredients(texts=[trials]), stale.glob("*.txt"))
    (stale / "test.result.json").rename(stale / "test.cosine.raw.result.json")
    before = {(r["config"], r["metric"]) for r in gather_results("exp")}
    trials.write_text("".join(trials.read_text().splitlines(keepends=True)[:-1]))
    assert main(["report", "exp"]) == 0
    said = capsys.readouterr().err
    lost = json.loads((stale / "test.cosine.raw.result.json").read_text())
    lost = lost if isinstance(lost, list) else [lost]
    assert f"{stale}: {len(lost)} results are omitted: data/test/trials has changed since they" in said
    assert f"({lost[0]['command']})" in said and f"{by_hand}: " not in said
    after = {(r["config"], r["metric"]) for r in json.loads(Path("exp/results.json").read_text())}
    assert before - after == {(r["config"], r["metric"]) for r in lost} and after < before
    assert all(curve["path"] != f"{stale}/test.cosine.raw.det.json" for curve in gather_det_curves("exp"))
    assert "1 scores without a trial" in said and "histogram of" in said


def test_seeds_become_mean_and_range():
    table = result_tables([result(seed=seed, value=value) for seed, value in enumerate((10.0, 11.0, 15.0))])[
        0
    ]
    assert table.rows == [["dino-koleo", "cosine", "none", "raw", "12.00 (10.00 to 15.00)"]]
    assert "3 seeds" in table.caption


def test_two_configurations_of_one_method_are_two_rows():
    table = result_tables([result(), result(config="dino-koleo_long/teacher", value=12.0)])[0]
    assert [row[1] for row in table.rows] == ["dino-koleo_long/teacher", "dino-koleo_mini/teacher"]


@pytest.mark.parametrize(
    "ours, theirs, verdict",
    [
        ((14.8, [13, 16]), (28.3, [26, 30]), "better, intervals disjoint"),
        ((25.0, [22, 28]), (28.3, [26, 30]), "better, intervals overlap"),
        ((30.0, [27, 31]), (28.3, [26, 30]), "not better, intervals overlap"),
        ((20.0, None), (28.3, [26, 30]), "better"),
    ],
)
def test_the_comparison_says_whether_intervals_overlap(ours, theirs, verdict):
    table = comparison_table([result(value=ours[0], ci=ours[1]), baseline(value=theirs[0], ci=theirs[1])])
    assert table.rows[0][-1] == verdict


def test_models_trained_with_labels_have_a_column_of_their_own():
    supervised = result(
        model="xvector", model_labels="train", config="xvector-long_mini/model", value=4.0, ci=[3.0, 5.0]
    )
    rows = [result(value=14.8), baseline(value=28.3), supervised]
    table = comparison_table(rows)
    assert table.header[-1] == "trained with labels" and len(table.rows) == 1
    assert (
        table.rows[0][-4].startswith("dino-koleo: 14.80")
        and table.rows[0][-1] == "xvector: 4.00 [3.00, 5.00]"
    )
    assert [row[0] for row in result_tables(rows)[0].rows] == ["dino-koleo", "xvector", "fbank-stats"]
    other = {**supervised, "config": "xvector_mini/model", "value": 5.0}
    assert comparison_table([*rows, other]).rows[0][-1] == "xvector (xvector-long_mini): 4.00 [3.00, 5.00]"
    assert comparison_table(rows[1:]).rows[0][-4:] == [
        "",
        "fbank-stats: 28.30 [26.00, 30.50]",
        "",
        "xvector: 4.00 [3.00, 5.00]",
    ]


def test_what_a_model_was_trained_on_is_read_from_its_results_and_not_from_its_name():
    """A method of any name that reads labels, and DINO that started from such a model, are no models trained
    without labels; a method called xvector-like that reads none is one.
    """
    phones = result(model="phones", model_labels="train", value=3.0, ci=[2.0, 4.0])
    started = result(model="dino", model_labels="train", value=5.0, ci=[4.0, 6.0])
    free = result(model="xvector-like", value=14.8)
    clusters = result(model="clusters", model_labels="pseudo", value=20.0)
    unknown = result(model="found", model_labels="unknown", value=1.0, ci=[0.5, 1.5])
    rows = [phones, started, free, clusters, unknown, baseline(value=28.3)]
    (row,) = comparison_table(rows).rows
    assert row[-4].startswith("xvector-like: 14.80") and row[-1].startswith("phones: 3.00")
    assert comparison_table([started, clusters, baseline()]).rows[0][-4].startswith("clusters: 20.00")
    assert comparison_table([unknown, baseline()]) is None
    (table,) = result_tables(rows)
    column = table.header.index("model labels")
    assert [(row[0], row[column]) for row in table.rows] == [
        ("found", "unknown"),
        ("xvector-like", "none"),
        ("clusters", "pseudo"),
        ("dino", "train"),
        ("phones", "train"),
        ("fbank-stats", "none"),
    ]
    assert "model labels" not in result_tables([free, baseline()])[0].header


def test_costs_of_calibrated_scores_are_better_when_lower_and_explained():
    names = ("actdcf_0.01", "actdcf_0.05", "cllr", "min_cllr")
    how = {"treatment": "raw, calibrated on crops", "unit": ""}
    rows = [
        result(metric=name, value=value, ci=None, model=model, **how)
        for name in names
        for model, value in (("a", 0.4), ("b", 0.6))
    ]
    plain, table = task_tables([result(), *rows], [], {}, [])
    assert plain.title == "Speaker verification: test" and plain.header[-1] == "EER %"
    assert table.title == "Speaker verification: test, calibrated" and "Log-likelihood" in table.caption
    assert table.header[-4:] == ["actDCF 0.01", "actDCF 0.05", "Cllr", "min Cllr"]
    columns = range(len(table.header) - 4, len(table.header))
    assert table.rows[0][0] == "a" and table.best == {(0, column) for column in columns}
    page = markdown_page("x", [table], "", "")
    assert all(f"\n* {name}: " in page for name in ("actDCF p", "Cllr", "min Cllr", "calibrated"))
    assert "\n* minDCF p: " not in page and "\n* UAR: " not in page


def test_calibrated_scores_are_no_second_line_of_the_comparison():
    calibrated = [one | {"treatment": "raw, calibrated on crops"} for one in (result(), baseline())]
    assert len(comparison_table([result(), baseline(), *calibrated]).rows) == 1
    fused = [one | {"backend": "cosine + plda", "treatment": "raw + raw, calibrated"} for one in calibrated]
    assert len(comparison_table([result(), baseline(), *calibrated, *fused]).rows) == 2  # another order


def test_higher_is_better_for_recall_and_only_the_same_treatment_is_compared():
    transfer = {"task": "emotion", "metric": "uar", "backend": "logreg", "labels": "train"}
    other = baseline("untrained", **transfer, treatment="whitened", value=90.0)
    table = comparison_table([result(**transfer, value=60.0), baseline(**transfer, value=50.0), other])
    assert len(table.rows) == 1 and table.rows[0][-1].startswith("better")


@pytest.mark.parametrize(
    "content, said",
    [
        ("{", "not JSON"),
        ("[1]", "must be a mapping"),
        (json.dumps({k: v for k, v in result().items() if k != "seed"}), "'seed' is missing"),
        (json.dumps(result(value="14.8")), "'value' must be a number"),
        (json.dumps(result(ci=[1])), "'ci' must be"),
    ],
)
def test_a_bad_result_file_is_named(tmp_path, capsys, content, said):
    (tmp_path / "bad.result.json").write_text(content)
    assert main(["report", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert "bad.result.json" in message and said in message and "Traceback" not in message


def test_two_values_of_one_measurement_stop_the_report(tmp_path, capsys):
    (tmp_path / "a.result.json").write_text(json.dumps(result()))
    (tmp_path / "b.result.json").write_text(json.dumps(result(value=99.0)))
    assert main(["report", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert "a.result.json" in message and "b.result.json" in message and "delete the stale" in message


def test_no_results_and_no_folder(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 1
    assert "run the scoring" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "nowhere")]) == 1
    assert "no such folder" in capsys.readouterr().err
