"""The training loop: set up, resume, step, monitor, save.

    pydino train --config conf/dino-koleo.yaml --seed 0 data/train_ssl exp/dino-koleo_mini/seed0

Networks and loss are the method's (method.py has the interface, methods/ the methods). The loop makes the
views of each micro-batch, averages the loss over micro-batches, and leaves it to DistributedDataParallel to
average gradients over processes. Inside a step nothing waits for the device: scalars are summed there and
read once an interval.
"""

import math
from pathlib import Path

import torch
from tqdm import tqdm

from pydino.base import UserError, log, warn
from pydino.data import Batch, ViewMaker, ViewSampler

from .checkpoint import load_agreed, random_states, save_checkpoint, set_random_state
from .config import OptimiserConfig, TrainingConfig
from .distributed import DistributedContext
from .frozen_weights import frozen_names
from .interruption import Interruption
from .meter import Meter
from .method import Method, Metrics, ParameterGroup
from .monitors import MOMENTS, Alarms, Averages, not_finite, spread_of_moments
from .precision import no_sync
from .reading import read_batches
from .recorder import Recorder
from .schedules import learning_rate


def make_optimiser(groups: list[ParameterGroup], config: OptimiserConfig) -> torch.optim.Optimizer:
    """Return the optimiser, fused into one pass; weight decay on matrices (and kernels) only, never on biases
    and norms.
    """
    options = []
    for group in groups:
        decay = config.weight_decay if group.weight_decay is None else group.weight_decay
        for parameters, weight_decay in (
            ([p for p in group.parameters if p.ndim > 1], decay),
            ([p for p in group.parameters if p.ndim <= 1], 0.0),
        ):
            options.append({"params": parameters, "weight_decay": weight_decay, "lr_scale": group.lr_scale})
    if config.name == "sgd":
        optimiser = torch.optim.SGD(options, lr=config.lr, momentum=config.momentum, fused=True)
        for p in parameters_of(groups) if config.momentum else ():
            # Zero is the initial momentum in any case; the fused update fails where some weights, which got
            # no gradient at first, have a buffer and others have none.
            optimiser.state[p]["momentum_buffer"] = torch.zeros_like(p)
        return optimiser
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[config.name]
    return kind(options, lr=config.lr, betas=tuple(config.betas), amsgrad=config.name == "adam", fused=True)


def parameters_of(groups: list[ParameterGroup]) -> list[torch.nn.Parameter]:
    """Return the parameters of all groups."""
    return [p for group in groups for p in group.parameters]


