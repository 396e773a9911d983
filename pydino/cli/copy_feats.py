"""Copy archives of matrices or vectors: to look at them, to convert, to compress.

Where from: ark:FILE or scp:FILE; where to: ark:FILE, ark,t:FILE (text) or ark,scp:FILE,FILE. "-" is standard
input or output.

    pydino copy-feats scp:data/test/feats.scp ark,t:- | head
    pydino copy-feats --compress true ark:feats.ark ark,scp:small.ark,small.scp
"""

import sys

from pydino.base import UserError, log, nearest
from pydino.cli._arguments import option
from pydino.kaldi import ArchiveWriter, read_ark, read_scp_objects
from pydino.kaldi.archive_writer import encode_object

# Modifiers of Kaldi's that change nothing here: objects are read in order, and text or binary is
# detected.
_READ_MODIFIERS = {"t", "b", "o", "no", "s", "ns", "cs", "ncs", "bg"}


def add_arguments(parser):
    parser.add_argument("source", metavar="RSPECIFIER", help="ark:FILE or scp:FILE")
    parser.add_argument("destination", metavar="WSPECIFIER", help="ark:FILE, ark,t:FILE or ark,scp:FILE,FILE")
    option(parser, "--compress", False, "compress matrices")
    option(parser, "--compression-method", 1, "Kaldi's method, 1 to 7", metavar="N")
    option(parser, "--allow-pipes", False, "run commands in an scp")


def run(args):
    objects = _objects(args.source, args.allow_pipes)
    ark, scp, text = _destination(args.destination)
    compression = args.compression_method if args.compress else None
    count = 0
    if ark == "-":
        for key, array in objects:
            try:
                body = encode_object(array, compression, text)
            except ValueError as error:
                raise UserError(f"'{key}' {error}") from None
            sys.stdout.buffer.write(f"{key} ".encode() + body)
            count += 1
        sys.stdout.buffer.flush()
    else:
        with ArchiveWriter(ark, scp, compression, text) as out:
            for key, array in objects:
                out.write(key, array)
                count += 1
            if not count:
                raise UserError(f"{args.source} holds no object: nothing copied")
    log(f"copied {count} objects")
    return 0 if count else 1


def _objects(specifier: str, allow_pipes: bool):
    kinds, colon, name = specifier.partition(":")
    kind, *modifiers = kinds.split(",")
    readers = {"ark": read_ark, "scp": read_scp_objects}
    if not colon or not name or kind not in readers:
        raise UserError(f"'{specifier}' is no source; write ark:FILE or scp:FILE{nearest(kind, readers)}")
    unknown = sorted(set(modifiers) - _READ_MODIFIERS)
    if unknown:
        raise UserError(
            f"'{specifier}': '{unknown[0]}' is not supported; nothing is skipped silently, so there is no "
            "permissive mode"
        )
    return readers[kind](name, allow_pipes)


def _destination(specifier: str) -> tuple[str, str | None, bool]:
    """Return archive, script or None, and whether it is text."""
    kinds, _, names = specifier.partition(":")
    kinds = kinds.split(",")
    text, files = "t" in kinds, [kind for kind in kinds if kind not in ("t", "b", "f", "nf")]
    names = names.split(",", 1) if files == ["ark", "scp"] else [names]
    if (
        files not in (["ark"], ["ark", "scp"])
        or len(names) != len(files)
        or not all(names)
        or names[0] == "-"
        and len(names) > 1
    ):
        raise UserError(f"'{specifier}' is no destination; write ark:FILE, ark,t:FILE or ark,scp:FILE,FILE")
    return names[0], names[1] if len(names) > 1 else None, text
