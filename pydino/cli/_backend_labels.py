"""What labels a back-end has seen, for the verbs that train or use one: ``none``, ``pseudo`` or ``train``."""

from pathlib import Path

from pydino.base import CLUSTERS, labels_of_clusters, read_yaml


def labels_of_table(table) -> str:
    """Return what labels are in a table ``UTTERANCE LABEL``: those behind the clusters where
    ``clusters.json`` lies beside it, as in a folder of steps/cluster.sh; else ``train``.

    Raises:
        UserError: ``clusters.json`` does not say.
    """
    return labels_of_clusters(Path(table).parent) if is_of_clusters(table) else "train"


def is_of_clusters(table) -> bool:
    """Whether the labels of a table are clusters: ``clusters.json`` of steps/cluster.sh lies beside it."""
    return (Path(table).parent / CLUSTERS).is_file()


def labels_of_plda(folder) -> str:
    """Return what labels a PLDA folder was trained on; ``train`` where it does not say, as Kaldi's own."""
    path = Path(folder) / "meta.yaml"
    return str((read_yaml(path) or {}).get("labels") or "train") if path.exists() else "train"
