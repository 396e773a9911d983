"""Is a run healthy? One function decides, from the log of the training and the scores without labels; and one
chooses a snapshot by these scores.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydino.base import UserError, read_json_lines, read_yaml, write_json

from .label_free import UNTRAINED
from .monitors import collapse, partial_collapse, remedies
from .recorder import is_finite

# Before this share of the training, signs of a partial collapse may pass.
EARLY = 1 / 3
# Percent: views of one utterance are as good as not recognised.
CHANCE = 45.0
# Of the self-EER of the untrained encoder; a run that is above it after EARLY has learnt next to nothing.
LITTLE_GAIN = 0.9
# RankMe or LiDAR, where a quarter of the possible ones is no less. Not SMALL_RANK, which is of the effective
# rank, by variances: RankMe, by their square roots, is above it for the same embeddings.
FEW_DIRECTIONS = 4.0

State = Literal["healthy", "too early to tell", "learnt little", "partly collapsed", "collapsed"]


@dataclass(frozen=True)
class Health:
    """The verdict on a run, one sentence with what to change, after ``epoch`` of ``epochs``."""

    state: State
    sentence: str
    epoch: float
    epochs: float


def judge(
    log: list[dict], scores: list[dict], epochs: float, output_dim: int | None, max_rank: int
) -> Health:
    """Return the verdict on a run of which some or all epochs are done.

    In this order, with the last line of the log, the last snapshot, and the share of the epochs that are
    done:

    - collapsed: a number that is not finite; the alarms of :func:`pydino.train.monitors.collapse`; a self-EER
      of CHANCE or more after EARLY.
    - partly collapsed, after EARLY: the alarm of :func:`pydino.train.monitors.partial_collapse`; RankMe or
      LiDAR below FEW_DIRECTIONS.
    - learnt little, after EARLY: a self-EER above LITTLE_GAIN of the untrained encoder's.
    - too early to tell: before EARLY, or no snapshot has been scored.
    - healthy: none of these.

    The limits of the log have been seen on runs that were made to collapse (docs/monitoring.md); so have
    those of the scores, on fewer.

    Args:
        log: lines of log.jsonl, in order.
        scores: lines of monitor.jsonl without labels, with that of the untrained encoder.
        epochs: of the whole training.
        output_dim: K of the method's output; None: it has none.
        max_rank: effective rank that embeddings may have at best.
    """
    last = log[-1] if log else {}
    measured = sorted((line for line in scores if line["role"] != UNTRAINED), key=lambda line: line["epoch"])
    epoch = min(epochs, max([last.get("epoch", 0.0), *(line["epoch"] for line in measured)]))
    early = epoch < EARLY * epochs

    def verdict(state: State, why: str) -> Health:
        return Health(state, f"{state}, after {epoch:g} of {epochs:g} epochs: {why}", epoch, epochs)

    lost = [name for name, value in last.items() if value is None or not is_finite(value)]
    lost += ["embeddings"] if measured and measured[-1]["self_eer"] is None else []
    if lost:
        return verdict(
            "collapsed",
            f"{', '.join(lost)} not a number any more; lower optimiser.lr or optimiser.clip, and start again",
        )
    if output_dim and {"teacher_entropy", "mean_teacher_entropy", "kl", "embedding_spread"} <= last.keys():
        if whole := collapse(last, output_dim):
            return verdict("collapsed", whole)
    if last.get("embedding_spread", 1.0) < 0.01:
        return verdict(
            "collapsed",
            f"every utterance gets the same embedding (spread {last['embedding_spread']:.3f}); lower "
            "optimiser.lr",
        )
    remedy, little, start = remedies(last), "", None
    partly = partial_collapse(last, max_rank) if last else ""
    if measured:
        known = (line for line in scores if line["role"] == UNTRAINED and line["self_eer"] is not None)
        now, start = measured[-1], next(known, None)
        if now["self_eer"] >= CHANCE and not early:
            return verdict(
                "collapsed",
                f"two views of an utterance are not recognised (self-EER {now['self_eer']:.1f} %); {remedy}",
            )
        partly = partly or _few_directions(now, max_rank, remedy)
        little = _little_gain(now, start, remedy)
    if early or not measured:
        wait = "no snapshot is scored yet" if not measured else "its scores may still turn"
        seen = f"; so far: {partly or little}" if partly or little else ""
        return verdict("too early to tell", f"{wait}{seen}")
    if partly or little:
        return verdict("partly collapsed" if partly else "learnt little", partly or little)
    return verdict(
        "healthy",
        f"self-EER {now['self_eer']:.1f} %"
        + (f" ({start['self_eer']:.1f} % untrained)" if start else "")
        + f", LiDAR {now['lidar']:.1f} and RankMe {now['rankme']:.1f} directions",
    )


def _few_directions(now: dict, max_rank: int, remedy: str) -> str:
    few = [
        f"{name} {now[key]:.1f}"
        for key, name in (("lidar", "LiDAR"), ("rankme", "RankMe"))
        if now[key] < min(FEW_DIRECTIONS, max_rank / 4)
    ]
    return f"the embeddings use few directions ({' and '.join(few)}); {remedy}" if few else ""


def _little_gain(now: dict, start: dict | None, remedy: str) -> str:
    if start and now["self_eer"] > LITTLE_GAIN * start["self_eer"]:
        better = "little better" if now["self_eer"] < start["self_eer"] else "no better"
        return (
            f"views of an utterance are recognised {better} than by the untrained encoder (self-EER "
            f"{now['self_eer']:.1f} % after {start['self_eer']:.1f} %); train for more steps, or {remedy}"
        )
    return ""


def judge_run(exp: Path, lines: list[dict]) -> Health:
    """Judge the run in ``exp`` by its log.jsonl and the lines of monitor.jsonl without labels; keep the
    verdict in EXP/monitor/health.json, for the report.
    """
    config = read_yaml(exp / "config.yaml")
    log = read_json_lines(exp / "log.jsonl")
    scored = [line for line in lines if "self_eer" in line]
    output_dim = (config.get("head") or {}).get("output_dim")
    dim = next((line["embedding_dim"] for line in scored if "embedding_dim" in line), 1)
    health = judge(log, scored, config["epochs"], output_dim, dim)
    write_json(exp / "monitor" / "health.json", asdict(health))
    return health


def best_snapshot(lines: list[dict]) -> str:
    """Return the folder, below EXP, of the model that has the least self-EER, of equal ones the latest.

    LiDAR and RankMe have no say: along the run of egs/mini that has been measured, both fall while the EER of
    speakers falls (docs/monitoring.md). benchmarks/label_free_scores.py measures what a choice by any of the
    scores gains or loses.

    Args:
        lines: of monitor.jsonl without labels.

    Raises:
        UserError: no model has embeddings that are finite.
    """
    found = {line["model"]: line for line in lines if line["role"] != UNTRAINED}  # the latest of each model
    candidates = [line for line in found.values() if line.get("self_eer") is not None]
    if not candidates:
        raise UserError("--choose: no model that is there has finite embeddings; see the verdict above")
    return min(candidates, key=lambda line: (line["self_eer"], -line["epoch"]))["model"]
