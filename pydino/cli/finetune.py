"""Fine-tune a model for a task, fold by fold, and classify the test part of each fold.

steps/finetune.sh --mode affine-then-all --config conf/tune-affine.yaml --config conf/tune-all.yaml \\
  data/tasks/emotion exp/dino/seed0/teacher data/emodb exp/dino/seed0/transfer/emotion/affine-then-all

Each --config is one training; several follow one another, each from the encoder and the head of the one
before. TASK_DIR is made by steps/make_task.sh. In every fold the epoch is chosen by the development part; the
test part is only classified. Folds are parallel jobs, each resumes where it was interrupted. OUT_DIR gets
posteriors.txt, predictions.txt, confusion.json, TASK.result.json, and fold_NAME/ with the logs of the
trainings; fold_final/classifier is the classifier to give away.
"""

import hashlib
import json
import shutil
from pathlib import Path

from pydino.base import Step, log, plural, read_yaml
from pydino.cli import make_train_set
from pydino.cli._arguments import (
    WRAPPERS,
    add_max_drop,
    add_varied,
    integer,
    option,
    options_of_study,
    part,
    varied_of,
)
from pydino.cli._embeddings import read_embeddings
from pydino.cli._parts import check_left, saying_what_is_done
from pydino.cli._steps import aside, check_files, command_line, job_command, options_of, real_name
from pydino.cli._tuning_checks import check_call, check_task, refuse_training_audio, trainings
from pydino.jobs.submit import submit
from pydino.kaldi import ArchiveWriter, read_scp_objects
from pydino.recipe import TUNING

TRAIN_SET = "train_set"  # in TASK_DIR
OUTPUTS = ("outputs.ark", "outputs.scp")  # of a fold, from its job to the call


def add_arguments(parser):
    option(parser, "--mode", "affine-then-all", "name of the back-end", choices=list(TUNING))
    text = "one training (method: classifier); repeated: the next, from what the one before came to"
    option(parser, "--config", [], text, metavar="YAML")
    option(parser, "--set", [], "override a key in all of them; may be repeated", metavar="KEY=VALUE")
    option(parser, "--seed", 0, "of order, crops, augmentation, and random weights", type=integer(0))
    text = "embeddings by the baseline fbank-stats, which stand beside the embedding; one folder a set"
    option(parser, "--statistics", [], text, metavar="XVECTOR_DIR")
    add_max_drop(parser, 0.05, "the task's utterances that may lack features")
    option(parser, "--resamples", 1000, "of the bootstrap", type=integer(0))
    option(parser, "--system", "", "system of the results (default: by the place of OUT_DIR)")
    add_varied(parser)
    option(parser, "--nj", 1, "parallel jobs, at most one a fold", type=integer(1), metavar="N")
    text = "GPUs, each for one job, or for several where there are fewer folds; with any, --nj is not used"
    option(parser, "--ngpu", 0, text, type=integer(0))
    option(parser, "--num-threads", 1, "CPU threads of a job", type=integer(1))
    option(parser, "--cmd", "run_local.sh", WRAPPERS)
    option(parser, "--fold", [], "only these folds, without results; may be repeated", metavar="NAME")
    option(parser, "--part", None, "only part I of N of the folds, as the jobs do", type=part, metavar="I/N")
    parser.add_argument("task", metavar="TASK_DIR", help="made by steps/make_task.sh")
    parser.add_argument("model", metavar="MODEL_DIR", help="model folder, whose encoder is trained")
    parser.add_argument("data", nargs="+", metavar="DATA", help="data directories of the task's sets")
    parser.add_argument("out", metavar="OUT_DIR", help="of this back-end")


def run(args):
    if args.part:
        return _run_part(args)
    (step,) = steps(args)
    if not args.fold and step.is_done():
        return 0
    check_call(args, _folds(args))
    if status := aside(lambda: (check_task(args), refuse_training_audio(args))):
        return status
    make_train_set.run(_train_set_arguments(args))
    folds = args.fold or _folds(args)
    todo = [fold for fold in folds if not _fold_step(args, fold).is_done()]
    if not args.fold:
        step.begin()
    if todo:
        _submit(args, step, todo)
    if not args.fold:
        _gather(args, folds)
        step.finish()
    return 0


