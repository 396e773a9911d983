"""An encoder as ONNX: one file from features to embedding, for runtimes without PyTorch.

The front end is not in the graph: the caller computes features, removes silence and normalises according to
the model's configuration, which is stored in the file as metadata.
"""

import importlib.util
import json
import logging

import torch

from pydino.base import UserError, atomic_open, config_to_dict
from pydino.models import Encoder

from .model import MAX_FRAMES, Model

PACKAGES = ("onnx", "onnxscript")
# Of the traced example; long enough that no axis has size 1 after the strides of any encoder.
EXAMPLE_BATCH, EXAMPLE_FRAMES = 2, 200


def export_model(model: Model, path) -> None:
    """Write the encoder of ``model`` as :func:`export_encoder` does, with the metadata that a caller needs.

    Metadata are strings: ``config``, the model's configuration (config.yaml of its folder, without a
    classifier) as JSON, the front end included; ``min_frames``, the least number of frames (shorter input is
    repeated up to it); ``max_frames``, above which this project averages the embeddings of equal pieces.
    """
    config = config_to_dict(model.config)
    del config["classifier"]  # which is not in the file
    metadata = {
        "config": json.dumps(config, ensure_ascii=False),
        "min_frames": str(model.encoder.min_input),
        "max_frames": str(MAX_FRAMES),
    }
    export_encoder(model.encoder, model.front_end.dim, path, metadata)


def export_encoder(encoder: Encoder, feature_dim: int, path, metadata: dict[str, str]) -> None:
    """Write an ONNX file: input "features" (batch, frames, F) float32, output "embedding" (batch, D) float32,
    for any number of utterances of equal length.

    Args:
        encoder: on the CPU, in evaluation mode; its input_kind is "features".
        feature_dim: F.
        path: of the file.
        metadata: strings by name, stored in the file.

    Raises:
        UserError: the packages for ONNX are not installed, or the file cannot be written.
    """
    if encoder.input_kind == "waveform":
        raise UserError(
            "pydino export writes encoders of features, and this one takes waveforms; the transformers "
            "library and its tools export such models"
        )
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"ONNX needs {' and '.join(missing)}, not installed here: run 'bash utils/setup.sh export', or "
            f"'pip install {' '.join(missing)}' in your own environment"
        )
    # warns about missing operators of torchvision
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with torch.no_grad():
        program = torch.onnx.export(
            encoder,
            (torch.zeros(EXAMPLE_BATCH, EXAMPLE_FRAMES, feature_dim),),
            input_names=["features"],
            output_names=["embedding"],
            dynamic_shapes=({0: "batch", 1: "frames"},),
            dynamo=True,
            verbose=False,
        )
    program.model.metadata_props.update(metadata)
    with atomic_open(path, "wb") as stream:
        stream.write(program.model_proto.SerializeToString())
