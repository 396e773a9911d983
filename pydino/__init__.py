"""Embeddings of whole utterances, learnt without labels."""

__version__ = "0.1.0"
