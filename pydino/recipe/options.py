"""The options of run.sh: validated before the first stage, so that a mistake is not found hours later."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from pydino.base import UserError, is_release, load_config, model_of, nearest, read_release

from .methods import method_of
from .names import check_names
from .run import Run
from .schema import Recipe
from .systems import systems

_SHARE = re.compile(r"0|1|0?\.\d+|1\.0+|0\.")


@dataclass
class RunOptions:
    """The options of run.sh as given."""

    corpus_dir: str
    default_conf: str
    recipe_file: str = ""
    work_dir: str = ""
    stage: str = "0"
    stop_stage: str = "11"
    skip_stages: str = ""
    corpus: list[str] = field(default_factory=list)  # NAME=DIR
    root: list[str] = field(default_factory=list)  # one; a list so that a second is noticed
    train_sets: str = ""
    test_sets: str = ""
    download: bool = False
    nj: str = "1"
    ngpu: str = "-1"
    num_nodes: str = "1"
    max_drop: str = "0"
    seeds: str = "0"
    models: str = ""
    model: list[str] = field(default_factory=list)
    init: str = ""
    tag: str = ""
    dry_run: bool = False
    detach: bool = False
    chain: bool = False
    list: bool = False  # last, because it shadows the type


def resolve(options: RunOptions, several_machines: bool) -> Run:
    """Validate the options and the recipe, and return the run that they describe.

    Relative paths are relative to the current folder.

    Args:
        several_machines: whether training jobs may use several machines (a scheduler).

    Raises:
        UserError: naming the first mistake and its fix.
    """
    conf = os.path.join(os.path.abspath(options.corpus_dir), "conf")
    recipe = load_config(Recipe, recipe_path(options))
    for name in ("stage", "stop_stage", "nj", "num_nodes"):
        _whole_number(name, getattr(options, name))
    if options.ngpu != "-1":
        _whole_number("ngpu", options.ngpu)
    _check_machines(options, several_machines)
    if int(options.stage) > int(options.stop_stage):
        raise UserError(
            f"--stage {options.stage} comes after --stop-stage {options.stop_stage}: there is nothing to run"
        )
    if not _SHARE.fullmatch(options.max_drop):
        raise UserError(f"--max-drop is a fraction between 0 and 1, got '{options.max_drop}'")
    if options.chain and not options.detach:
        raise UserError("--chain needs --detach")
    if options.tag and not re.fullmatch(r"[A-Za-z0-9_.-]+", options.tag):
        raise UserError(
            f"--tag may hold letters, digits and ._- (it becomes part of folder names), got '{options.tag}'"
        )
    run = Run(
        recipe,
        conf,
        options.default_conf,
        models=_models(options, recipe),
        seeds=list(dict.fromkeys(_whole_number("seeds", word) for word in options.seeds.split())),
        tag=options.tag or recipe.name,
        given=[os.path.realpath(folder) for folder in options.model],
        corpora=_corpora(options, recipe),
        download=options.download,
        train_sets=options.train_sets,
        test_sets=options.test_sets,
        stage=int(options.stage),
        stop_stage=int(options.stop_stage),
        skip_stages=[_stage(word, recipe) for word in options.skip_stages.split()],
        dry_run=options.dry_run,
        models_named=bool(options.models.split()),
        init=os.path.realpath(options.init) if options.init else "",
        beside=beside if (beside := os.path.dirname(recipe_path(options))) != conf else "",
    )
    if not options.list and not any(run.stage <= stage <= run.stop_stage for stage in recipe.stages):
        raise UserError(
            f"the {recipe.name} recipe has no stage from {run.stage} to {run.stop_stage}; it has "
            f"{' '.join(map(str, recipe.stages))}"
        )
    _check_preparation(run)
    _check_models(run, options)
    return run


def _models(options: RunOptions, recipe: Recipe) -> list[str]:
    """Return the models of stage 4: those named, that of the release to go on from, or the recipe's."""
    named = list(dict.fromkeys(options.models.split()))
    if not options.init:
        return named or recipe.models
    if not is_release(options.init) and not Path(options.init, "config.yaml").is_file():
        raise UserError(
            f"--init {options.init} is neither a release (pydino release) nor a model folder; a trained one "
            "is exp/METHOD_TAG/seedN/teacher"
        )
    return named or ([read_release(options.init)["name"]] if is_release(options.init) else recipe.models)


def recipe_path(options: RunOptions) -> str:
    """The absolute path of the recipe's file."""
    return os.path.abspath(options.recipe_file or os.path.join(options.corpus_dir, "conf", "recipe.yaml"))


def check_in_place(run: Run) -> None:
    """Check what needs the work folder, which must be the current one: the systems' names and, where the data
    exist already, the tables that later stages read.
    """
    systems(run)
    if run.stage > 1:  # otherwise stage 1 may still write them, and stage 3 checks them
        run.check_tables()


def _whole_number(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]+", text):
        raise UserError(f"--{name.replace('_', '-')} needs a whole number, got '{text}'")
    return int(text)


