"""Train an encoder on a pre-training directory, by the method that the configuration names.

steps/train.sh --config conf/dino-koleo.yaml --seed 0 data/train_ssl exp/dino-koleo_mini/seed0
steps/train.sh --config conf/xvector.yaml --labels data/train/utt2spk data/train_ssl exp/xvector_mini/seed0
steps/train.sh --config conf/round.yaml --clusters exp/dino-koleo_mini/seed0/clusters \
  --init exp/dino-koleo_mini/seed0/student data/train_ssl exp/dino-koleo-round1_mini/seed0
steps/train.sh --config RELEASE/config.yaml --init RELEASE data/train_ssl exp/dino_mine/seed0

DATA is made by steps/make_train_set.sh. The configuration begins with `method: dino`, `method: xvector`, ...
(a file each in pydino/train/methods). With a release as --init (pydino release), head, teacher and centre go
on, too (docs/release.md). EXP gets config.yaml (resolved), log.jsonl (a line an interval), tensorboard/,
checkpoints/, and at the end the model folders: teacher/ and student/ of DINO, model/ of an x-vector. An
interrupted run resumes, also on another number of GPUs; a finished one is not repeated; a different one in
EXP is refused. SIGTERM and SIGUSR1 save the run and stop it.

With --cmd, as steps/train.sh calls it, the training is a job of that wrapper, one process a GPU, whose log is
EXP/log/train.log; a scheduler's job that receives SIGUSR1 queues itself again. Without --cmd it runs in this
process, of which torchrun may start several: torchrun --nproc-per-node N -m pydino train --ngpu N ...
"""

import json
import os
from pathlib import Path

from pydino.base import (
    TRAINING_VERSION,
    Step,
    UserError,
    cluster_files,
    init_files,
    log,
    read_json,
    texts_of,
)
from pydino.cli._arguments import WRAPPERS, integer, option
from pydino.cli._steps import aside, check_files
from pydino.jobs.submit import check_wrapper
from pydino.kaldi import AUDIO_HASHES
from pydino.kaldi.data_dir import table_names


def add_arguments(parser):
    text = "pre-training directory, made by steps/make_train_set.sh"
    parser.add_argument("data", metavar="DATA", help=text)
    parser.add_argument("exp", metavar="EXP", help="folder of the run, such as exp/dino-koleo_mini/seed0")
    option(parser, "--config", None, "what defines the run; begins with `method: NAME`", metavar="YAML")
    text = "override a key, such as optimiser.lr=0.002; may be repeated"
    option(parser, "--set", [], text, metavar="KEY=VALUE")
    option(parser, "--seed", 0, "of weights, order, crops and augmentation", type=integer(0))
    text = "labels of the utterances, for a method that reads them; may be repeated"
    option(parser, "--labels", [], text, metavar="UTT2LABEL")
    text = "clusters of the utterances, made by steps/cluster.sh, for a method that reads them"
    option(parser, "--clusters", None, text, metavar="CLUSTER_DIR")
    text = (
        "model folder whose weights the encoder starts from, or release (pydino release) that is trained on"
    )
    option(parser, "--init", None, text, metavar="MODEL_DIR")
    text = "start from the optimiser's moments of the release, too, if it has them"
    option(parser, "--init-optimiser", False, text)
    option(parser, "--ngpu", 0, "GPUs of each node; 0: the CPU", type=integer(0))
    text = "CPU threads of each node (default: all of this machine; of a scheduler's job eight a process)"
    option(parser, "--num-threads", None, text, type=integer(1))
    text = "processes that read ahead for each that trains; 0: a thread (default: 0, or up to 8 a GPU)"
    option(parser, "--data-workers", None, text, type=integer(0))
    text = "run the commands in wav.scp (input: audio); they come with the data"
    option(parser, "--allow-pipes", False, text)
    option(parser, "--force", False, "discard what is in EXP and start again")
    job = parser.add_argument_group("as a job")
    option(job, "--cmd", None, WRAPPERS)
    text = "machines, each with its ngpu; more than one need a scheduler"
    option(job, "--num-nodes", 1, text, type=integer(1))
    option(job, "--num-processes", 1, "of each node on the CPU", type=integer(1))
    text = "times that a scheduler may queue the job again: after a time limit, a pre-emption, a dead node"
    option(job, "--max-restarts", 50, text, type=integer(0))


