"""Test recordings that a model was trained on: an error, or else the task is transductive."""

from collections.abc import Iterable

from pydino.base import UserError, log, warn
from pydino.kaldi import Overlap

from .task_dir import TaskDir


def refuse_overlap(
    task: TaskDir,
    utterances: Iterable[str],
    overlaps: Iterable[Overlap],
    transductive: bool = False,
    say_unknown: bool = True,
) -> int:
    """Return how many test utterances of a task a model was trained on, with labels or without: none, unless
    the task is transductive.

    Where it cannot be told for a set, one line says why, a line for each reason.

    Args:
        task: the task.
        utterances: all that are tested, of any fold.
        overlaps: of the model with each data directory of the task; empty for a model that is trained on
            nothing but the task's own training part.
        transductive: the task allows it, and its results say so.
        say_unknown: whether to say where it cannot be told; another back-end of the system may have done so.

    Raises:
        UserError: the model was trained on one of them.
    """
    tested, heard, said = set(utterances), set(), set()
    for overlap in overlaps:
        if overlap.unknown and overlap.unknown not in said and say_unknown:
            said.add(overlap.unknown)
            log(
                f"task {task.config.name}: whether the model was trained on test recordings cannot be "
                f"checked: {overlap.unknown}. It can after stage 2, and for a model whose training data went "
                "through stages 2 to 4, of this version"
            )
        heard |= tested.intersection(overlap.utterances)
    if not heard:
        return 0
    found = f"the model was trained on {len(heard)} of the {len(tested)} test utterances of this task"
    if transductive:
        warn(f"task {task.config.name}: {found}; its results are marked as transductive")
        return len(heard)
    sets = " ".join(f"--exclude {data}" for data in task.config.data)
    raise UserError(
        f"task {task.config.name}: {found} (the same samples, perhaps under other names), first: "
        f"{min(heard)}. Take them out of its training data, steps/make_train_set.sh "
        f"{sets or '--exclude DATA'} ... (train_set in recipe.yaml: exclude), and train it again; or, if "
        "that is what you want to measure, give the task `transductive: true` in recipe.yaml, which marks "
        "its results"
    )
