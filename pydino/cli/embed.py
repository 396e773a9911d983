"""Embed audio files with a model folder.

pydino embed exp/dino-koleo_mini/seed0/teacher a.wav b.flac
pydino embed MODEL *.wav --output vectors.ark

Prints `name  [ v1 v2 ... ]` (Kaldi's text vectors; the name is that of the file without its ending) in the
order of the arguments, or writes them: .ark (Kaldi binary, with an .scp beside it) and .txt (Kaldi text),
both sorted by name, or .npz (numpy: an array a name).
They equal what steps/extract_embeddings.sh makes of the same recordings.
"""

import re
import sys
import zipfile
from pathlib import Path

import numpy as np

from pydino.audio import open_channel
from pydino.base import UserError, atomic_open, log
from pydino.cli._arguments import add_device, option
from pydino.infer import load


def add_arguments(parser):
    parser.add_argument("model", metavar="MODEL", help="model folder")
    parser.add_argument("audio", metavar="AUDIO", nargs="+", help="wav, flac, ogg, ...; of any length")
    option(parser, "--output", None, "write to FILE (.ark, .txt or .npz) and print nothing", metavar="FILE")
    option(parser, "--keep-silence", False, "skip the VAD")
    text = "which channel of recordings with many, from 0 (default: the model's)"
    option(parser, "--channel", None, text, type=int, metavar="N")
    add_device(parser)


def run(args):
    names = _names(args.audio)
    write = _writer(args.output)
    model = load(args.model, args.device)
    channel = model.front_end.options.channel if args.channel is None else args.channel
    vectors, wrong = {}, []
    for name, path in zip(names, args.audio, strict=True):
        try:
            with open_channel(str(path), channel=None if channel < 0 else channel) as recording:
                vectors[name] = model.embed_recording(recording, args.keep_silence, name)
        except UserError as error:
            wrong.append(str(error) if str(path) in str(error) else f"{path}: {error}")
    if len(wrong) > 1:
        wrong.insert(0, f"{len(wrong)} of {len(names)} recordings cannot be embedded:")
    if wrong:
        raise UserError("\n  ".join(wrong))
    write(vectors)
    if args.output:
        log(f"{len(vectors)} embeddings of dimension {model.embedding_dim}: {args.output}")


def _names(paths: list[str]) -> list[str]:
    """Keys of the files: their stems, blanks made into underscores, each only once."""
    found = {}
    for path in paths:
        name = re.sub(r"\s", "_", Path(path).stem)
        if name in found:
            raise UserError(
                f"{found[name]} and {path} would both be called {name}: rename one, or embed them in "
                "separate calls"
            )
        found[name] = path
    return list(found)


def _writer(output: str | None):
    """Return the function that writes vectors; an unknown ending is refused here, before any work."""
    if output is None:
        return _print
    writers = {".ark": _write_archive, ".txt": _write_archive, ".npz": _write_npz}
    suffix = Path(output).suffix
    if suffix not in writers:
        raise UserError(
            f"--output {output}: its ending, which selects the format, must be one of {', '.join(writers)}"
        )
    return lambda vectors: writers[suffix](output, vectors)


def _print(vectors: dict) -> None:
    for name, vector in vectors.items():
        # The shortest digits that give the same float32 back.
        sys.stdout.write(f"{name}  [ {' '.join(map(str, vector))} ]\n")


def _write_archive(output: str, vectors: dict) -> None:
    """Sorted by key, as Kaldi's tools expect."""
    from pydino.kaldi import ArchiveWriter

    text = output.endswith(".txt")
    with ArchiveWriter(output, None if text else str(Path(output).with_suffix(".scp")), text=text) as archive:
        for name, vector in sorted(vectors.items(), key=lambda item: item[0].encode()):
            archive.write(name, vector)


def _write_npz(output: str, vectors: dict) -> None:
    """As np.savez, which takes the names "file" and "allow_pickle" for its own arguments."""
    with atomic_open(output, "wb") as stream, zipfile.ZipFile(stream, "w", allowZip64=True) as archive:
        for name, vector in vectors.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, vector, allow_pickle=False)