def _check_machines(options: RunOptions, several_machines: bool) -> None:
    if int(options.nj) == 0:
        raise UserError("--nj needs one job or more")
    if int(options.num_nodes) == 0:
        raise UserError("--num-nodes needs one machine or more")
    if int(options.num_nodes) > 1 and not several_machines:
        raise UserError(
            f"--num-nodes {options.num_nodes} is for a scheduler that has several machines: choose the "
            "back-end slurm in cmd.sh, or omit --num-nodes"
        )


def _stage(word: str, recipe: Recipe) -> int:
    if word not in map(str, recipe.stages):
        raise UserError(
            f"--skip-stages: the recipe has no stage '{word}'; it has {' '.join(map(str, recipe.stages))} "
            "(separate "
            'several by blanks: "4 10")'
        )
    return int(word)


def _corpora(options: RunOptions, recipe: Recipe) -> dict[str, str]:
    """Return corpus -> absolute folder, of ``--corpus`` and ``--root``."""
    known, found = [*recipe.corpora, *recipe.noises], {}
    if options.root:
        if len(recipe.corpora) != 1:
            several = " ".join(f"--corpus {name}=DIR" for name in recipe.corpora)
            raise UserError(
                f"--root is for a recipe of one corpus; the {recipe.name} recipe has several: {several}"
            )
        if len(options.root) > 1:
            raise UserError(
                f"--root was given twice, {options.root[0]} and {options.root[1]}; the corpus has one folder"
            )
        if not options.root[0]:
            raise UserError("--root needs the folder of the corpus, got ''")
        found[recipe.corpora[0]] = os.path.abspath(options.root[0])
    for pair in options.corpus:
        name, equals, folder = pair.partition("=")
        if not equals or not name or not folder:
            raise UserError(
                f"--corpus '{pair}' is not of the form NAME=DIR, such as {known[0]}=/corpora/{known[0]}"
            )
        if name not in known:
            raise UserError(
                f"--corpus {pair}: the {recipe.name} recipe has no corpus '{name}'{nearest(name, known)}; it "
                f"has {', '.join(known)}"
            )
        if name in found:
            raise UserError(f"--corpus {name}: its folder was given twice, {found[name]} and {folder}")
        found[name] = os.path.abspath(folder)
    return found


def _check_preparation(run: Run) -> None:
    program = Path(run.default_conf).parent / "local" / f"{run.recipe.prepare}.py"
    if run.runs(1) and not program.is_file():
        raise UserError(
            f"no {program}, which stage 1 runs ('prepare' in the recipe); create one with "
            "utils/new_recipe.sh, or use existing data directories: --stage 2"
        )


def _check_models(run: Run, options: RunOptions) -> None:
    recipe = run.recipe
    if not run.seeds:
        raise UserError("--seeds needs a whole number, got ''")
    try:
        check_names("--models", run.models)
    except ValueError as error:
        raise UserError(str(error)) from None
    of_rounds = [name for one in recipe.rounds for name in one.train]
    for model in (*(() if run.from_release else run.models), *recipe.supervised.models, *of_rounds):
        if not run.own_config(model):
            raise UserError(
                f"no {run.beside or run.conf}/{model}.yaml, which the recipe or --models names; a model is a "
                "file there, named without its .yaml"
            )
    for stage, names in ((4, run.models), (9, recipe.supervised.models)):
        needed = [number for number in (3, stage) if names and number not in recipe.stages]
        if needed and not options.list:
            raise UserError(
                f"the {recipe.name} recipe has the model {names[0]}, but not stage {needed[0]} in its "
                f"'stages': stage 3 makes the training set and stage {stage} trains; add them, or leave out "
                "the models, and give trained ones with --model FOLDER"
            )
    for model in run.models:
        if method_of(run.model_config(model)).reads_labels:
            raise UserError(
                f"{'--init' if run.from_release else '--models'}: {model} is trained with "
                "labels, by stage 9 if the recipe's supervised.models names it, or on clusters by stage 8 if "
                "a round does"
            )
    for model in recipe.supervised.models:
        if not method_of(run.config(model)).reads_labels:
            raise UserError(
                f"supervised.models: {model} is trained without labels: it belongs in the recipe's models"
            )
    for name in of_rounds:
        if not method_of(run.config(name)).reads_clusters:
            raise UserError(
                f"rounds: {name} is of the method {method_of(run.config(name)).name}, which reads no clusters"
            )
    for folder in filter(is_release, run.given):
        raise UserError(f"--model {folder} is a release; its model is the folder {model_of(folder)}")
    for folder in run.given:
        if not Path(folder, "config.yaml").is_file():
            raise UserError(
                f"--model {folder} is not a model folder; a trained one is exp/METHOD_TAG/seedN/teacher"
            )
    if not run.models and not run.given and not options.list and run.stop_stage >= 5:
        raise UserError(
            f"the {recipe.name} recipe trains no model: name one with --model FOLDER (such as "
            "../speechocean762/exp/dino-koleo_speechocean762/seed0/teacher), or stop before stage 5 with "
            "--stop-stage 4"
        )
