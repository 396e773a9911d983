"""What is wrong with a training before it begins, so that no job waits in a queue to find out."""

from pydino.base import UserError, is_release
from pydino.data import check_unlabelled
from pydino.data.training_dir import check_current, read_hashes
from pydino.infer import FrontEnd, load
from pydino.models import build_encoder

from . import exp_dir
from .method import frozen_parts, load_weights
from .run import Run, read_init


def check_run(run: Run) -> bool:
    """Check what needs neither a GPU nor the features themselves, and return whether the run is finished;
    nothing is written.

    Raises:
        UserError: the data directory cannot be trained on, labels are missing, the model to start from is of
            another encoder, ``trainable`` names an unknown part, or another run is in EXP.
    """
    check_unlabelled(run.data)
    check_current(run.data)
    read_hashes(run.data)
    table = run.data / ("wav.scp" if run.config.input == "audio" else "feats.scp")
    if not table.is_file():
        raise UserError(f"no {table}; make the directory with steps/make_train_set.sh")
    run.read_labels()
    encoder = build_encoder(run.config.encoder, FrontEnd(run.front_end, where=str(run.data)).dim)
    frozen_parts(encoder, run.config)
    if run.init is not None:
        if is_release(run.init):
            load_weights(encoder, read_init(run)[0])
        else:  # a front end that differs is warned of when the training begins
            load_weights(encoder, load(run.init).encoder.state_dict())
    wanted = run.depends_on()
    return not run.discard and exp_dir.is_finished(run.exp, wanted)
