"""Speed of filter banks: this project against kaldi-native-fbank, in the same run, from wav files to an
uncompressed archive.

    OMP_NUM_THREADS=1 python benchmarks/fbank.py [--utterances 100] [--seconds 5] [--rounds 5] [--json FILE]

One process, one thread, start-up excluded. Both sides read the same 16 kHz wav files, compute 80 bins without
dither, and write with the same archive writer; ours writes the frame log-energies too. Rounds alternate and
the best of each side is reported, so that a busy machine affects both equally. The floor is the time that the
transform, the mel product and the logarithm take by themselves, on as many frames in memory: a lower bound
for any implementation on the same library.
"""

import argparse
import os
import sys
import tempfile
import time
import wave
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from pydino.audio import Fbank, FbankConfig, read_audio  # noqa: E402
from pydino.audio.utterances import Utterance, extract  # noqa: E402
from pydino.base import write_json  # noqa: E402
from pydino.kaldi import ArchiveWriter  # noqa: E402

RATE, BINS = 16000, 80


def make_wavs(folder: Path, utterances: int, seconds: float) -> list[Utterance]:
    """Write utterances of noise of varying loudness, from half to one and a half times ``seconds`` long."""
    rng = np.random.default_rng(0)
    made = []
    for index in range(utterances):
        samples = int(RATE * seconds * rng.uniform(0.5, 1.5))
        loudness = 3000 * (1 + np.sin(np.arange(samples) / RATE * 20))
        path = folder / f"utt{index:05d}.wav"
        with wave.open(str(path), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(RATE)
            out.writeframes(
                (rng.standard_normal(samples) * loudness).clip(-32768, 32767).astype("<i2").tobytes()
            )
        made.append(Utterance(path.stem, str(path)))
    return made


def run_ours(todo, folder: Path) -> int:
    """Compute and write all utterances; return the number of frames."""
    frames, dropped = 0, {}
    with (
        ArchiveWriter(f"{folder}/ours.ark", f"{folder}/ours.scp") as out,
        ArchiveWriter(f"{folder}/energy.ark") as energies,
    ):
        for made in extract(todo, Fbank(FbankConfig(dither=0.0, num_mel_bins=BINS)), dropped):
            out.write(made.key, made.features.numpy())
            energies.write(made.key, made.energy.numpy())
            frames += len(made.features)
    return frames


def run_peer(todo, folder: Path) -> int:
    """As :func:`run_ours`, with kaldi-native-fbank."""
    import kaldi_native_fbank

    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = BINS
    frames = 0
    with ArchiveWriter(f"{folder}/peer.ark", f"{folder}/peer.scp") as out:
        for utterance in todo:
            samples, rate = read_audio(utterance.rxfilename)
            extractor = kaldi_native_fbank.OnlineFbank(options)
            extractor.accept_waveform(rate, samples)
            extractor.input_finished()
            count = extractor.num_frames_ready
            out.write(utterance.key, np.stack([extractor.get_frame(t) for t in range(count)]))
            frames += count
    return frames


def run_floor(frames: int) -> None:
    """Transform, mel product and logarithm alone, on as many frames, in blocks of the best size."""
    padded, out = torch.randn(512, 512), torch.empty(512, BINS)
    weights = torch.rand(257, BINS)
    for _ in range(0, frames, 512):
        spectrum = torch.view_as_real(torch.fft.rfft(padded))[..., 0]
        torch.mm(spectrum, weights, out=out).abs_().log_()


def timed(function, *arguments) -> tuple[float, object]:
    began = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - began, result


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--utterances", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=5.0, help="mean length of an utterance")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="write the figures here too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        todo = make_wavs(folder, args.utterances, args.seconds)
        frames = run_ours(todo, folder)
        if run_peer(todo, folder) != frames:
            raise SystemExit("the two sides made different numbers of frames")
        times = [
            (timed(run_ours, todo, folder)[0], timed(run_peer, todo, folder)[0], timed(run_floor, frames)[0])
            for _ in range(args.rounds)
        ]
    ours, peer, floor = (min(column) for column in zip(*times, strict=True))
    figures = {
        "frames": frames,
        "ours_us_per_frame": ours / frames * 1e6,
        "peer_us_per_frame": peer / frames * 1e6,
        "floor_us_per_frame": floor / frames * 1e6,
        "ours_times_real_time": frames * 0.01 / ours,
        "peer_times_real_time": frames * 0.01 / peer,
        "ratio": peer / ours,
        "share_of_floor": floor / ours,
        "torch": torch.__version__,
    }
    print(
        f"ours                {figures['ours_us_per_frame']:7.2f} us a frame, "
        f"{figures['ours_times_real_time']:7.0f} times real time"
    )
    print(
        f"kaldi-native-fbank  {figures['peer_us_per_frame']:7.2f} us a frame, "
        f"{figures['peer_times_real_time']:7.0f} times real time"
    )
    print(
        f"floor               {figures['floor_us_per_frame']:7.2f} us a frame (transform, mel, logarithm "
        "alone)"
    )
    print(f"ratio               {figures['ratio']:7.2f}")
    if args.json:
        write_json(args.json, figures)


if __name__ == "__main__":
    main()
