"""Self-supervised embeddings of whole utterances."""

__version__ = "0.1.0"


def load(folder, device: str = "cpu"):
    """Load a model folder: ``pydino.load("exp/dino_mini/seed0/teacher").embed(waveform, rate)`` is the
    embedding, (D,) float32.

    See :class:`pydino.infer.Model`. Nothing in the folder is executed.
    """
    from pydino.infer import load  # imports torch, which most commands do not need

    return load(folder, device)


__all__ = ["__version__", "load"]