def steps(args) -> list[Step]:
    """Return the step."""
    task, out = Path(args.task), Path(args.out)
    check_files(task / "task.yaml")
    name = (read_yaml(task / "task.yaml") or {}).get("name", "task")
    tables = ["task.yaml", "utt2label", "utt2spk", "utt2unit", "utt2set"]
    tables += sorted(path.name for path in task.glob("fold.*"))
    return [
        Step(
            out / ".done",
            args.out,
            version=2,
            options={**_options(args), **options_of(args, "resamples", "system"), **options_of_study(args)},
            reads=[*(task / table for table in tables), *_model(args), *_vectors(args)],
            configs=args.config,
            optional=[task / "utt2group"],
            after=_marks(args),
            removes=[out / f"{name}.result.json"],
            outputs=[out / file for file in ("posteriors.txt", "predictions.txt", f"{name}.result.json")],
        )
    ]


def _fold_step(args, fold: str) -> Step:
    """One fold: its mark is written by the job. The labels of its test part are not read."""
    folder, task = _folder(args, fold), Path(args.task)
    outputs = ["classifier/classifier.safetensors"] if fold == "final" else OUTPUTS
    config = read_yaml(task / "task.yaml")
    of_task = {name: json.dumps(config.get(name)) for name in ("name", "kind", "classes", "keep_silence")}
    if fold == "final":
        of_task["unit"] = config.get("unit")  # of the classifier that is given away
    tables = [f"fold.{fold}", "utt2label", "utt2spk", "utt2set"]
    return Step(
        folder / ".done",
        str(folder),
        version=2,
        options={**_options(args), **of_task},
        configs=args.config,
        reads=[*(task / table for table in tables), *_model(args), *_vectors(args)],
        after=_marks(args),
        outputs=[folder / name for name in outputs],
    )


def _options(args) -> dict:
    return {**options_of(args, "mode", "seed"), "set": json.dumps(args.set)}


def _model(args) -> list[Path]:
    return [Path(args.model, name) for name in ("config.yaml", "model.safetensors")]


def _vectors(args) -> list[Path]:
    return [Path(folder, "xvector.scp") for folder in args.statistics]


def _marks(args) -> list[Path]:
    features = [Path(data, mark) for data in args.data for mark in (".done.features", ".done.vad")]
    return [*features, *(Path(folder, ".done") for folder in args.statistics)]


def _folder(args, fold: str) -> Path:
    return Path(args.out) / f"fold_{fold}"


def _folds(args) -> list[str]:
    task = Path(args.task)
    final = ["final"] if (task / "fold.final").is_file() else []
    return [*read_yaml(task / "task.yaml")["folds"], *final]


def _train_set_arguments(args):
    """The arguments of the step that hides the labels of the task's utterances."""
    from pydino.cli import parser_of

    config = read_yaml(Path(args.task) / "task.yaml")
    silence = str(bool(config.get("keep_silence"))).lower()
    words = ["--min-duration", "0", "--keep-silence", silence, "--name", config["name"]]
    words += [*args.data, str(Path(args.task) / TRAIN_SET)]
    return parser_of("make-train-set", make_train_set).parse_args(words)


def _submit(args, step: Step, folds: list[str]) -> None:
    jobs = min(args.ngpu or args.nj, len(folds))
    ngpu = args.ngpu // jobs
    words = ["--mode", args.mode, "--seed", args.seed, "--ngpu", ngpu, "--num-threads", args.num_threads]
    words += [word for config in args.config for word in ("--config", config)]
    words += [word for override in args.set for word in ("--set", override)]
    words += [word for folder in args.statistics for word in ("--statistics", folder)]
    words += [word for fold in folds for word in ("--fold", fold)]
    words += ["--part", f"JOB/{jobs}", args.task, args.model, *args.data, args.out]
    command = job_command("finetune", *words)
    if ngpu > 1:
        launch = ["launch", "--scheduler", "none", "--processes", ngpu, "--", "finetune", *words]
        command = job_command(*launch)
    options = ["--num-threads", str(args.num_threads)] + (["--gpu", str(ngpu)] if ngpu else [])
    count = len(set(folds) - {"final"})
    parts = [plural(count, "fold")] * bool(count) + ["the final classifier"] * ("final" in folds)
    log(f"{args.out}: {' and '.join(parts)} in {plural(jobs, 'job')} ({args.out}/log/finetune.*.log)")
    digest = hashlib.sha256(" ".join([step.digest, *folds]).encode()).hexdigest()[:16]
    marks = {f"fold {fold}": _folder(args, fold) / ".done" for fold in folds}
    with saying_what_is_done(args.out, marks):
        submit(args.cmd, f"{args.out}/log/finetune.JOB.log", command, jobs, options, made_from=digest)
    check_left([_folder(args, fold) / ".done" for fold in folds], args.cmd)


