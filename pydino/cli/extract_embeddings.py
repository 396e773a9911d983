"""Embed every utterance of one or several data directories with a model folder, in parallel jobs.

steps/extract_embeddings.sh --nj 4 exp/dino_mini/seed0/teacher data/test exp/dino_mini/seed0/xvectors_test

Reads DATA/{feats.scp,vad.scp}, which must have been made with the options the model was trained with, as
DATA/conf records; for a model that takes waveforms, the recordings in wav.scp in place of feats.scp. Writes
XVECTOR_DIR/{xvector.ark,xvector.scp,meta.yaml}, dropped.txt where an utterance had no features, and
in_training.txt where the model was trained on an utterance, under this name or another. Each XVECTOR_DIR has
its own mark, and only those that are out of date are made; one call for several sets loads the model once a
job. The embeddings do not depend on the number of jobs.
"""

import hashlib
import shlex
from dataclasses import dataclass
from pathlib import Path

from pydino.base import Step, UserError
from pydino.cli._arguments import add_cmd, add_device, add_max_drop, integer, option, part, refuse_unused
from pydino.cli._extraction import embed_part, gather, takes_waveforms
from pydino.cli._steps import check_files, job_command, options_of
from pydino.jobs.submit import check_wrapper, submit
from pydino.kaldi import AUDIO_HASHES, TRAINING_AUDIO


@dataclass(frozen=True)
class Embedded:
    """One data directory to embed, where to, and whether its silence is kept."""

    data: str
    out: str
    keep_silence: bool


def add_arguments(parser):
    option(parser, "--nj", 4, "parallel jobs", type=integer(1), metavar="N")
    text = "GPUs; with any, each runs one job and --nj is not used"
    option(parser, "--gpu", 0, text, type=integer(0), metavar="N")
    add_cmd(parser, "run_local.sh")
    text = "embed this set with every frame, where the pauses are the signal; vad.scp is then not read"
    option(parser, "--with-silence", [], text, nargs=2, metavar=("DATA", "XVECTOR_DIR"))
    option(parser, "--keep-silence", False, "the same for all sets")
    add_max_drop(parser, 0.0, "a set that may be dropped (without features); all are named")
    option(parser, "--system", "", "system of the results (default: the folder of XVECTOR_DIR)")
    option(parser, "--part", None, "only embed part I of N, as the jobs do", type=part, metavar="I/N")
    add_device(parser, "(with --part) ")
    parser.add_argument("model", metavar="MODEL_DIR", help="model folder")
    parser.add_argument("sets", nargs="*", metavar="DATA XVECTOR_DIR")


def run(args):
    args.model = args.model.rstrip("/")
    if args.part:
        embed_part(args.model, _sets(args), args.part, args.device)
        return
    refuse_unused(args, "--device", why="without --part: --gpu N takes N GPUs")
    declared = list(zip(_sets(args), steps(args), strict=True))
    for _, step in sorted(declared, key=lambda pair: str(pair[1].mark)):
        if step.reason():
            step.lock()  # in the same order in every call, so that no two wait for each other
    todo = [(one, step) for one, step in declared if not step.is_done()]
    if not todo:
        return
    jobs, device, options = args.nj, "cpu", []
    if args.gpu:
        jobs, device, options = args.gpu, "cuda", ["--gpu", "1"]
    check_wrapper(args.cmd)
    for _, step in todo:
        step.begin()
    jobs = min(jobs, max(1, sum(_lines(f"{one.data}/feats.scp") for one, _ in todo)))
    silent = [word for one, _ in todo if one.keep_silence for word in ("--with-silence", one.data, one.out)]
    sets = [word for one, _ in todo if not one.keep_silence for word in (one.data, one.out)]
    submit(
        args.cmd,
        f"{todo[0][0].out}/log/extract.JOB.log",
        job_command(
            "extract-embeddings", "--part", f"JOB/{jobs}", "--device", device, *silent, args.model, *sets
        ),
        jobs,
        options,
        made_from=hashlib.sha256(" ".join(step.digest for _, step in todo).encode()).hexdigest()[:16],
    )
    for one, step in todo:
        system = args.system or "/".join(part for part in Path(one.out).parent.parts if part != "exp")
        gather(args.model, one, jobs, args.max_drop, system, _call(args.model, one), args.cmd)
        step.finish()


def _call(model: str, one: Embedded) -> str:
    """The call that makes this set alone, whatever the number of jobs."""
    silence = ["--keep-silence", "true"] if one.keep_silence else []
    return shlex.join(["steps/extract_embeddings.sh", *silence, model, one.data, one.out])


def steps(args) -> list[Step]:
    """Return one step for each set."""
    check_files(*(f"{args.model}/{name}" for name in ("config.yaml", "model.safetensors")))
    return [_step(args, one) for one in _sets(args)]


def _step(args, one: Embedded) -> Step:
    data, out = Path(one.data), Path(one.out)
    check_files(data / "feats.scp")
    return Step(
        out / ".done",
        one.out,
        version=2,
        options={"keep_silence": one.keep_silence, **options_of(args, "max_drop", "system")},
        configs=[Path(args.model) / "config.yaml"],
        reads=[Path(args.model) / "model.safetensors", data / "feats.scp"],
        optional=[
            data / "utt2spk",
            *([] if one.keep_silence else [data / "vad.scp"]),
            *([data / "wav.scp", data / "segments"] if takes_waveforms(args.model) else []),
            *(
                data / AUDIO_HASHES,
                Path(args.model) / TRAINING_AUDIO,
            ),  # whether they have utterances in common
        ],
        after=[data / ".done.features", data / ".done.vad"],
        removes=[out / "xvector.ark", out / "xvector.scp"],
        outputs=[out / name for name in ("xvector.ark", "xvector.scp", "meta.yaml")],
    )


def _sets(args) -> list[Embedded]:
    if len(args.sets) % 2 or not (args.sets or args.with_silence):
        raise UserError(
            f"expected MODEL_DIR DATA XVECTOR_DIR [DATA XVECTOR_DIR ...], got {1 + len(args.sets)} arguments"
        )
    pairs = [(data, out, args.keep_silence) for data, out in zip(*[iter(args.sets)] * 2, strict=True)]
    pairs += [(data, out, True) for data, out in args.with_silence]
    found = [Embedded(data.rstrip("/"), out.rstrip("/"), silence) for data, out, silence in pairs]
    outs = [one.out for one in found]
    twice = [out for out in outs if outs.count(out) > 1]
    if twice:
        raise UserError(f"{twice[0]} is given for two sets; each needs a folder of its own")
    return found


def _lines(path: str) -> int:
    with open(path, "rb") as stream:
        return sum(1 for _ in stream)
