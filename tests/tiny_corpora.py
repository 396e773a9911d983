"""Tiny corpora in the layout of the real ones, of synthetic voices, with what real copies have as well: blanks in
names, files that macOS adds, and folders that are links to another disk.
"""

import shutil
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000


def speech(speaker: int, utterance: int, seconds: float, rate: int = RATE) -> np.ndarray:
    """Return samples (N,) in [-1, 1] of something like speech: syllables of harmonics under two formants of the
    speaker, pauses between them, and some noise.
    """
    rng = np.random.default_rng([speaker, utterance])
    voice = np.random.default_rng(speaker)
    pitch, formants = voice.uniform(90, 250), voice.uniform((400, 1200), (800, 2500))
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.1 * np.sin(2 * np.pi * rng.uniform(1, 3) * time))) / rate
    harmonics = np.arange(1, 30)
    strength = sum(np.exp(-(((harmonics * pitch - formant) / 300) ** 2)) for formant in formants) + 0.02
    strength *= harmonics * pitch < rate / 2
    syllables = np.clip(np.sin(2 * np.pi * rng.uniform(2, 4) * time + rng.uniform(0, 6)), 0, 1)
    voiced = (strength[:, None] * np.sin(harmonics[:, None] * phase)).sum(axis=0) * syllables
    return 0.5 * voiced / np.abs(voiced).max() + rng.normal(size=len(time)) * 1e-3


