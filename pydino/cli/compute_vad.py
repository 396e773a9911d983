"""Decide by energy which frames of a data directory, or of one part of it, are speech.

Reads DATA/energy.scp (written with the features); without it, the energy column of feats.scp, if
DATA/conf/fbank.yaml or mfcc.yaml says that there is one. Writes VAD_DIR/vad_<name>.I.{ark,scp}, one 0.0 or
1.0 a frame. steps/compute_vad.sh runs it in parallel.
"""

from pathlib import Path

import numpy as np
import torch

from pydino.audio import KINDS, VadConfig, energy_vad
from pydino.base import UserError, load_config, log, warn
from pydino.cli._features import Report, file_stem, part, report_path, take
from pydino.kaldi import ArchiveWriter, read_scp_objects, read_table


def add_arguments(parser):
    parser.add_argument("data", metavar="DATA", help="Kaldi data directory with features")
    parser.add_argument("vad_dir", metavar="VAD_DIR", help="where the archives go")
    parser.add_argument("log_dir", metavar="LOG", help="where the report of this part goes")
    parser.add_argument("--config", metavar="YAML", help="options of VadConfig; without it Kaldi's defaults")
    parser.add_argument(
        "--part",
        type=part,
        default=(1, 1),
        metavar="I/N",
        help="do run I of N of the utterances (default: 1/1)",
    )


def run(args):
    torch.set_num_threads(1)
    config = load_config(VadConfig, args.config)
    table, column = energy_source(args.data)
    index, count = args.part
    todo = dict(take(list(read_table(table).items()), args.part))
    stem = f"{args.vad_dir}/{file_stem('vad', args.data)}.{index}"
    report = Report(utterances=len(todo))
    with ArchiveWriter(f"{stem}.ark", f"{stem}.scp") as out:
        for key, stored in read_scp_objects(todo):
            energy = np.asarray(stored, dtype=np.float32)
            energy = energy if column is None or energy.size == 0 else energy[:, column]
            if energy.size == 0:
                report.dropped[key] = f"{todo[key]}: no frames"
                continue
            voiced = energy_vad(torch.from_numpy(energy), config)
            out.write(key, voiced.float().numpy())
            report.frames[key] = len(voiced)
            report.voiced += int(voiced.sum())
            if not voiced.any():
                report.unvoiced.append(key)
    report.write(report_path(args.log_dir, "vad", args.data, index))
    frames = sum(report.frames.values())
    log(
        f"part {index} of {count}: {len(report.frames)} of {len(todo)} utterances, {report.voiced} of "
        f"{frames} frames are speech"
    )
    if report.unvoiced:
        warn(f"no frame of {len(report.unvoiced)} utterances is speech: {' '.join(report.unvoiced[:10])}")


def energy_source(data) -> tuple[str, int | None]:
    """Return the scp file to read log-energies from, and the column of its matrices (None if it holds
    vectors).

    Raises:
        UserError: there is no log-energy; the lowest mel filter must not be taken for it.
    """
    energy, features = f"{data}/energy.scp", f"{data}/feats.scp"
    if Path(energy).exists():
        return energy, None
    if not Path(features).exists():
        raise UserError(f"neither {energy} nor {features} is there; run steps/make_fbank.sh {data} first")
    for kind, (options, _) in KINDS.items():
        path = f"{data}/conf/{kind}.yaml"
        if Path(path).exists():
            config = load_config(options, path)
            if config.use_energy:
                return features, -1 if config.htk_compat else 0
    raise UserError(
        f"{energy} is not there, and nothing says that {features} holds log-energy (its first column may be "
        "a mel filter): run "
        f"steps/make_fbank.sh {data}, which writes both; or, if Kaldi made these features with "
        "--use-energy=true (the default of "
        f"its MFCC), say so with 'use_energy: true' in {data}/conf/mfcc.yaml"
    )
