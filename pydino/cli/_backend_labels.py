"""What labels a back-end has seen, for the verbs that train or use one: ``none``, ``pseudo`` or ``train``."""

from pathlib import Path

from pydino.base import CLUSTERS, labels_of_clusters, read_yaml

# Of two that were used, the one to report.
_ORDER = ("none", "pseudo", "train", "unknown")


def labels_of_table(table) -> str:
    """Return what labels are in a table ``UTTERANCE LABEL``: those of the clusters (``pseudo``, unless they
    come from a model that was trained on labels) where ``clusters.json`` lies beside it, as in a folder of
    steps/cluster.sh; else ``train``.

    Raises:
        UserError: ``clusters.json`` does not say.
    """
    path = Path(table).parent / CLUSTERS
    if not path.exists():
        return "train"
    return labels_of_clusters(path.parent)


def labels_of_plda(folder) -> str:
    """Return what labels a PLDA folder was trained on; ``train`` where it does not say, as Kaldi's own."""
    path = Path(folder) / "meta.yaml"
    return str((read_yaml(path) or {}).get("labels") or "train") if path.exists() else "train"


def most_of(*labels: str) -> str:
    """Return the kind that says most: ``train`` of ``pseudo`` and ``train``."""
    return max(labels, key=_ORDER.index)
