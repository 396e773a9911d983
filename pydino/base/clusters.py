"""The folder of clusters that steps/cluster.sh makes: names of its files, and what labels are behind them and
behind whatever was trained.
"""

from pathlib import Path

from .files import read_json
from .messages import UserError

UTT2CLUSTER, CLUSTERS = "utt2cluster", "clusters.json"
LABELS_SEEN = ("none", "pseudo", "unknown", "train")  # by weights or by a back-end, the strongest last


def cluster_files(folder) -> list[Path]:
    """Return the files that whoever trains on clusters depends on."""
    return [Path(folder, UTT2CLUSTER), Path(folder, CLUSTERS)]


def labels_of_clusters(folder) -> str:
    """Return what labels are behind the clusters of a folder: ``pseudo``, no others; ``train``, the
    embeddings are those of a model that was trained on labels; ``unknown``.

    Raises:
        UserError: ``clusters.json`` is missing, or does not say.
    """
    path = Path(folder, CLUSTERS)
    record = read_json(path) if path.is_file() else None
    kind = record.get("labels") if isinstance(record, dict) else None
    if kind not in LABELS_SEEN[1:]:
        raise UserError(
            f"{path} {'does not say' if path.is_file() else 'is missing; it says'} on what labels the "
            f"embeddings of the clusters were trained ('labels': {', '.join(LABELS_SEEN[1:])}); "
            "steps/cluster.sh writes it"
        )
    return kind


def strongest_labels(*seen: str) -> str:
    """Return the strongest of some ``LABELS_SEEN``: ``train`` of ``pseudo`` and ``train``."""
    return max(seen, key=LABELS_SEEN.index)
