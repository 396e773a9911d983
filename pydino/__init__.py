"""Self-supervised embeddings of whole utterances."""

__version__ = "0.1.0"


def load(folder, device: str = "cpu"):
    """Load a model folder: ``pydino.load("exp/dino_mini/seed0/teacher").embed(waveform, rate)`` is the
    embedding, (D,) float32; that of a classifier also has ``.predict(waveform, rate)``, a dictionary from
    class to probability.

    See :class:`pydino.infer.Model` and :class:`pydino.infer.Classifier`. Nothing in the folder is executed.
    """
    from pydino.infer import (
        load,
        load_classifier,
        read_model_config,
    )  # torch, which most commands do not need

    has_classifier = read_model_config(folder).classifier is not None
    return load_classifier(folder, device) if has_classifier else load(folder, device)


__all__ = ["__version__", "load"]
