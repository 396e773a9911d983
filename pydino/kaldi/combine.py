"""Combine data directories into one."""

from pathlib import Path

from pydino.base import UserError, log, read_text

from .columns import Columns, ascend
from .data_dir import FEATURE_METADATA, Tables, kind_of, load, named, store
from .fix import consistent


def combine(destination, sources, skip_fix: bool = False) -> tuple[int, dict[str, str]]:
    """Write the union of data directories.

    A file that some of them lack is omitted, which is logged; ``utt2uniq`` and ``segments`` are
    filled in instead.

    Returns:
        The number of utterances, and those dropped as inconsistent (see :func:`pydino.kaldi.fix.consistent`)
        with the reason.

    Raises:
        UserError: an utterance is in two directories, a recording or speaker differs between them, or their
            features are incompatible.
    """
    sources = [Path(source) for source in sources]
    if any(Path(destination).resolve() == source.resolve() for source in sources):
        raise UserError(f"{destination} is both the destination and one of the sources")
    parts = [load(source) for source in sources]
    if any("utt2uniq" in part for part in parts) or any("segments" in part for part in parts):
        parts = [_filled_in(part, source, parts) for part, source in zip(parts, sources, strict=True)]
    names = sorted(set().union(*parts))
    everywhere = [name for name in names if all(name in part for part in parts)]
    for name in set(names) - set(everywhere):
        log(
            f"{destination}: **not combining {name} as it does not exist everywhere** (not in "
            f"{_without(name, parts, sources)})"
        )
    if "feats.scp" in everywhere:
        _check_features(sources)
    segmented = "segments" in everywhere
    combined = Tables(everywhere, lambda name: _union(name, kind_of(name, segmented), parts, sources))
    dropped: dict[str, str] = {}
    if not skip_fix:
        combined, dropped = consistent(combined)
    count = len(combined["utt2spk"].keys)
    if not count:
        raise UserError(
            f"no utterance is left for {destination}: none is in every file of the combined directories"
        )
    store(destination, combined, metadata_from=sources[0] if "feats.scp" in everywhere else None)
    return count, dropped


def _union(name: str, kind: str, parts: list[Tables], sources: list[Path]) -> Columns:
    columns = Columns([], [])
    for part in parts:
        keys, rests = part[name]
        columns.keys.extend(keys)
        columns.rests.extend(rests)
        del keys, rests
    columns = columns.sorted()
    if ascend(columns.keys):
        return columns
    del columns
    union: dict[bytes, bytes] = {}  # some key is in several
    for part, source in zip(parts, sources, strict=True):
        table = dict(zip(*part[name], strict=True))
        shared = union.keys() & table.keys()
        # a recording or speaker may be in two of them if the values agree
        if kind != "utterance":
            shared = {key for key in shared if union[key] != table[key]}
        if shared:
            first = next(s for p, s in zip(parts, sources, strict=True) if min(shared) in set(p[name].keys))
            raise UserError(
                f"{source}/{name} and {first}/{name} both have: {named(sorted(shared))}; add a prefix to the "
                f"names of one first: utils/copy_data_dir.sh --spk-prefix x- --utt-prefix x- {source} "
                f"{source}_x"
            )
        union |= table
    return Columns(list(union), list(union.values())).sorted()


def _filled_in(part: Tables, source: Path, parts: list[Tables]) -> Tables:
    """Return ``part`` with ``utt2uniq`` and ``segments`` filled in where other directories have them."""
    made = {name for name in ("utt2uniq", "segments") if any(name in other for other in parts)} - set(part)
    lengths = next((name for name in ("utt2dur", "reco2dur") if name in part), None)
    if "segments" in made and (lengths is None or set(part["utt2spk"].keys) - set(part[lengths].keys)):
        raise UserError(
            f"some directories have segments, and {source} has no utt2dur to derive them from; "
            "compute its features first"
        )

    def read(name: str) -> Columns:
        if name not in made:
            return part[name]
        keys = part["utt2spk"].keys
        if name == "utt2uniq":
            return Columns(keys, keys)
        seconds = dict(zip(*part[lengths], strict=True))
        return Columns(keys, [b"%s 0.00 %s" % (key, seconds[key]) for key in keys])

    return Tables([*part, *made], read)


def _without(name: str, parts: list[Tables], sources: list[Path]) -> str:
    return " ".join(str(source) for part, source in zip(parts, sources, strict=True) if name not in part)


def _check_features(sources: list[Path]) -> None:
    """Refuse to mix features of two kinds in one ``feats.scp``."""
    for name in FEATURE_METADATA:
        texts = [read_text(source / name) if (source / name).exists() else None for source in sources]
        for source, text in zip(sources, texts, strict=True):
            if text != texts[0]:
                raise UserError(
                    f"{sources[0]} and {source} have different {name}, so their features are incompatible; "
                    "recompute them with the same configuration, or combine before computing features"
                )
