"""What the feature verbs share: the utterances of a data directory, parts of it, and the report that each
part leaves.

A step runs N jobs; job I of N takes the I-th run of utterances in sorted order, writes its archives, and
leaves a small report of what came in, went out and was dropped. ``pydino gather-features`` then puts the
parts together and counts.
"""

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from pydino.audio import KINDS, check_rate, num_frames, read_audio, resample
from pydino.base import UserError, load_config, log, read_json, split_fields, utterance_hash, write_json
from pydino.cli import boolean
from pydino.kaldi import ArchiveWriter, read_table

# a minute at 16 kHz: enough for few calls, small enough for the cache of the machine
_BATCH_SAMPLES = 1 << 20


def part(text: str) -> tuple[int, int]:
    """Parse ``I/N``, job I of N (for ``type=`` of an argument)."""
    index, slash, count = text.partition("/")
    if not (slash and index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"expected I/N, such as 1/4, got '{text}'")
    return int(index), int(count)


def take(items: list, which: tuple[int, int]) -> list:
    """Return run I of N of a list: contiguous, so that the parts one after another are in order."""
    index, count = which
    return items[len(items) * (index - 1) // count : len(items) * index // count]


def file_stem(kind: str, data) -> str:
    """Return the name of a set's archives, Kaldi's: raw_fbank_train, vad_train."""
    name = Path(data).resolve().name
    return f"vad_{name}" if kind == "vad" else f"raw_{kind}_{name}"


def report_path(log_dir, kind: str, data, index: int) -> Path:
    """Return where part ``index`` leaves its report."""
    return Path(log_dir) / f"{file_stem(kind, data)}.{index}.json"


@dataclass
class Report:
    """What one part did; frames and seconds by utterance, reasons by dropped utterance."""

    utterances: int = 0
    frames: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    resampled: dict[str, int] = field(default_factory=dict)  # utterances by original rate
    voiced: int = 0  # frames
    unvoiced: list[str] = field(default_factory=list)  # utterances with no voiced frame

    def write(self, path) -> None:
        """Write as JSON."""
        write_json(path, vars(self))

    @classmethod
    def read(cls, path) -> "Report":
        """Read what :meth:`write` wrote."""
        return cls(**read_json(path))


@dataclass
class Utterance:
    """Where the audio of an utterance is; start and end in seconds, None for the whole recording."""

    key: str
    rxfilename: str
    start: float | None = None
    end: float | None = None


def utterances(data) -> list[Utterance]:
    """Return the utterances of a data directory, sorted: those of ``segments`` if it is there, else of
    ``wav.scp``.

    Raises:
        UserError: a table is malformed, or ``utt2spk`` is there and lacks one of the utterances.
    """
    found = _utterances(data)
    if Path(f"{data}/utt2spk").exists():
        speakers = read_table(f"{data}/utt2spk")
        without = [utterance.key for utterance in found if utterance.key not in speakers]
        if without:
            raise UserError(
                f"{data}/utt2spk: {len(without)} of {len(found)} utterances have no speaker, first: "
                f"{without[0]}; add a line for each, or "
                f"take them out of all files with utils/fix_data_dir.sh {data}"
            )
    return found


def _utterances(data) -> list[Utterance]:
    recordings = read_table(f"{data}/wav.scp")
    if not Path(f"{data}/segments").exists():
        return [Utterance(*item) for item in recordings.items()]
    found = []
    for key, line in read_table(f"{data}/segments").items():
        try:
            recording, start, end = split_fields(line)
            found.append(Utterance(key, recordings[recording], float(start), float(end)))
        except ValueError as error:
            raise UserError(
                f"{data}/segments: '{key} {line}' is not 'utterance recording start end' with times in "
                "seconds"
            ) from error
        except KeyError as error:
            raise UserError(
                f"{data}/segments: recording {error} of utterance {key} is not in {data}/wav.scp"
            ) from error
    return found


def add_arguments(parser, kind: str):
    """Declare the arguments of compute-fbank and compute-mfcc."""
    parser.add_argument("data", metavar="DATA", help="Kaldi data directory")
    parser.add_argument("ark_dir", metavar="ARK_DIR", help="where the archives go")
    parser.add_argument("log_dir", metavar="LOG", help="where the report of this part goes")
    parser.add_argument(
        "--config", metavar="YAML", help=f"options of {KINDS[kind][0].__name__}; without it Kaldi's defaults"
    )
    parser.add_argument(
        "--part",
        type=part,
        default=(1, 1),
        metavar="I/N",
        help="do run I of N of the utterances (default: 1/1)",
    )
    parser.add_argument(
        "--compress", type=boolean, default=True, metavar="BOOL", help="one byte a value (default: true)"
    )
    parser.add_argument(
        "--allow-pipes",
        type=boolean,
        default=False,
        metavar="BOOL",
        help="run the commands in wav.scp; they come with the data (default: false)",
    )
    parser.add_argument(
        "--channel",
        type=int,
        default=None,
        metavar="N",
        help="which channel of many, from 0 (default: config)",
    )


def compute(args, kind: str) -> None:
    """Compute one part of a data directory's features and log-energies."""
    torch.set_num_threads(1)
    options, extractor = KINDS[kind]
    overrides = [] if args.channel is None else [f"channel={args.channel}"]
    config = load_config(options, args.config, overrides)
    index, count = args.part
    todo = take(utterances(args.data), args.part)
    stem = f"{args.ark_dir}/{file_stem(kind, args.data)}"
    energy_stem = f"{args.ark_dir}/energy_{kind}_{Path(args.data).resolve().name}"
    report = Report(utterances=len(todo))
    began = time.monotonic()
    with (
        ArchiveWriter(
            f"{stem}.{index}.ark", f"{stem}.{index}.scp", compression=1 if args.compress else None
        ) as features_out,
        ArchiveWriter(f"{energy_stem}.{index}.ark", f"{energy_stem}.{index}.scp") as energies_out,
    ):
        hashes = _dither_hashes(args.data) if config.dither else None
        extract(todo, extractor(config), features_out, energies_out, report, args.allow_pipes, hashes)
    report.write(report_path(args.log_dir, kind, args.data, index))
    took, speech = max(time.monotonic() - began, 1e-9), sum(report.seconds.values())
    log(
        f"part {index} of {count}: {len(report.frames)} of {len(todo)} utterances, "
        f"{sum(report.frames.values())} frames, "
        f"{len(report.dropped)} dropped; {speech:.0f} s of audio in {took:.1f} s, {speech / took:.0f} times "
        "real time"
    )


def extract(
    todo, extractor, features_out, energies_out, report: Report, allow_pipes: bool = False, hashes=None
) -> None:
    """Read utterances, compute their features in batches, write features and log-energies; fill in the
    report.
    """
    config, batch, samples = extractor.config, [], 0
    for utterance in todo:
        try:
            waveform, seconds = _load(utterance, config, allow_pipes, report)
        except UserError as error:
            report.dropped[utterance.key] = str(error)
            continue
        report.seconds[utterance.key] = seconds
        batch.append((utterance.key, waveform))
        samples += len(waveform)
        if samples >= _BATCH_SAMPLES:
            _write(batch, extractor, features_out, energies_out, report, hashes)
            batch, samples = [], 0
    _write(batch, extractor, features_out, energies_out, report, hashes)


def _load(utterance: Utterance, config, allow_pipes, report) -> tuple[np.ndarray, float]:
    """Return the samples at the rate of the features, and the seconds they last; raise UserError if they will
    not do.
    """
    channel = None if config.channel < 0 else config.channel
    waveform, rate = read_audio(utterance.rxfilename, utterance.start, utterance.end, allow_pipes, channel)
    wanted, seconds = int(config.sample_frequency), len(waveform) / rate
    if rate != wanted:
        check_rate(rate, config, utterance.rxfilename)
        waveform = resample(waveform, rate, wanted)
        report.resampled[str(rate)] = report.resampled.get(str(rate), 0) + 1
    if seconds < config.min_duration:
        raise UserError(
            f"{utterance.rxfilename}: {seconds:.3f} s is less than min_duration, {config.min_duration:g} s"
        )
    if num_frames(len(waveform), config) == 0:
        raise UserError(
            f"{utterance.rxfilename}: {seconds:.4f} s is too short for one window of "
            f"{config.frame_length:g} ms; "
            "leave it out of the data directory"
        )
    return waveform, seconds


def _write(batch, extractor, features_out, energies_out, report, hashes):
    if not batch:
        return
    keys, waveforms = zip(*batch, strict=True)
    features, energies = extractor.with_energy(
        waveforms, None if hashes is None else [hashes(key) for key in keys]
    )
    for key, matrix, energy in zip(keys, features, energies, strict=True):
        features_out.write(key, matrix.numpy())
        energies_out.write(key, energy.numpy())
        report.frames[key] = len(matrix)


def _dither_hashes(data):
    """Return a function from utterance to the number that keys its dither: as stored in utt2hash, else of its
    name.
    """
    stored = read_table(f"{data}/utt2hash") if Path(f"{data}/utt2hash").exists() else {}
    return lambda key: int(stored[key]) if key in stored else utterance_hash(key)
