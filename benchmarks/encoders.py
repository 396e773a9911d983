"""Cost of encoders: parameters, processor time of an embedding and of a training step, and peak memory, of
LResNet34 beside frame-level pre-trained models of the published sizes (with random weights, which cost the
same).

    python3 benchmarks/encoders.py [--row NAME]... [--batch N] [--seconds S] [--json FILE]

Every row is a process of its own with one thread, so that its peak memory is its own. Times are processor
time, so that other work on the machine matters less, divided by the seconds of speech in the batch. A step is
forward, backward and AdamW, for a classifier of 1000 speakers.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

BASE = {"hidden_size": 768}  # the library's defaults are those of base models
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
LARGE |= {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}
W2V_BERT = {"hidden_size": 1024, "position_embeddings_type": "relative_key"}


def pretrained(name: str, architecture: dict, tuning: str) -> dict:
    return {"name": name, "architecture": architecture, "tuning": tuning, "pooling": "mhfa"}


ROWS = {
    "lresnet34": {"name": "lresnet34"},
    "wavlm base, frozen": pretrained("wavlm", BASE, "frozen"),
    "wavlm base, lora": pretrained("wavlm", BASE, "lora"),
    "wavlm base, all": pretrained("wavlm", BASE, "all"),
    "wavlm large, frozen": pretrained("wavlm", LARGE, "frozen"),
    "wavlm large, lora": pretrained("wavlm", LARGE, "lora"),
    "w2v-bert 2.0, frozen": pretrained("wav2vec2-bert", W2V_BERT, "frozen"),
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--row", action="append", choices=ROWS, help="only this one; may be repeated")
    parser.add_argument("--batch", type=int, default=4, help="utterances of a batch (default: 4)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of an utterance (default: 3)")
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        print(json.dumps(measure(args.row[0], args.batch, args.seconds)))
        return
    from report import finish, machine, show

    rows = []
    for row in args.row or ROWS:
        call = [sys.executable, __file__, "--alone", "--row", row, "--batch", args.batch, "--seconds"]
        done = subprocess.run(
            [*map(str, call), str(args.seconds)],
            stdout=subprocess.PIPE,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        rows.append({"encoder": row, **json.loads(done.stdout.splitlines()[-1])})
        print(rows[-1], file=sys.stderr)
    show(f"{args.batch} utterances of {args.seconds:g} s, one thread", rows)
    finish({"encoders": rows, "machine": machine()}, args.json)


def measure(row: str, batch: int, seconds: float) -> dict:
    """Return the figures of a row."""
    import torch

    from pydino.models import AamSoftmax, build_encoder
    from pydino.train.method import freeze_all_but
    from pydino.train.parameter_groups import grouped

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = ROWS[row]
    of_waveforms = config["name"] == "wavlm"
    encoder = build_encoder(config, 160 if of_waveforms else 80)
    x = torch.randn(batch, round(100 * seconds), 160 if of_waveforms else 80)

    def timed(call) -> float:
        call()
        start = time.process_time()
        call()
        return (time.process_time() - start) / (batch * seconds)

    encoder.eval()
    with torch.inference_mode():
        embedding = timed(lambda: encoder(x))
    inference_memory = peak()
    encoder.train()
    head = AamSoftmax(encoder.embedding_dim, 1000, 30.0, 0.2)
    groups = grouped(encoder, list(encoder.parameters()))
    trained = [p for group in groups for p in group.parameters]
    freeze_all_but(encoder, trained)
    optimiser = torch.optim.AdamW([*trained, *head.parameters()], fused=True)
    labels = torch.arange(batch)

    def step() -> None:
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(head(encoder(x), labels, 0.2), labels).backward()
        optimiser.step()

    training = timed(step)
    return {
        "parameters (M)": round(sum(p.numel() for p in encoder.parameters()) / 1e6, 1),
        "trained (M)": round(sum(p.numel() for p in trained) / 1e6, 1),
        "embedding (s/s)": round(embedding, 3),
        "step (s/s)": round(training, 3),
        "memory, embedding (GB)": inference_memory,
        "memory, step (GB)": peak(),
    }


def peak() -> float:
    """Return the peak memory of this process in GB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)


if __name__ == "__main__":
    main()