def steps(args) -> list[Step]:
    """Return the step of this call: up to date where the training of this very call has ended well.

    Whether another call means the same run is for EXP/.done.train to say (:mod:`pydino.train.exp_dir`), which
    takes an import of torch. This mark saves the question: it compares all that was given, and every table
    and configuration of DATA, whether or not the run reads it; but not the hashes of samples, which no weight
    depends on.
    """
    data, done = Path(args.data), _mark_of_training(args)
    tables = [data / name for name in table_names(data) if name != AUDIO_HASHES]
    in_data = [*tables, *sorted(data.glob("conf/*.yaml"))]
    init = init_files(args.init) if args.init else []
    recorded = texts_of(done) if done.exists() else ()  # lists of noises and room responses among them
    return [
        Step(
            done.with_name(".done.call"),
            args.exp,
            version=TRAINING_VERSION,
            options={
                "seed": args.seed,
                "set": json.dumps(args.set),
                "labels": json.dumps(args.labels),
                "init": args.init,
                "data": args.data,
                **({"clusters": args.clusters} if args.clusters else {}),
                **({"init_optimiser": "true"} if args.init_optimiser else {}),
            },
            configs=[args.config] if args.config else [],
            reads=_labels(args),
            optional=dict.fromkeys(map(str, [*in_data, *init, *recorded])),
            after=[data / ".done"],
            outputs=[done, *(read_json(done)["outputs"] if done.exists() else ())],
        )
    ]


def _labels(args) -> list:
    """Return the files of labels or clusters."""
    return [*args.labels, *(cluster_files(args.clusters) if args.clusters else [])]


def _mark_of_training(args) -> Path:
    return Path(args.exp) / ".done.train"


def run(args):
    if args.cmd is not None:
        check_files(*([args.config] if args.config else []), *_labels(args), f"{args.data}/utt2spk")
        (held,) = steps(args)
        held.lock()  # until the job has ended
        if not args.force and steps(args)[0].is_done():
            return 0
        check_wrapper(args.cmd)
        if status := aside(lambda: _check(args)):
            return status
        if not args.force and not steps(args)[0].reason():
            log(f"{args.exp} is finished and up to date")
            return 0
        return _submit(args)
    if args.num_nodes > 1 or args.num_processes > 1:
        raise UserError("--num-nodes and --num-processes are for jobs (steps/train.sh); here, use torchrun")
    from pydino.train.training import run_training

    this = _described(args)
    before = steps(args)[0].made_from
    run_training(this, args.ngpu, args.num_threads or 0, args.data_workers)
    if os.environ.get("RANK", "0") == "0":  # of torchrun
        _finish(args, before)
    return 0


def _finish(args, before: dict[str, str]) -> None:
    """Write the mark of the call, with its inputs as they were when it began."""
    (step,) = steps(args)
    step.made_from |= before | texts_of(_mark_of_training(args))
    step.finish()


def _described(args):
    """Return the run that the arguments describe."""
    from pydino.train.exp_dir import is_to_be_discarded
    from pydino.train.methods import load_training_config
    from pydino.train.run import Run

    method, config = load_training_config(args.config, args.set)
    exp = Path(args.exp)
    return Run(
        method,
        config,
        Path(args.data),
        exp,
        args.seed,
        args.labels,
        Path(args.init) if args.init else None,
        args.allow_pipes,
        args.force or is_to_be_discarded(exp),
        clusters=Path(args.clusters) if args.clusters else None,
        init_optimiser=args.init_optimiser,
    )


def _check(args) -> None:
    from pydino.train.check import check_run

    before = steps(args)[0].made_from
    if check_run(_described(args)):
        _finish(args, before)


def _submit(args) -> int:
    from pydino.jobs.train_job import submit_training

    status = submit_training(args)
    if not status and not _mark_of_training(args).exists():
        raise UserError(
            f"the job left no model in {args.exp}, though its wrapper, --cmd '{args.cmd}', reported success; "
            f"see {args.exp}/log/train.log: check that this wrapper runs the command that follows the log "
            "file, then run the step again"
        )
    return status
