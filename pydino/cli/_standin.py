"""Stands in for pydino/cli/_steps.py, pydino/jobs/submit.py, the verb run-steps and the new calls of the
steps, until they are there. To be deleted with the lines of for_each.py that import it.
"""

import json
import os
import subprocess
import sys

from pydino.base import UserError


def root() -> str:
    return os.environ["PYDINO_ROOT"]


def job_command(verb: str, *words) -> list[str]:
    return ["python3", "-m", "pydino.cli._standin", *map(str, words)]


def pending(argv: list[str]) -> str:
    return "not done yet"


def run_step(argv: list[str]) -> int:
    for call in _old_calls(argv):
        if status := subprocess.run([os.path.join(root(), call[0]), *call[1:]]).returncode:
            return status
    return 0


def submit(cmd: str, log, argv: list[str], jobs: int = 1, options=()) -> None:
    call = [*cmd.split(), *options, f"JOB=1:{jobs}", str(log), *argv]
    if subprocess.run(call).returncode:
        raise UserError("a job failed; its log is named above")


def _old_calls(argv: list[str]) -> list[list[str]]:
    step, words = argv[0], list(argv[1:])
    if step == "steps/train.sh" and not os.path.exists(os.path.join(root(), step)):
        labels = []
        while "--labels" in words:
            place = words.index("--labels")
            labels.append(words.pop(place + 1))
            words.pop(place)
        if labels:
            return [["steps/train_xvector.sh", *words[:-1], *labels, words[-1]]]
        return [["steps/train_dino.sh", *words]]
    if step == "steps/extract_embeddings.sh":
        start = next(i for i in range(0, len(words), 2) if not words[i].startswith("--"))
        options, model, rest, calls = words[:start], words[start], words[start + 1 :], []
        place = options.index("--system")
        del options[place : place + 2]
        while rest:
            silence = ["--keep-silence", "true"] if rest[0] == "--with-silence" else []
            rest = rest[1:] if silence else rest
            calls.append([step, *options, *silence, model, *rest[:2]])
            rest = rest[2:]
        return calls
    if step == "steps/score.sh":
        words = ["--treatment" if word == "--centring" else word for word in words]
        if "--cmd" not in words:
            words = ["--cmd", "run_local.sh", *words]
    return [[step, *words]]


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as stream:
        sys.exit(max(run_step(argv) for argv in json.load(stream)[int(sys.argv[2]) - 1]))
