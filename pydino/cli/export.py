"""Export a model folder's encoder as ONNX, from features to embedding.

pydino export exp/dino-koleo_mini/seed0/teacher model.onnx

Input "features" (batch, frames, F) float32: filter banks or cepstra without silence, normalised, as the front
end in the model's config.yaml says; it goes with the file as metadata ("config", JSON). Output "embedding"
(batch, D) float32, equal to that of pydino embed within 1e-5. Of a classifier's folder, the encoder alone is
exported. Needs the packages onnx and onnxscript: bash utils/setup.sh export.
"""

from pydino.base import UserError, log, warn
from pydino.infer import load
from pydino.infer.export import export_model


def add_arguments(parser):
    parser.add_argument("model", metavar="MODEL_DIR", help="model folder")
    parser.add_argument("output", metavar="FILE.onnx", help="file to write")


def run(args):
    if not args.output.endswith(".onnx"):
        raise UserError(f"{args.output}: the output is an ONNX file; give it a name that ends in .onnx")
    model = load(args.model)
    if model.config.classifier is not None:
        warn(f"the classifier of {args.model} is not in the file, which goes from features to embedding")
    export_model(model, args.output)
    log(
        f"{args.output}: features (batch, frames, {model.front_end.dim}) to embedding "
        f"(batch, {model.embedding_dim}); at least {model.encoder.min_input} frames"
    )
