#!/usr/bin/env python3
"""Make the synthetic corpus mini and its data directories.

Usage: local/prepare_mini.py [options] AUDIO_DIR DATA_DIR
 e.g.: local/prepare_mini.py --nj 2 downloads/mini data

Synthetic speech: espeak-ng reads random sentences with random voices, SoX resamples, numpy simulates rooms,
microphones and noise. Every stage runs on it anywhere in minutes; results on it do not carry over to real
speech. By default 120 speakers x 10 utterances to train and 60 others x 8 to
test: 2 hours, 16 kHz, 16 bit, 230 MB, half a minute on two cores.

    AUDIO_DIR/settings.json                what the audio was made from
    AUDIO_DIR/train/train0000/train0000-00.wav
    DATA_DIR/{train,test}/                 wav.scp utt2spk spk2utt spk2gender utt2gender utt2emotion
    utt2impairment; test: trials

Labels: emotion of the utterance (neutral, angry, happy, sad), gender (m, f) and style (control, impaired:
slow and hesitant) of the speaker. The same options give the same samples, whatever --nj; an interrupted run
resumes where it stopped.
"""

import os
import shutil
import signal
import tempfile
from multiprocessing import get_context
from pathlib import Path

import soundfile

from local.common import add_trial_arguments, audio_path, forced, main, note_force, write_set
from local.mini import sessions, voices
from local.mini.keyed_draws import KeyedDraws
from local.mini.synthesis import Synthesiser, find_programs
from pydino.base import UserError, log, read_json, write_json

VERSION = 1  # increment it whenever the samples change
RATE = 16000
_LEAVE_CTRL_C_TO_US = (signal.SIGINT, signal.SIG_IGN)
WORDS = Path(__file__).with_name("mini") / "words.txt"


def add_arguments(parser) -> None:
    """Declare the command line."""
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--nj",
        type=int,
        default=cores,
        help="processes (default: all CPU cores); no influence on the samples",
    )
    parser.add_argument("--num-train-speakers", type=int, default=120)
    parser.add_argument(
        "--num-train-utterances", type=int, default=10, help="of each training speaker (default 10)"
    )
    parser.add_argument("--num-test-speakers", type=int, default=60)
    parser.add_argument("--num-test-utterances", type=int, default=8, help="of each test speaker (default 8)")
    add_trial_arguments(parser, seed_of="the whole corpus, and of that draw")
    parser.add_argument("audio_dir", metavar="AUDIO_DIR")
    parser.add_argument("data_dir", metavar="DATA_DIR")


def prepare(args) -> None:
    """Synthesise the missing audio, then write the data directories."""
    for option in (
        "nj",
        "num_train_speakers",
        "num_train_utterances",
        "num_test_speakers",
        "num_test_utterances",
    ):
        if getattr(args, option) < 1:
            raise UserError(f"--{option.replace('_', '-')} must be at least 1, got {getattr(args, option)}")
    audio_dir = Path(os.path.abspath(args.audio_dir))
    sets = {
        "train": draw_speakers(args.seed, "train", args.num_train_speakers, args.num_train_utterances),
        "test": draw_speakers(args.seed, "test", args.num_test_speakers, args.num_test_utterances),
    }
    settings = {
        "corpus": "mini",
        "version": VERSION,
        "seed": args.seed,
        "rate": RATE,
        "synthesiser": find_programs().partition("  ")[0],
        "sets": {name: [len(speakers), len(emotions[0])] for name, (speakers, emotions) in sets.items()},
    }
    claim(audio_dir, settings)
    missing = [
        (str(audio_dir / name / speaker.name), args.seed, speaker, emotions)
        for name, (speakers, all_emotions) in sets.items()
        for speaker, emotions in zip(speakers, all_emotions, strict=True)
        if not all(
            wav_path(audio_dir / name / speaker.name, speaker, n).exists() for n in range(len(emotions))
        )
    ]
    if missing:
        made_of = sum(len(speakers) for speakers, _ in sets.values())
        log(f"synthesising {len(missing)} of {made_of} speakers into {audio_dir} (nj={args.nj})")
        with tempfile.TemporaryDirectory(prefix="pydino-mini-") as scratch:
            jobs = [(*job, scratch) for job in missing]
            with get_context("forkserver").Pool(
                min(args.nj, len(jobs)), initializer=signal.signal, initargs=_LEAVE_CTRL_C_TO_US
            ) as pool:
                for _ in pool.imap_unordered(synthesise, jobs):
                    pass
    for name, (speakers, all_emotions) in sets.items():
        write_mini_set(args, audio_dir / name, name, speakers, all_emotions)


