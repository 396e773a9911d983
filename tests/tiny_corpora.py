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


def labelled(place: Path) -> dict[str, Path]:
    """Six speakers of four recordings in two moods, and a table as a spreadsheet of another machine writes it."""
    corpus = place / "my labels"
    lines = ["\ufeffFile;Mood;Speaker;Age"]
    for speaker in range(6):
        for number in range(4):
            extension = ("wav", "flac")[number % 2]
            name = f"visit {number}/Café {speaker}.{extension}"
            write(corpus / name, speaker, number, 1.5 + number // 2)
            written = name.replace("/", "\\").removesuffix(".flac")
            lines.append(
                f"D:\\my labels\\{written};{'happy' if number // 2 else 'sad'};{speaker};{20 + speaker}"
            )
    (corpus / "labels.csv").write_text("\r\n".join(lines) + "\r\n", encoding="utf-8")
    (corpus / "notes.txt").write_text("not a table\n")
    spoil(corpus, "visit 2", place / "disk 2")
    return {"labelled": corpus}


def interview(path: Path, subject: int, turns: list[tuple[str, float]], rate: int = RATE):
    """Write a recording of turns, (speaker, seconds) each; a speaker other than PAR and INV is a pause.

    Return (speaker, begin, end) of each turn, in milliseconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    samples, times, begin = [], [], 0.0
    for number, (speaker, seconds) in enumerate(turns):
        voice = {"PAR": subject, "INV": 1000}.get(speaker)
        silence = np.random.default_rng(number).normal(size=round(seconds * rate)) * 1e-3
        samples.append(silence if voice is None else speech(voice, number, seconds, rate))
        if voice is not None:
            times.append((speaker, round(begin * 1000), round((begin + seconds) * 1000)))
        begin += seconds
    soundfile.write(path, np.concatenate(samples), rate)
    return times


TURNS = [("INV", 1.0), ("PAR", 2.0), ("pause", 0.7), ("PAR", 1.3), ("INV", 0.8), ("PAR", 1.5), ("pause", 0.3)]
HEADER = "@UTF8\n@Begin\n@Languages:\teng\n@Participants:\tPAR Participant, INV Investigator\n"


def chat(times) -> str:
    """A CHAT transcript: bullets at the end of a tier, of a line that continues it, and of the old form."""
    lines = [HEADER + "@ID:\teng|Pitt|PAR|70;|female|Control||Participant||29|\n"]
    for number, (speaker, begin, end) in enumerate(times):
        before = ["", "\n\t", '%snd:"S001"_'][number % 3]
        if number % 3 == 2:
            bullet = f"\x15{before}{begin}_{end}\x15"
        else:
            bullet = f"{before}\x15{begin}_{end}\x15"
        lines.append(f"*{speaker}:\tthe (.) boy's on the stool . {bullet}\n%mor:\tdet|the n|boy .\n")
    return "".join(lines) + "@End\n"


def adress(place: Path, subjects: int = 6, tested: int = 2) -> dict[str, Path]:
    """``subjects`` with and without dementia for training and ``tested`` for the test, the archives unpacked side
    by side, folders and values spelt in the several ways of real copies.
    """
    corpus = place / "AD Re SS"
    train = corpus / "ADReSS-IS2020-train/ADReSS-IS2020-data/train"
    test = corpus / "ADReSS-IS2020-test/ADReSS-IS2020-data/test"
    test_table = ["ID   ; age ; gender ; Label ; mmse"]
    for diagnosis, first, score in (("cc", 1, 29), ("cd", 79, 17)):
        table = ["ID   ; age ; gender ; mmse"]
        for number in range(first, first + subjects):
            adress_subject(train, f"S{number:03d}", diagnosis, "transcription")
            mmse = "NA" if number == 2 else score - number % 3
            table.append(
                f"S{number:03d} ; {60 + number % 20} ; {'male' if number % 2 else 'female'} ; {mmse}"
            )
        (train / f"{diagnosis}_meta_data.txt").write_text("\n".join(table) + "\n")
        for number in range(160, 160 + tested):
            number += tested * (diagnosis == "cd")
            adress_subject(test, f"S{number:03d}", "", "Transcription")
            label = int(diagnosis == "cd")
            test_table.append(f"S{number:03d} ; 6{number % 10} ; {number % 2} ; {label} ; {score}")
    (test.parent / "meta_data_test.txt").write_text("\r\n".join(test_table) + "\r\n")
    spoil(corpus, "ADReSS-IS2020-test/ADReSS-IS2020-data/test/Full_wave_enhanced_audio", place / "disk 2")
    return {"adress": corpus}


def adress_subject(folder: Path, name: str, diagnosis: str, transcription: str) -> None:
    number = int(name[1:])
    times = interview(folder / "Full_wave_enhanced_audio" / diagnosis / f"{name}.wav", number, TURNS)
    transcript = folder / transcription / diagnosis / f"{name}.cha"
    transcript.parent.mkdir(parents=True, exist_ok=True)
    transcript.write_text(chat(times))
    for part, (speaker, begin, end) in enumerate(times):
        if speaker == "PAR":
            chunk = f"{name}-{part}-{begin}-{end}-1-0-{end - begin}.wav"
            path = folder / "Normalised_audio-chunks" / diagnosis / chunk
            write(path, number, part, (end - begin) / 1000)


def adresso(place: Path, subjects: int = 6, tested: int = 2) -> dict[str, Path]:
    """``subjects`` with and without dementia for training and ``tested`` for the test, with the empty templates for
    submissions; some segmentation files list only the interviewer, and some have no column of row numbers.
    """
    corpus = place / "ADReSSo"
    train, test = (corpus / f"ADReSSo21/diagnosis/{name}" for name in ("train", "test-dist"))
    scores, truth, truth_scores = ['"","adressfname","mmse","dx"'], ["ID,Dx"], ["ID,MMSE"]
    number = 0
    for diagnosis, score, word in (("ad", 17, "ProbableAD"), ("cn", 29, "Control")):
        for _ in range(subjects):
            number += 1
            name = f"adrso{number:03d}"
            adresso_recording(train, f"{diagnosis}/{name}", number)
            scores.append(f'"{number}","{name}",{score - number % 3},"{diagnosis}"')
        for _ in range(tested):
            name = f"adrsdt{len(truth)}"
            adresso_recording(test, name, 200 + len(truth))
            truth.append(f"{name},{word}")
            truth_scores.append(f"{name},{score}")
    (train / "adresso-train-mmse-scores.csv").write_text("\n".join(scores) + "\n")
    names = [line.partition(",")[0] for line in truth[1:]]
    for task, lines in (("task1", truth), ("task2", truth_scores)):
        template = "ID,Prediction\n" + "".join(f"{name},\n" for name in names)
        (test / f"test_results_{task}.csv").write_text(template)
        (test / f"{task}.csv").write_text("\n".join(lines) + "\n")
    spoil(corpus, "ADReSSo21/diagnosis/train/audio/cn", place / "disk 2")
    return {"adresso": corpus}


def adresso_recording(folder: Path, name: str, number: int) -> None:
    times = interview(folder / f"audio/{name}.wav", number, TURNS)
    table = folder / f"segmentation/{name}.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    rows = [turn for turn in times if number % 3 or turn[0] == "INV"]
    if number % 2:
        lines = ["speaker,begin,end", *(f"{speaker},{begin},{end}" for speaker, begin, end in rows)]
    else:
        lines = [
            '"","speaker","begin","end"',
            *(f'"{i}","{s}",{b},{e}' for i, (s, b, e) in enumerate(rows, 1)),
        ]
    table.write_text("\n".join(lines) + "\n")


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
