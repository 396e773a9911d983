"""The rounds of stage 8: what each trains, and whether it is worth its time."""

from functools import cache
from pathlib import Path

from pydino.base import CLUSTERS, UserError, log, read_json, warn

from .methods import encoder_of, method_of
from .row import Row
from .run import Run
from .systems import System, systems_of


def made(run: Run, stage: int) -> list[System]:
    """Return the systems of a stage (:func:`systems_of`), of stage 8 without the rounds that do not pay."""
    return [system for system in systems_of(run, stage) if system.stage != 8 or _pays(run, system)]


def training(run: Run) -> list[Row]:
    """The runs of each round, of which each starts from the one before; the last is the system's."""
    found = []
    for system in made(run, 8):
        one = run.recipe.rounds[system.round - 1]
        first = _first(system)
        init = {"previous": system.init.model_dir, "first": first.model_dir, "random": ""}[one.start]
        for name in one.train:
            config = run.config(name)
            exp = system.exp if name == one.train[-1] else f"{system.exp}/{name}"
            options = ["--config", config, "--seed", str(system.seed), "--clusters", system.init.clusters]
            options += ["--init", init] if init else []
            found.append(Row({"options": options, "exp": exp}, group=system.name))
            init = f"{exp}/{method_of(config).roles[0]}"
    return found


def _first(system: System) -> System:
    """Return the model that a chain of rounds begins with."""
    return system if system.init is None else _first(system.init)


def _pays(run: Run, system: System) -> bool:
    """Whether the clusters on which a round would be trained are fit for it, and better than those of the
    round before.

    A model that was given may be of another encoder than the round, which then could not start from it.
    Degenerate clusters (pydino/backend/clustering/degenerate.py) are never trained on, nor is a round that
    follows one that was omitted. Beyond that the split self-EER decides, which knows no label: a round after
    the first is trained only while it falls, unless the recipe has ``gate: false``. A dry run has all rounds.
    """
    before = system.init
    if run.dry_run:
        return True
    if before.init is not None and not _pays(run, before):
        return False
    one, first = run.recipe.rounds[system.round - 1], _first(system)
    config = run.config(one.train[0])
    wanted = encoder_of(config)[0]
    if first.kind == "given" and one.start != "random" and wanted not in ("default", first.encoder):
        _say(
            f"{system.name} is omitted: it would start from {first.model_dir}, of the encoder "
            f"{first.encoder}, and {config} trains {wanted}"
        )
        return False
    if why := read_clusters(before.clusters).get("degenerate"):
        _say(
            f"{system.name} and what follows it are omitted: the clusters of {before.name} are degenerate, "
            f"{why} ({before.clusters}/{CLUSTERS}); there is nothing to learn from them",
            warn,
        )
        return False
    if before.init is None or not run.recipe.gate:
        return True
    now, earlier = self_eer(before.clusters), self_eer(before.init.clusters)
    if now < earlier:
        return True
    _say(
        f"{system.name} is omitted: the clusters of {before.name} have a split self-EER of {now:.1f} %, "
        f"those before it {earlier:.1f} %, so it would not pay; 'gate: false' in the recipe trains it"
    )
    return False


def self_eer(folder: str) -> float:
    """Return the split self-EER of clusters, in percent."""
    return read_clusters(folder)["self_eer"]


def read_clusters(folder: str) -> dict:
    """Return what steps/cluster.sh says of its clusters.

    Raises:
        UserError: there are no clusters yet.
    """
    path = Path(folder, CLUSTERS)
    if not path.is_file():
        raise UserError(f"no {path}, on which a round is trained: run stages 7 and 8 (./run.sh --stage 7)")
    return read_json(path)


@cache
def _say(text: str, how=log) -> None:
    """Log a line once in a process, which asks for every kind of row."""
    how(text)
