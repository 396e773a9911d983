"""Clusters of embeddings, found without labels. Arrays in, arrays out; importing it imports no torch."""

from .agglomerative import average_link, kmeans_average_link, ward
from .density import density_clusters
from .kmeans import KMeans, kmeans, nearest_centroids
from .neighbours import Cells, make_cells, mutual_neighbours, nearest_neighbours, recall
from .numbering import number_clusters

__all__ = [
    "Cells",
    "KMeans",
    "average_link",
    "density_clusters",
    "kmeans",
    "kmeans_average_link",
    "make_cells",
    "mutual_neighbours",
    "nearest_centroids",
    "nearest_neighbours",
    "number_clusters",
    "recall",
    "ward",
]
