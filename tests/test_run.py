"""run.sh as a user meets it: its table of contents, its options, what it says of mistakes and how to
continue.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from pydino.base import load_config
from pydino.cli._configurations import check_configurations
from pydino.recipe import Recipe, Run
from pydino.train import methods

ROOT = Path(__file__).parent.parent


def run(*arguments, cwd=ROOT, **environment):
    return subprocess.run(
        [ROOT / "run.sh", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
    )


def test_list_is_the_recipes_table_of_contents():
    done = run("--list")
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["0", "check"],
        ["1", "data"],
        ["2", "features"],
        ["3", "train-set"],
        ["4", "pretrain"],
        ["5", "extract"],
        ["6", "score"],
        ["7", "cluster"],
        ["8", "refine"],
        ["9", "baseline"],
        ["10", "transfer"],
        ["11", "report"],
    ]


def test_dry_run_prints_the_commands_of_the_asked_stages_and_runs_none(tmp_path):
    work = tmp_path / "a b é"
    done = run("--dry-run", "--stage", 3, "--stop-stage", 4, "--seeds", "0 1", "--work-dir", work)
    assert done.returncode == 0, done.stderr
    commands = [line.split()[0] for line in done.stdout.splitlines()]
    assert commands == ["steps/make_train_set.sh", *["steps/train.sh"] * 4, *["steps/monitor.sh"] * 4]
    assert list(work.iterdir()) == []


def test_what_is_trained_with_labels_gets_those_of_all_training_sets_and_may_be_skipped(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    text = (ROOT / "egs/mini/conf/recipe.yaml").read_text().replace("{sets: [train]", "{sets: [train, more]")
    text = text.replace("sets: [train, test]", "sets: [train, more, test]")
    recipe.write_text(text.replace("{models: [xvector]}", "{models: [xvector], labels: utt2emotion}"))
    asked = [
        "--dry-run",
        "--stage",
        9,
        "--stop-stage",
        10,
        "--recipe-file",
        recipe,
        "--work-dir",
        tmp_path / "work",
    ]
    said = run(*asked).stdout
    labels = "--labels data/train/utt2emotion --labels data/more/utt2emotion"
    assert f"{labels} data/train_ssl exp/xvector_mini/seed0\n" in said
    extraction = next(line for line in said.splitlines() if "steps/extract_embeddings.sh" in line)
    exp = "exp/xvector_mini/seed0"
    sets = " ".join(f"data/{name} {exp}/xvectors_{name}" for name in ("train", "more", "test"))
    assert f"{exp}/model {sets} --with-silence data/test {exp}/xvectors_test_with_silence" in extraction
    assert (
        "exp/xvector_mini/seed0/transfer/emotion/logreg\n" in said
        and "dino-koleo_mini/seed0/scores" not in said
    )
    assert "xvector_mini" not in run(*asked, "--skip-stages", 9).stdout


def test_classifiers_are_trained_on_what_stage_9_has_made_and_on_all_others_in_any_case(tmp_path):
    asked = ["--dry-run", "--stage", 10, "--work-dir", tmp_path]
    done = run(*asked)
    assert (
        done.returncode == 0
        and "dino-koleo_mini/seed0/transfer" in done.stdout
        and "xvector_mini" not in done.stdout
    )
    assert "without xvector_mini/seed0, which stage 9 has not trained yet" in done.stderr
    mark = tmp_path / "exp/xvector_mini/seed0/.done.train"
    mark.parent.mkdir(parents=True)
    mark.touch()
    assert "exp/xvector_mini/seed0/transfer/emotion/logreg\n" in run(*asked, "--skip-stages", 9).stdout


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("supervised:", "# supervised:", "9 trains what supervised.models names"),
        ("models: [dino-koleo, simclr-ssps]", "models: []", "models: none, but"),
        ("[xvector]}", "[speaker-net]}", "/speaker-net.yaml"),
        ("[xvector]}", "[dino]}", "dino is trained without labels"),
        ("[dino-koleo, simclr-ssps]", "[xvector]", "xvector is trained with labels"),
        ("[xvector]}", "[xvector], labels: ''}", "'' is not the name of a file"),
        (
            "[xvector]}",
            "[xvector], labels: utt2speaker}",
            "no data/train/utt2speaker, which supervised.labels",
        ),
        ("- {set: test}", "- {set: test, file: data/train/pairs}", "no data/train/pairs, which trials"),
        (
            "labels: utt2emotion",
            "labels: utt2Emotion",
            "no data/test/utt2Emotion, which task 'emotion'",
        ),
        ("name: mini", "name: other", "local/prepare_other.py, which stage 1 runs"),
        ("{sets: [train]", "{sets: [train, test]", "'test' is also the set of trials or of a task"),
    ],
)
def test_mistakes_in_what_late_stages_read_are_found_before_the_training(tmp_path, old, new, said):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text((ROOT / "egs/mini/conf/recipe.yaml").read_text().replace(old, new))
    for name in ("train/utt2spk", "test/utt2spk", "test/trials"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).touch()
    stage = 1 if "stage 1" in said else 3
    done = run("--stage", stage, "--stop-stage", 4, "--recipe-file", recipe, "--work-dir", tmp_path)
    assert done.returncode == 1 and said in done.stderr, done.stderr


@pytest.mark.parametrize(
    "option, parts", [("--train-sets", "dev-clean test-other"), ("--test-sets", "train-clean-100 dev-clean")]
)
def test_what_is_downloaded_is_what_is_prepared(option, parts, tmp_path):
    asked = ["--download", option, "dev-clean", "--work-dir", tmp_path]
    done = run("--dry-run", "--stage", 1, "--stop-stage", 1, "--corpus-dir", "egs/librispeech", *asked)
    assert done.returncode == 0, done.stderr
    assert f"local/download.py --parts '{parts}' librispeech downloads/librispeech" in done.stdout


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--stag", "3"], "invalid option --stag (did you mean --stage?)"),
        (["--stage", "three"], "--stage needs a whole number, got 'three'"),
        (["--force", "maybe"], 'expected "true" or "false"'),
        (["--stage"], "needs a value"),
        (["extra"], "unexpected argument 'extra'"),
        (["--recipe-file", "nowhere.yaml"], "nowhere.yaml"),
        (["--corpus-dir", "nowhere"], "--corpus-dir is a recipe folder"),
        (["--work-dir", "/proc/nowhere"], "give --work-dir a place where you may write"),
        (["--nj", "0"], "--nj needs one job or more"),
        (["--ngpu", "two"], "--ngpu needs a whole number, got 'two'"),
        (["--num-nodes", "2", "--detach"], "--num-nodes 2 is for a scheduler that has several machines"),
        (["--seeds", "0,1"], "--seeds needs a whole number, got '0,1'"),
        (["--stage", "12"], "--stage 12 comes after --stop-stage 11"),
        (["--skip-stages", "4,5"], "the recipe has no stage '4,5'"),
        (["--models", "nosuch"], "conf/nosuch.yaml"),
        (["--models", "xvector"], "xvector is trained with labels, by stage 9"),
        (["--model", "nosuch"], "is not a model folder"),
        (["--tag", "a b"], "--tag may hold letters"),
        (["--max-drop", "0.5x"], "--max-drop is a fraction between 0 and 1"),
        (["--chain"], "--chain needs --detach"),
        (
            ["--corpus", "/corpora/mini"],
            "--corpus '/corpora/mini' is not of the form NAME=DIR, such as mini=",
        ),
        (["--corpus", "minni=/x"], "has no corpus 'minni' (did you mean 'mini'?); it has mini, musan, rirs"),
        (["--root", "/x", "--root", "/y"], "--root was given twice, /x and /y; the corpus has one folder"),
        (["--root", ""], "--root needs the folder of the corpus, got ''"),
        (
            ["--corpus-dir", "egs/emodb", "--stage", "7", "--stop-stage", "8"],
            "the emodb recipe has no stage from 7 to 8; it has 0 1 2 5 10 11",
        ),
        (["--models", "../../wavdir/conf/tiny"], "--models: '../../wavdir/conf/tiny' becomes part of file"),
        (["--root", "/x", "--corpus", "mini=/y"], "its folder was given twice, /x and /y"),
        (
            ["--corpus-dir", "egs/voxceleb", "--root", "/x"],
            "several: --corpus voxceleb2=DIR --corpus voxceleb1=DIR",
        ),
    ],
)
def test_mistakes_stop_at_once_and_say_what_is_wrong(arguments, said, tmp_path):
    work = [] if "--work-dir" in arguments else ["--work-dir", tmp_path]
    done = run(*work, *arguments)
    assert done.returncode == 1 and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_recipe_is_checked(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: x\nstages: [0]\nsets: [a]\ntrial: [{set: a}]\n")
    assert "unknown key 'trial' (did you mean 'trials'?)" in run("--recipe-file", recipe).stderr
    recipe.write_text("name: x\nstages: [0, 12]\nsets: [a]\n")
    assert "[12] do not exist" in run("--recipe-file", recipe).stderr
    recipe.write_text("name: x\nstages: [0]\nsets: [a]\ntrials: [{set: b}]\n")
    assert "'b' is used but not listed in sets" in run("--recipe-file", recipe).stderr


def copied_recipe(folder):
    """The configuration of mini in another place; returns its recipe folder."""
    shutil.copytree(ROOT / "conf", folder / "conf")
    shutil.copytree(ROOT / "egs/mini/conf", folder / "egs/mini/conf")
    (folder / "egs/mini/cmd.sh").write_text(f". '{ROOT}/cmd.sh'\n")
    return folder / "egs/mini"


@pytest.mark.parametrize(
    ("stage", "name", "line", "said"),
    [
        (4, "dino-koleo", "epocs: 3", "dino-koleo.yaml: unknown key 'epocs' (did you mean 'epochs'?)"),
        (4, "dino-koleo", "encoder: {name: tdnm}", "dino-koleo.yaml: encoder: unknown name 'tdnm' (did you"),
        (
            4,
            "dino-koleo",
            "encoder: {name: tdnn, channels: many}",
            "encoder tdnn: channels must be a whole number",
        ),
        (9, "xvector", "epochs: .inf", "xvector.yaml: epochs must be a finite number, got inf"),
        (10, "tune-affine", "trainable: [embeding]", "no part 'embeding' (did you mean 'embedding'?)"),
        (
            10,
            "tune-all",
            "encoder: {name: tdnn}",
            "tune-all.yaml: the method classifier takes 'encoder' from",
        ),
        (
            10,
            "tune-all",
            "hidden: 8",
            "hidden: 0 in tune-affine, 8 in tune-all; all trainings of a task must",
        ),
        (2, "fbank", "nun_mel_bins: 40", "fbank.yaml: unknown key 'nun_mel_bins' (did you mean 'num_mel_bi"),
        (2, "vad", "vad_energy_threshold: much", "vad.yaml: vad_energy_threshold must be a number"),
        (7, "cluster", "neighbors: [3]", "cluster.yaml: unknown key 'neighbors' (did you mean"),
        (8, "crops", "seconds: 2500", "crops.yaml: seconds must be at most 60, got 2500"),
    ],
)
def test_configurations_are_checked_before_the_first_stage(stage, name, line, said, tmp_path):
    """By every call that runs a stage which reads them, with --dry-run too."""
    corpus = copied_recipe(tmp_path)
    wrong, right = corpus / f"conf/{name}.yaml", corpus / "conf/right.yaml"
    if wrong.exists():
        shutil.copy(wrong, right)
    else:
        right.write_text(f"extends: {ROOT}/conf/{name}.yaml\n")
    wrong.write_text(f"extends: right.yaml\n{line}\n")
    for first, dry in ((0, "false"), (stage, "true")):
        done = run("--corpus-dir", corpus, "--stage", first, "--dry-run", dry)
        assert done.returncode == 1 and said in done.stderr and "stage 0" not in done.stderr, done.stderr
    after = next(number for number in (3, 5, 10, 11) if number > stage)
    later = run("--corpus-dir", corpus, "--stage", after, "--stop-stage", after, "--dry-run")
    assert later.returncode == 0, later.stderr


def test_a_configuration_beside_a_recipe_file_comes_before_that_of_the_recipe_folder(tmp_path):
    corpus, elsewhere = copied_recipe(tmp_path), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.yaml").write_text(f"extends: {corpus}/conf/transfer.yaml\n")
    (elsewhere / "tune-all.yaml").write_text(f"extends: {ROOT}/conf/tune-all.yaml\nepochs: 1\n")
    asked = ["--corpus-dir", corpus, "--recipe-file", elsewhere / "mine.yaml", "--dry-run", "--stage", 10]
    done = run(*asked, "--work-dir", tmp_path / "work")
    assert done.returncode == 0, done.stderr
    assert f"--config {elsewhere}/tune-all.yaml" in done.stdout and "/conf/tune-all.yaml" not in done.stdout
    assert f"--config {ROOT}/conf/tune-affine.yaml" in done.stdout


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("3, 4, 5", "3, 5", "has the model dino-koleo, but not stage 4 in its 'stages'"),
        ("3, 4, 5", "4, 5", "stages: 7 takes crops of data/train_ssl, which stage 3 makes; add 3"),
    ],
)
def test_models_that_no_stage_trains_are_found_at_the_start(tmp_path, old, new, said):
    text = (ROOT / "egs/mini/conf/recipe.yaml").read_text()
    assert old in text
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text.replace(old, new))
    done = run("--recipe-file", recipe, "--work-dir", tmp_path / "work", "--dry-run")
    assert done.returncode == 1 and said in done.stderr and not done.stdout, done.stderr


def test_configurations_that_have_passed_are_not_loaded_again(tmp_path, monkeypatch):
    """It would take an import of torch, in every call that has nothing to do."""
    recipe = load_config(Recipe, ROOT / "egs/mini/conf/recipe.yaml")
    monkeypatch.chdir(copied_recipe(tmp_path))
    wanted = Run(recipe, os.path.abspath("conf"), str(ROOT / "conf"), recipe.models, [0], "mini")
    loaded, load = [], methods.load_training_config

    def noted(path):
        loaded.append(Path(path).stem)
        return load(path)

    monkeypatch.setattr(methods, "load_training_config", noted)
    names = ["dino-koleo", "simclr-ssps", "xvector", "round", "tune-affine", "tune-all"]
    for expected in (names, []):
        loaded.clear()
        check_configurations(wanted)
        assert loaded == expected
    with open("conf/xvector.yaml", "a") as stream:
        stream.write("log_steps: 7\n")
    wanted.dry_run = True
    for _ in range(2):  # a dry run leaves no mark
        loaded.clear()
        check_configurations(wanted)
        assert loaded == names


def test_a_recipe_without_training_asks_for_a_model(tmp_path):
    done = run("--corpus-dir", "egs/emodb", "--work-dir", tmp_path)
    assert done.returncode == 1 and "name one with --model FOLDER" in done.stderr


def model_folder(path, method="dino", role="teacher", seed=0):
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(
        f"method: {method}\nrole: {role}\nseed: {seed}\nencoder: {{name: tdnn}}\nfront_end: {{}}\n"
    )
    return path


def test_given_models_never_share_a_folder(tmp_path):
    """Neither those whose paths end alike, nor the roles of one run, nor what is trained here."""
    given = [
        model_folder(tmp_path / place / f"exp/dino-koleo_mini/seed0/{role}", role=role)
        for place in ("here", "there", "work")
        for role in ("student", "teacher")
    ]
    options = ["--models", "dino-koleo", *(word for folder in given for word in ("--model", folder))]
    done = run("--dry-run", "--stage", 6, "--stop-stage", 6, "--work-dir", tmp_path / "work", *options)
    assert done.returncode == 0, done.stderr
    scores = [line.split()[-1] for line in done.stdout.splitlines() if ".cosine.raw.txt" in line]
    # The teacher of the work folder is what is trained there; all models have one encoder, so beside them there
    # are the statistics and a single untrained baseline.
    assert len(scores) == len(set(scores)) == 6 + 3
    assert sum("/dino-koleo_mini/" in path for path in scores) == 1


def test_a_model_of_stage_9_may_be_given_by_its_folder(tmp_path):
    model = model_folder(tmp_path / "exp/xvector_mini/seed0/model", "xvector", "model")
    done = run("--dry-run", "--stage", 9, "--work-dir", tmp_path, "--model", model)
    assert done.returncode == 0
    assert done.stdout.count("exp/xvector_mini/seed0/transfer/emotion/affine-then-all") == 1


def test_baselines_belong_to_an_encoder(tmp_path):
    """Other --models have another untrained encoder, in another folder; the statistics serve all."""
    shutil.copytree(ROOT / "egs/mini/conf", tmp_path / "conf")
    (tmp_path / "cmd.sh").write_text(f". '{ROOT}/cmd.sh'\n")
    (tmp_path / "conf/wide.yaml").write_text("extends: dino.yaml\nencoder: {channels: 48}\n")
    (tmp_path / "conf/long.yaml").write_text("extends: dino.yaml\nepochs: 99\n")

    def baselines(models):
        done = run("--dry-run", "--stage", 5, "--stop-stage", 5, "--corpus-dir", tmp_path, "--models", models)
        assert done.returncode == 0, done.stderr
        return {line.split()[-1] for line in done.stdout.splitlines() if "make_baseline" in line}

    assert baselines("dino") == baselines("dino long") == baselines("long")
    assert len(baselines("dino") & baselines("wide")) == 2 and len(baselines("dino wide")) == 4
    assert baselines("dino wide") == baselines("dino") | baselines("wide")


def test_a_given_model_is_scored_raw_where_there_is_no_training_set(tmp_path):
    model = model_folder(tmp_path / "teacher")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: emodb\nstages: [5, 6]\nsets: [emodb]\ntrials: [{set: emodb}]\n")
    done = run("--dry-run", "--recipe-file", recipe, "--work-dir", tmp_path / "work", "--model", model)
    assert done.returncode == 0, done.stderr
    scoring = [line for line in done.stdout.splitlines() if "steps/score.sh" in line]
    assert len(scoring) == 4 and all("--centring raw" in line for line in scoring)
    assert "no training set (train)" in done.stderr and "scored raw" in done.stderr


def test_what_nothing_needs_is_not_embedded(tmp_path):
    """Without trials and tasks, the one baseline of use is that whose statistics the clusters start from."""
    done = run("--dry-run", "--stage", 5, "--corpus-dir", "egs/wavdir", "--work-dir", tmp_path)
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "steps/make_baseline.sh",
        "steps/extract_embeddings.sh",
        "steps/extract_embeddings.sh",
        "steps/extract_crops.sh",
        "steps/extract_crops.sh",
        "steps/cluster.sh",
        "steps/threshold.sh",
        "steps/report.sh",
    ]
    assert "--kind fbank-stats-cmn" in done.stdout.splitlines()[0]
    model = model_folder(tmp_path / "teacher")
    done = run(
        "--dry-run", "--stage", 5, "--corpus-dir", "egs/emodb", "--work-dir", tmp_path, "--model", model
    )
    assert "train" not in "".join(line for line in done.stdout.splitlines() if "extract_emb" in line).replace(
        "untrained", ""
    )


def test_pipes_are_allowed_to_features_and_training_alone_where_the_user_says_so(tmp_path):
    for given, value in (([], "false"), (["--allow-pipes"], "true")):
        said = run("--dry-run", "--work-dir", tmp_path, *given).stdout.splitlines()
        passed = {line.split()[0] for line in said if f"--allow-pipes {value}" in line}
        assert passed == {"steps/make_fbank.sh", "steps/train.sh", "steps/monitor.sh"}, passed


def test_a_recipes_own_front_end_goes_before_the_projects(tmp_path):
    asked = ["--dry-run", "--stage", 2, "--stop-stage", 2, "--work-dir", tmp_path]
    said = run(*asked, "--corpus-dir", "egs/librispeech").stdout
    assert f"--fbank-config {ROOT}/conf/fbank.yaml" in said and f"--vad-config {ROOT}/conf/vad.yaml" in said
    said = run(*asked, "--corpus-dir", "egs/wavdir").stdout
    assert (
        f"--fbank-config {ROOT}/egs/wavdir/conf/fbank.yaml" in said
        and f"--vad-config {ROOT}/conf/vad.yaml" in said
    )


def test_a_failing_stage_names_itself_and_the_command_that_goes_on(tmp_path):
    done = run(
        "--corpus-dir",
        "egs/emodb",
        "--work-dir",
        tmp_path,
        "--stage",
        "1",
        "--stop-stage=1",
        "--root",
        "no where",
    )
    assert done.returncode == 1
    assert (
        "stage 1: data failed" in done.stderr and "no where" in done.stderr and "Traceback" not in done.stderr
    )
    assert "--stage 1 --corpus-dir egs/emodb" in done.stderr and "--root 'no where'" in done.stderr


def test_the_command_that_resumes_goes_on_from_any_folder_as_the_first_was_called(tmp_path):
    """From another folder than the one it was called from, without the variables that were set for it."""
    here = tmp_path / "a b"
    tools = here / "bin"
    tools.mkdir(parents=True)
    (tools / "sinfo").write_text("#!/bin/sh\nexit 1\n")
    (tools / "sinfo").chmod(0o755)
    environment = {"PATH": f"{tools}:{os.environ['PATH']}"}
    program = os.path.relpath(ROOT / "egs/wavdir/run.sh", here)
    call = [program, "--work-dir=w", "--stop-stage", "0", "--stage", "0", "--root", "my speech"]
    failed = subprocess.run(
        call,
        cwd=here,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment | {"PYDINO_BACKEND": "slurm", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert failed.returncode == 1 and "sends jobs to Slurm, which does not answer" in failed.stderr
    line = failed.stderr.splitlines()[-1]
    assert f"cd '{here}' && env PYDINO_BACKEND=slurm " in line and " CUDA_VISIBLE_DEVICES= " in line

    def resume():
        return subprocess.run(
            ["bash", "-c", line],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=120,
            env=os.environ | environment,
        )

    again = resume()
    assert again.returncode == 1 and again.stderr.splitlines()[-1] == line
    (tools / "sinfo").write_text("#!/bin/sh\nexit 0\n")
    again = resume()
    assert again.returncode == 1 and f"no corpus at {here}/my speech" in again.stderr


@pytest.mark.parametrize("corpus", ["speechocean762", "librispeech", "wavdir"])
def test_a_missing_corpus_stops_at_stage_0_and_names_its_option(corpus, tmp_path):
    done = run(
        "--corpus-dir",
        f"egs/{corpus}",
        "--work-dir",
        tmp_path,
        "--stop-stage",
        1,
        "--root",
        tmp_path / "no where",
    )
    assert done.returncode == 1 and "stage 0: check failed" in done.stderr
    assert f"no corpus at {tmp_path}/no where" in done.stderr and f"--corpus {corpus}=DIR" in done.stderr
    assert f"in {tmp_path}, was:" in done.stderr and not (tmp_path / "data").exists()


def test_the_number_of_jobs_is_that_of_this_machine_or_the_same_wherever_slurm_is_asked(tmp_path):
    call = ["--work-dir", tmp_path, "--dry-run", "--stage", 2, "--stop-stage", 2, "--ngpu", 0]
    for backend, number in (("local", len(os.sched_getaffinity(0))), ("slurm", 16)):
        assert f"make_fbank.sh --nj {number} " in run(*call, PYDINO_BACKEND=backend).stdout
    assert "make_fbank.sh --nj 3 " in run(*call, "--nj", 3, PYDINO_BACKEND="slurm").stdout


def test_more_gpus_than_there_are_stop_at_stage_0(tmp_path):
    done = run("--work-dir", tmp_path, "--ngpu", 99, "--stop-stage", 0)
    assert (
        done.returncode == 1 and "--ngpu 99 was requested" in done.stderr and "run with --ngpu" in done.stderr
    )


@pytest.fixture
def two_gpus(tmp_path):
    tool = tmp_path / "bin/nvidia-smi"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\necho "GPU 0: Fake (UUID: GPU-aa)"\necho "GPU 1: Fake (UUID: GPU-bb)"\n')
    tool.chmod(0o755)
    return f"{tool.parent}:{os.environ['PATH']}"


def test_gpus_are_those_that_jobs_may_have(tmp_path, two_gpus):
    asked = ["--work-dir", tmp_path / "work", "--dry-run", "--stage", 4, "--stop-stage", 4]
    for choice, count in (
        ({"CUDA_VISIBLE_DEVICES": "1"}, 1),
        ({"CUDA_VISIBLE_DEVICES": ""}, 0),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, 2),
    ):
        assert f"--ngpu {count} " in run(*asked, PATH=two_gpus, **choice).stdout
    done = run(
        "--work-dir",
        tmp_path / "work",
        "--ngpu",
        2,
        "--stop-stage",
        0,
        PATH=two_gpus,
        CUDA_VISIBLE_DEVICES="1",
    )
    assert (
        done.returncode == 1
        and "1 are available here (CUDA_VISIBLE_DEVICES is '1'); run with --ngpu 1" in done.stderr
    )


CONTEXT = {
    "recipe": {"name": "x", "stages": [1], "sets": ["a"]},
    "conf": "conf",
    "default_conf": "conf",
    "models": [],
    "seeds": [0],
    "tag": "x",
}


def pipeline_of(tmp_path, step, call="run local/slow.sh"):
    """Start a run.sh of one stage with one step."""
    (tmp_path / "utils").mkdir()
    (tmp_path / "utils/pydino").write_text('#!/bin/bash\nexec python3 -m pydino "$@"\n')
    (tmp_path / "utils/pydino").chmod(0o755)
    (tmp_path / "local").mkdir()
    (tmp_path / "local/slow.sh").write_text(f"#!/usr/bin/env bash\n{step}\n")
    (tmp_path / "local/slow.sh").chmod(0o755)
    (tmp_path / "run.sh").write_text(f"""#!/usr/bin/env bash
