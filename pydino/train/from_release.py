"""What a training takes from a release (:mod:`.release`): of the same method every part of its state that
fits, of another one the encoder of its model alone.

Parts depend on each other, so that three things are taken, each only after the one before:

1. the encoders, which have to fit;
2. what the method puts on them (head, prototypes, projector), of student and teacher, all or nothing;
3. what goes with their outputs (the centre of DINO, the queue of MoCo), each where it fits.

Learning rate, momentum and whatever else is scheduled restart, and so do labels, clusters and output
layers, which belong to the data of a training (:attr:`pydino.train.Method.of_data`). The optimiser's moments
are taken on request.
"""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

import torch

from pydino.base import UserError, config_to_dict, is_release, model_of, read_lines, read_release
from pydino.base.release import OPTIMISER, RELEASE, STATE, SUMS
from pydino.infer import FrontEndConfig
from pydino.infer.model_folder import read_tensors
from pydino.infer.stored_features import NEUTRAL_OPTIONS

from .method import Method

State = dict[str, torch.Tensor]
_ENCODER = re.compile(r"\w+\.encoder\.")


@dataclass
class Release:
    """A release that a training starts from.

    Attributes:
        folder: of it.
        record: ``release.json``.
        state: tensors of the method, by their names in its state dict.
        optimiser: tensors by ``NUMBER.NAME``, number of the parameter; None: not asked for.
    """

    folder: Path
    record: dict
    state: State = field(repr=False)
    optimiser: State | None = field(default=None, repr=False)


def open_release(folder: Path, optimiser: bool = False) -> Release | None:
    """Read a release, or return None of a model folder. No pickle is read.

    Raises:
        UserError: a damaged file, or no optimiser in it though it is asked for.
    """
    if not is_release(folder):
        if optimiser:
            raise UserError(
                f"--init-optimiser true: {folder} is a model folder, which holds no optimiser; give --init a "
                "release made with --optimiser true"
            )
        return None
    record = read_release(folder)
    if optimiser and not record.get("optimiser"):
        raise UserError(
            f"--init-optimiser true: {folder} has no {OPTIMISER}; make it with pydino release --optimiser "
            "true, or omit the option"
        )
    model = model_of(folder)
    files = [folder / RELEASE, folder / STATE, model / "config.yaml", model / "model.safetensors"]
    files += [folder / OPTIMISER] if optimiser else []
    check_sums(folder, files)
    moments = read_tensors(folder / OPTIMISER) if optimiser else None
    return Release(folder, record, read_tensors(folder / STATE), moments)


def check_sums(folder: Path, files: list[Path]) -> None:
    """Compare files of a release with its SHA256SUMS.

    Raises:
        UserError: names the first that is missing or differs.
    """
    lines = read_lines(folder / SUMS) if (folder / SUMS).is_file() else []
    sums = {name.strip(): digest for digest, _, name in (line.partition(" ") for line in lines)}
    for path in files:
        name = path.relative_to(folder).as_posix()
        if name not in sums or not path.is_file():
            where = SUMS if name not in sums else "the folder"
            raise UserError(f"{folder}: {name} is not in {where}; fetch the release again")
        if digest_of_file(path) != sums[name]:
            raise UserError(
                f"{path} is not the file that was released: its SHA-256 is not that in {SUMS}; fetch it "
                f"again (in {folder}: sha256sum -c {SUMS})"
            )


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_front_end(released: FrontEndConfig, here: FrontEndConfig, folder: Path, data: Path) -> None:
    """Raise UserError where features, VAD or normalisation differ from those of a release: its encoder would
    hear other speech than it was trained on.
    """
    before, now = (_flat(config_to_dict(front_end)) for front_end in (released, here))
    for name in {**before, **now}:
        if name.split(".")[-1] in NEUTRAL_OPTIONS or before.get(name) == now.get(name):
            continue
        group, _, key = name.partition(".")
        kind = released.features.get("kind", "fbank")
        remedy = {
            "features": f"make the features with {key}: {before.get(name)} (conf/{kind}.yaml of a recipe, "
            f"--{kind}-config of steps/make_{kind}.sh)",
            "vad": f"compute the VAD with the 'vad' of {model_of(folder)}/config.yaml (conf/vad.yaml of a "
            "recipe, --vad-config of steps/compute_vad.sh)",
        }.get(group, f"take over the '{group}' of {folder}/config.yaml")
        raise UserError(
            f"--init {folder}: it was trained with another front end than that of {data}: {name} was "
            f"{before.get(name)} and is {now.get(name)} here; {remedy}, or start from the encoder alone, "
            f"at your own risk: --init {model_of(folder)}"
        )


