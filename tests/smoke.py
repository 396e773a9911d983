"""The mini recipe in its smoke configuration, as several tests run it."""

import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ["model", "backend", "treatment", "labels", "task", "metric", "value", "ci", "n", "seed"]


def command(work, *arguments):
    # One job at a time: with so little to do, most of the time is Python starting.
    return [
        ROOT / "run.sh",
        "--recipe-file",
        ROOT / "egs/mini/conf/smoke.yaml",
        "--work-dir",
        work,
        "--nj",
        "1",
        *map(str, arguments),
    ]


def run(work, *arguments):
    return subprocess.run(command(work, *arguments), capture_output=True, text=True, timeout=900)


def results(work):
    return [{key: row[key] for key in RESULTS} for row in json.loads((work / "exp/results.json").read_text())]


def objects(work, name):
    """Read the objects of a script file whose paths begin in the work folder."""
    from pydino.kaldi import read_object, read_table

    return {
        key: read_object(place if place.startswith("/") else f"{work}/{place}")
        for key, place in read_table(work / name).items()
    }
