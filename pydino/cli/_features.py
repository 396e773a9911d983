"""One job of make-fbank or make-mfcc: the features and log-energies of one part of a data directory."""

import time
from pathlib import Path

import torch

from pydino.audio import KINDS
from pydino.audio.utterances import extract, utterances
from pydino.base import config_to_dict, load_config, log, utterance_hash
from pydino.kaldi import ArchiveWriter, read_table

from ._parts import Report, file_stem, report_path, take


def compute(args, kind: str) -> None:
    """Compute one part of a data directory's features and log-energies."""
    torch.set_num_threads(1)
    options, extractor = KINDS[kind]
    overrides = [] if args.channel is None else [f"channel={args.channel}"]
    config = load_config(options, args.config, overrides)
    index, count = args.part
    todo = take(utterances(args.data), args.part)
    stem = f"{args.ark_dir}/{file_stem(kind, args.data)}.{index}"
    energy_stem = f"{args.ark_dir}/energy_{kind}_{Path(args.data).resolve().name}.{index}"
    report = Report(utterances=len(todo), config=config_to_dict(config))
    report.frame_shift = config.window_shift / config.sample_frequency
    hashes = _dither_hashes(args.data) if config.dither else None
    began = time.monotonic()
    with (
        ArchiveWriter(f"{stem}.ark", f"{stem}.scp", compression=1 if args.compress else None) as features,
        ArchiveWriter(f"{energy_stem}.ark", f"{energy_stem}.scp") as energies,
    ):
        for made in extract(todo, extractor(config), report.dropped, args.allow_pipes, hashes):
            features.write(made.key, made.features.numpy())
            energies.write(made.key, made.energy.numpy())
            report.frames[made.key] = len(made.features)
            report.seconds[made.key] = made.seconds
            report.audio_hashes[made.key] = made.audio_hash
            if made.rate != int(config.sample_frequency):
                report.resampled[str(made.rate)] = report.resampled.get(str(made.rate), 0) + 1
    report.write(report_path(args.log_dir, kind, args.data, index))
    took, speech = max(time.monotonic() - began, 1e-9), sum(report.seconds.values())
    log(
        f"part {index} of {count}: {len(report.frames)} of {len(todo)} utterances, "
        f"{sum(report.frames.values())} frames, {len(report.dropped)} dropped; {speech:.0f} s of audio in "
        f"{took:.1f} s, {speech / took:.0f} times real time"
    )


def _dither_hashes(data):
    """Return a function from utterance to the number that keys its dither: as stored in utt2hash, else of its
    name.
    """
    stored = read_table(f"{data}/utt2hash") if Path(f"{data}/utt2hash").exists() else {}
    return lambda key: int(stored[key]) if key in stored else utterance_hash(key)
