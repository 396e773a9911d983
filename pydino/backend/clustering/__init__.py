"""Clusters of embeddings, found without labels. Arrays in, arrays out; importing it imports no torch."""

from .agglomerative import average_link, kmeans_average_link, ward
from .agreement import agreement
from .degenerate import why_degenerate
from .density import density_clusters
from .kmeans import KMeans, kmeans, nearest_centroids
from .merging import class_evidence, merge_by_evidence
from .methods import METHODS, Method, cluster, clustering_settings
from .neighbours import Cells, make_cells, mutual_neighbours, nearest_neighbours, recall
from .numbering import number_clusters
from .propagation import edge_weights, propagate_labels
from .pseudo_speakers import Candidate, PseudoSpeakers, PseudoSpeakersConfig, pseudo_speakers
from .self_eer import pseudo_plda, split_self_eer
from .treatments import Embedded, standardised, treatments

__all__ = [
    "Candidate",
    "Cells",
    "Embedded",
    "KMeans",
    "METHODS",
    "Method",
    "PseudoSpeakers",
    "PseudoSpeakersConfig",
    "agreement",
    "average_link",
    "class_evidence",
    "cluster",
    "clustering_settings",
    "density_clusters",
    "edge_weights",
    "kmeans",
    "kmeans_average_link",
    "make_cells",
    "merge_by_evidence",
    "mutual_neighbours",
    "nearest_centroids",
    "nearest_neighbours",
    "number_clusters",
    "propagate_labels",
    "pseudo_plda",
    "pseudo_speakers",
    "recall",
    "split_self_eer",
    "standardised",
    "treatments",
    "ward",
    "why_degenerate",
]
