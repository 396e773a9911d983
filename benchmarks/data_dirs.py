"""Seconds and memory of the data-directory tools at VoxCeleb's size, beside coreutils or Kaldi's scripts.

    python3 benchmarks/data_dirs.py [--utterances N] [--folder DIR] [--json FILE]

A directory with names, paths and tables as long as VoxCeleb2's is created first. The peer is Kaldi's script
of the same name where KALDI_ROOT is set, otherwise the commands that such a script consists of: ``sort -c``
of every table and a comparison of its keys, and for a copy one ``awk`` and one ``sort`` a table before that.
Memory is the peak of the largest process. Runs alternate, and the median is reported.
"""

import argparse
import multiprocessing
import os
import random
import statistics
import string
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLES = ("utt2spk", "wav.scp", "feats.scp", "vad.scp", "utt2num_frames", "utt2dur")
CHECK = """
cut -d' ' -f1 "$1/utt2spk" > "$1/.keys"
for table in {tables}; do
  LC_ALL=C sort -k1,1 -C -u "$1/$table" && cut -d' ' -f1 "$1/$table" | cmp -s - "$1/.keys" || exit 1
done
rm "$1/.keys"
""".replace("{tables}", " ".join(TABLES))
COPY = """
mkdir -p "$2"
for table in {tables}; do awk '{$1 = "x-" $1; print}' "$1/$table" | LC_ALL=C sort -k1,1 > "$2/$table"; done
set -- "$2"
""".replace("{tables}", " ".join(TABLES))
AFFIXES = ["--utt-prefix", "x-", "--spk-prefix", "x-"]


def make_data_dir(folder: Path, count: int) -> None:
    """Make a data directory of ``count`` utterances; the files that it names do not exist."""
    rng = random.Random(0)
    letters = string.ascii_letters + string.digits + "_"
    names: list[tuple[str, str, str, int]] = []
    while len(names) < count:
        speaker = f"id{len(names) // 180 + 12:05d}"
        videos = sorted({"".join(rng.choices(letters, k=11)) for _ in range(24)})
        names += [
            (f"{speaker}-{video}-{n:05d}", speaker, video, n)
            for video in videos
            for n in range(1, rng.randint(2, 12))
        ]
    names = sorted(names[:count])
    rows = {
        "utt2spk": lambda i, speaker, video, n: speaker,
        "wav.scp": lambda i, speaker, video, n: f"/corpora/voxceleb2/dev/aac/{speaker}/{video}/{n:05d}.m4a",
        "feats.scp": lambda i, *_: f"/exp/feats/raw_fbank_vox.{i // 35000 + 1}.ark:{i % 35000 * 64123 + 26}",
        "vad.scp": lambda i, *_: f"/exp/feats/vad_vox.{i // 35000 + 1}.ark:{i % 35000 * 643 + 26}",
        "utt2num_frames": lambda *_: rng.randint(396, 2000),
        "utt2dur": lambda *_: rng.randint(396, 2000) / 100,
    }
    folder.mkdir(parents=True)
    for table in TABLES:
        with open(folder / table, "w", encoding="utf-8") as stream:
            stream.writelines(f"{name[0]} {rows[table](i, *name[1:])}\n" for i, name in enumerate(names))
    members: dict[str, list[str]] = {}
    for utterance, speaker, *_ in names:
        members.setdefault(speaker, []).append(utterance)
    with open(folder / "spk2utt", "w", encoding="utf-8") as stream:
        stream.writelines(f"{speaker} {' '.join(own)}\n" for speaker, own in members.items())


def measure(command: list, folder=None) -> tuple[float, float, float]:
    """Return seconds, CPU seconds, and the peak memory (MB) of the largest process, of a command."""
    start = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)), cwd=folder, stderr=subprocess.PIPE, text=True)
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command[0]} failed: {said[-1000:]}")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--utterances", type=int, default=1_100_000, metavar="N")
    parser.add_argument("--passes", type=int, default=3, metavar="N", help="runs of each (default: 3)")
    parser.add_argument(
        "--folder", metavar="DIR", help="where the directory is made (default: a temporary one)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    kaldi = os.environ.get("KALDI_ROOT")
    kaldi = Path(kaldi) / "egs/wsj/s5" if kaldi else None
    rows = []
    with tempfile.TemporaryDirectory(dir=args.folder) as made:
        data, copied = Path(made) / "data", Path(made) / "copy"
        # In a separate process: the peak memory that Linux reports of a child starts at that of its parent.
        maker = multiprocessing.Process(target=make_data_dir, args=(data, args.utterances))
        maker.start()
        maker.join()
        check, copy = ["--no-text", data], [*AFFIXES, "--validate-opts", "--no-text", data, copied]
        for tool, options, script in (
            ("validate_data_dir.sh", check, [CHECK, "-", data]),
            ("copy_data_dir.sh", copy, [COPY + CHECK, "-", data, copied]),
        ):
            peer = [kaldi / "utils" / tool, *options] if kaldi else ["bash", "-c", *script]
            runs = [
                (measure([ROOT / "utils" / tool, *options]), measure(peer, kaldi)) for _ in range(args.passes)
            ]
            ours, other = (
                [statistics.median(pair[i][n] for pair in runs) for n in range(3)] for i in range(2)
            )
            rows.append(
                {
                    "tool": tool,
                    "s": round(ours[0], 1),
                    "CPU s": round(ours[1], 1),
                    "peak MB": round(ours[2]),
                    "peer": "Kaldi" if kaldi else "coreutils",
                    "peer s": round(other[0], 1),
                    "peer CPU s": round(other[1], 1),
                    "ratio": round(statistics.median(first[0] / second[0] for first, second in runs), 2),
                }
            )
    sys.path.insert(0, str(ROOT))
    from report import finish, machine, show  # loads torch, which would add to the memory of the tools

    title = f"{args.utterances:,} utterances, {len(TABLES)} tables"
    show(title, rows)
    finish({"title": title, "rows": rows, "machine": machine()}, args.json)


if __name__ == "__main__":
    main()
