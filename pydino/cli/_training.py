"""What the commands that train share: whose folder it is, what the run depends on, the way from data to
views, how models are written.
"""

import fcntl
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from pydino.audio import KINDS
from pydino.base import (
    UserError,
    config_to_dict,
    dump_config,
    ingredients,
    is_forced,
    load_config,
    log,
    read_json,
    why_not_done,
    write_mark,
)
from pydino.cli import boolean
from pydino.cli.average_models import average_models
from pydino.data import (
    CONTEXT_SECONDS,
    AudioSet,
    AugmentationData,
    EpochSampler,
    TrainingSet,
    ViewMaker,
    ViewSampler,
    WaveformViews,
    view_groups,
)
from pydino.infer import FrontEndConfig, read_front_end, save_model
from pydino.train import DistributedContext, train

VERSION = 2  # raised when the same configuration would give another model
# Keys that change no weight (snapshot_epochs does where snapshots are averaged), and those of `compute` that
# change them by rounding alone: a run can go on with others.
UNSCIENTIFIC = ("on_collapse", "checkpoint_steps", "log_steps")
ROUNDING = ("compile", "channels_last", "accumulation", "activation_checkpointing")
MADE = (
    "checkpoints",
    "snapshots",
    "tensorboard",
    "teacher",
    "student",
    "model",
    "teacher_average",
    "model_average",
    "log.jsonl",
    "monitor.jsonl",
    ".done.train",
)


def add_arguments(parser):
    """Add the options of every command that trains."""
    parser.add_argument(
        "--config",
        metavar="YAML",
        help="what defines the run (default: the defaults of pydino/train/config.py)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key, such as optimiser.lr=0.002",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="seed of weights, order, crops and augmentation (default: %(default)s)",
    )
    parser.add_argument(
        "--ngpu", type=int, default=0, help="GPUs of this machine; 0: the CPU (default: %(default)s)"
    )
    parser.add_argument(
        "--threads", type=int, default=0, help="CPU threads (default: as many as PyTorch chooses)"
    )
    parser.add_argument(
        "--data-workers",
        type=int,
        default=0,
        help="processes that read data ahead; 0: a thread (default: %(default)s)",
    )
    parser.add_argument(
        "--allow-pipes",
        type=boolean,
        default=False,
        metavar="true|false",
        help="run commands in wav.scp (input: audio)",
    )
    parser.add_argument(
        "--force",
        type=boolean,
        default=False,
        metavar="true|false",
        help="discard what is in EXP and start afresh",
    )


@dataclass
class Run:
    """A training run, from the command line to its models.

    Attributes:
        config: resolved, a :class:`pydino.train.TrainingConfig`.
        wanted: what the run depends on, for marks.
    """

    name: str  # of the method
    config: object
    data: Path
    exp: Path
    seed: int
    force: bool
    front_end: FrontEndConfig
    wanted: dict[str, str]
    lock: object = None  # held as long as the run lives


def open_run(args, config_class, tables=()) -> tuple[Run, DistributedContext] | None:
    """Read the configuration and look whether EXP is free for it; return None if the very run is finished
    there.

    Args:
        args: with the options of :func:`add_arguments`, ``data`` and ``exp``.
        config_class: of the method.
        tables: files besides the training directory that the run depends on.

    Raises:
        UserError: another run lives in EXP, or a GPU is asked for that is not there.
    """
    if min(args.threads, args.data_workers) < 0:
        raise UserError("--threads and --data-workers must not be negative")
    config = load_config(config_class, args.config, args.set)
    data, exp = Path(args.data), Path(args.exp)
    front_end = read_front_end(data, config.normalisation)
    if config.input == "audio":
        augmentation_data = config.augmentation_data
        heard = [
            data / "wav.scp",
            data / "segments",
            augmentation_data.noise,
            augmentation_data.music,
            augmentation_data.speech,
            *augmentation_data.rirs.values(),
        ]
        tables = [*tables, *(path for path in heard if Path(path).is_file())]
    force = args.force or is_forced(started_under(exp))
    run = Run(
        config.method,
        config,
        data,
        exp,
        args.seed,
        force,
        front_end,
        depends_on(config, args.seed, data, tables),
    )
    distributed = DistributedContext(args.ngpu)
    finished, wrong = False, None
    if distributed.first:
        try:
            run.lock = lock(exp)
            finished = not force and is_finished(exp, run.wanted)
        except UserError as error:
            wrong = error
    if distributed.gather_objects(wrong is not None)[0]:
        raise wrong or SystemExit(1)  # the first one says why
    if distributed.gather_objects(finished)[0]:
        log(f"{exp} is finished and up to date")
        return None
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)  # the weights are the same in all processes
    return run, distributed


