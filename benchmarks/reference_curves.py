"""Make a reference curve of the package from a run that pydino monitor has measured without labels.

    python benchmarks/reference_curves.py healthy exp/healthy/seed0
    python benchmarks/reference_curves.py collapsed exp/collapsed/seed0

Writes pydino/report/reference_runs/NAME.json: one point a snapshot, with the untrained encoder at epoch 0.
The commands of the two runs are in docs/monitoring.md.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pydino.base import read_json_lines, read_yaml, write_text  # noqa: E402
from pydino.report.reference_curves import FOLDER, NAMES, SCORES, with_log  # noqa: E402

KEPT = ("epoch", *SCORES, "alignment", "uniformity")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("exp", metavar="EXP", type=Path, help="folder of the run")
    args = parser.parse_args()
    config = read_yaml(args.exp / "config.yaml")
    lines, log = (read_json_lines(args.exp / name) for name in ("monitor.jsonl", "log.jsonl"))
    points = {}
    for line in with_log([line for line in lines if "self_eer" in line], log):
        values = {key: line.get(key) for key in KEPT}
        points[line["epoch"]] = {
            key: value if value is None else round(value, 4) for key, value in values.items()
        }
    text = ",\n  ".join(json.dumps(points[epoch]) for epoch in sorted(points))
    head = {"epochs": config["epochs"], "embedding_dim": config["encoder"]["embedding_dim"]}
    inner = json.dumps(head).strip("{}")
    write_text(FOLDER / f"{args.name}.json", f'{{{inner}, "points": [\n  {text}\n]}}\n')


if __name__ == "__main__":
    main()
