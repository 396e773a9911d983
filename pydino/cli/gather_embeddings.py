"""Put together the embeddings that parallel jobs wrote, and count what came in, went out and was dropped.

Writes XVECTOR_DIR/xvector.{ark,scp} and meta.yaml, and dropped.txt (utterance, reason) where something was
dropped; more than --max-drop is an error. The parts are then removed.
"""

from pathlib import Path

from pydino import __version__
from pydino.base import UserError, dump_config, log, read_yaml, warn, write_text
from pydino.cli import boolean
from pydino.kaldi import ArchiveWriter, read_scp_objects


def add_arguments(parser):
    parser.add_argument("model", metavar="MODEL_DIR", help="model folder, for meta.yaml")
    parser.add_argument("data", metavar="DATA", help="data directory, for meta.yaml")
    parser.add_argument("xvector_dir", metavar="XVECTOR_DIR")
    parser.add_argument("--jobs", type=int, required=True, metavar="N", help="number of parts")
    parser.add_argument(
        "--max-drop", type=float, default=0.0, metavar="SHARE", help="share that may be dropped (default: 0)"
    )
    parser.add_argument(
        "--keep-silence", type=boolean, default=False, metavar="true|false", help="for meta.yaml"
    )
    parser.add_argument("--command", default="", help="for meta.yaml: the call of the step")


def run(args):
    out = Path(args.xvector_dir)
    parts = [out / f"xvector.{n}" for n in range(1, args.jobs + 1)]
    missing = [part for part in parts if not Path(f"{part}.dropped").is_file()]
    if missing:
        raise UserError(f"no {missing[0]}.dropped: that job did not finish; run the step again")
    dropped = "".join(Path(f"{part}.dropped").read_text(encoding="utf-8") for part in parts)
    kept = 0
    # The parts are consecutive runs of sorted utterances: one after another they are in order.
    with ArchiveWriter(str(out / "xvector.ark"), str(out / "xvector.scp")) as archive:
        for part in parts:
            for key, vector in read_scp_objects(f"{part}.scp"):
                archive.write(key, vector)
                kept += 1
    _check_drops(out, dropped, kept, args)
    # The jobs have checked it, with all that a model needs; to load that once more would be most of the time
    # of this.
    config = read_yaml(Path(args.model) / "config.yaml")
    dump_config(
        {
            "model": config["method"],
            "role": config["role"],
            "seed": config["seed"],
            "train_set": config["train_set"],
            "data": Path(args.data).resolve().name,
            "data_dir": str(args.data),
            "model_dir": str(args.model),
            "keep_silence": args.keep_silence,
            "version": __version__,
            "command": args.command,
        },
        out / "meta.yaml",
    )
    for part in parts:
        for ending in ("ark", "scp", "dropped"):
            Path(f"{part}.{ending}").unlink()
    lost = dropped.count("\n")
    log(
        f"{args.data}: {kept + lost} utterances in, {kept} out, {lost} dropped; {config['embedding_dim']} "
        "dimensions"
    )


def _check_drops(out: Path, dropped: str, kept: int, args) -> None:
    path, lost = out / "dropped.txt", dropped.count("\n")
    if not dropped:
        path.unlink(missing_ok=True)
        return
    write_text(path, dropped)
    first = dropped.splitlines()[0]
    if lost > args.max_drop * (kept + lost):
        raise UserError(
            f"{lost} of {kept + lost} utterances of {args.data} dropped, more than --max-drop "
            f"{args.max_drop:g} allows; {path} names all, "
            f"beginning with: {first}\nutils/fix_data_dir.sh {args.data} takes them out of the data directory"
        )
    warn(f"{lost} of {kept + lost} utterances dropped, named in {path}")
