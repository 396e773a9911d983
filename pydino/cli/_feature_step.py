"""What make-fbank, make-mfcc and compute-vad share: options, mark, jobs."""

from pathlib import Path

from pydino.base import Step
from pydino.cli import boolean
from pydino.cli._gathering import gather
from pydino.cli._parts import file_stem, part
from pydino.cli._steps import add_cmd, check_files, job_command, natural, positive, share
from pydino.jobs.submit import submit


def add_arguments(parser, kind: str) -> None:
    """Declare the arguments; ``kind`` is fbank, mfcc or vad."""
    parser.add_argument(
        "--nj",
        type=positive,
        default=4,
        metavar="N",
        help="parallel jobs, on which the values do not depend (default: 4)",
    )
    add_cmd(parser, "run_local.sh")
    parser.add_argument(
        f"--{kind}-config",
        dest="config",
        default=f"conf/{kind}.yaml",
        metavar="YAML",
        help="options, Kaldi's under their own names with underscores (default: %(default)s)",
    )
    parser.add_argument(
        "--max-drop",
        type=share,
        default=0.0,
        metavar="SHARE",
        help="share of unreadable or too short utterances that may be dropped; all are named (default: 0)",
    )
    if kind != "vad":
        parser.add_argument(
            "--compress", type=boolean, default=True, help="one byte a value instead of four (default: true)"
        )
        parser.add_argument(
            "--allow-pipes",
            type=boolean,
            default=False,
            help="run the commands in wav.scp; they come with the data (default: false)",
        )
        parser.add_argument(
            "--channel",
            type=natural,
            metavar="N",
            help="which channel of recordings with several, from 0 (default: as configured)",
        )
    parser.add_argument("--part", type=part, metavar="I/N", help="only do part I of N, as the jobs do")
    parser.add_argument("data", metavar="DATA", help="Kaldi data directory")
    parser.add_argument("log_dir", metavar="LOG", nargs="?", help="(default: DATA/log)")
    archives = "VAD_DIR" if kind == "vad" else "ARK_DIR"
    parser.add_argument("ark_dir", metavar=archives, nargs="?", help="of the archives (default: DATA/data)")


def run(args, kind: str, compute) -> None:
    """Do the step, or with ``--part`` one part of it by ``compute()``."""
    _fill_in(args)
    if args.part:
        compute()
        return
    (step,) = steps(args, kind)
    if step.is_done():
        return
    Path(args.ark_dir).mkdir(parents=True, exist_ok=True)
    with step:
        # Archives are replaced in place: until they are whole again, nothing may point into them.
        submit(
            args.cmd,
            f"{args.log_dir}/{_job_name(args, kind)}.JOB.log",
            job_command(_verb(kind), "--part", f"JOB/{args.nj}", *_options(args, kind), *_places(args)),
            args.nj,
            made_from=step.digest,
        )
        gather(args, kind)


def steps(args, kind: str) -> list[Step]:
    """Return the step."""
    _fill_in(args)
    data, arks = args.data, args.ark_dir
    stem = file_stem(kind, data)
    if kind == "vad":
        sources = [f"{data}/energy.scp", f"{data}/feats.scp"]
        check_files(args.config)
        mark, options, reads, optional = ".done.vad", {"vad_dir": arks}, [], sources
        tables, stems = ["vad.scp"], [stem]
    else:
        check_files(f"{data}/wav.scp", args.config)
        options = {"kind": kind, "compress": args.compress, "channel": args.channel, "ark_dir": arks}
        mark, reads, optional = (
            ".done.features",
            [f"{data}/wav.scp"],
            [f"{data}/segments", f"{data}/utt2hash"],
        )
        tables, stems = ["feats.scp", "energy.scp"], [stem, f"energy_{stem.removeprefix('raw_')}"]
    counts = [] if kind == "vad" else ["utt2num_frames"]
    return [
        Step(
            f"{data}/{mark}",
            f"{data}/{tables[0]}",
            options={**options, "max_drop": f"{args.max_drop:g}"},
            configs=[args.config],
            reads=reads,
            optional=optional,
            after=[f"{data}/.done.features"] if kind == "vad" else [],
            removes=[f"{data}/{table}" for table in tables],
            # An archive that is later truncated or lost makes the step run again.
            outputs=[
                *(f"{arks}/{name}.{job}.ark" for job in range(1, args.nj + 1) for name in stems),
                *(f"{data}/{name}" for name in (*tables, *counts, f"conf/{kind}.yaml")),
            ],
        )
    ]


def _fill_in(args) -> None:
    args.data = args.data.rstrip("/")
    args.log_dir = args.log_dir or f"{args.data}/log"
    args.ark_dir = args.ark_dir or f"{args.data}/data"


def _verb(kind: str) -> str:
    return "compute-vad" if kind == "vad" else f"make-{kind}"


def _job_name(args, kind: str) -> str:
    """Kaldi's names of logs: make_fbank_train, vad_train."""
    stem = file_stem(kind, args.data)
    return stem if kind == "vad" else f"make_{stem.removeprefix('raw_')}"


def _options(args, kind: str) -> list[str]:
    options = [f"--{kind}-config", args.config]
    if kind != "vad":
        options += ["--compress", str(args.compress).lower(), "--allow-pipes", str(args.allow_pipes).lower()]
        options += [] if args.channel is None else ["--channel", str(args.channel)]
    return options


def _places(args) -> list[str]:
    return [args.data, args.log_dir, args.ark_dir]