def lock(exp: Path):
    """Return an open file whose lock keeps others out of EXP until it is closed, or the process ends in any
    way.

    Raises:
        UserError: another process trains there.
    """
    try:
        exp.mkdir(parents=True, exist_ok=True)
        held = open(exp / ".lock", "w")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1)  # it may be is_at_work, which lets go at once
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(
            f"another process trains in {exp}; wait for it, end it, or give another EXP"
        ) from error
    except OSError:
        # a file system without locks, or where nothing can be written: whoever has something to write will
        # say so
        return None
    return held


def is_at_work(exp: Path) -> bool:
    """Return whether a process trains in EXP, as far as the file system can tell: True where it cannot."""
    try:
        with open(exp / ".lock") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True


def depends_on(config, seed: int, data: Path, more=()) -> dict[str, str]:
    """Return what the run depends on. Names of utterances are not in it: hashes, lengths and silence are."""
    tables = [data / name for name in ("utt2hash", "feats.scp", "vad.scp") if (data / name).exists()]
    tables += [
        data / "conf" / f"{name}.yaml"
        for name in (*KINDS, "vad")
        if (data / "conf" / f"{name}.yaml").exists()
    ]
    idle = UNSCIENTIFIC if config.average_snapshots else (*UNSCIENTIFIC, "snapshot_epochs")
    science = {key: value for key, value in config_to_dict(config).items() if key not in idle}
    science["compute"] = {key: value for key, value in science["compute"].items() if key not in ROUNDING}
    return ingredients(
        version=VERSION, settings={"seed": seed, **science}, texts=[*tables, *more], after=[data / ".done"]
    )


def is_finished(exp: Path, wanted: dict[str, str]) -> bool:
    """Return True if the very run is finished in EXP, False if it may start or go on there.

    Raises:
        UserError: another run lives there.
    """
    started = exp / ".started"
    if not any((exp / name).exists() for name in MADE):
        return False  # nothing would be lost
    if not started.exists():
        raise UserError(f"{exp} holds an unknown run; give another EXP, or --force true to discard it")
    earlier = read_json(started)["ingredients"]
    changed = sorted(name for name in earlier.keys() | wanted.keys() if earlier.get(name) != wanted.get(name))
    if changed:
        name = changed[0]
        # Options speak for themselves; of files there are only digests to show.
        how = (
            f"was {earlier.get(name)} and is {wanted.get(name)} now"
            if name.startswith("option ")
            else "is different now"
        )
        raise UserError(
            f"{exp} holds another run: {name} {how}"
            f"{f' (and {len(changed) - 1} more)' if len(changed) > 1 else ''}; nothing was touched. Train "
            "beside it in another EXP "
            "(of run.sh: as conf/ANOTHER_NAME.yaml, or everything with another --tag), or discard it with "
            "--force true"
        )
    return why_not_done(exp / ".done.train", wanted) == ""


def started_under(exp: Path) -> str | None:
    """Return the token of ``--force`` under which the run in EXP was begun; a job of it that a scheduler
    starts again has the same.
    """
    return read_json(exp / ".started").get("forced") if (exp / ".started").exists() else None


def claim(run: Run) -> None:
    """Make EXP this run's, when nothing stands in its way any more; with --force, what was there is
    discarded.
    """
    if run.force or not (run.exp / ".started").exists():
        for name in MADE:
            if (run.exp / name).is_dir():
                shutil.rmtree(run.exp / name)
            else:
                (run.exp / name).unlink(missing_ok=True)
    write_mark(run.exp / ".started", run.wanted)
    dump_config({"method": run.name, "seed": run.seed, **config_to_dict(run.config)}, run.exp / "config.yaml")


@dataclass
class Views:
    """What a method sees, and how.

    Attributes:
        sampler: batches by step.
        maker: views of a batch.
        dim: columns of the features.
        steps_per_epoch, total_steps: of the run.
    """

    sampler: ViewSampler
    maker: ViewMaker
    dim: int
    steps_per_epoch: float
    total_steps: int