def train(
    method: Method,
    views: ViewMaker,
    sampler: ViewSampler,
    config: TrainingConfig,
    exp,
    total_steps: int,
    distributed: DistributedContext,
    workers: int = 0,
    embed=None,
    snapshot=None,
    begin=None,
) -> None:
    """Train to the end, from the last checkpoint if there is one.

    Args:
        method: what is trained, such as :class:`pydino.train.methods.dino.Dino`.
        views: makes the views of a batch.
        sampler: batches by step number.
        config: of the run.
        exp: folder for checkpoints/, log.jsonl and tensorboard/.
        total_steps: of the whole run.
        distributed: this process among others.
        workers: processes that read ahead.
        embed: embeds the utterances of the run, for :meth:`Method.before_first_step` and positive sampling
            (:class:`pydino.train.embedding_pass.EmbeddingPass`).
        snapshot: function of the epoch, called every ``config.snapshot_epochs``, and at the end, in the first
            process.
        begin: function of the optimiser, called before the first step of a run, and not where it is resumed:
            starts from an earlier training (:func:`pydino.train.from_release.begin`), and returns what it
            did, in words.

    Raises:
        UserError: the run collapsed and ``on_collapse`` is stop, or the loss is not a number.
        SystemExit: a signal asked the run to stop; it is saved, and resumes when it is started again.
    """
    exp = Path(exp)
    steps_per_epoch = len(sampler.dataset) / config.batch_size
    groups = method.parameter_groups()
    parameters = parameters_of(groups)
    optimiser, averages = make_optimiser(groups, config.optimiser), Averages()
    step, frozen = resume(method, optimiser, averages, exp, distributed), frozen_names(method)
    sampling = method.positive_sampling
    if step == 0:
        done = begin(optimiser) if begin is not None else ""
        if done and distributed.first:
            log(done)
        method.before_first_step(embed)
        if sampling is not None and sampling.is_due(0):
            found = sampling.find(method.encoders()[method.roles[0]], embed.with_crops)
            if distributed.first:
                log("start: " + judged(found))
    recorder = Recorder(exp, step, config.tensorboard) if distributed.first else None
    # the start is judged too; of a run that is resumed, it has been, and this asks whether the run has ended
    figures, over = method.evaluate(0.0, False) if step == 0 else ({}, method.has_ended)
    if figures and recorder:
        log("start: " + judged(figures))
    if over:
        total_steps = step
    meter = Meter(distributed)
    alarms = Alarms(
        method.collapse_reason,
        config.on_collapse,
        method.max_effective_rank,
        config.input,
        warns=distributed.first,
    )
    read = read_batches(sampler, sampling, step, total_steps, workers, distributed)
    bar = tqdm(
        total=total_steps, initial=step, unit="step", disable=None if distributed.first else True, leave=False
    )
    with Interruption(distributed) as interruption, bar:
        for micro_batches in meter.waiting_for(read):
            lr = learning_rate(step, total_steps, steps_per_epoch, config.optimiser)
            try:
                metrics = update(
                    method, views, optimiser, parameters, micro_batches, step, lr, config.optimiser.clip
                )
            except torch.OutOfMemoryError as error:
                raise UserError(
                    f"the GPU has too little memory for micro-batches of {sampler.size} utterances: raise "
                    "compute.accumulation, set compute.activation_checkpointing: true, or see with "
                    "nvidia-smi whether another program uses it"
                ) from error
            averages.add(metrics)
            meter.add(micro_batches)
            step += 1
            bar.update()

            ended = completes(step, steps_per_epoch) or step == total_steps
            figures, over, lost = {}, step == total_steps, ""
            if ended:
                figures, over = method.evaluate(step / steps_per_epoch, over)
                if sampling is not None and not over and sampling.is_due(int(step / steps_per_epoch)):
                    found = sampling.find(method.encoders()[method.roles[0]], embed.with_crops)
                    figures = {**figures, **found}
            if ended or (config.log_steps and step % config.log_steps == 0):
                means = averages.read(distributed.add_up)
                line = {
                    "epoch": round(step / steps_per_epoch, 2),
                    "step": step,
                    **means,
                    "lr": lr,
                    **method.schedule(step - 1),
                }
                line |= figures | meter.read()
                if method.precision.scaler.is_enabled():
                    line["loss_scale"] = method.precision.scaler.get_scale()
                if distributed.first:
                    bar.clear()
                    say(line, ", ".join(filter(None, [method.describe(means), judged(figures)])), total_steps)
                    recorder.write(line)
                lost = not_finite(line)
                if not lost:
                    alarms(line)
            asked_to_stop = interruption.asked()
            saving = ended or asked_to_stop or step % config.checkpoint_steps == 0
            if saving and not lost:
                lost = not_finite(averages.peek(distributed.add_up))
            if lost:  # only finite weights are saved: others are not worth resuming
                if not method.falls_back(lost):
                    raise UserError(lost)
                break
            # before the checkpoint: a kill between the two loses neither
            if distributed.first and config.snapshot_epochs:
                if over or completes(step, config.snapshot_epochs * steps_per_epoch):
                    epoch = math.ceil(config.epochs) if step == total_steps else int(step / steps_per_epoch)
                    attempt(f"no snapshot of step {step}", snapshot, epoch)
            if saving:
                state = {
                    "step": step,
                    "method": method.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "random": random_states(distributed),
                    "scaler": method.precision.scaler.state_dict(),
                    "averages": averages.state(distributed.add_up),
                }
                saved = distributed.first and attempt(
                    f"no checkpoint of step {step}", save_checkpoint, exp / "checkpoints", state, frozen
                )
            if over:
                break
            if asked_to_stop:
                interruption.leave(exp, step, saved)
    if recorder:
        recorder.close()


