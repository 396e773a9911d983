"""Size and speed of every encoder, at its published size, on utterances of three seconds.

    python3 benchmarks/encoder_cost.py [--encoder NAME]... [--seconds 3] [--batch 4] [--passes 3]
    [--ngpu 0|1] [--json FILE]

Parameters are those of the encoder with its embedding, without a head; "trained" of them are, in frame-level
pre-trained models, those that "tuning" leaves. Their weights are random here, which costs the same.
Multiply-adds are those of matrix products and convolutions, of one utterance forward. Utterances per second
are of batches of --batch in float32: "embed" forward without gradients, "train" forward and backward, the
best of --passes. On a CPU they are those of one core, per second of the processor's time, so that other work
on the machine matters less. "kept" is what an utterance leaves in memory for the backward pass, and
"recomputed" the same with activation checkpointing, which adds the largest block at a time.
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

from pydino.models import Encoder, build_encoder, input_kind  # noqa: E402
from pydino.models.transformer_library import CLASSES, is_installed  # noqa: E402
from pydino.train.method import freeze_all_but  # noqa: E402
from pydino.train.parameter_groups import grouped  # noqa: E402

FRAMES_PER_SECOND = 100
COLUMNS = {"features": 80, "waveform": 160}  # of the input: mel bins, or samples of a frame


def pretrained(name: str, tuning: str, **architecture) -> dict:
    """Return the configuration of a frame-level pre-trained model as conf/pretrained-dino.yaml has it."""
    return {"name": name, "architecture": architecture, "tuning": tuning, "pooling": "mhfa"}


BASE = {"hidden_size": 768}  # the library's defaults are those of base models
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
LARGE |= {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}
W2V_BERT = {"hidden_size": 1024, "position_embeddings_type": "relative_key"}
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
    "wavlm base, frozen": pretrained("wavlm", "frozen", **BASE),
    "wavlm base, lora": pretrained("wavlm", "lora", **BASE),
    "wavlm base, all": pretrained("wavlm", "all", **BASE),
    "wavlm large, frozen": pretrained("wavlm", "frozen", **LARGE),
    "wavlm large, lora": pretrained("wavlm", "lora", **LARGE),
    "w2v-bert 2.0, frozen": pretrained("wav2vec2-bert", "frozen", **W2V_BERT),
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


def millions(parameters) -> float:
    """Return their number of values, in millions."""
    return round(sum(p.numel() for p in parameters) / 1e6, 2)


def measure(name: str, args, device: torch.device) -> dict:
    """Return the row of one encoder."""
    torch.manual_seed(0)
    columns = COLUMNS[input_kind(ENCODERS[name])]
    encoder = build_encoder(ENCODERS[name], columns).to(device)
    x = torch.randn(args.batch, round(args.seconds * FRAMES_PER_SECOND), columns, device=device)
    trained = [p for group in grouped(encoder, list(encoder.parameters())) for p in group.parameters]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        encoder.eval()(x[:1])

    @torch.no_grad()
    def embed():
        encoder(x)

    def train():
        encoder(x).square().mean().backward()

    embedding = seconds(embed, args.passes, device)
    freeze_all_but(encoder.train(), trained)
    return {
        "encoder": name,
        "million parameters": millions(encoder.parameters()),
        "trained": millions(trained),
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
    parser.add_argument("--batch", type=int, default=4, help="utterances in a batch, 2 or more (default: 4)")
    parser.add_argument("--passes", type=int, default=3, help="the best counts (default: 3)")
    parser.add_argument("--ngpu", type=int, choices=(0, 1), help="GPUs (default: 1 if there is one)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    if args.batch < 2:
        parser.error("--batch: batch norms need two utterances or more")
    ngpu = int(torch.cuda.is_available()) if args.ngpu is None else args.ngpu
    torch.set_num_threads(1)
    device = torch.device("cuda" if ngpu else "cpu")
    names = args.encoder or list(ENCODERS)
    if not is_installed():
        print("pre-trained models are left out: they need 'bash utils/setup.sh transformers'")
        names = [name for name in names if ENCODERS[name]["name"] not in CLASSES]
    rows = [measure(name, args, device) for name in names]
    show(f"{args.seconds:g} s, batches of {args.batch}, float32, {device}", rows)
    finish({"machine": machine(), "encoders": rows}, args.json)


if __name__ == "__main__":
    main()
