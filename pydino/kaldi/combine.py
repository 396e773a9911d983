"""Combine data directories into one."""

from pathlib import Path

from pydino.base import UserError, log, read_text

from .data_dir import FEATURE_FACTS, Tables, kind_of, load, named, store
from .fix import consistent


def combine(destination, sources, skip_fix: bool = False) -> tuple[int, dict[str, str]]:
    """Write the union of data directories.

    A file that some of them lack is left out, with a line that says so; ``utt2uniq`` and ``segments`` are
    filled in instead.

    Returns:
        The number of utterances, and those dropped as inconsistent (see :func:`pydino.kaldi.fix.consistent`)
        with the reason.

    Raises:
        UserError: an utterance is in two directories, a recording or speaker differs between them, or their
            features do not go together.
    """
    sources = [Path(source) for source in sources]
    if any(Path(destination).resolve() == source.resolve() for source in sources):
        raise UserError(f"{destination} is to be written and is among the directories to be combined")
    parts = [load(source) for source in sources]
    _fill_in(parts, sources)
    names = sorted(set().union(*parts))
    everywhere = [name for name in names if all(name in part for part in parts)]
    for name in set(names) - set(everywhere):
        log(
            f"{destination}: **not combining {name} as it does not exist everywhere** (not in "
            f"{_without(name, parts, sources)})"
        )
    if "feats.scp" in everywhere:
        _check_features(sources)
    combined = {
        name: _union(name, parts, sources) for name in sorted(everywhere, key=lambda name: name != "utt2spk")
    }
    dropped: dict[str, str] = {}
    if not skip_fix:
        combined, dropped = consistent(combined)
    if not combined["utt2spk"]:
        raise UserError(
            f"no utterance is left for {destination}: none is in every file of the combined directories"
        )
    store(destination, combined, facts_from=sources[0] if "feats.scp" in everywhere else None)
    return len(combined["utt2spk"]), dropped


def _union(name: str, parts: list[Tables], sources: list[Path]) -> dict[str, str]:
    segmented = "segments" in parts[0]
    union: dict[str, str] = {}
    for part, source in zip(parts, sources, strict=True):
        shared = union.keys() & part[name].keys()
        # a recording or speaker in two of them is no mistake if they agree
        if kind_of(name, segmented) != "utterance":
            shared = {key for key in shared if union[key] != part[name][key]}
        if shared:
            first = next(s for p, s in zip(parts, sources, strict=True) if min(shared) in p[name])
            raise UserError(
                f"{source}/{name} and {first}/{name} both have: {named(sorted(shared))}; give the names of "
                "one a prefix first: "
                f"utils/copy_data_dir.sh --spk-prefix x- --utt-prefix x- {source} {source}_x"
            )
        union |= part[name]
    return dict(sorted(union.items()))


def _fill_in(parts: list[Tables], sources: list[Path]) -> None:
    """Where some directories have ``utt2uniq`` or ``segments``, write what they mean for the others."""
    if any("utt2uniq" in part for part in parts):
        for part in parts:
            part.setdefault("utt2uniq", {u: u for u in part["utt2spk"]})
    if any("segments" in part for part in parts):
        for part, source in zip(parts, sources, strict=True):
            if "segments" in part:
                continue
            lengths = part.get("utt2dur") or part.get("reco2dur")
            if lengths is None or any(u not in lengths for u in part["utt2spk"]):
                raise UserError(
                    f"some directories have segments, and {source} has no utt2dur to make them of; make "
                    "features for it first"
                )
            part["segments"] = {u: f"{u} 0.00 {lengths[u]}" for u in part["utt2spk"]}


def _without(name: str, parts: list[Tables], sources: list[Path]) -> str:
    return " ".join(str(source) for part, source in zip(parts, sources, strict=True) if name not in part)


def _check_features(sources: list[Path]) -> None:
    """Features of two kinds must not come to lie in one ``feats.scp``."""
    for fact in FEATURE_FACTS:
        texts = [read_text(source / fact) if (source / fact).exists() else None for source in sources]
        for source, text in zip(sources, texts, strict=True):
            if text != texts[0]:
                raise UserError(
                    f"{sources[0]} and {source} have different {fact}, so their features do not go together; "
                    "make them again with the same configuration, or combine before making features"
                )
