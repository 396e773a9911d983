"""A training run, from a configuration and a data directory to model folders in EXP."""

import os
from pathlib import Path

import torch
from safetensors.torch import save

from pydino.base import (
    UserError,
    atomic_open,
    config_to_dict,
    dump_config,
    log,
    plural,
    warn,
    write_json,
    write_mark,
)
from pydino.infer.model_folder import CONFIG, WEIGHTS

from . import exp_dir
from .distributed import DistributedContext
from .embedding_pass import EmbeddingPass
from .from_release import begin
from .loop import train
from .method import Method, Setup
from .model_folders import average_models, write_model
from .pipeline import Pipeline, open_pipeline
from .run import Run, read_init


def run_training(
    run: Run,
    ngpu: int = 0,
    num_threads: int = 0,
    workers: int | None = None,
    distributed: DistributedContext | None = None,
) -> None:
    """Train to the end and write the model folders EXP/ROLE; resume where an earlier attempt was interrupted,
    and do nothing where the run is finished.

    Args:
        run: what, and where.
        ngpu: GPUs of this machine; 0: the CPU.
        num_threads: CPU threads of this machine, shared by the processes on it; 0: as many as PyTorch
            chooses.
        workers: processes that read ahead, in each that trains; None: none on the CPU, up to eight a GPU.
        distributed: of the caller, who trains several runs and closes it; None: of this run.

    Raises:
        UserError: a mistake of the user's; another run is in EXP; the run has collapsed.
        SystemExit: a signal asked the run to stop; it is saved.
    """
    wanted = run.depends_on()
    labels = run.read_labels()
    init, release = read_init(run) if run.init is not None else (None, None)
    own = distributed is None
    distributed = distributed or DistributedContext(ngpu)
    lock = enter(run, wanted, distributed)
    if lock is False:
        if own:
            distributed.close()
        return
    if num_threads:
        torch.set_num_threads(max(1, num_threads // distributed.local_size))
    if workers is None:
        threads = (num_threads or len(os.sched_getaffinity(0))) // distributed.local_size
        workers = min(8, max(0, threads - 1)) if ngpu else 0
    torch.manual_seed(run.seed)  # the weights are the same in all processes
    task = run.supervision
    only, classes = (None, labels) if task is None else (task.hashes, task.labels)
    if run.clusters is not None:
        only = labels.hashes  # utterances of small clusters are not among them
    pipeline = open_pipeline(
        run.config, run.data, run.front_end, run.seed, distributed, run.allow_pipes, only, classes
    )
    method = run.method(
        Setup(
            pipeline.config,
            pipeline.feature_dim,
            pipeline.total_steps,
            pipeline.steps_per_epoch,
            distributed,
            labels,
            init,
            run.supervision,
            pipeline.source.hashes,
            run.seed,
        )
    )
    if distributed.rank:  # dropout is drawn independently in each process, once the weights are equal
        torch.manual_seed(run.seed + distributed.rank)
    check_lengths(pipeline, method)
    if distributed.first:
        if labels is not None:
            least = run.config.min_utterances
            if run.clusters is None:
                what, those = f"{' '.join(run.labels)}: {plural(labels.num_classes, 'label')}", ""
            else:
                what = f"{run.clusters}: {plural(labels.num_classes, 'cluster')}"
                those = f", those of {least} or more" if least > 1 else ""
            log(f"{what} of {plural(len(labels.classes), 'utterance')}{those}")
        exp_dir.claim(run.exp, wanted, run.discard)
        dump_config(
            {**config_to_dict(pipeline.config), "name": run.config.name, "seed": run.seed}, run.exp / CONFIG
        )
        announce(run, pipeline, method, distributed)
    train(
        method,
        pipeline.views,
        pipeline.sampler,
        pipeline.config,
        run.exp,
        pipeline.total_steps,
        distributed,
        workers,
        EmbeddingPass(method, pipeline, run, workers),
        lambda epoch: write_models(run, method, run.exp / "snapshots" / f"epoch{epoch:04d}", epoch),
        None if release is None else lambda optimiser: begin(method, optimiser, release),
    )
    if distributed.first:
        finish(run, method, wanted)
    if own:
        distributed.close()
    if lock is not None:
        lock.release()


def enter(run: Run, wanted: dict[str, str], distributed: DistributedContext):
    """Return the lock of EXP, which the caller holds as long as it trains, or False if the run is finished
    there.

    Raises:
        UserError: another run, or another process, is in EXP.
    """
    held, finished, wrong = None, False, None
    if distributed.first:
        try:
            held = exp_dir.lock(run.exp)
            finished = not run.discard and exp_dir.is_finished(run.exp, wanted)
        except UserError as error:
            wrong = error
    if distributed.gather_objects(wrong is not None)[0]:
        if held is not None:
            held.release()  # the error's traceback refers to it
        raise wrong or SystemExit(1)  # the first process says why
    if distributed.gather_objects(finished)[0]:
        if distributed.first:
            log(f"{run.exp} is finished and up to date")
        return False
    return held


def check_lengths(pipeline: Pipeline, method: Method) -> None:
    """Raise UserError for crops that are shorter than the encoder takes."""
    shortest, needed = pipeline.sampler.shortest, method.student.encoder.min_input
    if shortest < needed:
        raise UserError(
            f"crops of {shortest} frames are too short for this encoder, which needs {needed}; make crops "
            "longer"
        )


def announce(run: Run, pipeline: Pipeline, method: Method, distributed: DistributedContext) -> None:
    """Log one line about what is trained on what."""
    shift = run.front_end.feature_options().frame_shift / 1000
    hours = pipeline.source.lengths.sum() * shift / 3600
    trained = sum(p.numel() for group in method.parameter_groups() for p in group.parameters)
    encoder = sum(p.numel() for p in method.student.encoder.parameters())
    processes = f"{distributed.size} x " if distributed.size > 1 else ""
    if run.config.trainable != "all" and run.init is None:
        warn(
            f"trainable: {', '.join(run.config.trainable)} of the encoder: the other parts keep their random "
            "weights; to start from a trained model give --init MODEL_DIR"
        )
    log(
        f"{run.config.name}, seed {run.seed}: {len(pipeline.source)} utterances, {hours:.2f} hours without "
        "silence, "
        f"{pipeline.total_steps} steps of {pipeline.config.batch_size} on "
        f"{processes}{distributed.device.type}, "
        f"{method.precision.name}; {trained:,} parameters are trained, the encoder has {encoder:,}"
    )


def write_models(run: Run, method: Method, folder: Path, epochs: float) -> None:
    """Write a model folder for each role."""
    for role, encoder in method.encoders().items():
        description = run.describe(role, encoder)
        write_model(
            folder / role,
            encoder,
            description,
            epochs,
            run.own_labels,
            run.clusters is not None,
            run.command,
            run.training_audio,
        )


def finish(run: Run, method: Method, wanted: dict[str, str]) -> None:
    """Write the final models, their mean if configured, and the mark."""
    write_models(run, method, run.exp, run.config.epochs)
    written = [run.exp / role for role in method.roles]
    others = []
    if outcome := method.outcome():
        others.append(run.exp / exp_dir.OUTCOME)
        write_json(others[-1], outcome)
        said = [f"{name.replace('_', ' ')} {value}" for name, value in outcome.items() if value is not None]
        log(f"kept: {', '.join(said)}")
    for name, tensors in method.beside().items():
        others.append(run.exp / f"{name}.safetensors")
        with atomic_open(others[-1], "wb") as stream:
            stream.write(save({key: value.detach().cpu().contiguous() for key, value in tensors.items()}))
    if run.config.average_snapshots:
        role = method.roles[0]
        # config.yaml is written last: a snapshot without one is incomplete.
        whole = sorted(path.parent for path in (run.exp / "snapshots").glob(f"epoch*/{role}/{CONFIG}"))
        written.append(run.exp / f"{role}_average")
        average_models(written[-1], whole[-run.config.average_snapshots :] or [run.exp / role])
    write_mark(run.exp / exp_dir.DONE, wanted, [*(folder / WEIGHTS for folder in written), *others])
    log(f"finished: {' and '.join(map(str, written))}")
