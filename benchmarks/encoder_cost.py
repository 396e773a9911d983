"""Size and speed of every encoder, at its published size, on utterances of three seconds.

    python3 benchmarks/encoder_cost.py [--encoder NAME]... [--seconds 3] [--passes 3] [--ngpu 0|1]
    [--json FILE]

Parameters are those of the encoder with its embedding, without a head. Multiply-adds are those of matrix
products and convolutions, of one utterance forward. Utterances per second are of batches of --batch in
float32: "embed" forward without gradients, "train" forward and backward, the best of --passes. On a CPU they
are those of one core, per second of the processor's time, so that other work on the machine matters less.
"kept" is what an utterance leaves in memory for the backward pass, and "recomputed" the same with activation
checkpointing, which adds the largest block at a time.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402
from report import finish, machine, show  # noqa: E402
from roofline import wait  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from pydino.models import Encoder, build_encoder  # noqa: E402

BINS, FRAMES_PER_SECOND = 80, 100
ENCODERS = {
    "tdnn": {"name": "tdnn"},
    "tdnn, x-vector": {
        "name": "tdnn",
        "channels": 512,
        "pooled_channels": 1500,
        "stride": 1,
        "embedding_dim": 512,
    },
    "ecapa-tdnn": {"name": "ecapa-tdnn"},
    "ecapa-tdnn, 1024": {"name": "ecapa-tdnn", "channels": 1024, "se_reduction": 8},
    "campplus": {"name": "campplus"},
    "lresnet34": {"name": "lresnet34"},
    "eres2net": {"name": "eres2net"},
    "resnet34": {"name": "resnet34"},
    "fwse-resnet34": {"name": "fwse-resnet34"},
}


def kept_bytes(encoder: Encoder, x: torch.Tensor, checkpointed: bool) -> int:
    """Return the bytes of the tensors that a forward pass stores for the backward pass, parameters not
    included.
    """
    parameters = {p.untyped_storage().data_ptr() for p in encoder.parameters()}
    stored = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            stored[storage.data_ptr()] = tensor, storage.nbytes()  # the tensor, lest its address be reused
        return tensor

    encoder.checkpointed = checkpointed
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = encoder(x)
    encoder.checkpointed = False
    del y
    return sum(size for _, size in stored.values())


def seconds(function, passes: int, device: torch.device) -> float:
    """Return the least time of a call; the first of all is not counted."""
    clock, taken = time.perf_counter if device.type == "cuda" else time.process_time, []
    for _ in range(passes + 1):
        wait(device)
        began = clock()
        function()
        wait(device)
        taken.append(clock() - began)
    return min(taken[1:])


def measure(name: str, args, device: torch.device) -> dict:
    """Return the row of one encoder."""
    torch.manual_seed(0)
    encoder = build_encoder(ENCODERS[name], BINS).to(device)
    x = torch.randn(args.batch, round(args.seconds * FRAMES_PER_SECOND), BINS, device=device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        encoder.eval()(x[:1])

    @torch.no_grad()
    def embed():
        encoder(x)

    def train():
        encoder(x).square().mean().backward()

    embedding = seconds(embed, args.passes, device)
    encoder.train()
    return {
        "encoder": name,
        "million parameters": round(sum(p.numel() for p in encoder.parameters()) / 1e6, 2),
        "G multiply-adds": counter.get_total_flops() / 2e9,
        "embed utt/s": args.batch / embedding,
        "train utt/s": args.batch / seconds(train, args.passes, device),
        "kept MB": kept_bytes(encoder, x, False) / args.batch / 1e6,
        "recomputed MB": kept_bytes(encoder, x, True) / args.batch / 1e6,
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--encoder", action="append", choices=ENCODERS, metavar="NAME", help="this one; again for others"
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="of each utterance (default: 3)")
    parser.add_argument("--batch", type=int, default=4, help="utterances in a batch (default: 4)")
    parser.add_argument("--passes", type=int, default=3, help="the best counts (default: 3)")
    parser.add_argument("--ngpu", type=int, choices=(0, 1), help="GPUs (default: 1 if there is one)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    ngpu = int(torch.cuda.is_available()) if args.ngpu is None else args.ngpu
    torch.set_num_threads(1)
    device = torch.device("cuda" if ngpu else "cpu")
    rows = [measure(name, args, device) for name in args.encoder or ENCODERS]
    show(f"{args.seconds:g} s, batches of {args.batch}, float32, {device}", rows)
    finish({"machine": machine(), "encoders": rows}, args.json)


if __name__ == "__main__":
    main()
