"""Tell what runs, waits or failed in a recipe folder, for how long, where the logs are, and how far the
trainings are. Touches nothing.

pydino status [WORK_DIR]        (./run.sh --status)
"""

import json
import os
import re
import time
from pathlib import Path

from pydino.base import UserError
from pydino.jobs.detached import describe_controller
from pydino.jobs.status import Group, Log, group_name, read_groups


def add_arguments(parser):
    parser.add_argument(
        "work_dir",
        nargs="?",
        default=".",
        metavar="WORK_DIR",
        help="with data, feats and exp in it (default: here)",
    )


def run(args):
    folder = Path(args.work_dir)
    if not os.path.isdir(folder):
        what = "no folder" if os.path.exists(folder) else "not there"
        raise UserError(
            f"{folder.absolute()} is {what}; --work-dir names a folder with data, feats and exp in it"
        )
    lines = describe_controller(folder / "exp")
    groups, remarks = read_groups(folder / "exp")
    lines += [f"note     {remark}" for remark in remarks]
    shown: set[Path] = set()
    for state in ("running", "waiting", "failed", "died"):
        for group in groups:
            lines += _lines(group, state)
            if state != "failed" and (group.of(state) or (state == "waiting" and group.waiting)):
                lines += _progress(Path(group.name).parent.parent, shown)
    done = [log for group in groups for log in group.of("done")]
    if done:
        last = max(done, key=lambda log: log.ended or 0)
        lines.append(f"done     {len(done)} jobs; the last {_ago(last.ended)}: {group_name(last.path)}")
    print("\n".join(lines) or f"nothing has run in {folder.resolve()} yet")


def _lines(group: Group, state: str) -> list[str]:
    logs = group.of(state)
    lines = []
    if state == "waiting" and group.waiting:
        why = ", ".join(
            f"Slurm job {job}{f' ({reason})' if reason else ''}" for job, reason in group.waiting.items()
        )
        lines.append(f"waiting  {group.name}   {why}")
    elif logs and state == "waiting":
        lines.append(f"waiting  {group.name}   Slurm job {logs[0].slurm_job} ({logs[0].reason}), to go on")
    elif logs and state == "running":
        where = (
            f", Slurm job {logs[0].slurm_job} on {logs[0].reason}"
            if logs[0].slurm_job and logs[0].reason
            else ""
        )
        lines.append(f"running  {group.name}   {_count(logs, group)}for {duration(_age(logs))}{where}")
    elif logs and state == "failed":
        codes = ", ".join(map(str, sorted({log.code for log in logs if log.code is not None})))
        lines.append(
            f"failed   {group.name}   {_count(logs, group)}code {codes}, "
            f"{_ago(max(log.ended or 0 for log in logs))}"
        )
    elif logs and state == "died":
        lines.append(
            f"died     {group.name}   {_count(logs, group)}the log has no end, and nobody here writes to "
            "it: killed, or elsewhere"
        )
    return lines


def _count(logs: list[Log], group: Group) -> str:
    if len(group.logs) == 1:
        return ""
    numbers = sorted(
        int(log.path.name.split(".")[-2]) for log in logs if log.path.name.split(".")[-2].isdigit()
    )
    which = (
        f" (jobs {' '.join(map(str, numbers[:10]))}{' ...' if len(numbers) > 10 else ''})"
        if logs[0].state != "running"
        else ""
    )
    done = f", {len(group.of('done'))} done" if logs[0].state == "running" else ""
    return f"{len(logs)} of {len(group.logs)}{done}{which}, "


def _age(logs: list[Log]) -> float:
    return time.time() - min(log.started or time.time() for log in logs)


def _ago(moment: float | None) -> str:
    return f"{duration(time.time() - moment)} ago" if moment else "some time ago"


def duration(seconds: float) -> str:
    """``75`` seconds are ``1 min``; the two largest units count."""
    seconds = max(0, round(seconds))
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


def _progress(exp: Path, shown: set[Path]) -> list[str]:
    """Return a line about a training, from its log and its checkpoints; none if nothing trains there."""
    line = _last_line(exp / "log.jsonl")
    if exp in shown or not (line or (exp / "checkpoints").is_dir()):
        return []
    shown.add(exp)
    words = []
    if line:
        total = _total_steps(exp, line)
        words.append(
            f"step {line['step']}" + (f" of {total} ({100 * line['step'] // total} %)" if total else "")
        )
        words.append(f"epoch {line['epoch']:g}")
        speed = line.get("utterances_per_second") or 0
        words.append(f"{speed:.0f} utt/s")
        batch = _of_config(exp, "batch_size")
        if total and speed and batch:
            left = (total - line["step"]) * batch / speed - (
                time.time() - (_time_of(exp / "log.jsonl") or time.time())
            )
            words.append(f"about {duration(left)} left")
    saved = sorted((exp / "checkpoints").glob("step*.pt"))
    if saved and (when := _time_of(saved[-1])):
        words.append(f"saved at step {saved[-1].stem[4:].lstrip('0') or 0}, {_ago(when)}")
    return [f"         {', '.join(words)}"]


def _time_of(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:  # replaced, or put aside, meanwhile
        return None


def _last_line(path: Path) -> dict | None:
    try:
        with open(path, "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - 8000))
            lines = stream.read().splitlines()
    except OSError:
        return None
    for text in reversed(lines):
        try:
            line = json.loads(text)
            return line if {"step", "epoch"} <= line.keys() else None
        except (ValueError, AttributeError):
            continue  # cut short by a kill
    return None


def _total_steps(exp: Path, line: dict) -> int | None:
    try:
        with open(exp / "log" / "train.log", "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - 8000))
            if said := re.findall(rb"\(step \d+ of (\d+)\)", stream.read()):
                return int(said[-1])
    except OSError:
        pass
    epochs = _of_config(exp, "epochs")
    return round(epochs * line["step"] / line["epoch"]) if epochs and line["epoch"] else None


def _of_config(exp: Path, name: str) -> float | None:
    """Return a number at the top of EXP/config.yaml; reading the whole of it would cost more time than all
    the rest.
    """
    try:
        match = re.search(
            rf"^{name}: ([\d.]+)\s*$", (exp / "config.yaml").read_text(encoding="utf-8"), flags=re.MULTILINE
        )
    except OSError:
        return None
    return float(match[1]) if match else None
