"""The training loop: set up, resume, step, watch, save. One file to read through.

    pydino train-dino --config conf/dino-koleo.yaml --seed 0 data/train_ssl exp/dino-koleo_mini/seed0

It knows no method: what a batch is and what is learnt from it is the method's (method.py is the seam; dino.py
and xvector.py stand behind it). Inside a step nothing waits for the device: scalars are summed there and read
once an interval.
"""

import math
from pathlib import Path

import torch
from tqdm import tqdm

from pydino.base import UserError, log, warn
from pydino.data import ViewSampler, batches

from .checkpoint import load_agreed, random_states, save_checkpoint, set_random_state
from .config import OptimiserConfig, TrainingConfig
from .distributed import DistributedContext
from .interruption import Interruption
from .meter import Meter
from .method import Method
from .monitors import MOMENTS, Alarms, Averages, not_finite
from .precision import no_sync
from .recorder import Recorder
from .schedules import learning_rate


def make_optimiser(parameters: list[torch.nn.Parameter], config: OptimiserConfig) -> torch.optim.Optimizer:
    """Return the optimiser, fused into one pass; weight decay on matrices (and kernels) only, never on biases
    and norms.
    """
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if config.name == "sgd":
        optimiser = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=True)
        for p in parameters if config.momentum else ():
            # Zero is what it begins with; the fused update fails where some weights, frozen at first, have
            # none and others have.
            optimiser.state[p]["momentum_buffer"] = torch.zeros_like(p)
        return optimiser
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[config.name]
    return kind(groups, lr=config.lr, betas=tuple(config.betas), amsgrad=config.name == "adam", fused=True)


def train(
    method: Method,
    sampler: ViewSampler,
    config: TrainingConfig,
    exp,
    total_steps: int,
    distributed: DistributedContext,
    workers: int = 0,
    snapshot=None,
) -> None:
    """Train to the end, from the last checkpoint if there is one.

    Args:
        method: what learns, such as :class:`pydino.train.dino.Dino`.
        sampler: batches by step number.
        config: of the run.
        exp: folder for checkpoints/, log.jsonl and tensorboard/.
        total_steps: of the whole run.
        distributed: this process among others.
        workers: processes that read ahead.
        snapshot: function of the epoch, called every ``config.snapshot_epochs``, and at the end, in the first
            process.

    Raises:
        UserError: the run collapsed and ``on_collapse`` is stop, or the loss is not a number.
        SystemExit: a signal asked for an end; the run is saved, and goes on when it is started again.
    """
    exp = Path(exp)
    steps_per_epoch = len(sampler.dataset) / config.batch_size
    parameters = list(method.student.parameters())
    optimiser, averages = make_optimiser(parameters, config.optimiser), Averages()
    step = resume(method, optimiser, averages, exp, distributed)
    recorder = Recorder(exp, step) if distributed.first else None
    meter = Meter(distributed)
    alarms = Alarms(
        method.diagnosis, config.on_collapse, method.directions, config.input, speaks=distributed.first
    )

    bar = tqdm(
        total=total_steps, initial=step, unit="step", disable=None if distributed.first else True, leave=False
    )
    with Interruption(distributed) as interruption, bar:
        for passes in meter.waiting_for(
            batches(sampler, step, total_steps, workers, pin=distributed.device.type == "cuda")
        ):
            lr = learning_rate(step, total_steps, steps_per_epoch, config.optimiser)
            averages.add(update(method, optimiser, parameters, passes, step, lr, config.optimiser.clip))
            meter.add(passes)
            step += 1
            bar.update()

            ended = passed(step, steps_per_epoch) or step == total_steps
            if ended or (config.log_steps and step % config.log_steps == 0):
                means = averages.read(distributed.add_up)
                line = {
                    "epoch": round(step / steps_per_epoch, 2),
                    "step": step,
                    **means,
                    "lr": lr,
                    **method.schedule(step - 1),
                }
                line |= meter.read()
                if method.precision.scaler.is_enabled():
                    line["loss_scale"] = method.precision.scaler.get_scale()
                if distributed.first:
                    bar.clear()
                    say(line, method.describe(means), total_steps)
                    recorder.write(line)
                alarms(line)
            # before the checkpoint: a kill between the two loses neither
            if distributed.first and config.snapshot_epochs:
                if step == total_steps or passed(step, config.snapshot_epochs * steps_per_epoch):
                    epoch = math.ceil(config.epochs) if step == total_steps else int(step / steps_per_epoch)
                    attempt(f"no snapshot of step {step}", snapshot, epoch)
            asked_to_stop = interruption.asked()
            if ended or asked_to_stop or step % config.checkpoint_steps == 0:
                if lost := not_finite(
                    averages.peek(distributed.add_up)
                ):  # what is saved is worth going on from
                    raise UserError(lost)
                state = {
                    "step": step,
                    "method": method.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "random": random_states(distributed),
                    "scaler": method.precision.scaler.state_dict(),
                    "averages": averages.state(distributed.add_up),
                }
                saved = distributed.first and attempt(
                    f"no checkpoint of step {step}", save_checkpoint, exp / "checkpoints", state
                )
            if asked_to_stop and step < total_steps:
                interruption.leave(exp, step, saved)
    if recorder:
        recorder.close()