def write(path: Path, speaker: int, utterance: int = 0, seconds: float = 2.0, rate: int = RATE) -> None:
    """Write an utterance in the format of the path's extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, speech(speaker, utterance, seconds, rate), rate)


def spoil(corpus: Path, linked: str, disk: Path) -> None:
    """Leave the traces of a Mac beside every recording, and put one folder on another disk."""
    for path in [
        path for path in corpus.rglob("*") if path.suffix.lower() in (".wav", ".flac", ".ogg", ".mp3")
    ]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        ")
    disk.mkdir(parents=True)
    shutil.move(corpus / linked, disk / "moved here")
    (corpus / linked).symlink_to(disk / "moved here", target_is_directory=True)


def wavdir(place: Path) -> dict[str, Path]:
    """Three folders of recordings in several formats and rates; one folder is a link."""
    corpus = place / "my recordings"
    for speaker in range(4):
        for number, extension in enumerate(("wav", "flac", "ogg", "WAV")):
            name = f"{2019 + speaker % 3}/Café visit {speaker} {number}.{extension}"
            write(
                corpus / name, speaker, number, 2.2 + number / 10, rate=8000 if extension == "WAV" else RATE
            )
    (corpus / "notes.txt").write_text("not a recording\n")
    spoil(corpus, "2020", place / "disk 2")
    return {"wavdir": corpus}


def emodb(place: Path) -> dict[str, Path]:
    corpus = place / "emo db"
    for speaker in ("03", "08", "10", "16"):
        for number, letter in enumerate("FNW"):
            for version in "ab":
                write(
                    corpus / f"wav/{speaker}a0{number}{letter}{version}.wav",
                    int(speaker),
                    number,
                    1.5 + number,
                )
    spoil(corpus, "wav", place / "disk 2")
    return {"emodb": corpus}


def librispeech(place: Path) -> dict[str, Path]:
    corpus = place / "Libri Speech"
    lines = [";ID |SEX| SUBSET | MINUTES | NAME"]
    for split, speakers in (("train-clean-100", (19, 26, 27, 32, 39, 40)), ("test-other", (367, 533, 1688))):
        for speaker in speakers:
            for number in range(3):
                write(corpus / f"{split}/{speaker}/7/{speaker}-7-{number:04d}.flac", speaker, number, 2.2)
            lines.append(f"{speaker} | {'FM'[speaker % 2]} | {split} | 0.1 | A Name")
    (corpus / "SPEAKERS.TXT").write_text("\n".join(lines) + "\n")
    spoil(corpus, "test-other/533", place / "disk 2")
    return {"librispeech": corpus}


def speechocean762(place: Path) -> dict[str, Path]:
    corpus = place / "speech ocean"
    for name, speakers in (("train", range(1, 7)), ("test", range(11, 19))):
        tables: dict[str, list[str]] = {"wav.scp": [], "utt2spk": [], "spk2age": [], "spk2gender": []}
        for speaker in speakers:
            tables["spk2age"].append(f"{speaker:04d}\t{speaker % 4 + (7 if speaker % 4 < 2 else 19)}")
            tables["spk2gender"].append(f"{speaker:04d}\t{'fm'[speaker % 2]}")
            for number in range(3):
                utterance, path = f"{speaker:05d}{number:04d}", f"WAVE/SPEAKER{speaker:04d}"
                write(corpus / path / f"{utterance}.WAV", speaker, number, 1.8)
                tables["wav.scp"].append(f"{utterance}\t{path}/{utterance}.WAV")
                tables["utt2spk"].append(f"{utterance}\t{speaker:04d}")
        (corpus / name).mkdir()
        for table, lines in tables.items():
            (corpus / name / table).write_text("\n".join(lines) + "\n")
    spoil(corpus, "WAVE/SPEAKER0012", place / "disk 2")
    return {"speechocean762": corpus}


def voxceleb(place: Path) -> dict[str, Path]:
    """Both corpora, the lists of trials, and the noises and room impulse responses of the configurations."""
    two, one = place / "Vox Celeb 2", place / "Vox Celeb 1"
    for speaker in range(12, 18):
        for number in range(3):
            write(two / f"dev/flac/id000{speaker}/video{number % 2}/0000{number}.flac", speaker, number, 2.2)
    write(two / "test/flac/id00099/video/00001.flac", 99)
    tested = [f"id102{speaker}/video/0000{number}.wav" for speaker in (70, 71, 72) for number in (1, 2)]
    for name in tested:
        write(one / "wav" / name, int(name[5:7]), int(name[-5]), 2.0)
    pairs = [(a, b) for i, a in enumerate(tested) for b in tested[:i]]
    text = "".join(f"{int(a[:7] == b[:7])} {a} {b}\n" for a, b in pairs)
    for name in ("veri_test2.txt", "list_test_all2.txt", "list_test_hard2.txt"):
        (one / name).write_text(text)
    spoil(two, "dev/flac/id00013", place / "disk 2")
    spoil(one, "wav/id10271", place / "disk 3")
    return {"voxceleb2": two, "voxceleb1": one, "musan": musan(place), "rirs": rirs(place)}


def musan(place: Path) -> Path:
    corpus = place / "mu san"
    for number, kind in enumerate(("noise", "music", "speech")):
        for source in ("one", "two"):
            for i in range(2):
                write(corpus / f"{kind}/{source}/{kind}-{source}-{i:04d}.wav", 50 + number, i)
    spoil(corpus, "noise/two", place / "disk 4")
    return corpus


def rirs(place: Path) -> Path:
    corpus = place / "rirs noises"
    decay = np.exp(-np.arange(RATE // 4) / 500)
    for number, size in enumerate(("small", "medium", "large")):
        for room in (1, 2):
            path = corpus / f"simulated_rirs/{size}room/Room00{room}/Room00{room}-00001.wav"
            path.parent.mkdir(parents=True)
            response = np.random.default_rng([number, room]).normal(size=len(decay)) * decay * 0.1
            response[100] = 0.9
            soundfile.write(path, response, RATE)
    real = corpus / "real_rirs_isotropic_noises"
    real.mkdir()
    shutil.copy(path, real / "rir_1.wav")
    (real / "rir_list").write_text(
        "--rir-id 1 --room-id r RIRS_NOISES/real_rirs_isotropic_noises/rir_1.wav\n"
    )
    spoil(corpus, "simulated_rirs/mediumroom", place / "disk 5")
    return corpus
