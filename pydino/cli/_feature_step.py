"""What make-fbank, make-mfcc and compute-vad share: options, mark, jobs."""

from functools import partial
from pathlib import Path

from pydino.base import Step
from pydino.jobs.submit import check_wrapper, submit
from pydino.kaldi import AUDIO_HASHES

from ._arguments import add_cmd, add_config, add_max_drop, integer, option, part
from ._gathering import gather
from ._parts import file_stem
from ._steps import check_files, job_command


def verb_of(kind: str) -> tuple:
    """Return ``add_arguments``, ``run`` and ``steps`` of a verb; ``kind`` is fbank, mfcc or vad."""
    return partial(add_arguments, kind=kind), partial(run, kind=kind), partial(steps, kind=kind)


def add_arguments(parser, kind: str) -> None:
    """Declare the arguments."""
    text = "parallel jobs, on which the values do not depend"
    option(parser, "--nj", 4, text, type=integer(1), metavar="N")
    add_cmd(parser, "run_local.sh")
    text = "options, Kaldi's under their own names with underscores"
    add_config(parser, f"--{kind}-config", f"{kind}.yaml", text, dest="config")
    add_max_drop(parser, 0.0, "unreadable or too short utterances that may be dropped; all are named")
    if kind != "vad":
        option(parser, "--compress", True, "one byte a value instead of four")
        option(parser, "--allow-pipes", False, "run the commands in wav.scp; they come with the data")
        text = "which channel of recordings with several, from 0 (default: as configured)"
        option(parser, "--channel", None, text, type=integer(0), metavar="N")
    option(parser, "--part", None, "only do part I of N, as the jobs do", type=part, metavar="I/N")
    parser.add_argument("data", metavar="DATA", help="Kaldi data directory")
    parser.add_argument("log_dir", metavar="LOG", nargs="?", help="(default: DATA/log)")
    archives = "VAD_DIR" if kind == "vad" else "ARK_DIR"
    parser.add_argument("ark_dir", metavar=archives, nargs="?", help="of the archives (default: DATA/data)")


def run(args, kind: str) -> None:
    """Do the step, or with ``--part`` one part of it."""
    _fill_in(args)
    if args.part:
        return _compute(args, kind)
    (step,) = steps(args, kind)
    if step.is_done():
        return None
    check_wrapper(args.cmd)
    Path(args.ark_dir).mkdir(parents=True, exist_ok=True)
    verb = "compute-vad" if kind == "vad" else f"make-{kind}"
    name = file_stem(kind, args.data)  # logs have Kaldi's names: make_fbank_train, vad_train
    log = f"{args.log_dir}/{name if kind == 'vad' else name.replace('raw_', 'make_', 1)}.JOB.log"
    words = ["--part", f"JOB/{args.nj}", *_options(args, kind), args.data, args.log_dir, args.ark_dir]
    with step:
        # Archives are replaced in place: until they are whole again, nothing may point into them.
        submit(args.cmd, log, job_command(verb, *words), args.nj, made_from=step.digest)
        gather(args, kind)


def _fill_in(args) -> None:
    args.data = args.data.rstrip("/")
    args.log_dir = args.log_dir or f"{args.data}/log"
    args.ark_dir = args.ark_dir or f"{args.data}/data"


def _compute(args, kind: str) -> None:
    if kind == "vad":
        from ._vad import compute

        compute(args)
    else:
        from ._features import compute

        compute(args, kind)


def steps(args, kind: str) -> list[Step]:
    """Return the step."""
    _fill_in(args)
    data, arks, stem = args.data, args.ark_dir, file_stem(kind, args.data)
    if kind == "vad":
        check_files(args.config)
        mark, options, reads, optional = "vad", {"vad_dir": arks}, [], ["energy.scp", "feats.scp"]
        if not Path(
            data, "energy.scp"
        ).exists():  # then they tell which column of feats.scp is the log-energy
            optional += ["conf/fbank.yaml", "conf/mfcc.yaml"]
        tables, stems, counts = ["vad.scp"], [stem], []
    else:
        check_files(f"{data}/wav.scp", args.config)
        options = {"kind": kind, "compress": args.compress, "channel": args.channel, "ark_dir": arks}
        mark, reads, optional = "features", ["wav.scp"], ["segments", "utt2hash"]
        tables, stems = ["feats.scp", "energy.scp"], [stem, f"energy_{stem.removeprefix('raw_')}"]
        counts = ["utt2num_frames", AUDIO_HASHES]
    return [
        Step(
            f"{data}/.done.{mark}",
            f"{data}/{tables[0]}",
            options={**options, "max_drop": args.max_drop},
            configs=[args.config],
            reads=[f"{data}/{name}" for name in reads],
            optional=[f"{data}/{name}" for name in optional],
            after=[f"{data}/.done.features"] if kind == "vad" else [],
            removes=[f"{data}/{table}" for table in tables],
            # An archive that is later truncated or lost makes the step run again.
            outputs=[
                *(f"{arks}/{name}.{job}.ark" for job in range(1, args.nj + 1) for name in stems),
                *(f"{data}/{name}" for name in (*tables, *counts, f"conf/{kind}.yaml")),
            ],
        )
    ]


def _options(args, kind: str) -> list[str]:
    options = [f"--{kind}-config", args.config]
    if kind != "vad":
        options += ["--compress", str(args.compress).lower(), "--allow-pipes", str(args.allow_pipes).lower()]
        options += [] if args.channel is None else ["--channel", str(args.channel)]
    return options
