"""Average model folders of one run, such as the last snapshots of the teacher, into a new model folder.

pydino average-models exp/dino_mini/seed0/teacher_average
exp/dino_mini/seed0/snapshots/epoch00{40,44,48}/teacher

Parameters and the batch norms' running statistics become the mean of the folders'; those of folders near the
end of one run are near enough for that. Folders of different encoders, front ends, roles, methods, seeds or
training sets are refused.
"""

from pathlib import Path

from pydino.base import UserError, config_to_dict, log
from pydino.infer import load, save_model
from pydino.train.averaging import average_states


def add_arguments(parser):
    parser.add_argument("out", metavar="OUT", help="model folder to write")
    parser.add_argument(
        "models", metavar="MODEL_DIR", nargs="+", help="model folders of one run, the latest last"
    )


def run(args):
    average_models(args.out, args.models)
    log(f"{args.out}: the mean of {len(args.models)} models")


def average_models(out, folders: list) -> None:
    """Write the model folder ``out``, the mean of the model folders ``folders``.

    Raises:
        UserError: a folder that is damaged, does not match the first, or is ``out`` itself.
    """
    if Path(out).resolve() in [Path(folder).resolve() for folder in folders]:
        raise UserError(f"{out} is one of the folders to average; give another OUT")
    if Path(out).is_file():
        raise UserError(f"{out} is a file; the first argument is the model folder to write")
    models = [load(folder) for folder in folders]
    first = config_to_dict(models[0].config)
    for folder, model in zip(folders, models, strict=True):
        config = config_to_dict(model.config)
        differs = [key for key in first if config[key] != first[key]]
        if differs:
            raise UserError(
                f"{folder} and {folders[0]} do not match: {differs[0]} is {config[differs[0]]} and "
                f"{first[differs[0]]}; average models of "
                "one run and one role"
            )
    try:
        state = average_states([model.encoder.state_dict() for model in models])
    except ValueError as error:
        raise UserError(f"{folders[0]} and the others cannot be averaged: {error}") from error
    encoder = models[0].encoder
    encoder.load_state_dict(state)
    names = "\n".join(f"* `{folder}`" for folder in folders)
    readme = (
        f"# {first['method']}, {first['role']}, mean of {len(folders)}\n\nAn encoder of whole utterances, "
        "trained on "
        f"{first['train_set']} (seed {first['seed']}). Its parameters and the running statistics of its "
        "batch norms are the means of those "
        f"of\n\n{names}\n\nMade by `pydino average-models {out} {' '.join(map(str, folders))}`.\n\n"
        "    pydino embed THIS_FOLDER recording.wav\n"
    )
    save_model(out, encoder, first, readme)
