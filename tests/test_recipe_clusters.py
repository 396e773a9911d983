"""Stages 6 to 8 of a recipe: scorers, clusters, back-ends without labels, and rounds of training on clusters."""

import json
from pathlib import Path

import pytest

from pydino.base import ConfigError, UserError, config_from_dict
from pydino.cli import main
from pydino.recipe import Recipe, Run, RunOptions, resolve, systems, systems_of
from pydino.recipe import rounds as rounds_module
from pydino.recipe.rows import rows
from pydino.recipe.verification import Scorer

ROOT = Path(__file__).resolve().parent.parent
ABOUT = {
    "name": "x",
    "stages": [3, 4, 5, 6, 7, 8, 9, 10, 11],
    "sets": ["train", "test"],
    "models": ["dino"],
    "supervised": {"models": ["xvector"]},
    "trials": [{"set": "test"}],
    "plda": {"set": "train"},
    "clusters": {"labels": "utt2spk"},
    "rounds": [{"name": "one", "train": ["affine", "all"]}, {"name": "two", "train": ["all"]}],
}
BESIDE = "exp/fbank-stats-cmn_x/seed0"


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """The folder of the configurations, in the current one."""
    monkeypatch.chdir(tmp_path)
    for name, method in (("dino", "dino"), ("xvector", "xvector"), ("affine", "xvector"), ("all", "xvector")):
        Path("conf").mkdir(exist_ok=True)
        Path(f"conf/{name}.yaml").write_text(f"method: {method}\n")
    return "conf"


def recipe_of(**changes):
    return config_from_dict(Recipe, ABOUT | changes, where="x.yaml")


def run_of(conf, seeds=(0,), dry_run=True, round="", given=(), **changes):
    recipe = recipe_of(**changes)
    options = {"stage": 4, "stop_stage": 11, "dry_run": dry_run, "round": round, "given": list(given)}
    return Run(recipe, conf, str(ROOT / "conf"), recipe.models, list(seeds), "x", **options)


def values(run, kind, stage, group=""):
    return [row.values for row in rows(run, kind, stage) if group in (row.group or "")]