def _run_part(args) -> int:
    """Train this job's folds in this process, or with others that torchrun started."""
    import torch

    from pydino.downstream import read_task
    from pydino.downstream.finetuning import tune_fold
    from pydino.downstream.tuning import Tuning
    from pydino.train import DistributedContext

    torch.set_num_threads(args.num_threads)
    index, count = args.part
    task, distributed = read_task(args.task), DistributedContext(args.ngpu)
    statistics: dict = {}
    for folder in args.statistics:
        embedded = read_embeddings(folder)
        statistics |= zip(embedded.keys, embedded.vectors, strict=True)
    tuning = Tuning(
        task,
        {real_name(data): Path(data) for data in args.data},
        Path(args.task) / TRAIN_SET,
        Path(args.model),
        trainings(args),
        args.mode,
        args.seed,
        distributed,
        args.mode == "from-scratch",
        statistics or None,
        args.num_threads,
    )
    for fold in args.fold[index - 1 :: count]:
        step, folder = _fold_step(args, fold), _folder(args, fold)
        done = distributed.gather_objects(distributed.first and step.is_done())[0]
        if done:  # by an attempt that a scheduler started again
            continue
        outputs = tune_fold(tuning, fold, folder)
        if distributed.first:
            with ArchiveWriter(str(folder / OUTPUTS[0]), str(folder / OUTPUTS[1])) as archive:
                for key, vector in sorted(outputs.items()):
                    archive.write(key, vector.astype("float32"))
            step.finish()
            _tidy(args, folder)
            log(f"{folder}: done")
    distributed.close()
    return 0


def _tidy(args, folder: Path) -> None:
    """Remove what a fold needed to resume; logs and configurations stay."""
    for config in args.config:
        run = folder / Path(config).stem
        for name in ("checkpoints", "model"):
            shutil.rmtree(run / name, ignore_errors=True)
        for name in ("head.safetensors", ".done.train", ".started"):
            (run / name).unlink(missing_ok=True)


def _gather(args, folds: list[str]) -> None:
    """Put the folds' outputs together and measure them."""
    from pydino.cli._task_results import write_task_outputs
    from pydino.downstream import FINAL, read_task

    task, outputs = read_task(args.task), {}
    for fold in folds:
        if fold != FINAL:
            outputs |= read_scp_objects(_folder(args, fold) / "outputs.scp")
    model = read_yaml(Path(args.model) / "config.yaml")
    scratch = args.mode == "from-scratch"
    out = Path(args.out)
    meta = {
        "model": "untrained" if scratch else model["method"],
        "encoder": model["encoder"]["name"],
        "system": args.system or "/".join(name for name in out.parts[:-3] if name != "exp"),
        "model_labels": "none" if scratch else model.get("labels", "unknown"),
        "varied": model.get("varied", {}) | varied_of(args),
        "seed": args.seed,
        "train_set": "none" if scratch else model["train_set"],
        "model_dir": args.model,
        "keep_silence": task.config.keep_silence,
    }
    write_task_outputs(
        out,
        task,
        outputs,
        meta,
        backend=args.mode,
        treatment="with statistics" if args.statistics else "raw",
        command=command_line("finetune", args),
        resamples=args.resamples,
        seed=args.seed,
        extra={"trainings": [Path(config).stem for config in args.config]},
    )
