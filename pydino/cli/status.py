"""Print what runs, waits or failed in a recipe folder, for how long, where the logs are, and the progress
of the trainings. Changes nothing.

pydino status [WORK_DIR]        (./run.sh --status)
"""

import json
import os
import re
import time
from pathlib import Path

from pydino.base import UserError, plural
from pydino.jobs.pipeline.record import describe_controller
from pydino.jobs.pipeline.status import Group, Log, group_name, read_groups
from pydino.jobs.wrapper.log import last_bytes


def add_arguments(parser):
    text = "with data, feats and exp in it (default: here)"
    parser.add_argument("work_dir", nargs="?", default=".", metavar="WORK_DIR", help=text)


def run(args):
    folder = Path(args.work_dir)
    if not os.path.isdir(folder):
        what = "no folder" if os.path.exists(folder) else "not there"
        raise UserError(
            f"{folder.absolute()} is {what}; --work-dir is a folder with data, feats and exp in it"
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
        last = max(done, key=lambda log: log.said.ended or 0)
        when = _ago(last.said.ended)
        lines.append(f"done     {plural(len(done), 'job')}; the last {when}: {group_name(last.path)}")
    print("\n".join(lines) or f"nothing has run in {folder.resolve()} yet")


def _lines(group: Group, state: str) -> list[str]:
    """Return the line about the logs of a group that are in this state; none if there are none."""
    logs = group.of(state)
    if state == "waiting" and group.waiting:
        whys = [f"Slurm job {job}{f' ({why})' if why else ''}" for job, why in group.waiting.items()]
        return [f"waiting  {group.name}   {', '.join(whys)}"]
    if not logs:
        return []
    job = f"Slurm job {logs[0].said.slurm_job}"
    if state == "waiting":
        text = f"{job} ({logs[0].reason}), to go on"
    elif state == "running":
        where = f", {job} on {logs[0].reason}" if logs[0].said.slurm_job and logs[0].reason else ""
        start = min(log.said.started or time.time() for log in logs)
        text = f"{_count(logs, group)}for {duration(time.time() - start)}{where}"
    elif state == "failed":
        codes = ", ".join(map(str, sorted({log.said.code for log in logs})))
        text = f"{_count(logs, group)}code {codes}, {_ago(max(log.said.ended or 0 for log in logs))}"
    else:
        text = (
            f"{_count(logs, group)}the log has no end, and no process here writes to it: killed, or elsewhere"
        )
    return [f"{state:8s} {group.name}   {text}"]


def _count(logs: list[Log], group: Group) -> str:
    if len(group.logs) == 1:
        return ""
    if logs[0].state == "running":
        return f"{len(logs)} of {len(group.logs)}, {len(group.of('done'))} done, "
    jobs = [log.path.name.split(".")[-2] for log in logs]
    numbers = sorted(map(int, filter(str.isdigit, jobs)))
    listed = f"{' '.join(map(str, numbers[:10]))}{' ...' if len(numbers) > 10 else ''}"
    return f"{len(logs)} of {len(group.logs)} (jobs {listed}), "


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
    """Return a line about a training, from log.jsonl and checkpoints; none if nothing trains there."""
    line = _last_line(exp / "log.jsonl")
    if exp in shown or not (line or (exp / "checkpoints").is_dir()):
        return []
    shown.add(exp)
    words = []
    if line:
        step, epoch, epochs = line["step"], line["epoch"], _of_config(exp, "epochs")
        total = round(epochs * step / epoch) if epochs and epoch else None
        words.append(f"step {step}" + (f" of {total} ({100 * step // total} %)" if total else ""))
        words.append(f"epoch {epoch:g}")
        speed, batch = line.get("utterances_per_second") or 0, _of_config(exp, "batch_size")
        words.append(f"{speed:.0f} utt/s")
        if total and speed and batch:
            since = time.time() - (_time_of(exp / "log.jsonl") or time.time())
            words.append(f"about {duration((total - step) * batch / speed - since)} left")
    saved = sorted((exp / "checkpoints").glob("step*.pt"))
    if saved and (when := _time_of(saved[-1])):
        words.append(f"saved at step {saved[-1].stem[4:].lstrip('0') or 0}, {_ago(when)}")
    return [f"         {', '.join(words)}"]


def _time_of(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:  # replaced meanwhile
        return None


def _last_line(path: Path) -> dict | None:
    try:
        lines = last_bytes(path).splitlines()
    except OSError:
        return None
    for text in reversed(lines):
        try:
            line = json.loads(text)
            return line if {"step", "epoch"} <= line.keys() else None
        except (ValueError, AttributeError):
            continue  # cut short by a kill
    return None


def _of_config(exp: Path, name: str) -> float | None:
    """Return a number at the top of EXP/config.yaml; parsing all of it would take longer than everything
    else.
    """
    try:
        text = (exp / "config.yaml").read_text(encoding="utf-8")
    except OSError:
        return None
    match = re.search(rf"^{name}: ([\d.]+)\s*$", text, flags=re.MULTILINE)
    return float(match[1]) if match else None