stage=1 stop_stage=1 list=false dry_run=false nj=1 called_as=$0 called_with=(--nj 1) called_from=$PWD train_cmd=run_local.sh
set -Eeuo pipefail
. '{ROOT}/path.sh'
. stages.sh
recipe=([stages]=1 [to_run]=1 [context]='{json.dumps(CONTEXT)}')
trap_signals
PYDINO_ROOT=$PWD
if stage 1 slow in out; then {call}; fi
finish
""")
    return subprocess.Popen(
        ["bash", "run.sh"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


ROW_BY_ROW, AT_ONCE = (
    "for_each sets local/slow.sh {set}",
    "for_each sets local/slow.sh --cmd run_slurm.sh {set}",
)


@pytest.mark.parametrize("call", ["run local/slow.sh", ROW_BY_ROW, AT_ONCE])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_step_and_its_jobs_before_the_last_words(tmp_path, number, call):
    """TERM and HUP go to run.sh alone, Ctrl-C to all of a terminal."""
    trainer = 'trap "sleep 1; touch saved; exit 3" TERM; echo $$ > pid; while :; do sleep 0.1; done'
    process = pipeline_of(
        tmp_path, f"if run_local.sh a.log bash -c '{trainer}'; then :; fi\ntouch after", call
    )
    end = time.monotonic() + 30
    while not (tmp_path / "pid").exists():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.05)
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    _, said = process.communicate(timeout=60)
    # as loops of shells want it
    assert process.returncode == (-number if number == signal.SIGINT else 128 + number), said
    assert (tmp_path / "saved").exists() and not (tmp_path / "after").exists()
    assert re.search(
        r"interrupted in stage 1: slow\. Resume with:\n  cd \S+ && (env \S+ )?run.sh --stage 1 --nj 1\n$",
        said,
    ), said
    assert "Warning" not in said


@pytest.mark.parametrize("call", [ROW_BY_ROW, AT_ONCE])
@pytest.mark.parametrize("ignored", [signal.SIG_DFL, signal.SIG_IGN], ids=["terminal", "nohup"])
def test_killing_run_sh_alone_leaves_no_job_behind(tmp_path, ignored, call):
    """Or the next call would work beside it."""
    trainer = 'trap "touch saved; exit 3" TERM; echo $$ > pid; while :; do sleep 0.1; done'
    step = f"run_local.sh a.log bash -c '{trainer}'; touch after"
    before = signal.signal(signal.SIGHUP, ignored)
    try:
        process = pipeline_of(tmp_path, step, call)
    finally:
        signal.signal(signal.SIGHUP, before)
    end = time.monotonic() + 30
    while not (tmp_path / "pid").exists():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    while not (tmp_path / "saved").exists() or f"{process.pid}" in living_groups():
        assert time.monotonic() < end
        time.sleep(0.05)
    process.stderr.close()
    assert not (tmp_path / "after").exists()


def living_groups():
    return subprocess.run(["ps", "-eo", "pgid="], capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize("seconds", [0, 0.005, 0.01, 0.02, 0.04])
def test_ctrl_c_reaches_a_step_that_has_just_started(tmp_path, seconds):
    process = pipeline_of(tmp_path, "sleep 300")
    assert "stage 1: slow" in process.stderr.readline()
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT and "interrupted in stage 1" in said


def test_a_folder_that_is_missing_at_the_end_is_no_failure(tmp_path):
    process = pipeline_of(tmp_path, "true")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0 and "done in" in said and "failed" not in said


def test_shell_scripts_pass_shellcheck():
    listed = subprocess.run(
        ["git", "ls-files", "*.sh", "utils/pydino", ".ci/run"], cwd=ROOT, capture_output=True, text=True
    )
    scripts = listed.stdout.split()
    scripts = scripts or [str(p.relative_to(ROOT)) for p in ROOT.rglob("*.sh") if ".venv" not in p.parts]
    done = subprocess.run(["shellcheck", "-x", *scripts], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