def make_views(run: Run, distributed: DistributedContext, allow_pipes: bool = False) -> Views:
    """Open the data of a run: stored features, or recordings with the augmentation data of what they are
    augmented with.
    """
    config, seed = run.config, run.seed
    options = run.front_end.feature_options()
    shift, waveforms = options.frame_shift / 1000, None
    if config.input == "features":
        dataset = TrainingSet(run.data)
        dim = dataset.dim
    else:
        reverberant = any(pair.reverberation_probability for pair in config.waveform_pair)
        dataset = AudioSet(run.data, options, CONTEXT_SECONDS if reverberant else 0.0, allow_pipes)
        augmentation_data = AugmentationData(
            config.augmentation_data, options, config.longest_seconds, seed, distributed.device
        )
        groups = list(zip(view_groups(config.crops), reversed(config.waveform_pair), strict=False))
        waveforms = WaveformViews(
            groups, options, augmentation_data, config.speed_factors, seed, distributed.device
        )
        dim = waveforms.dim
    order = EpochSampler(dataset.hashes, config.batch_size, seed, config.order)
    passes = config.compute.accumulation
    sampler = ViewSampler(
        dataset,
        config.crops,
        order,
        shift,
        seed,
        config.speed_factors,
        distributed.rank,
        distributed.size,
        passes,
    )
    maker = ViewMaker(
        config.crops,
        config.augment_pair,
        config.normalisation,
        dim,
        shift,
        seed,
        distributed.device,
        waveforms,
    )
    steps_per_epoch = len(dataset) / config.batch_size
    return Views(sampler, maker, dim, steps_per_epoch, max(1, round(config.epochs * steps_per_epoch)))


def train_and_save(
    method, run: Run, views: Views, distributed: DistributedContext, workers: int, made_by: str
) -> None:
    """Train to the end and write the model folders EXP/ROLE."""
    dataset, config = views.sampler.dataset, run.config
    check_lengths(views.sampler, method.student.encoder.min_input)
    if distributed.first:
        claim(run)
        hours = dataset.lengths.sum() * run.front_end.feature_options().frame_shift / 1000 / 3600
        encoder = next(iter(method.encoders().values()))
        log(
            f"{run.name}, seed {run.seed}: {len(dataset)} utterances, {hours:.2f} hours without silence, "
            f"{views.total_steps} steps of "
            f"{config.batch_size} on "
            f"{f'{distributed.size} x ' if distributed.size > 1 else ''}{distributed.device.type}, "
            f"{method.precision.name}; "
            f"{sum(p.numel() for p in method.student.parameters()):,} parameters learn, "
            f"{sum(p.numel() for p in encoder.parameters()):,} of them in the encoder"
        )

    def write(folder: Path, epochs: float) -> None:
        for role, encoder in method.encoders().items():
            write_model(folder / role, encoder, role, run, epochs, made_by)

    def snapshot(epoch: int) -> None:
        write(run.exp / "snapshots" / f"epoch{epoch:04d}", epoch)

    train(method, views.sampler, config, run.exp, views.total_steps, distributed, workers, snapshot)
    if distributed.first:
        write(run.exp, config.epochs)
        written = [run.exp / role for role in method.encoders()]
        if config.average_snapshots:
            role = written[0].name
            # config.yaml is written last: a snapshot without one broke off where the disk was full.
            whole = sorted(path.parent for path in (run.exp / "snapshots").glob(f"epoch*/{role}/config.yaml"))
            written.append(run.exp / f"{role}_average")
            average_models(written[-1], whole[-config.average_snapshots :] or [run.exp / role])
        write_mark(run.exp / ".done.train", run.wanted, [folder / "model.safetensors" for folder in written])
        log(f"finished: {' and '.join(map(str, written))}")
    distributed.close()


def check_lengths(sampler: ViewSampler, min_frames: int) -> None:
    """Raise UserError for crops that are shorter than the encoder takes."""
    if sampler.shortest < min_frames:
        raise UserError(
            f"crops of {sampler.shortest} frames are too short for this encoder, which needs {min_frames}; "
            "make crops longer"
        )


def write_model(folder: Path, encoder, role: str, run: Run, epochs: float, made_by: str) -> None:
    """Write a model folder."""
    train_set = (
        (run.data / "name").read_text().strip() if (run.data / "name").exists() else run.data.resolve().name
    )
    description = {
        "encoder": run.config.encoder,
        "embedding_dim": encoder.embedding_dim,
        "role": role,
        "method": run.name,
        "seed": run.seed,
        "train_set": train_set,
        "front_end": config_to_dict(run.front_end),
    }
    how = "with the labels of its utterances" if role == "model" else "without labels"
    save_model(
        folder,
        encoder,
        description,
        (
            f"# {run.name}, {role}\n\nAn encoder of whole utterances, trained {how} on {train_set} "
            f"({epochs:g} epochs, seed {run.seed}).\n\n"
            f"Made by `{made_by}`; the resolved configuration is in `config.yaml` of that folder, the "
            "course of the training in its "
            "`log.jsonl`.\n\n    pydino embed THIS_FOLDER recording.wav\n"
        ),
    )