def after(option, words):
    return [value for name, value in zip(words, words[1:], strict=False) if name == option]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scorers": [{"labels": "pseudo"}]}, "scorers[0].labels of cosine must be 'none', got 'pseudo'"),
        ({"scorers": [{"backend": "plda", "labels": "none"}]}, "must be 'train' or 'pseudo' (clusters)"),
        ({"scorers": [{"statistics": True}]}, "scorers[0].statistics: of PLDA alone"),
        ({"scorers": [{"cohort": "clusters"}]}, "cohort: 'clusters', but there is no normalisation"),
        ({"scorers": [{"normalisation": "z-norm", "top": 5}]}, "top: of 'normalisation: as-norm' alone"),
        ({"scorers": [{"normalisation": "as-norm", "top": 0}]}, "scorers[0].top must be at least 2"),
        ({"scorers": [{}, {}]}, "scorers: 'cosine.raw' occurs twice"),
        ({"stages": [3, 4, 5, 7, 9]}, "stages: 8 trains what 'rounds' names"),
        ({"clusters": None}, "stages: 7 makes what the key 'clusters' describes"),
        ({"stages": [4, 5, 7, 8, 9]}, "stages: 7 takes crops of data/train_ssl, which stage 3 makes"),
        ({"stages": [3, 4, 5, 8, 9], "clusters": None}, "rounds: they are trained on clusters"),
        (
            {
                "stages": [4, 5, 9],
                "clusters": None,
                "rounds": [],
                "scorers": [{"backend": "plda", "labels": "pseudo"}],
            },
            "scorers: 'plda_pseudo' needs clusters or crops",
        ),
        ({"rounds": [{"name": "one"}]}, "rounds[0].train: round 'one' trains nothing"),
        ({"rounds": [{"name": "a/b", "train": ["all"]}]}, "rounds[0].name: 'a/b' becomes part of file names"),
        ({"rounds": [{"name": "one", "train": ["all"]}] * 2}, "rounds: 'one' occurs twice"),
        ({"rounds": [{"name": "one", "train": ["all"], "start": "rndom"}]}, "did you mean 'random'?"),
        ({"calibrations": [{}]}, "calibrations[0].scores: none; name a scorer"),
        (
            {"calibrations": [{"scores": ["cosine.centerd"]}]},
            "no scorer 'cosine.centerd' (did you mean 'cosine.centred'?)",
        ),
        ({"calibrations": [{"scores": ["plda", "plda"]}]}, "scores: 'plda' occurs twice"),
        ({"calibrations": [{"scores": ["plda"]}] * 2}, "'plda.calibrated.crops' occurs twice; remove one"),
        (
            {"calibrations": [{"scores": ["plda"], "fitted_on": "dev", "quality": ["nrom"]}]},
            "'nrom' is neither norm nor a table of utterances such as utt2dur (did you mean 'norm'?)",
        ),
        ({"calibrations": [{"scores": ["plda"], "quality": ["norm"]}]}, "quality: crops differ from whole"),
        ({"calibrations": [{"scores": ["plda"], "fitted_on": "dev"}]}, "no entry of trials names one"),
        (
            {"calibrations": [{"scores": ["cosine.centred.as-norm"]}]},
            "the cohort of 'cosine.centred.as-norm' is the training set",
        ),
        (
            {
                "calibrations": [{"scores": ["plda"]}],
                "clusters": None,
                "rounds": [],
                "stages": [3, 4, 5, 6, 9],
            },
            "'plda.calibrated.crops' needs crops and clusters",
        ),
        (
            {"calibrations": [{"scores": ["cosine.raw", "plda_pseudo"], "fitted_on": "clusters"}]},
            "is for cosines, not for 'plda_pseudo': a PLDA trained on clusters knows",
        ),
        ({"trials": [{"set": "test", "dev": "tst"}]}, "dev of 'test' is 'tst', which is not another list"),
        ({"trials": [{"set": "test", "dev": "test"}]}, "dev of 'test' is 'test', which is not another list"),
        ({"clusters": {"labels": "a/b"}}, "clusters.labels: 'a/b' is not the name"),
        (
            {"models": [], "supervised": {}, "stages": [3, 5, 7, 8], "sets": ["test"]},
            "of the training sets, but",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_key(changes, said):
    if changes.get("sets") == ["test"]:
        changes = changes | {"plda": None}
    with pytest.raises(ConfigError) as caught:
        recipe_of(**changes)
    assert said in str(caught.value)


def test_a_scorer_is_named_by_all_that_it_is():
    grid = [
        Scorer(centring=centring, normalisation=normalisation, cohort=cohort, top=top)
        for centring in ("raw", "centred", "whitened", "wccn")
        for normalisation in ("none", "z-norm", "t-norm", "s-norm", "as-norm")
        for cohort in (("utterances", "clusters") if normalisation != "none" else ("utterances",))
        for top in ((300, 50) if normalisation == "as-norm" else (300,))
    ]
    grid += [
        Scorer("plda", labels=labels, statistics=statistics)
        for labels in ("train", "pseudo")
        for statistics in (False, True)
    ]
    assert len({scorer.name for scorer in grid}) == len(grid)
    assert (
        Scorer().name == "cosine.raw" and Scorer("plda").name == "plda"
    )  # as they were before there were more


def test_each_scorer_is_in_the_first_stage_that_has_what_it_reads(conf):
    run = run_of(conf)
    names = {
        stage: [Path(row["scores"]).name for row in values(run, "scoring", stage)] for stage in (6, 7, 8, 9)
    }
    without = ["cosine.raw", "cosine.centred", "cosine.whitened", "cosine.centred.as-norm", "plda"]
    assert names[6] == [f"test.{name}.txt" for name in without] * 4
    assert names[9] == names[6][:5]
    dino = [row["scores"] for row in values(run, "scoring", 7) if "/dino_x/" in row["scores"]]
    clustered = ["cosine.wccn", "plda_pseudo", "plda_pseudo+statistics"]
    assert dino == [f"exp/dino_x/seed0/scores/test.{name}.txt" for name in clustered]
    statistics = [row["scores"] for row in values(run, "scoring", 7) if "/fbank-stats" in row["scores"]]
    assert statistics == [
        f"exp/{name}_x/seed0/scores/test.{scorer}.txt"
        for name in ("fbank-stats", "fbank-stats-cmn")
        for scorer in clustered[:2]
    ]
    assert set(names[8][: len(names[8]) // 2]) == {f"test.{name}.txt" for name in [*without, *clustered]}


def test_every_system_without_labels_is_clustered_and_the_plain_statistics_too(conf):
    """Through the same chain: the statistics have none beside them, the others have those without level."""
    found = values(run_of(conf), "clusters", 7)
    by_system = {row["clusters"].split("/")[1].split("_")[0].split("-623")[0]: row for row in found}
    assert len(found) == 4 and not any("xvector_x/" in row["clusters"] for row in found)
    dino = by_system["dino"]
    assert dino["embeddings"] == ["exp/dino_x/seed0/xvectors_train"]
    assert after("--crops", dino["options"]) == ["exp/dino_x/seed0/crops_train_ssl"]
    assert after("--beside", dino["options"]) == [f"{BESIDE}/xvectors_train"]
    assert after("--beside-crops", dino["options"]) == [f"{BESIDE}/crops_train_ssl"]
    for name in ("fbank-stats", "fbank-stats-cmn"):
        assert "--beside" not in by_system[name]["options"]
    cropped = [row["crops"] for row in values(run_of(conf), "crops", 7)]
    assert len(cropped) == 4 and f"{BESIDE}/crops_train_ssl" in cropped
    without = run_of(conf, clusters={"statistics": False}, scorers=[{}])
    assert not any("--beside" in row["options"] for row in values(without, "clusters", 7))


def test_what_is_clustered_is_embedded_and_so_is_what_is_beside_it(conf):
    """In a recipe without trials only the models are clustered, with the statistics beside them."""
    changes = {"trials": [], "supervised": {}, "stages": [3, 4, 5, 7, 8], "plda": None, "sets": ["train"]}
    run = run_of(conf, **changes)
    needed = {system.method: list(system.needs(run.recipe)) for system in systems_of(run, 5)}
    train = [("train", False)]
    assert needed == {"dino": train, "fbank-stats": [], "fbank-stats-cmn": train, "untrained": []}
    made = [row["model"] for row in values(run, "baselines", 5)]
    assert made == [f"{BESIDE}/model"]
    assert [row["clusters"] for row in values(run, "clusters", 7)] == ["exp/dino_x/seed0/clusters"]
    assert len(values(run, "crops", 7)) == 2
    for kind in ("joins", "wccn", "plda", "scoring"):
        assert values(run, kind, 7) == []


def test_vectors_are_joined_for_the_sets_that_a_scorer_reads(conf):
    run = run_of(conf, sets=["train", "test", "enroll"], trials=[{"set": "test", "enroll": "enroll"}])
    joined = {
        row["joined"]: row["embeddings"] for row in values(run, "joins", 7) if "/dino_x/" in row["joined"]
    }
    exp = "exp/dino_x/seed0"
    assert joined == {
        f"{exp}/xvectors_{name}+statistics": [f"{exp}/xvectors_{name}", f"{BESIDE}/xvectors_{name}"]
        for name in ("test", "enroll", "train")
    }
    assert values(run, "joins", 6) == []
    scored = [
        row for row in values(run, "scoring", 7) if "dino_x" in row["scores"] and "+stat" in row["scores"]
    ]
    assert [(row["enroll"], row["test"]) for row in scored] == [
        (f"{exp}/xvectors_enroll+statistics", f"{exp}/xvectors_test+statistics")
    ]
    labelled = run_of(conf, scorers=[{"backend": "plda", "statistics": True}])
    assert len(values(labelled, "joins", 6)) == 2 * 2 and len(values(labelled, "joins", 9)) == 2


def test_plda_is_trained_on_what_its_scorers_name(conf):
    exp = "exp/dino_x/seed0"
    run = run_of(conf, clusters={"lda_dim": 32, "min_utts": 3})
    pseudo, beside = [row for row in values(run, "plda", 7) if exp in row["plda"]]
    assert pseudo["labels"] == beside["labels"] == f"{exp}/clusters/utt2cluster"
    assert after("--lda-dim", pseudo["options"]) == ["32"] and after("--min-utts", pseudo["options"]) == ["3"]
    assert pseudo["plda"] == f"{exp}/plda_pseudo" and pseudo["embeddings"] == [f"{exp}/xvectors_train"]
    assert beside["plda"] == f"{exp}/plda_pseudo+statistics"
    assert beside["embeddings"] == [f"{exp}/xvectors_train+statistics"]
    (labelled,) = [row for row in values(run, "plda", 6) if exp in row["plda"]]
    assert labelled["labels"] == "data/train/utt2spk" and "--min-utts" not in labelled["options"]


def test_the_cohort_of_a_normalisation_is_of_the_training_sets(conf):
    scorers = [
        {"centring": "wccn", "normalisation": "as-norm", "top": 50},
        {
            "backend": "plda",
            "labels": "pseudo",
            "statistics": True,
            "normalisation": "s-norm",
            "cohort": "clusters",
        },
    ]
    run, exp = (
        run_of(conf, scorers=scorers, sets=["a", "b", "test"], train_set={"sets": ["a", "b"]}, plda=None),
        "",
    )
    exp = "exp/dino_x/seed0"
    cosine, plda = [row["options"] for row in values(run, "scoring", 7) if exp in row["scores"]]
    assert after("--wccn-dir", cosine) == [f"{exp}/wccn"] and after("--top", cosine) == ["50"]
    both = [f"{exp}/xvectors_a", f"{exp}/xvectors_b"]
    assert after("--train-dir", cosine) == after("--cohort-dir", cosine) == both
    assert "--cohort-clusters" not in cosine and "--top" not in plda
    assert after("--cohort-dir", plda) == [f"{folder}+statistics" for folder in both]
    assert after("--cohort-clusters", plda) == [f"{exp}/clusters/utt2cluster"]
    # One table of labels cannot be that of two sets.
    assert values(run, "agreement", 7) == []


def test_what_is_excluded_from_training_is_in_nothing_that_is_learnt_without_labels(conf):
    scorers = [
        {"centring": "centred", "normalisation": "as-norm"},
        {},
        {"backend": "plda"},
        {"backend": "plda", "labels": "pseudo"},
    ]
    sets = ["train", "test"]
    excluded = {"train_set": {"sets": ["train"], "exclude": ["test"]}, "sets": sets}
    run = run_of(conf, scorers=scorers, **excluded)
    listed = ["data/train_ssl/utt2hash"]
    rows_of = {
        kind: [row for row in values(run, kind, stage) if "exp/dino_x/" in json.dumps(row)]
        for kind, stage in (("clusters", 7), ("plda", 7), ("scoring", 6))
    }
    assert after("--utterances", rows_of["clusters"][0]["options"]) == listed
    assert after("--utterances", rows_of["plda"][0]["options"]) == listed
    assert [after("--utterances", row["options"]) for row in rows_of["scoring"]] == [listed, [], []]
    # trials of crops and of clusters are centred by the same mean as those that they calibrate
    wanted = [{"scores": ["cosine.centred"], "fitted_on": kind} for kind in ("crops", "clusters")]
    dev = values(run_of(conf, calibrations=wanted, **excluded), "scoring", 7, "dino_x")
    of_pairs = [row for row in dev if row["trials"].endswith("/pairs")]
    assert [after("--utterances", row["options"]) for row in of_pairs] == [listed, listed]
    supervised = [row for row in values(run, "plda", 6) if "exp/dino_x/" in row["plda"]]
    assert "--utterances" not in supervised[0]["options"]  # of labels, for comparison
    for kind, stage in (("clusters", 7), ("plda", 7), ("scoring", 6), ("scoring", 9)):
        assert "--utterances" not in json.dumps(values(run_of(conf), kind, stage))


def test_calibrations_on_crops_are_rows_beside_their_scorers(conf):
    """Of every system with crops, each with its own; joined with those of the statistics where a PLDA is."""
    wanted = [{"scores": ["cosine.centred"]}, {"scores": ["cosine.centred", "plda_pseudo+statistics"]}]
    run, exp = run_of(conf, calibrations=wanted), "exp/dino_x/seed0"
    assert values(run, "calibration", 6) == values(run, "calibration", 9) == []
    assert values(run, "crop_trials", 6) == values(run, "crop_trials", 9) == []
    alone, fused = values(run, "calibration", 7, "dino_x")
    assert alone["calibrated"] == f"{exp}/scores/test.cosine.centred.calibrated.crops.txt"
    assert alone["scores"] == [f"{exp}/scores/test.cosine.centred.txt"]
    assert after("--dev-trials", alone["options"]) == [f"{exp}/crop_trials/trials"]
    assert "--plda-dir" not in alone["options"]
    assert after("--plda-dir", fused["options"]) == [f"{exp}/plda_pseudo+statistics"]
    names = [scorer for one in wanted for scorer in one["scores"]]
    assert fused["scores"] == [f"{exp}/scores/test.{name}.txt" for name in names[1:]]
    on_crops = {row["scores"]: row for row in values(run, "scoring", 7, "dino_x") if "crop" in row["trials"]}
    assert list(on_crops) == after("--dev-scores", fused["options"])
    plain, joined = on_crops.values()
    assert plain["test"] == f"{exp}/crop_trials" and after("--train-dir", plain["options"])
    assert joined["test"] == joined["enroll"] == f"{exp}/crop_trials+statistics"
    assert {
        "embeddings": [f"{exp}/crop_trials", f"{BESIDE}/crop_trials"],
        "joined": joined["test"],
    } in values(run, "joins", 7, "dino_x")
    drawn = {row["label_free_trials"] for row in values(run, "crop_trials", 7)}
    assert len(drawn) == 4 and {f"{exp}/crop_trials", f"{BESIDE}/crop_trials"} <= drawn
    # The statistics have none beside them; rounds have trials of their own.
    assert len(values(run, "calibration", 7, "fbank-stats")) == 2
    assert len(values(run, "calibration", 8, "dino-one")) == 2
    assert [row["crops"] for row in values(run, "crop_trials", 8)] == [
        f"exp/dino-{name}_x/seed0/crops_train_ssl" for name in ("one", "two")
    ]
    assert values(run_of(conf, calibrations=wanted, trials=[]), "crop_trials", 7) == []


def test_calibrations_on_clusters_may_have_quality_measures(conf):
    wanted = [{"scores": ["cosine.raw"], "fitted_on": "clusters", "quality": ["norm", "utt2dur"]}]
    run, exp = run_of(conf, calibrations=wanted), "exp/dino_x/seed0"
    (drawn,) = values(run, "cluster_trials", 7, "dino_x")
    assert after("--clusters", drawn["options"]) == [f"{exp}/clusters"]
    assert drawn["label_free_trials"] == f"{exp}/cluster_trials" and values(run, "crop_trials", 7) == []
    (row,) = values(run, "calibration", 7, "dino_x")
    assert after("--dev-trials", row["options"]) == [f"{exp}/cluster_trials/trials"]
    (scores,) = after("--dev-scores", row["options"])
    assert scores in [scored["scores"] for scored in values(run, "scoring", 7, "dino_x")]
    assert after("--norms", row["options"]) == [f"{exp}/xvectors_{name}" for name in ("train", "test")]
    assert after("--quality", row["options"]) == [f"data/{name}/utt2dur" for name in ("train", "test")]
    assert row["calibrated"] == f"{exp}/scores/test.cosine.raw.calibrated.clusters.norm.utt2dur.txt"


def test_calibrations_on_a_development_list_are_in_the_stage_of_their_scores(conf):
    wanted = [
        {"scores": [name], "fitted_on": "dev", "quality": quality}
        for name, quality in (("cosine.centred.as-norm", ["utt2dur", "norm"]), ("plda_pseudo", []))
    ]
    trials = [{"set": "held-out", "name": "dev"}, {"set": "test", "enroll": "enroll", "dev": "dev"}]
    run = run_of(conf, calibrations=wanted, trials=trials, sets=["train", "test", "enroll", "held-out"])
    exp = "exp/dino_x/seed0"
    (early,) = values(run, "calibration", 6, "dino_x")
    (late,) = values(run, "calibration", 7, "dino_x")
    assert values(run, "crop_trials", 7) == []
    assert early["calibrated"] == (
        f"{exp}/scores/test.cosine.centred.as-norm.calibrated.dev.utt2dur.norm.txt"
    )
    assert after("--dev-trials", early["options"]) == ["data/held-out/trials"]
    assert after("--dev-scores", early["options"]) == [f"{exp}/scores/dev.cosine.centred.as-norm.txt"]
    sets = ("held-out", "test", "enroll")
    assert after("--quality", early["options"]) == [f"data/{name}/utt2dur" for name in sets]
    assert after("--norms", early["options"]) == [f"{exp}/xvectors_{name}" for name in sets]
    assert after("--utt2spk", late["options"]) == [f"data/{name}/utt2spk" for name in sets[1:]]
    # What is trained with labels has no clusters, and its other scores are calibrated in its own stage.
    assert len(values(run, "calibration", 9)) == 1 and len(values(run, "calibration", 8, "dino-one")) == 2


def test_clusters_are_compared_with_labels_only_where_there_are_any(conf):
    run = run_of(conf, dry_run=False)
    assert values(run, "agreement", 7) == []
    Path("data/train").mkdir(parents=True)
    Path("data/train/utt2spk").touch()
    found = values(run, "agreement", 7)
    assert found[0] == {"labels": "data/train/utt2spk", "clusters": "exp/dino_x/seed0/clusters"}
    assert values(run_of(conf, dry_run=False, clusters={}), "agreement", 7) == []


def test_a_threshold_is_set_for_models_where_the_recipe_asks_for_it(conf):
    assert values(run_of(conf), "thresholds", 7) == []
    (row,) = values(run_of(conf, clusters={"threshold": True}), "thresholds", 7)
    exp = "exp/dino_x/seed0"
    assert (row["model"], row["data"]) == (f"{exp}/teacher", "data/train_ssl")
    assert row["threshold"] == f"{exp}/threshold" and after("--clusters", row["options"]) == [
        f"{exp}/clusters"
    ]
    assert after("--xvectors", row["options"]) == [f"{exp}/xvectors_train"]


def test_a_round_is_trained_on_the_clusters_of_the_model_before(conf):
    run = run_of(conf, seeds=(0, 1))
    first, all_first, second, *_ = values(run, "training", 8)
    base, one, two = (f"exp/dino{name}_x/seed0" for name in ("", "-one", "-two"))
    assert first["exp"] == f"{one}/affine" and all_first["exp"] == one and second["exp"] == two
    assert after("--config", first["options"]) == ["conf/affine.yaml"]
    for words, clusters, init in (
        (first["options"], base, f"{base}/teacher"),
        (all_first["options"], base, f"{one}/affine/model"),
        (second["options"], one, f"{one}/model"),
    ):
        assert after("--clusters", words) == [f"{clusters}/clusters"] and after("--init", words) == [init]
        assert "--labels" not in words
    seeds = [after("--seed", row["options"]) for row in values(run, "training", 8)]
    assert seeds == [["0"]] * 3 + [["1"]] * 3


def test_a_round_may_start_from_random_weights(conf):
    run = run_of(conf, rounds=[{"name": "one", "train": ["affine", "all"], "start": "random"}])
    first, second = values(run, "training", 8)
    assert "--init" not in first["options"]
    assert after("--init", second["options"]) == ["exp/dino-one_x/seed0/affine/model"]


def test_the_rows_of_stage_8_are_those_of_the_round_asked_for(conf):
    for name, folder in (("one", "dino-one_x"), ("two", "dino-two_x")):
        run = run_of(conf, round=name)
        for kind in ("training", "extraction", "crops", "joins", "clusters", "plda", "scoring", "agreement"):
            found = values(run, kind, 8)
            assert found and all(f"exp/{folder}/" in json.dumps(row) for row in found), kind
    assert len(systems_of(run_of(conf), 8)) == 2
    assert not any(system.round for stage in (5, 6, 7, 9) for system in systems_of(run_of(conf), stage))


def test_rounds_are_systems_without_labels_and_their_classifiers_are_frozen(conf):
    task = {"name": "a", "labels": "utt2a", "set": "test", "modes": ["frozen", "all-at-once"]}
    run = run_of(conf, tasks=[task])
    found = {system.method: system for system in systems(run)}
    assert list(found) == [
        "dino",
        "dino-one",
        "dino-two",
        "fbank-stats",
        "fbank-stats-cmn",
        "untrained",
        "xvector",
    ]
    two = found["dino-two"]
    assert (two.labels, two.stage, two.round, two.init) == ("pseudo", 8, 2, found["dino-one"])
    assert two.model_dir == "exp/dino-two_x/seed0/model"
    assert sum("dino-two" in row["transfer"] for row in values(run, "tasks", 10)) == 1
    assert not any("dino-two" in row["transfer"] for row in values(run, "tuning", 10))
    # A round that was not trained, because it did not pay, has no classifiers either.
    assert not any(
        "dino-two" in json.dumps(row)
        for row in values(run_of(conf, dry_run=False, tasks=[task]), "tasks", 10)
    )


def test_a_given_model_has_rounds_unless_it_has_seen_labels(conf, tmp_path):
    for name, labels in (("free", "none"), ("taught", "train")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(f"method: m\nrole: model\nseed: 3\nlabels: {labels}\n")
    run = run_of(conf, given=[str(tmp_path / "free"), str(tmp_path / "taught")])
    found = [system for system in systems(run) if system.round and system.seed == 3]
    free = next(system for system in systems(run) if system.model_dir == str(tmp_path / "free"))
    assert [system.init for system in found] == [free, found[0]]
    assert found[0].name == f"{free.name.split('/')[0]}-one_x/seed3"


def write_self_eer(**percent):
    for name, value in percent.items():
        folder = Path(f"exp/dino{name.replace('_', '-')}_x/seed0/clusters")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "clusters.json").write_text(json.dumps({"self_eer": value}))


def trained(run):
    rounds_module._say.cache_clear()
    return [row["exp"] for row in values(run, "training", 8)]


def test_a_round_is_trained_only_where_the_one_before_has_lowered_the_self_eer(conf, capsys):
    three = [{"name": name, "train": ["all"]} for name in ("one", "two", "three")]
    run = run_of(conf, dry_run=False, rounds=three)
    folders = [f"exp/dino-{name}_x/seed0" for name in ("one", "two", "three")]
    write_self_eer(**{"": 6.0, "_one": 6.0, "_two": 1.0})
    assert trained(run) == folders[:1]
    said = capsys.readouterr().err
    assert (
        "dino-two_x/seed0 is omitted: the clusters of dino-one_x/seed0 have a split self-EER of 6.0 %" in said
    )
    assert said.count("is omitted") == 1
    for kind in ("extraction", "crops", "clusters", "plda", "scoring"):
        assert not any("dino-two" in json.dumps(row) for row in values(run, kind, 8)), kind
    write_self_eer(_one=2.5)
    assert trained(run) == folders
    write_self_eer(_two=2.5)
    assert trained(run) == folders[:2]
    assert trained(run_of(conf, dry_run=False, rounds=three, gate=False)) == folders
    assert trained(run_of(conf, dry_run=True, rounds=three)) == folders
    Path("exp/dino-one_x/seed0/clusters/clusters.json").unlink()
    with pytest.raises(UserError, match="no exp/dino-one_x/seed0/clusters/clusters.json, on which a round"):
        trained(run)


def test_a_given_model_has_no_rounds_of_another_encoder(conf, tmp_path, capsys):
    Path("conf/wide.yaml").write_text("method: xvector\nencoder: {name: ecapa-tdnn}\n")
    (tmp_path / "given").mkdir()
    said = {"method": "m", "role": "model", "encoder": {"name": "wavlm"}, "labels": "none"}
    (tmp_path / "given/config.yaml").write_text(json.dumps(said))
    for start, kept in (("previous", 0), ("random", 1)):
        one = {"name": "one", "train": ["wide"], "start": start}
        run = run_of(conf, dry_run=False, rounds=[one], given=[str(tmp_path / "given")])
        write_self_eer(**{"": 1.0})
        (model,) = [system for system in systems(run) if system.kind == "given"]
        Path(model.clusters).mkdir(parents=True, exist_ok=True)
        (Path(model.clusters) / "clusters.json").write_text(json.dumps({"self_eer": 1.0}))
        assert len([exp for exp in trained(run) if "m_model" in exp]) == kept
    assert "of the encoder wavlm, and conf/wide.yaml trains ecapa-tdnn" in capsys.readouterr().err


def test_degenerate_clusters_are_not_trained_on_and_what_follows_is_omitted_too(conf, capsys):
    three = [{"name": name, "train": ["all"]} for name in ("one", "two", "three")]
    folders = [f"exp/dino-{name}_x/seed0" for name in ("one", "two", "three")]
    write_self_eer(**{"": 6.0, "_one": 3.0, "_two": 2.0})
    assert trained(run_of(conf, dry_run=False, rounds=three)) == folders
    for name, kept in (("", 0), ("-one", 1), ("-two", 2)):
        path = Path(f"exp/dino{name}_x/seed0/clusters/clusters.json")
        before = path.read_text()
        path.write_text(json.dumps({"self_eer": 1.0, "degenerate": "one of the 2 clusters has 9 of the 10"}))
        for gate in (True, False):
            assert trained(run_of(conf, dry_run=False, rounds=three, gate=gate)) == folders[:kept]
            said = capsys.readouterr().err
            assert f"dino{name}_x/seed0 are degenerate, one of the 2 clusters has 9 of the 10" in said
            assert said.count("omitted") == 1
        assert trained(run_of(conf, dry_run=True, rounds=three)) == folders
        path.write_text(before)


def resolved(tmp_path, **changes):
    import yaml

    (tmp_path / "conf/recipe.yaml").write_text(yaml.safe_dump(ABOUT | {"prepare": "prepare_mini"} | changes))
    return resolve(RunOptions(str(tmp_path), str(ROOT / "conf")), several_machines=False)


def test_what_a_round_trains_is_there_and_reads_clusters(conf, tmp_path):
    assert resolved(tmp_path).recipe.rounds[0].train == ["affine", "all"]
    with pytest.raises(UserError, match=r"no .*/conf/al.yaml, which the recipe"):
        resolved(tmp_path, rounds=[{"name": "one", "train": ["al"]}])
    monitor = Path("conf/tuned.yaml")
    monitor.write_text("method: classifier\n")
    with pytest.raises(UserError, match="rounds: tuned is of the method classifier, which reads no clusters"):
        resolved(tmp_path, rounds=[{"name": "one", "train": ["tuned"]}])


def test_for_each_is_told_the_round(conf, capsys):
    import dataclasses

    context = json.dumps(dataclasses.asdict(run_of(conf)))
    call = ["for-each", "--context", context, "--stage", "8", "--round", "two", "--dry-run", "--", "training"]
    assert main([*call, "steps/train.sh", "{options}", "{exp}"]) == 0
    said = capsys.readouterr().out
    assert said.count("steps/train.sh") == 1 and "exp/dino-two_x/seed0" in said
