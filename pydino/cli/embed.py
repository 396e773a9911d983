"""Embed audio files with a model folder.

pydino embed exp/dino-koleo_mini/seed0/teacher a.wav b.flac
pydino embed MODEL *.wav --output vectors.ark

Prints `name  [ v1 v2 ... ]` (Kaldi's text vectors; the name is that of the file without its ending) in the
order of the arguments, or writes them: .ark (Kaldi binary, with an .scp beside it) and .txt (Kaldi text),
both sorted by name, or .npz (numpy: an array a name).
They equal what steps/extract_embeddings.sh makes of the same recordings.
"""

import sys
import zipfile
from pathlib import Path

import numpy as np

from pydino.base import atomic_open, log
from pydino.infer import load

from ._arguments import option
from ._recordings import add_recordings, names_of, of_each, suffix_of


def add_arguments(parser):
    parser.add_argument("model", metavar="MODEL", help="model folder")
    option(parser, "--output", None, "write to FILE (.ark, .txt or .npz) and print nothing", metavar="FILE")
    option(parser, "--keep-silence", False, "skip the VAD")
    add_recordings(parser)


def run(args):
    names = names_of(args.audio, "embedded")
    write = _writer(args.output)
    model = load(args.model, args.device)

    def embed(recording, name: str) -> np.ndarray:
        return model.embed_recording(recording, args.keep_silence, name)

    vectors = of_each(args, names, model.front_end, embed, "embedded")
    write(vectors)
    if args.output:
        log(f"{len(vectors)} embeddings of dimension {model.embedding_dim}: {args.output}")


def _writer(output: str | None):
    """Return the function that writes vectors; an unknown ending is refused here, before any work."""
    if output is None:
        return _print
    writers = {".ark": _write_archive, ".txt": _write_archive, ".npz": _write_npz}
    write = writers[suffix_of(output, writers)]
    return lambda vectors: write(output, vectors)


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