def update(
    method, optimiser, parameters, passes, step: int, lr: float, clip: float
) -> dict[str, torch.Tensor]:
    """Make one update of the weights from the passes of a step; return what to watch."""
    for group in optimiser.param_groups:
        group["lr"] = lr
    scaler, watched = method.precision.scaler, []
    optimiser.zero_grad(set_to_none=True)
    method.begin(passes)
    for number, batch in enumerate(passes):
        with no_sync(method.network, number < len(passes) - 1):
            loss, metrics = method.loss(batch, number)
            scaler.scale(loss).backward()
        watched.append(metrics)
    method.gradients_ready(step)
    scaler.unscale_(optimiser)
    norm = torch.nn.utils.clip_grad_norm_(parameters, clip or math.inf, foreach=True)
    scaler.step(optimiser)
    scaler.update()
    if scaler.is_enabled():  # a step that overflowed was left out; that is how the scale is found
        norm = norm.nan_to_num(0.0, 0.0, 0.0)
    return {**together(watched), "gradient_norm": norm, **method.after_update(step)}


def together(passes: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the means of what the passes of a step measured; moments are sums."""
    if len(passes) == 1:
        return passes[0]
    sums = {name: torch.stack([metrics[name] for metrics in passes]).sum(0) for name in passes[0]}
    return {name: value if name == MOMENTS else value / len(passes) for name, value in sums.items()}


def resume(method, optimiser, averages: Averages, exp: Path, distributed: DistributedContext) -> int:
    """Put the last checkpoint back; return the number of steps done."""
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
    """Write something; where that is impossible, say so and go on: what was written before is still there,
    and there may be room again.
    """
    try:
        write(*arguments)
    # RuntimeError: PyTorch's of a file that could not be written to its end
    except (OSError, RuntimeError, UserError) as error:
        reason = (
            f"writing broke off, the disk may be full ({type(error).__name__})"
            if isinstance(error, RuntimeError)
            else error
        )
        warn(f"{otherwise}: {reason}; training goes on, and what was written before is kept")
        return False
    return True


def passed(step: int, steps: float) -> bool:
    """Whether step number ``step`` (counted from 1) is the first to complete another ``steps`` steps, a
    number that may be broken.
    """
    return int(step / steps) > int((step - 1) / steps)


def say(line: dict, described: str, total_steps: int) -> None:
    """Say in one line how the interval went."""
    log(
        f"epoch {line['epoch']:g} (step {line['step']} of {total_steps}): {described}, rank "
        f"{line['effective_rank']:.1f}, "
        f"lr {line['lr']:.2g}, {line['utterances_per_second']:.0f} utt/s"
    )
