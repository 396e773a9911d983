"""Train a supervised x-vector: an encoder that tells the labels of a pre-training directory's utterances
apart.

UTT2LABEL (any map from utterances to labels, such as utt2spk; several, where the utterances are of several
sets) is read by this command alone. EXP gets config.yaml (resolved), log.jsonl, tensorboard/, checkpoints/,
and at the end the model folder model/: the encoder, without the layer that knows the labels. An interrupted
run goes on; a finished one is left alone; a different one, or one of other labels, is refused. SIGTERM and
SIGUSR1 save and end it. Several GPUs: torchrun --nproc-per-node N -m pydino train-xvector --ngpu N ...
"""

from pathlib import Path

import numpy as np

from pydino.base import UserError, log
from pydino.cli import _training
from pydino.data.training_dir import read_hashes
from pydino.kaldi import read_table
from pydino.train import Xvector, XvectorConfig


def add_arguments(parser):
    parser.add_argument(
        "data", metavar="DATA", help="pre-training directory, made by steps/make_train_set.sh"
    )
    parser.add_argument(
        "labels", nargs="+", metavar="UTT2LABEL", help="labels of its utterances, such as data/train/utt2spk"
    )
    parser.add_argument("exp", metavar="EXP", help="where the run lives, such as exp/xvector_mini/seed0")
    _training.add_arguments(parser)


def run(args):
    # Before EXP is claimed: a mistake in the labels is to be mended, and must not leave a run of the wrong
    # ones there.
    hashes, labels = read_labels(Path(args.data), args.labels)
    opened = _training.open_run(args, XvectorConfig, tables=args.labels)
    if opened is None:
        return 0
    this, distributed = opened
    if distributed.first:
        log(f"{' '.join(args.labels)}: {labels.max() + 1} labels of {len(labels)} utterances")
    views = _training.make_views(this, distributed, args.allow_pipes)
    method = Xvector(
        this.config,
        views.maker,
        views.dim,
        hashes,
        labels,
        views.total_steps,
        views.steps_per_epoch,
        distributed,
    )
    made_by = f"steps/train_xvector.sh --seed {this.seed} {this.data} {' '.join(args.labels)} {this.exp}"
    return _training.train_and_save(method, this, views, distributed, args.data_workers, made_by)


def read_labels(data: Path, paths: list) -> tuple[np.ndarray, np.ndarray]:
    """Return the hashes of a pre-training directory's utterances, (N,) uint64 ascending, and their labels as
    numbers, (N,) int64.

    Labels are numbered in the order of the smallest hash among their utterances: what labels and utterances
        are called does not matter.

    Raises:
        UserError: an utterance without a label, or of different ones, or one label for all.
    """
    if not (data / "utt2hash").exists():
        raise UserError(
            f"no {data}/utt2hash: it is no pre-training directory; steps/make_train_set.sh makes one"
        )
    hashes, keys = read_hashes(data)
    table: dict[str, str] = {}
    for path in paths:
        for key, label in read_table(path).items():
            if table.setdefault(key, label) != label:
                raise UserError(
                    f"{path} calls {key} '{label}', and another of {' '.join(map(str, paths))} "
                    f"'{table[key]}'; which is it?"
                )
    path = " ".join(map(str, paths))
    without = [key for key in keys if not table.get(key)]
    if without:
        raise UserError(
            f"{path} has no label for {len(without)} of the {len(keys)} utterances of {data}, such as "
            f"'{min(without)}'; give the labels of "
            f"all of them, or make {data} of those that have one (utils/subset_data_dir.sh, then "
            "steps/make_train_set.sh)"
        )
    numbers: dict[str, int] = {}
    labels = np.array([numbers.setdefault(table[key], len(numbers)) for key in keys], dtype=np.int64)
    if len(numbers) == 1:
        raise UserError(
            f"{path} gives all utterances of {data} one label, '{table[keys[0]]}'; there is nothing to tell "
            "apart"
        )
    return hashes, labels
