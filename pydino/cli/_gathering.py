"""Put together what parallel feature or voice activity jobs wrote, and count what came in, went out and was
dropped.
"""

from collections import Counter
from pathlib import Path

from pydino.base import UserError, dump_config, log, warn, write_text
from pydino.cli._parts import Report, check_drops, check_left, file_stem, report_path
from pydino.kaldi import AUDIO_HASHES, read_table
from pydino.kaldi.objects import read_header


def gather(args, kind: str) -> None:
    """Write DATA/feats.scp, energy.scp, utt2num_frames, utt2dur, utt2audiohash, frame_shift and
    conf/KIND.yaml; or, for ``vad``, vad.scp and conf/vad.yaml. LOG/<archive name>.dropped names the dropped
    utterances, with the reasons.

    Raises:
        UserError: a part is not what its job wrote, or more than ``args.max_drop`` was dropped; DATA then
            stays as it was.
    """
    numbers = range(1, args.nj + 1)
    paths = [report_path(args.log_dir, kind, args.data, n) for n in numbers]
    check_left(paths, args.cmd)
    reports = [Report.read(path) for path in paths]
    total, kept = sum(r.utterances for r in reports), sum(len(r.frames) for r in reports)
    stem = file_stem(kind, args.data)
    dropped = {key: reason for report in reports for key, reason in report.dropped.items()}
    if total == 0:
        raise UserError(f"{args.data} holds no utterance; is wav.scp (or segments) empty?")
    check_drops(dropped, total, args.data, f"{args.log_dir}/{stem}.dropped", args.max_drop)
    for stem_of_part in (stem,) if kind == "vad" else (f"energy_{stem.removeprefix('raw_')}", stem):
        for number, report in zip(numbers, reports, strict=True):
            _check_part(f"{args.ark_dir}/{stem_of_part}.{number}", report, number)
    config = reports[0].config
    if kind == "vad":
        _concatenate([f"{args.ark_dir}/{stem}.{n}.scp" for n in numbers], f"{args.data}/vad.scp")
        frames = sum(sum(r.frames.values()) for r in reports)
        outcome = f"{100 * sum(r.voiced for r in reports) / frames:.1f} % of {frames} frames are speech"
        unvoiced = sum(len(r.unvoiced) for r in reports)
        if unvoiced:
            warn(f"{unvoiced} utterances have no speech at all; the logs name them")
    else:
        name = stem.removeprefix("raw_")
        _concatenate([f"{args.ark_dir}/energy_{name}.{n}.scp" for n in numbers], f"{args.data}/energy.scp")
        _write_counts(args.data, reports, reports[0].frame_shift)
        for other in {"fbank", "mfcc"} - {kind}:  # conf/ records what feats.scp holds
            Path(f"{args.data}/conf/{other}.yaml").unlink(missing_ok=True)
        _concatenate([f"{args.ark_dir}/{stem}.{n}.scp" for n in numbers], f"{args.data}/feats.scp")
        _log_resampled(reports, total, args.data, int(config["sample_frequency"]))
        outcome = f"{sum(sum(r.frames.values()) for r in reports)} frames"
    dump_config(config, f"{args.data}/conf/{kind}.yaml")
    log(f"{args.data}: {total} utterances in, {kept} out, {total - kept} dropped; {outcome}")


def _check_part(path: str, report: Report, number: int) -> None:
    """Raise UserError unless a part's archive and script hold what its report says: a job may have been
    killed since, or a disk lost.
    """
    try:
        script = read_table(f"{path}.scp", check_sorted=False)
        if script.keys() != report.frames.keys():
            raise UserError(f"it names {len(script)} utterances, and the job reported {len(report.frames)}")
        with open(f"{path}.ark", "rb") as archive:
            end, size = _end_of_last(archive, script.values()), archive.seek(0, 2)
        if end != size:
            raise UserError(f"the archive has {size} bytes and should have {end}")
    except (OSError, UserError) as error:
        why = error if isinstance(error, UserError) else f"{error.filename}: {error.strerror}"
        raise UserError(
            f"part {number}, {path}.ark, is not what its job wrote: {why}; run the step again, which makes "
            "all parts"
        ) from error


def _end_of_last(archive, places) -> int:
    """Return where the last object ends that a script points to."""
    offsets = [int(place.rpartition(":")[2]) for place in places]
    if not offsets:
        return 0
    archive.seek(max(offsets) + len(b"\0B"))
    header = read_header(archive, archive.name)
    return header.start + header.size


def _log_resampled(reports, total, data, rate):
    noun = "segments" if Path(f"{data}/segments").exists() else "recordings"
    for original, count in sorted(sum((Counter(r.resampled) for r in reports), Counter()).items()):
        log(f"{count} of {total} {noun} resampled from {original} to {rate} Hz")


def _concatenate(paths, out):
    try:
        write_text(out, "".join(Path(path).read_text(encoding="utf-8") for path in paths))
    except OSError as error:
        raise UserError(
            f"cannot read {error.filename}: {error.strerror}; the jobs wrote it, so run the step again"
        ) from error


def _write_counts(data, reports, frame_shift):
    lines = [
        (key, frames, report.seconds[key]) for report in reports for key, frames in report.frames.items()
    ]
    write_text(f"{data}/utt2num_frames", "".join(f"{key} {frames}\n" for key, frames, _ in lines))
    write_text(f"{data}/utt2dur", "".join(f"{key} {seconds:.7g}\n" for key, _, seconds in lines))
    hashes = (f"{key} {value}\n" for report in reports for key, value in report.audio_hashes.items())
    write_text(f"{data}/{AUDIO_HASHES}", "".join(hashes))
    write_text(f"{data}/frame_shift", f"{frame_shift:g}\n")