def update(
    method: Method,
    views: ViewMaker,
    optimiser,
    parameters,
    micro_batches: list[Batch],
    step: int,
    lr: float,
    clip: float,
) -> Metrics:
    """Make one update of the weights from the micro-batches of a step; return the metrics."""
    for group in optimiser.param_groups:
        group["lr"] = lr * group["lr_scale"]
    scaler, watched, number = method.precision.scaler, [], len(micro_batches)
    optimiser.zero_grad(set_to_none=True)
    method.before_step(map(views, micro_batches))
    for micro_step, batch in enumerate(micro_batches):
        with no_sync(method.network, micro_step < number - 1):
            loss, metrics = method.loss(batch, views(batch), micro_step)
            scaler.scale(loss / number).backward()
        watched.append(metrics)
    method.before_update(step)
    scaler.unscale_(optimiser)
    norm = torch.nn.utils.clip_grad_norm_(parameters, clip or math.inf, foreach=True)
    scaler.step(optimiser)
    scaler.update()
    if scaler.is_enabled():  # a step that overflowed was skipped; that is how the scale is found
        norm = norm.nan_to_num(0.0, 0.0, 0.0)
    metrics = of_step(watched)
    if MOMENTS in metrics:  # of the whole batch, however many processes and micro-batches share it
        sums = method.distributed.add_up(metrics[MOMENTS][-1].clone())
        metrics["embedding_spread"] = spread_of_moments(sums)
    return {**metrics, "gradient_norm": norm, **method.after_update(step)}


def of_step(watched: list[Metrics]) -> Metrics:
    """Return the means of what the micro-batches of a step measured; moments are sums."""
    if len(watched) == 1:
        return watched[0]
    sums = {name: torch.stack([metrics[name] for metrics in watched]).sum(0) for name in watched[0]}
    return {name: value if name == MOMENTS else value / len(watched) for name, value in sums.items()}


def resume(method, optimiser, averages: Averages, exp: Path, distributed: DistributedContext) -> int:
    """Restore the last checkpoint; return the number of steps done."""
    state = load_agreed(exp / "checkpoints", distributed)
    if state is None:
        return 0
    try:
        method.load_state_dict(state["method"])
        optimiser.load_state_dict(state["optimiser"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise UserError(
            f"the checkpoints in {exp} are of another network; discard them with --force true, or give "
            "another EXP"
        ) from error
    method.precision.scaler.load_state_dict(state["scaler"])
    averages.restore(state["averages"], distributed.first)
    set_random_state(state["random"], distributed)
    if distributed.first:
        log(f"resuming {exp} after step {state['step']}")
    return state["step"]


def attempt(otherwise: str, write, *arguments) -> bool:
    """Call a function that writes; if it fails, warn and return False: earlier files are still there, and the
    disk may have space again later.
    """
    try:
        write(*arguments)
    # RuntimeError: PyTorch's of a file that could not be written to its end
    except (OSError, RuntimeError, UserError) as error:
        reason = (
            f"writing failed, the disk may be full ({type(error).__name__})"
            if isinstance(error, RuntimeError)
            else error
        )
        warn(f"{otherwise}: {reason}; training goes on, and what was written before is kept")
        return False
    return True


def completes(step: int, steps: float) -> bool:
    """Whether step number ``step`` (counted from 1) is the first to complete another ``steps`` steps, a
    number that need not be whole.
    """
    return int(step / steps) > int((step - 1) / steps)


def judged(figures: dict[str, float]) -> str:
    """Return the figures of the development part as text."""
    return ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in figures.items())


def say(line: dict, described: str, total_steps: int) -> None:
    """Log one line about the interval."""
    log(
        f"epoch {line['epoch']:g} (step {line['step']} of {total_steps}): {described}, rank "
        f"{line['effective_rank']:.1f}, "
        f"lr {line['lr']:.2g}, {line['utterances_per_second']:.0f} utt/s"
    )
