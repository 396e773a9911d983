"""One job of make-fbank or make-mfcc: the features and log-energies of one part of a data directory."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from pydino.audio import KINDS, Stream, check_rate, num_frames, open_channel, span_of
from pydino.base import UserError, config_to_dict, load_config, log, utterance_hash
from pydino.cli._parts import Report, file_stem, report_path, take
from pydino.kaldi import ArchiveWriter, read_table
from pydino.kaldi.segments import parse_segment

# A minute at 16 kHz: enough for few calls, small enough for the cache of the machine
_BATCH_SAMPLES = 1 << 20
# Four minutes: longer utterances are read and computed in parts, so that hours of speech fit into memory.
_LONG = 1 << 22


@dataclass
class Utterance:
    """Where the audio of an utterance is; start and end in seconds, None for the whole recording."""

    key: str
    rxfilename: str
    start: float | None = None
    end: float | None = None

    def explain(self, error: UserError) -> str:
        """Return a message that names the line of ``segments``, where there is one."""
        return str(error) if self.start is None else f"line of {self.key} in segments: {error}"


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
        recording, start, end = parse_segment(key, line, f"{data}/segments")
        try:
            found.append(Utterance(key, recordings[recording], start, end))
        except KeyError as error:
            raise UserError(
                f"{data}/segments: recording {error} of utterance {key} is not in {data}/wav.scp"
            ) from error
    return found


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
    report = Report(utterances=len(todo), config=config_to_dict(config))
    report.frame_shift = config.window_shift / config.sample_frequency
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
    channel = None if config.channel < 0 else config.channel
    for utterance in todo:
        try:
            with open_channel(utterance.rxfilename, allow_pipes, channel) as audio:
                stream, seconds = _stream(utterance, audio, config)
                is_long = stream.samples > _LONG
                if is_long:
                    key = 0 if hashes is None else hashes(utterance.key)
                    made = extractor.of_parts(stream.read, stream.samples, key)
                else:
                    made = stream.read(0, stream.samples)
        except UserError as error:
            report.dropped[utterance.key] = utterance.explain(error)
            continue
        if audio.rate != int(config.sample_frequency):
            report.resampled[str(audio.rate)] = report.resampled.get(str(audio.rate), 0) + 1
        report.seconds[utterance.key] = seconds
        if not is_long:
            batch.append((utterance.key, made))
            samples += stream.samples
        if samples >= _BATCH_SAMPLES or is_long:
            _write_batch(batch, extractor, features_out, energies_out, report, hashes)
            batch, samples = [], 0
        if is_long:
            _write(utterance.key, *made, features_out, energies_out, report)
    _write_batch(batch, extractor, features_out, energies_out, report, hashes)


def _stream(utterance: Utterance, audio, config) -> tuple[Stream, float]:
    """Return the samples at the rate of the features, and the seconds they last; raise UserError if they will
    not do.
    """
    first, last = span_of(utterance.start, utterance.end, audio.samples, audio.rate, utterance.rxfilename)
    wanted, seconds = int(config.sample_frequency), (last - first) / audio.rate
    check_rate(audio.rate, config, utterance.rxfilename)
    stream = Stream(
        lambda begin, end: audio.read(first + begin, first + end), last - first, audio.rate, wanted
    )
    if seconds < config.min_duration:
        raise UserError(
            f"{utterance.rxfilename}: {seconds:.3f} s is less than min_duration, {config.min_duration:g} s"
        )
    if num_frames(stream.samples, config) == 0:
        raise UserError(
            f"{utterance.rxfilename}: {seconds:.4f} s is too short for one window of "
            f"{config.frame_length:g} ms; leave it out of the data directory"
        )
    return stream, seconds


def _write_batch(batch, extractor, features_out, energies_out, report, hashes):
    if not batch:
        return
    keys, waveforms = zip(*batch, strict=True)
    features, energies = extractor.with_energy(
        waveforms, None if hashes is None else [hashes(key) for key in keys]
    )
    for key, matrix, energy in zip(keys, features, energies, strict=True):
        _write(key, matrix, energy, features_out, energies_out, report)


def _write(key, matrix, energy, features_out, energies_out, report):
    features_out.write(key, matrix.numpy())
    energies_out.write(key, energy.numpy())
    report.frames[key] = len(matrix)


def _dither_hashes(data):
    """Return a function from utterance to the number that keys its dither: as stored in utt2hash, else of its
    name.
    """
    stored = read_table(f"{data}/utt2hash") if Path(f"{data}/utt2hash").exists() else {}
    return lambda key: int(stored[key]) if key in stored else utterance_hash(key)