def draw_speakers(seed: int, name: str, count: int, utterances: int):
    """Draw the speakers of a set, and for each the emotions of its utterances: balanced, in random order."""
    speakers = [voices.draw_speaker(seed, f"{name}{n:04d}", n, f"{name} pair {n // 2}") for n in range(count)]
    kinds = list(voices.EMOTIONS)
    emotions = []
    for speaker in speakers:
        order = KeyedDraws(seed, speaker.name).order("emotion", utterances)
        # index of the emotions with one utterance more
        start = KeyedDraws(seed, speaker.name).choice("first emotion", range(len(kinds)))
        emotions.append([kinds[(start + n) % len(kinds)] for n in order])
    return speakers, emotions


def wav_path(folder: Path, speaker: voices.Speaker, number: int) -> Path:
    """Return the path of utterance ``number`` of a speaker; its stem is the utterance id."""
    return folder / f"{speaker.name}-{number:02d}.wav"


def claim(audio_dir: Path, settings: dict) -> None:
    """Reserve ``audio_dir`` for audio made with ``settings``; audio of other settings is removed, with the
    reason in the log.

    Raises:
        UserError: the folder holds something that this program did not make.
    """
    mark = audio_dir / "settings.json"
    if mark.exists():
        earlier = read_json(mark)
        if earlier == settings and not forced(audio_dir):
            return
        if not isinstance(earlier, dict) or earlier.get("corpus") != "mini":
            raise UserError(f"{mark} does not belong to the synthetic corpus; choose another AUDIO_DIR")
        changed = [key for key in settings if settings[key] != earlier.get(key)]
        log(f"{audio_dir}: regenerated: {'another ' + ', '.join(changed) if changed else 'forced'}")
        for name in ("train", "test"):
            shutil.rmtree(audio_dir / name, ignore_errors=True)
    elif audio_dir.exists() and any(audio_dir.iterdir()):
        raise UserError(
            f"{audio_dir} is not empty and was not made by this program; choose another AUDIO_DIR"
        )
    write_json(mark, settings)
    note_force(audio_dir)


def synthesise(job) -> None:
    """Synthesise the missing utterances of one speaker, each written to a temporary file and renamed."""
    folder, seed, speaker, emotions, scratch = job
    words, synthesiser = voices.read_words(WORDS), Synthesiser(RATE, scratch)
    for number, kind in enumerate(emotions):
        path = wav_path(Path(folder), speaker, number)
        if path.exists():
            continue
        draws, emotion = KeyedDraws(seed, path.stem), voices.EMOTIONS[kind]
        clean = synthesiser.speak(
            voices.draw_sentence(draws, words, speaker.impaired),
            voices.voice_file(speaker, emotion, draws),
            speaker.accent,
            voices.words_per_minute(speaker, emotion, draws),
        )
        aside = path.with_suffix(".tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(aside, sessions.record(clean, RATE, draws), RATE, subtype="PCM_16", format="WAV")
            aside.replace(path)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"cannot write {path}: {error}; free some space or choose another AUDIO_DIR"
            ) from None


def write_mini_set(args, folder: Path, name: str, speakers, all_emotions) -> None:
    """Write one data directory with its label maps; the test set also with trials over pairs of its
    utterances.
    """
    wav_scp, utt2spk, utt2emotion, utt2gender, utt2impairment = {}, {}, {}, {}, {}
    for speaker, emotions in zip(speakers, all_emotions, strict=True):
        for number, emotion in enumerate(emotions):
            path = wav_path(folder / speaker.name, speaker, number)
            utterance = path.stem
            wav_scp[utterance] = audio_path(path)
            utt2spk[utterance] = speaker.name
            utt2emotion[utterance] = emotion
            utt2gender[utterance] = speaker.gender
            utt2impairment[utterance] = "impaired" if speaker.impaired else "control"
    labels = {
        "spk2gender": {speaker.name: speaker.gender for speaker in speakers},
        "utt2gender": utt2gender,
        "utt2emotion": utt2emotion,
        "utt2impairment": utt2impairment,
    }
    write_set(
        args.data_dir,
        name,
        wav_scp,
        utt2spk,
        labels,
        max_trials=args.max_trials if name == "test" else None,
        seed=args.seed,
    )


if __name__ == "__main__":
    main(__doc__, add_arguments, prepare, makes=["audio_dir", "data_dir"])
