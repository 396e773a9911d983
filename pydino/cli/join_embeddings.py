"""Put the embeddings of several systems side by side: one longer vector an utterance.

steps/join_embeddings.sh exp/dino_mini/seed0/xvectors_test exp/fbank-stats-cmn_mini/seed0/xvectors_test
exp/dino_mini/seed0/xvectors_test+statistics

The vectors are concatenated as they are, in the order given; LDA and PLDA are indifferent to their scales.
All folders must hold the same utterances. Writes OUT_DIR/{xvector.ark,xvector.scp,meta.yaml}; meta.yaml is
the first folder's, with 'beside', the systems of the others, and 'model_labels', the most that any of the
models was trained on.
"""

from pathlib import Path

import numpy as np

from pydino.base import Step, UserError, dump_config, log, strongest_labels, write_text
from pydino.cli._arguments import add_cmd
from pydino.cli._embeddings import read_embeddings
from pydino.cli._steps import check_files, command_line, marks_of, run_or_submit
from pydino.kaldi import ArchiveWriter

_WITH_IT = ("spk2utt", "in_training.txt", "crop2utt", "utt2hash")  # of the first folder, where it has them


def add_arguments(parser):
    add_cmd(parser)
    parser.add_argument("first", metavar="XVECTOR_DIR")
    parser.add_argument("others", nargs="+", metavar="XVECTOR_DIR")
    parser.add_argument("out_dir", metavar="OUT_DIR")


def run(args):
    (step,) = steps(args)
    log_file = Path(args.out_dir) / "log" / "join_embeddings.log"
    run_or_submit("join-embeddings", step, args, lambda: _join(args), log_file)


def steps(args) -> list[Step]:
    """Return the step."""
    out, folders = Path(args.out_dir), [Path(folder) for folder in (args.first, *args.others)]
    if out.resolve() in (folder.resolve() for folder in folders):
        raise UserError(f"OUT_DIR {out} is one of the folders to join; give it another name")
    scps = [folder / "xvector.scp" for folder in folders]
    check_files(*scps)
    return [
        Step(
            out / ".done",
            args.out_dir,
            options={"order": " ".join(map(str, folders))},
            reads=scps,
            optional=[
                *(folder / "meta.yaml" for folder in folders),
                *(folders[0] / name for name in _WITH_IT),
            ],
            after=marks_of(*folders),
            removes=[out / "xvector.ark", out / "xvector.scp"],
            outputs=[out / name for name in ("xvector.ark", "xvector.scp", "meta.yaml")],
        )
    ]


def _join(args) -> None:
    out, first = Path(args.out_dir), read_embeddings(args.first)
    columns = [first.vectors]
    for folder in args.others:
        other = read_embeddings(folder)
        if len(other.keys) != len(first.keys):
            extra = set(other.keys) - set(first.keys)
            if extra:
                raise UserError(
                    f"{folder} has {len(extra)} utterances that {args.first} has not, such as {min(extra)}; "
                    "join embeddings of the same set"
                )
        columns.append(other.vectors[other.places(first.keys, f"{args.first}/xvector.scp")])
    with ArchiveWriter(str(out / "xvector.ark"), str(out / "xvector.scp")) as archive:
        for key, *vectors in zip(first.keys, *columns, strict=True):
            archive.write(key, np.concatenate(vectors))
    for name in _WITH_IT:
        source, target = Path(args.first) / name, out / name
        if source.is_file():
            write_text(target, source.read_text(encoding="utf-8"))
        else:
            target.unlink(missing_ok=True)
    metas = [read_embeddings(folder).meta for folder in args.others]
    beside = [str(m.get("system") or folder) for m, folder in zip(metas, args.others, strict=True)]
    labels = strongest_labels(*(meta.get("model_labels") or "unknown" for meta in (first.meta, *metas)))
    meta = {"model_labels": labels, "beside": beside, "command": command_line("join-embeddings", args)}
    dump_config(first.meta | meta, out / "meta.yaml")
    dims = " + ".join(str(vectors.shape[1]) for vectors in columns)
    log(f"{len(first.keys)} utterances, {dims} dimensions -> {out}/xvector.scp")
