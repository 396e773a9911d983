"""The training loop: set up, resume, step, log, save. One file to read through.

    pydino train-dino --config conf/dino-koleo.yaml --seed 0 data/train_ssl exp/dino-koleo_mini/seed0

It knows no method: what a batch is and what is learnt from it is the method's (pydino/train/dino.py). Inside a step nothing waits for
the device: scalars are summed there and read once an epoch.
"""

import json
import math
import time
from pathlib import Path

import torch
from tqdm import tqdm

from pydino.base import UserError, log, warn, write_text
from pydino.data import ViewSampler, prefetched

from .checkpoint import load_checkpoint, random_state, save_checkpoint, set_random_state
from .config import OptimiserConfig
from .monitors import Averages
from .schedules import warmup_cosine


def choose_device(ngpu: int) -> torch.device:
    """Return the device to train on: the GPU if one is asked for, else the CPU.

    Raises:
        UserError: a GPU is asked for and PyTorch finds none, or several are asked for.
    """
    if ngpu == 0:
        return torch.device("cpu")
    if ngpu > 1:
        raise UserError(f"--ngpu {ngpu}: this version trains on one GPU; run several seeds side by side instead, or give --ngpu 1")
    if not torch.cuda.is_available():
        build = "no CUDA in this build of PyTorch; see PYDINO_TORCH in the README" if torch.version.cuda is None else "see nvidia-smi"
        raise UserError(f"--ngpu 1 was asked for, but PyTorch finds no GPU ({build}); train on the CPU with --ngpu 0")
    return torch.device("cuda")


def make_optimiser(parameters: list[torch.nn.Parameter], config: OptimiserConfig) -> torch.optim.Optimizer:
    """Return the optimiser, fused into one pass; weight decay on matrices (and kernels) only, never on biases and norms."""
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=True)
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[config.name]
    return kind(groups, lr=config.lr, betas=tuple(config.betas), amsgrad=config.name == "adam", fused=True)


def train(method, sampler: ViewSampler, config, exp, total_steps: int, device: torch.device) -> None:
    """Train to the end, from the last checkpoint if there is one.

    Args:
        method: what learns, such as :class:`pydino.train.dino.Dino`.
        sampler: batches by step number.
        config: with ``optimiser``, ``on_collapse`` and ``checkpoint_steps``.
        exp: folder for checkpoints/ and log.jsonl.
        total_steps: of the whole run.
        device: of the method.

    Raises:
        UserError: the run collapsed and ``on_collapse`` is stop, or the loss is not a number.
    """
    exp = Path(exp)
    steps_per_epoch = len(sampler.dataset) / sampler.batch_size
    warmup = round(config.optimiser.warmup_epochs * steps_per_epoch)
    parameters = list(method.student.parameters())
    optimiser = make_optimiser(parameters, config.optimiser)

    averages = Averages()
    step = resume(method, optimiser, averages, exp, device)
    began, seen = time.monotonic(), 0
    bar = tqdm(total=total_steps, initial=step, unit="step", disable=None, leave=False)
    for batch in prefetched(sampler, step, total_steps):
        lr = warmup_cosine(step, total_steps, warmup, config.optimiser.lr, config.optimiser.final_lr)
        for group in optimiser.param_groups:
            group["lr"] = lr

        loss, metrics = method.loss(batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        method.gradients_ready(step)
        if config.optimiser.clip:
            metrics["gradient_norm"] = torch.nn.utils.clip_grad_norm_(parameters, config.optimiser.clip, foreach=True)
        optimiser.step()
        method.after_update(step)

        averages.add(metrics)
        seen += sampler.batch_size
        step += 1
        bar.update()
        ended = epoch_ended(step, steps_per_epoch) or step == total_steps
        if ended:
            means, now = averages.read(), time.monotonic()
            line = {"epoch": round(step / steps_per_epoch, 2), "step": step, **means, "lr": lr, **method.schedule(step - 1)}
            line["utterances_per_second"] = round(seen / (now - began), 1)
            bar.clear()
            report(line, total_steps)
            stop_if_not_finite(means)
            stop_if_collapsed(method.diagnosis(means), config.on_collapse)
            append_line(exp / "log.jsonl", line)
            began, seen = time.monotonic(), 0
        if ended or step % config.checkpoint_steps == 0:
            stop_if_not_finite(averages.peek())  # what is saved is worth going on from
            save_checkpoint(exp / "checkpoints", {
                "step": step, "method": method.state_dict(), "optimiser": optimiser.state_dict(), "averages": averages.state(),
                "random": random_state(device),
            })  # fmt: skip
    bar.close()


def resume(method, optimiser, averages: Averages, exp: Path, device: torch.device) -> int:
    """Put the last checkpoint back; return the number of steps done. Lines of the log after it are taken back too."""
    state = load_checkpoint(exp / "checkpoints", device)
    step = 0
    if state is not None:
        method.load_state_dict(state["method"])
        optimiser.load_state_dict(state["optimiser"])
        averages.restore(state["averages"])
        set_random_state(state["random"], device)
        step = state["step"]
        log(f"resuming {exp} after step {step}")
    if (exp / "log.jsonl").exists():
        lines = (exp / "log.jsonl").read_text(encoding="utf-8").splitlines()
        write_text(exp / "log.jsonl", "".join(f"{line}\n" for line in lines if 0 < logged_step(line) <= step))
    return step


def logged_step(line: str) -> int:
    """Return the step that a line of the log was written after; 0 if a kill cut the line short."""
    try:
        return json.loads(line)["step"]
    except ValueError:
        return 0


def epoch_ended(step: int, steps_per_epoch: float) -> bool:
    """Whether step number ``step`` (counted from 1) is the first to complete an epoch."""
    return int(step / steps_per_epoch) > int((step - 1) / steps_per_epoch)


def append_line(path: Path, line: dict) -> None:
    """Append a JSON line to the log, all of it in one write."""
    with open(path, "a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")


def report(line: dict, total_steps: int) -> None:
    """Say in one line how the epoch went."""
    koleo = f", koleo {line['koleo']:.2f}" if "koleo" in line else ""
    log(
        f"epoch {line['epoch']:g} (step {line['step']} of {total_steps}): loss {line['loss']:.3f} (dino {line['dino_loss']:.3f}{koleo}), "
        f"entropy of teacher {line['teacher_entropy']:.2f}, student {line['student_entropy']:.2f}, "
        f"mean teacher {line['mean_teacher_entropy']:.2f}, KL {line['kl']:.2f}, spread {line['embedding_spread']:.3f}, "
        f"lr {line['lr']:.2g}, {line['utterances_per_second']:.0f} utt/s"
    )


def stop_if_not_finite(means: dict[str, float]) -> None:
    """Stop before weights that are no numbers any more are saved over the last good checkpoint; there is no going on from them."""
    bad = [name for name, value in means.items() if not math.isfinite(value)]
    if bad:
        raise UserError(
            f"{', '.join(bad)}: not a number any more; lower optimiser.lr or optimiser.clip, and start afresh with --force true"
        )


def stop_if_collapsed(what: str, on_collapse: str) -> None:
    """Warn, or stop."""
    if what and on_collapse == "stop":
        raise UserError(f"{what} (to go on all the same: on_collapse: warn)")
    if what:
        warn(what)
