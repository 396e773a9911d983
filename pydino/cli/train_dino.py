"""Train DINO on a pre-training directory: a student and, following it, the teacher that becomes the model.

EXP gets config.yaml (resolved), log.jsonl (a line an epoch), checkpoints/, and at the end the model folders teacher/ and student/.
An interrupted run goes on from its last checkpoint; a finished one is left alone; a different one is refused.
"""

import shutil
from pathlib import Path

import torch

from pydino.audio import KINDS
from pydino.base import UserError, config_to_dict, dump_config, ingredients, load_config, log, read_json, why_not_done, write_mark
from pydino.cli import boolean
from pydino.data import TrainingSet, ViewSampler
from pydino.infer import read_front_end, save_model
from pydino.train import Dino, DinoConfig, choose_device, train

VERSION = 1  # raised when the same configuration would give another model
UNSCIENTIFIC = ("on_collapse", "checkpoint_steps")  # keys that change no weight


def add_arguments(parser):
    parser.add_argument("data", metavar="DATA", help="pre-training directory, made by steps/make_train_set.sh")
    parser.add_argument("exp", metavar="EXP", help="where the run lives, such as exp/dino-koleo_mini/seed0")
    parser.add_argument("--config", metavar="YAML", help="what defines the run (default: the defaults of pydino/train/config.py)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key, such as optimiser.lr=0.002")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, order, crops and augmentation (default: %(default)s)")
    parser.add_argument("--ngpu", type=int, default=0, help="0: the CPU; 1: a GPU (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: as many as PyTorch chooses)")
    parser.add_argument("--force", type=boolean, default=False, metavar="true|false", help="discard what is in EXP and start afresh")


def run(args):
    config = load_config(DinoConfig, args.config, args.set)
    data, exp = Path(args.data), Path(args.exp)
    front_end = config_to_dict(read_front_end(data, config.normalisation))
    device = choose_device(args.ngpu)
    dataset = TrainingSet(data)
    if claim(exp, wanted(config, args.seed, data), args.force):
        log(f"{exp} is finished and up to date")
        return 0
    dump_config({"method": config.method, "seed": args.seed, **config_to_dict(config)}, exp / "config.yaml")

    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    frame_shift = front_end["features"]["frame_shift"] / 1000
    sampler = ViewSampler(dataset, config.crops, config.batch_size, frame_shift, args.seed)
    steps_per_epoch = len(dataset) / config.batch_size
    total_steps = max(1, round(config.epochs * steps_per_epoch))
    method = Dino(config, dataset.dim, frame_shift, args.seed, total_steps, steps_per_epoch, device)
    hours = dataset.lengths.sum() * frame_shift / 3600
    log(
        f"{config.method}, seed {args.seed}: {len(dataset)} utterances, {hours:.2f} hours without silence, "
        f"{total_steps} steps of {config.batch_size} on {device}; student of {sum(p.numel() for p in method.student.parameters()):,} "
        f"parameters, {sum(p.numel() for p in method.student.encoder.parameters()):,} of them in the encoder"
    )
    train(method, sampler, config, exp, total_steps, device)
    write_models(method, config, args.seed, data, front_end, exp)
    write_mark(exp / ".done.train", wanted(config, args.seed, data), model_files(exp))
    log(f"finished: {exp}/teacher and {exp}/student")


def wanted(config, seed, data) -> dict[str, str]:
    """Return what the run depends on. Names of utterances are not in it: hashes, lengths and silence are."""
    tables = [data / name for name in ("utt2hash", "feats.scp", "vad.scp") if (data / name).exists()]
    tables += [data / "conf" / f"{name}.yaml" for name in (*KINDS, "vad") if (data / "conf" / f"{name}.yaml").exists()]
    science = {key: value for key, value in config_to_dict(config).items() if key not in UNSCIENTIFIC}
    return ingredients(version=VERSION, settings={"seed": seed, **science}, texts=tables, after=[data / ".done"])


def model_files(exp: Path) -> list[Path]:
    return [exp / role / "model.safetensors" for role in ("teacher", "student")]


def claim(exp: Path, wanted: dict[str, str], force: bool) -> bool:
    """Make EXP ours: True if the very run is finished there; otherwise it may start, or go on.

    Raises:
        UserError: another run lives there.
    """
    started = exp / ".started"
    if not started.exists() and (exp / "checkpoints").exists() and not force:
        raise UserError(f"{exp} holds checkpoints of an unknown run; give another EXP, or --force true to discard them")
    if started.exists() and not force:
        earlier = read_json(started)["ingredients"]
        changed = sorted(name for name in earlier.keys() | wanted.keys() if earlier.get(name) != wanted.get(name))
        if changed:
            name = changed[0]
            # Options speak for themselves; of files there are only digests to show.
            how = f"was {earlier.get(name)} and is {wanted.get(name)} now" if name.startswith("option ") else "is different now"
            raise UserError(
                f"{exp} holds another run: {name} {how}"
                f"{f' (and {len(changed) - 1} more)' if len(changed) > 1 else ''}; nothing was touched. Train beside it with another --tag "
                "(another EXP), or discard it with --force true"
            )
        return why_not_done(exp / ".done.train", wanted) == ""
    for name in ("checkpoints", "teacher", "student"):
        shutil.rmtree(exp / name, ignore_errors=True)
    for name in ("log.jsonl", ".done.train"):
        (exp / name).unlink(missing_ok=True)
    write_mark(started, wanted)
    return False


def write_models(method: Dino, config: DinoConfig, seed: int, data: Path, front_end: dict, exp: Path) -> None:
    """Write the model folders teacher/ and student/."""
    train_set = (data / "name").read_text().strip() if (data / "name").exists() else data.resolve().name
    for role in ("teacher", "student"):
        encoder = getattr(method, role).encoder
        description = {
            "encoder": config.encoder, "embedding_dim": encoder.embedding_dim, "role": role, "method": config.method, "seed": seed,
            "train_set": train_set, "front_end": front_end,
        }  # fmt: skip
        readme = (
            f"# {config.method}, {role}\n\nAn encoder of whole utterances, trained without labels on {train_set} "
            f"({config.epochs:g} epochs, seed {seed}).\n\nMade by `steps/train_dino.sh --seed {seed} {data} {exp}`; the resolved "
            "configuration is in `../config.yaml`, the course of the training in `../log.jsonl`.\n\n"
            "    pydino embed THIS_FOLDER recording.wav\n"
        )
        save_model(exp / role, encoder, description, readme)
