"""Average model folders of one run, such as the last snapshots of the teacher, into a new model folder.

pydino average-models exp/dino_mini/seed0/teacher_average
exp/dino_mini/seed0/snapshots/epoch00{40,44,48}/teacher

Parameters and the batch norms' running statistics become the mean of the folders'; those of folders near the
end of one run are near enough for that. Folders of different encoders, front ends, roles, methods, seeds or
training sets are refused.
"""

from pydino.base import log
from pydino.train.model_folders import average_models


def add_arguments(parser):
    parser.add_argument("out", metavar="OUT", help="model folder to write")
    parser.add_argument(
        "models", metavar="MODEL_DIR", nargs="+", help="model folders of one run, the latest last"
    )


def run(args):
    average_models(args.out, args.models)
    log(f"{args.out}: the mean of {len(args.models)} models")
