"""The steps that score and classify, from embedding folders to result files, and what they say to
mistakes.
"""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import kaldiio
import numpy as np
import pytest

from pydino.cli import main
from pydino.cli._steps import STEPS, pending, run_step

ROOT = Path(__file__).parent.parent
FIXTURES = ROOT / "tests" / "fixtures" / "backend"
RESULT_KEYS = (
    "task model encoder system model_labels backend treatment labels train_set test_set metric value unit ci n seed "
    "config varied version"
).split()


def call(*words, folder, status=0):
    """Run a step (or a verb, by `pydino`) in ``folder``; return what it said."""
    program = ["pydino", *words[1:]] if words[0] == "pydino" else [str(ROOT / "steps" / words[0]), *words[1:]]
    line = '. "$0/path.sh" && exec "$@"'
    done = subprocess.run(
        ["bash", "-c", line, str(ROOT), *map(str, program)],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def write_embeddings(folder, keys, vectors, name):
    folder.mkdir(parents=True)
    with kaldiio.WriteHelper(f"ark,scp:{folder}/xvector.ark,{folder}/xvector.scp") as writer:
        for key, vector in sorted(zip(keys, vectors, strict=True)):
            writer(key, np.asarray(vector, dtype=np.float32))
    meta = {"model": "dino", "role": "teacher", "seed": 3, "train_set": "mini/train", "data": name}
    meta |= {"encoder": "tdnn", "system": "dino_mini/seed3", "model_labels": "none", "varied": {}}
    meta["model_dir"] = "exp/dino_mini/seed3/teacher"
    (folder / "meta.yaml").write_text("".join(f"{key}: {value}\n" for key, value in meta.items()))


def write_table(path, table):
    path.write_text("".join(f"{key} {table[key]}\n" for key in sorted(table)), encoding="utf-8")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder with a blank and an accent in its name: embeddings of train, enroll and test as Kaldi's
    figures have them.
    """
    folder = tmp_path_factory.mktemp("sprach daten é")
    kaldi = np.load(FIXTURES / "kaldi.npz")
    for name in ("train", "enroll", "test"):
        keys, speakers = kaldi[f"{name}_keys"].tolist(), kaldi[f"{name}_speakers"].tolist()
        write_embeddings(folder / "x" / name, keys, kaldi[name], name)
        write_table(folder / f"{name}.utt2spk", dict(zip(keys, speakers, strict=True)))
        if name == "enroll":
            members = {}
            for key, speaker in zip(keys, speakers, strict=True):
                members[speaker] = f"{members.get(speaker, '')} {key}".strip()
            write_table(folder / "x" / name / "spk2utt", members)
    both = (folder / "enroll.utt2spk").read_text() + (folder / "test.utt2spk").read_text()
    (folder / "utt2spk").write_text("".join(sorted(both.splitlines(keepends=True))))
    (folder / "trials").write_text((FIXTURES / "trials").read_text())
    return folder


@pytest.fixture(scope="module")
def plda(corpus):
    said = call("train_plda.sh", "--lda-dim", "20", "train.utt2spk", "x/train", "p l/da", folder=corpus)
    assert "900 embeddings of 150 speakers" in said
    return corpus / "p l" / "da"


def results_of(path):
    results = json.loads(path.read_text())
    assert all(list(result)[: len(RESULT_KEYS)] == RESULT_KEYS for result in results)
    return {result["metric"]: result for result in results}


def test_plda_from_labels_to_results_is_kaldis(corpus, plda):
    options = ["--backend", "plda", "--plda-dir", plda, "--utt2spk", "utt2spk", "--trials-name", "dev"]
    arguments = [*options, "trials", "x/enroll", "x/test", "s/plda.txt"]
    said = call("score.sh", *arguments, folder=corpus)
    assert "EER 14.00 [" in said and "40 speakers" in said
    scores = np.array(
        [line.split()[2] for line in (corpus / "s" / "plda.txt").read_text().splitlines()], dtype=float
    )
    np.testing.assert_allclose(
        scores, np.load(FIXTURES / "kaldi.npz")["scores_numutts"], rtol=1e-3, atol=1e-3
    )
    results = results_of(corpus / "s" / "plda.result.json")
    assert list(results) == ["eer", "mindcf_0.01", "mindcf_0.05"]
    eer = results["eer"]
    assert (eer["model"], eer["seed"], eer["train_set"], eer["test_set"], eer["labels"]) == (
        "dino",
        3,
        "mini/train",
        "dev",
        "train",
    )
    assert (eer["value"], eer["unit"], eer["n"], eer["config"]) == (
        14.0,
        "percent",
        2000,
        "dino_mini/teacher",
    )
    assert results["mindcf_0.01"]["value"] == pytest.approx(0.895) and results["mindcf_0.05"][
        "value"
    ] == pytest.approx(0.7033, abs=1e-4)
    assert all(result["ci"][0] <= result["value"] <= result["ci"][1] for result in results.values())
    curve = json.loads((corpus / "s" / "plda.det.json").read_text())
    assert (
        len(curve["miss"]) == len(curve["false_alarm"])
        and curve["trials"] == "dev"
        and curve["scores"] == "s/plda.txt"
    )
    assert "is up to date" in call("score.sh", *arguments, folder=corpus)


def test_the_speakers_of_both_sets_are_drawn_where_enrolment_has_its_own(corpus, tmp_path):
    """Two tables give the intervals that one table of both gives; a set that is missing is named."""
    arguments = ["trials", "x/enroll", "x/test"]
    call("score.sh", "--utt2spk", "utt2spk", *arguments, tmp_path / "one.txt", folder=corpus)
    two = ["--utt2spk", "test.utt2spk", "--utt2spk", "enroll.utt2spk"]
    call("score.sh", *two, *arguments, tmp_path / "two.txt", folder=corpus)
    assert [(r["ci"], r["interval"]) for r in results_of(tmp_path / "one.result.json").values()] == [
        (r["ci"], r["interval"]) for r in results_of(tmp_path / "two.result.json").values()
    ]
    said = call("score.sh", *two[:2], *arguments, tmp_path / "a.txt", folder=corpus, status=1)
    assert "test.utt2spk does not know e0" in said and "another --utt2spk" in said
    key = (corpus / "test.utt2spk").read_text().split()[0]
    write_table(tmp_path / "other", {key: "someone"})
    said = call(
        "score.sh",
        *two,
        "--utt2spk",
        tmp_path / "other",
        *arguments,
        tmp_path / "b.txt",
        folder=corpus,
        status=1,
    )
    assert f"other: the speaker of {key} is someone, but e0" in said


def test_cosine_with_every_centring(corpus):
    rates = {}
    for centring in ("raw", "centred", "whitened"):
        options = ["--centring", centring, *(["--train-dir", "x/train"] if centring != "raw" else [])]
        call("score.sh", *options, "trials", "x/enroll", "x/test", f"c/{centring}.txt", folder=corpus)
        result = results_of(corpus / "c" / f"{centring}.result.json")["eer"]
        assert (result["treatment"], result["labels"], result["test_set"]) == (centring, "none", "test")
        assert "utterances" in result["interval"]  # no --utt2spk was given
        rates[centring] = result["value"]
    assert rates["whitened"] < rates["raw"]


def test_centring_is_estimated_on_all_training_sets(corpus):
    kaldi = np.load(FIXTURES / "kaldi.npz")
    halves = np.arange(len(kaldi["train"])) % 3 == 0
    for name, chosen in (("train_a", halves), ("train_b", ~halves)):
        write_embeddings(corpus / "x" / name, kaldi["train_keys"][chosen], kaldi["train"][chosen], name)
    for name, folders in (("both", ("x/train_a", "x/train_b")), ("one", ("x/train",)), ("a", ("x/train_a",))):
        options = [
            "--centring",
            "whitened",
            *(word for folder in folders for word in ("--train-dir", folder)),
        ]
        call("score.sh", *options, "trials", "x/enroll", "x/test", f"all/{name}.txt", folder=corpus)
    both, one, a = (np.loadtxt(corpus / "all" / f"{name}.txt", usecols=2) for name in ("both", "one", "a"))
    np.testing.assert_allclose(both, one, atol=2e-8)
    assert np.abs(a - one).max() > 1e-3
    write_embeddings(corpus / "x" / "narrow", ["u"], [[1.0, 2.0]], "narrow")
    options = ["--centring", "centred", "--train-dir", "x/train", "--train-dir", "x/narrow"]
    said = call("score.sh", *options, "trials", "x/enroll", "x/test", "all/n.txt", folder=corpus, status=1)
    assert "2 in x/narrow: extract all with one model" in said


def test_a_step_runs_as_a_job_and_is_up_to_date_afterwards(corpus):
    arguments = [
        "--centring",
        "centred",
        "--train-dir",
        "x/train",
        "trials",
        "x/enroll",
        "x/test",
        "job/s.txt",
    ]
    said = call("score.sh", "--cmd", "run_local.sh --mem 1G", *arguments, folder=corpus)
    assert "centred: EER" in said and "EER" in (corpus / "job/log/score.s.log").read_text()
    assert "is up to date" in call("score.sh", *arguments, folder=corpus)
    command = results_of(corpus / "job/s.result.json")["eer"]["command"]
    assert command.startswith("steps/score.sh --centring centred --train-dir x/train trials ")
    (corpus / "bad").write_text("e000 e000-u02 target\ne000 e001-u01 target\n")
    words = ["--cmd", "run_local.sh", "bad", "x/enroll", "x/test", "job/b.txt"]
    said = call("score.sh", *words, folder=corpus, status=1)
    assert "all 2 trials are target" in said and "job/log/score.b.log" in said
    assert not (corpus / "job/.done.b").exists()


def test_measuring_a_score_file_gives_the_results_of_scoring(corpus, plda):
    options = ["--backend", "plda", "--plda-dir", plda, "--utt2spk", "utt2spk", "--resamples", "50"]
    call("score.sh", *options, "trials", "x/enroll", "x/test", "m/s.txt", folder=corpus)
    options = ["--utt2spk", "utt2spk", "--resamples", "50", "--enroll-spk2utt", "x/enroll/spk2utt"]
    call("pydino", "evaluate-scores", *options, "trials", "m/s.txt", "m/again.result.json", folder=corpus)
    scored, measured = (results_of(corpus / "m" / f"{name}.result.json") for name in ("s", "again"))
    for metric, result in scored.items():
        assert (result["value"], result["ci"]) == (measured[metric]["value"], measured[metric]["ci"])


def reason(words: list[str]) -> str:
    """Return the first reason why a step has to run; an empty string if it is up to date."""
    return next(iter(pending(words).values()), "")


def test_one_process_runs_the_steps_that_are_pending(corpus, capfd, monkeypatch):
    monkeypatch.chdir(corpus)
    plda = ["steps/train_plda.sh", "--lda_dim", "20", "train.utt2spk", "x/train", "g/plda"]
    score = ["steps/score.sh", "--backend", "plda", "--plda-dir", "g/plda", "trials", "x/enroll", "x/test"]
    groups = [[], [plda, [*score, "g/s.txt"]], [[*score, "--backend", "lda", "g/t.txt"]]]
    (corpus / "groups.json").write_text(json.dumps(groups))
    assert reason(plda) == "not done yet" and reason([*score, "g/s.txt"]) == "not done yet"
    assert main(["run-steps", "groups.json", "2"]) == 0
    assert "EER" in capfd.readouterr().err and (corpus / "g/s.result.json").exists()
    assert reason(plda) == reason([*score, "g/s.txt"]) == ""
    text = (corpus / "x/test/xvector.scp").read_text()
    nowhere = ["steps/score.sh", "trials", "x/enroll", "x/nowhere", "g/s.txt"]
    assert reason(nowhere) == "its inputs are not there yet"
    assert run_step(["steps/score.sh", "--backend", "lda"]) == 1
    assert main(["run-steps", "groups.json", "3"]) == 1 and main(["run-steps", "groups.json", "4"]) == 1
    assert "invalid choice: 'lda'" in (said := capfd.readouterr().err) and "no group 4" in said
    (corpus / "x/test/xvector.scp").write_text(text + "new x/test/xvector.ark:5\n")
    assert "x/test/xvector.scp changed" in reason([*score, "g/s.txt"])
    (corpus / "x/test/xvector.scp").write_text(text)


def test_a_table_of_models_that_appears_later_makes_scoring_run(corpus):
    arguments = ["trials_of_utterances", "x/test", "x/test", "later/s.txt"]
    keys = np.load(FIXTURES / "kaldi.npz")["test_keys"].tolist()
    text = "".join(f"{keys[0]} {key} {'non' * (i > 0)}target\n" for i, key in enumerate(keys[1:4]))
    (corpus / "trials_of_utterances").write_text(text)
    call("score.sh", *arguments, folder=corpus)
    assert "is up to date" in call("score.sh", *arguments, folder=corpus)
    (corpus / "x/test/spk2utt").write_text(f"{keys[0]} {keys[0]} {keys[5]}\n")
    before = (corpus / "later/s.txt").read_text()
    said = call("score.sh", *arguments, folder=corpus)
    (corpus / "x/test/spk2utt").unlink()
    assert "is to be redone: x/test/spk2utt is new" in said
    assert (corpus / "later/s.txt").read_text() != before


def test_trials_without_labels_have_scores_only(corpus):
    bare = "".join(" ".join(line.split()[:2]) + "\n" for line in (corpus / "trials").read_text().splitlines())
    (corpus / "trials2").write_text(bare)
    assert "no third field" in call(
        "score.sh", "trials2", "x/enroll", "x/test", "bare/cosine.txt", folder=corpus
    )
    assert len((corpus / "bare" / "cosine.txt").read_text().splitlines()) == 2000
    assert not (corpus / "bare" / "cosine.result.json").exists()
    said = call(
        "pydino",
        "evaluate-scores",
        "trials2",
        "bare/cosine.txt",
        "bare/r.result.json",
        folder=corpus,
        status=1,
    )
    assert "trials2 has no third field" in said


@pytest.mark.parametrize(
    "speakers, reason",
    [
        (lambda i: f"s{i}", "each of the 900 speakers has one utterance"),
        (lambda i: "s", "single speaker"),
        (lambda i: f"s{i // 2 * 2 if i > 880 else i}", "too few"),
    ],
)
def test_plda_is_skipped_where_labels_do_not_allow_it(corpus, tmp_path, speakers, reason):
    keys = [line.split()[0] for line in (corpus / "train.utt2spk").read_text().splitlines()]
    write_table(tmp_path / "utt2spk", {key: speakers(i) for i, key in enumerate(keys)})
    out = tmp_path / "plda"
    out.mkdir()
    (out / "plda").write_text("of an earlier run")
    said = call("train_plda.sh", tmp_path / "utt2spk", "x/train", out, folder=corpus)
    assert reason in said and reason in (out / "skipped").read_text() and not (out / "plda").exists()
    (tmp_path / "plda.txt").write_text("of an earlier run")
    said = call(
        "score.sh",
        "--backend",
        "plda",
        "--plda-dir",
        out,
        "trials",
        "x/enroll",
        "x/test",
        tmp_path / "plda.txt",
        folder=corpus,
    )
    assert reason in said and not (tmp_path / "plda.txt").exists()


@pytest.mark.parametrize(
    "trials, options, message",
    [
        (
            "e000 nosuch target\ne000 e000-u02 nontarget\n",
            [],
            "1 of 2 utterances have no embedding in x/test/xvector.scp, first: nosuch",
        ),
        (
            "nosuch e000-u02 target\ne000 e001-u01 nontarget\n",
            [],
            "1 of 2 models are not in x/enroll/spk2utt, first: nosuch",
        ),
        ("e000 e000-u02 target\ne000 e001-u01 target\n", [], "all 2 trials are target"),
        ("e000 e000-u02 target\ne000 e000-u03 nontarget\n", ["--utt2spk", "utt2spk"], "single speaker e000"),
        ("e000 e000-u02 target\ne000 e000-u02 nontarget\n", [], "occur twice, first: e000 e000-u02"),
        (
            "e000 e000-u02 target\ne001 e000-u02 nontarget\n",
            ["--utt2spk", "train.utt2spk"],
            "train.utt2spk does not know",
        ),
    ],
)
def test_bad_trials_are_named(corpus, tmp_path, trials, options, message):
    (tmp_path / "trials").write_text(trials)
    said = call(
        "score.sh",
        *options,
        tmp_path / "trials",
        "x/enroll",
        "x/test",
        tmp_path / "s.txt",
        folder=corpus,
        status=1,
    )
    assert message in said
    assert not (tmp_path / "s.result.json").exists() and not (tmp_path / ".done.s").exists()


def test_equal_scores_are_no_result(tmp_path):
    write_embeddings(tmp_path / "x", ["a1", "a2", "b1"], np.ones((3, 4)), "x")
    (tmp_path / "trials").write_text("a1 a2 target\na1 b1 nontarget\n")
    assert "all 2 scores are 1" in call("score.sh", "trials", "x", "x", "s.txt", folder=tmp_path, status=1)


def test_plda_of_a_collapsed_model_is_skipped(tmp_path):
    keys = [f"{speaker}{i}" for speaker in "ab" for i in range(5)]
    write_embeddings(tmp_path / "x", keys, np.full((10, 4), 0.1), "x")
    write_table(tmp_path / "utt2spk", {key: key[0] for key in keys})
    assert "skipped" in call("train_plda.sh", "utt2spk", "x", "plda", folder=tmp_path)
    assert "do not differ" in (tmp_path / "plda" / "skipped").read_text()


def test_an_embedding_that_is_not_finite_is_named(tmp_path):
    write_embeddings(tmp_path / "x", ["a1", "a2"], [[1, 2], [np.nan, 1]], "x")
    (tmp_path / "trials").write_text("a1 a2\n")
    assert "the embedding of a2 is not finite" in call(
        "score.sh", "trials", "x", "x", "s.txt", folder=tmp_path, status=1
    )


def test_a_missing_trial_list_is_named(corpus):
    """Forgotten, or another table in its place."""
    said = call("score.sh", "x/enroll", "x/test", "w.txt", folder=corpus, status=1)
    assert "in this order: TRIALS ENROLL_DIR TEST_DIR SCORES" in said
    said = call("score.sh", "test.utt2spk", "x/test", "x/test", "w.txt", folder=corpus, status=1)
    assert "none of its" in said and "is test.utt2spk the right file" in said


def test_a_wrapper_that_does_not_run_its_job_is_named_and_a_missing_one_costs_nothing(corpus, tmp_path):
    result = tmp_path / "s.result.json"
    result.write_text("{}")
    for wrapper, said in (("nosuch.pl", "cannot run 'nosuch.pl'"), ("true", "the job left no ")):
        words = ("score.sh", "--cmd", wrapper, "trials", "x/enroll", "x/test", tmp_path / "s.txt")
        assert said in call(*words, folder=corpus, status=1)
        assert result.exists() == (wrapper == "nosuch.pl")


def test_wrong_options_are_refused(corpus):
    for option, value, message in (
        ("--centring", "whitened", "needs --train-dir"),
        ("--backend", "pdla", "argument --backend: invalid choice: 'pdla'"),
        ("--backed", "plda", "did you mean '--backend'"),
    ):
        assert message in call(
            "score.sh", option, value, "trials", "x/enroll", "x/test", "w.txt", folder=corpus, status=1
        )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["score", "--train-dir", "x/train"], "--train-dir has no effect with --centring raw"),
        (["score", "--backend=plda", "--plda-dir=p", "--train-dir=t"], "--train-dir has no effect for PLDA"),
        (["score", "--utterances", "u"], "--utterances has no effect without --train-dir and --cohort-dir"),
        (["score", "--plda-dir", "plda"], "--plda-dir has no effect without --backend plda"),
        (["score", "--wccn_dir=w"], "--wccn-dir has no effect without --centring wccn"),
        (["score", "--cohort-dir", "x/train"], "--cohort-dir has no effect without --normalisation"),
        (["score", "--cohort-clusters", "c"], "--cohort-clusters has no effect without --normalisation"),
        (
            ["score", "--normalisation", "s-norm", "--cohort-dir", "t", "--top", "300"],
            "normalisation as-norm",
        ),
        (["evaluate-scores", "--enroll-spk2utt", "e"], "--enroll-spk2utt has no effect without --utt2spk"),
        (["make-trials", "--seed", "1"], "--seed has no effect without --max-trials"),
        (["threshold", "--crops", "c", "--config", "y"], "--config has no effect on crops that are there"),
        (["threshold", "--crops", "c", "--xvectors", "x", "--nj", "2"], "--nj has no effect where --crops"),
        (["extract-crops", "--device", "cuda"], "--device has no effect without --part: --gpu N takes"),
        (["extract-embeddings", "--device", "cuda"], "--device has no effect without --part: --gpu N takes"),
    ],
)
def test_an_option_without_an_effect_is_refused(words, said, capsys):
    verb = words[0]
    places = {"score": 4, "make-trials": 2}.get(verb, 3)
    assert main([*words, *"abcd"[:places]]) == 1
    assert said in capsys.readouterr().err


def test_every_step_has_a_script_of_one_call_and_declares_its_marks():
    for verb in STEPS:
        name = verb.replace("-", "_")
        script = (ROOT / "steps" / f"{name}.sh").read_text()
        # `pydino train` without --cmd is what the processes of the job run, and the user who watches a run
        default = " --cmd run_local.sh" if verb in ("train", "monitor") else ""
        assert script.endswith(f'exec pydino {verb}{default} "$@"\n')
        assert f"# Usage: steps/{name}.sh " in script and f" e.g.: steps/{name}.sh " in script
        assert callable(importlib.import_module(f"pydino.cli.{name}").steps)


def test_asking_what_is_pending_loads_neither_torch_nor_scipy():
    code = "import sys, pydino.cli._steps as s\nfor v in s.STEPS: __import__('pydino.cli.' + v.replace('-', '_'))\n"
    check = "print(sorted({'torch', 'scipy', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code + check], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_trials_of_a_single_cluster_are_not_said_to_be_of_a_speaker(tmp_path, capsys):
    write_table(tmp_path / "utt2cluster", {"a": "c1", "b": "c1"})
    words = ["make-trials", str(tmp_path / "utt2cluster"), str(tmp_path / "trials")]
    for settings, said in (
        ("", "has a single speaker (2 utt"),
        ("{}", "has a single cluster (2 utterances)"),
    ):
        if settings:
            (tmp_path / "clusters.json").write_text(settings)
        assert main(words) == 1
        assert said in capsys.readouterr().err


def test_trials_are_all_pairs_or_a_keyed_sample(corpus, tmp_path):
    call("pydino", "make-trials", "test.utt2spk", tmp_path / "all", folder=corpus)
    pairs = [line.split() for line in (tmp_path / "all").read_text().splitlines()]
    speaker_of = dict(line.split() for line in (corpus / "test.utt2spk").read_text().splitlines())
    assert len({frozenset(pair[:2]) for pair in pairs}) == len(pairs) == 200 * 199 // 2
    assert all(a != b and (label == "target") == (speaker_of[a] == speaker_of[b]) for a, b, label in pairs)
    for name in ("sample", "again"):
        call("pydino", "make-trials", "--max-trials", "2001", "test.utt2spk", tmp_path / name, folder=corpus)
    sample = (tmp_path / "sample").read_text().splitlines()
    assert sample == (tmp_path / "again").read_text().splitlines()
    targets = sum(pair[2] == "target" for pair in pairs)
    assert len(sample) == 2001 and sum(line.endswith(" target") for line in sample) == min(targets, 1000)
    assert set(sample) <= {" ".join(pair) for pair in pairs}
    write_table(tmp_path / "one", {"a1": "a", "a2": "a"})
    assert "single speaker" in call(
        "pydino", "make-trials", tmp_path / "one", tmp_path / "t", folder=corpus, status=1
    )
