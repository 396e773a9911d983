"""The YAML files of the front end, of the models and of clusters, checked before the first stage."""

from pathlib import Path

from pydino import __version__
from pydino.base import ConfigError, Step, config_to_dict, is_release, load_config, model_of
from pydino.cli._steps import check_files
from pydino.recipe import TUNING, Run


def check_configurations(run: Run) -> None:
    """Check every YAML file that the stages of a call read. Files that have passed are not loaded again until
    they change: it takes an import of torch.

    Raises:
        ConfigError: names the file and the key.
    """
    front_end = [run.config(name) for name in ("fbank", "vad")] if run.runs(2) else []
    names = [*(run.models if run.runs(4) else ()), *(run.recipe.supervised.models if run.runs(9) else ())]
    if run.runs(8):
        names += [name for one in run.recipe.rounds for name in one.train]
    tuned = [(mode, task.kind) for task in run.recipe.tasks for mode in task.modes if mode in TUNING]
    tuned = list(dict.fromkeys(tuned)) if run.runs(10) else []
    names += [name for mode, _ in tuned for name in TUNING[mode]]
    names = list(dict.fromkeys(names))
    in_stage_4 = run.models if run.runs(4) else ()
    models = [run.model_config(name) if name in in_stage_4 else run.config(name) for name in names]
    clusters = run.recipe.clusters if run.runs(7) or run.runs(8) else None
    clustering = [run.config(name) for name in (clusters.config, clusters.crops)] if clusters else []
    if not front_end and not models and not clustering:
        return
    check_files(*clustering)
    step = Step(
        "exp/.done.configurations",
        "the check of the configurations",
        options={
            "pydino": __version__,
            "models": " ".join(names),
            "tuned": repr(tuned),
            **({"init": run.init} if run.init else {}),
        },
        configs=[*front_end, *models, *clustering],
        reads=[model_of(run.init) / "config.yaml"] if run.init else [],
    )
    if not step.reason():
        return

    from pydino.audio import KINDS, VadConfig
    from pydino.cli.cluster import read_settings
    from pydino.data import AugmentedCropsConfig
    from pydino.downstream.tuning import check_trainings
    from pydino.train.methods import load_training_config

    for path, schema in zip(front_end, (KINDS["fbank"][0], VadConfig), strict=False):
        load_config(schema, path)
    if clustering:
        read_settings(clustering[0])
        load_config(AugmentedCropsConfig, clustering[1])
    loaded = {name: load_training_config(path) for name, path in zip(names, models, strict=True)}
    if run.init and in_stage_4 and front_end and is_release(run.init):
        _check_front_end(run, front_end, [loaded[name][1] for name in in_stage_4])
    for mode, kind in tuned:
        check_trainings([(name, loaded[name][1]) for name in TUNING[mode]], kind)
    of_rounds = {name for one in run.recipe.rounds for name in one.train}
    for name, (method, config) in loaded.items():
        path = models[names.index(name)]
        if name in of_rounds and not method.reads_labels and not config.needs_clusters:
            raise ConfigError(f"{path}: a round is trained on clusters, which this has no use for")
        if name not in of_rounds and config.needs_clusters:
            raise ConfigError(f"{path}: it is trained on clusters, as only the rounds of a recipe are")
    if not run.dry_run:
        step.finish()


def _check_front_end(run: Run, paths: list[str], configs: list) -> None:
    """Compare the front end of a recipe, ``paths`` of its filter banks and its VAD, with that of the release
    that its training goes on from, before features are computed that could not be trained on.
    """
    from pydino.audio import KINDS, VadConfig
    from pydino.infer import FrontEndConfig, read_model_config
    from pydino.models import input_kind
    from pydino.train.from_release import check_front_end

    fbank, vad = (
        load_config(cls, path) for cls, path in zip((KINDS["fbank"][0], VadConfig), paths, strict=True)
    )
    for config in configs:
        here = FrontEndConfig(
            int(fbank.sample_frequency),
            {"kind": "fbank", **config_to_dict(fbank)},
            vad=None if run.recipe.train_set.keep_silence else vad,
            normalisation=config.normalisation,
            input=input_kind(config.encoder),
        )
        released = read_model_config(model_of(run.init)).front_end
        check_front_end(released, here, Path(run.init), Path(paths[0]).parent)
