"""Train DINO on a pre-training directory: a student and, following it, the teacher that becomes the model.

EXP gets config.yaml (resolved), log.jsonl (a line an interval), tensorboard/, checkpoints/, and at the end
the model folders teacher/ and student/. An interrupted run goes on from its last checkpoint; a finished one
is left alone; a different one is refused. SIGTERM and SIGUSR1 save and end it. Several GPUs: torchrun
--nproc-per-node N -m pydino train-dino --ngpu N ...
"""

from pydino.cli import _training
from pydino.train import Dino, DinoConfig


def add_arguments(parser):
    parser.add_argument(
        "data", metavar="DATA", help="pre-training directory, made by steps/make_train_set.sh"
    )
    parser.add_argument("exp", metavar="EXP", help="where the run lives, such as exp/dino-koleo_mini/seed0")
    _training.add_arguments(parser)


def run(args):
    opened = _training.open_run(args, DinoConfig)
    if opened is None:
        return 0
    this, distributed = opened
    views = _training.make_views(this, distributed, args.allow_pipes)
    method = Dino(this.config, views.maker, views.dim, views.total_steps, views.steps_per_epoch, distributed)
    made_by = f"steps/train_dino.sh --seed {this.seed} {this.data} {this.exp}"
    return _training.train_and_save(method, this, views, distributed, args.data_workers, made_by)
