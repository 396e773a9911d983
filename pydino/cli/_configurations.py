"""The YAML files of the front end and of the models, checked before the first stage."""

from pydino import __version__
from pydino.base import Step, load_config
from pydino.recipe import TUNING, Run


def check_configurations(run: Run) -> None:
    """Check every YAML file that the stages of a call read. Files that have passed are not loaded again until
    they change: it takes an import of torch.

    Raises:
        ConfigError: names the file and the key.
    """
    front_end = [run.config(name) for name in ("fbank", "vad")] if run.runs(2) else []
    names = [*(run.models if run.runs(4) else ()), *(run.recipe.supervised.models if run.runs(9) else ())]
    tuned = [(mode, task.kind) for task in run.recipe.tasks for mode in task.modes if mode in TUNING]
    tuned = list(dict.fromkeys(tuned)) if run.runs(10) else []
    names += dict.fromkeys(name for mode, _ in tuned for name in TUNING[mode])
    models = [run.config(name) for name in names]
    if not front_end and not models:
        return
    step = Step(
        "exp/.done.configurations",
        "the check of the configurations",
        options={"pydino": __version__, "models": " ".join(names), "tuned": repr(tuned)},
        configs=[*front_end, *models],
    )
    if not step.reason():
        return

    from pydino.audio import KINDS, VadConfig
    from pydino.downstream.tuning import check_trainings
    from pydino.train.methods import load_training_config

    for path, schema in zip(front_end, (KINDS["fbank"][0], VadConfig), strict=False):
        load_config(schema, path)
    loaded = {name: load_training_config(path)[1] for name, path in zip(names, models, strict=True)}
    for mode, kind in tuned:
        check_trainings([(name, loaded[name]) for name in TUNING[mode]], kind)
    if not run.dry_run:
        step.finish()