def _flat(mapping: dict, prefix: str = "") -> dict:
    found = {}
    for key, value in mapping.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def belongs(name: str, owners: tuple[str, ...]) -> bool:
    """Whether a tensor of a state dict is of one of some modules, or one of some buffers."""
    return any(name == owner or name.startswith(f"{owner}.") for owner in owners)


@dataclass
class Taken:
    """What was taken of a release, and what is restarted and why, in words; ``whole``: all that is not of the
    data was taken.
    """

    parts: list[str]
    restarted: list[str]
    whole: bool = False


def take(method: Method, release: Release) -> Taken:
    """Give a method, as it is before its first step, the parts of a release's state that fit.

    Raises:
        UserError: the encoders are of another kind; names the first tensor that differs.
    """
    record, config = release.record, method.config
    model, wanted = record["roles"][0], config.method
    if record["method"] != wanted:
        reason = f"the rest of {wanted}, as it was trained by {record['method']}"
        return Taken([f"the encoder of its {model}"], [reason])
    own = {name: x for name, x in method.state_dict().items() if not belongs(name, method.of_data)}
    encoders = {name for name in own if _ENCODER.match(name)}
    heads = {name for name in own.keys() - encoders if name.split(".")[0] in ("student", "teacher")}
    differs = _first_that_differs(own, release.state, encoders)
    if differs:
        raise UserError(
            f"--init {release.folder}: its encoder is another: {differs}; take over the 'encoder' of "
            f"{release.folder}/config.yaml"
        )
    found, taken, restarted = set(encoders), [f"encoder of {_owners(encoders)}"], []
    differs = _first_that_differs(own, release.state, heads)
    others = sorted(own.keys() - encoders - heads)
    if differs:
        restarted.append(f"{' and '.join([_owners_of_heads(heads), *others])} ({differs})")
    else:
        found |= heads
        taken += [_owners_of_heads(heads)] if heads else []
        for name in others:
            differs = _first_that_differs(own, release.state, {name})
            if differs:
                restarted.append(f"{name} ({differs})")
            else:
                found.add(name)
                taken.append(name)
    with torch.no_grad():
        for name in sorted(found):
            own[name].copy_(release.state[name])
    of_data = _present(method, method.of_data)
    belonging = [f"what belongs to the data ({', '.join(of_data)})"] if of_data else []
    return Taken(taken, [*restarted, *belonging], whole=not restarted)


def take_optimiser(optimiser: torch.optim.Optimizer, release: Release, taken: Taken) -> str:
    """Give an optimiser the moments of a release; return why not, or an empty string.

    Args:
        optimiser: before its first step.
        release: with an optimiser.
        taken: of the method: where parts of it are restarted, the moments are of other parameters.
    """
    if not taken.whole:
        return "parts of the method are restarted"
    here, there = type(optimiser).__name__.lower(), release.record["optimiser"]
    if here != there:
        return f"it was {there}, and is {here}"
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state: dict[int, State] = {}
    for name, tensor in release.optimiser.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = tensor
    for number, moments in state.items():
        expected = tuple(parameters[number].shape) if number < len(parameters) else None
        if expected is None or any(x.ndim and tuple(x.shape) != expected for x in moments.values()):
            return f"its parameter {number} is of another shape than here"
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    return ""


def begin(method: Method, optimiser: torch.optim.Optimizer, release: Release) -> str:
    """Start a training from a release, before its first step; return one line about it."""
    taken = take(method, release)
    restarted = [*taken.restarted, "schedules"]
    if release.optimiser is None:
        restarted.append("the optimiser")
    elif reason := take_optimiser(optimiser, release, taken):
        restarted.append(f"the optimiser ({reason})")
    else:
        taken.parts.append("the optimiser")
    record = release.record
    return (
        f"--init {release.folder} ({record['name']} of {record['train_set']}, "
        f"{record['epochs']:g} epochs): taken: {', '.join(taken.parts)}; restarted: {', '.join(restarted)}"
    )


def _first_that_differs(own: State, state: State, names: set[str]) -> str:
    """Return the first name whose shapes differ, with both, or an empty string."""
    for name in sorted(names):
        here, there = (tuple(side[name].shape) if name in side else "missing" for side in (own, state))
        if here != there:
            return f"{name} is {there} in it and {here} here"
    return ""


def _owners(names: set[str]) -> str:
    return " and ".join(sorted({name.split(".")[0] for name in names}))


def _owners_of_heads(names: set[str]) -> str:
    """``head of student and teacher``."""
    parts = sorted({name.split(".")[1] for name in names})
    return f"{' and '.join(parts)} of {_owners(names)}" if names else ""


def _present(method: Method, owners: tuple[str, ...]) -> list[str]:
    """Return the owners that have a tensor in a method's state dict."""
    return [owner for owner in owners if any(belongs(name, (owner,)) for name in method.state_dict())]
