"""Tiny corpora of emotions in the layout of the real ones, with the defects of the real ones: files of a Mac,
Windows line ends, recordings without labels and labels without recordings, copies, other channels and rates.
"""

import shutil
from pathlib import Path

import numpy as np
import soundfile
from tiny_corpora import speech, spoil, write

SECONDS = 0.8
EMOTIONS = ("ang", "hap", "exc", "sad", "neu", "fru")  # codes of IEMOCAP


def iemocap(place: Path) -> dict[str, Path]:
    """Five sessions. The woman improvises where the man wears the markers, and the other way round."""
    corpus = place / "IEMOCAP full release"
    for session in range(1, 6):
        for marked, scenario, speaker, codes in (
            ("M", "impro01", "F", EMOTIONS),
            ("F", "script01_1b", "M", (*EMOTIONS, "xxx")),
        ):
            dialog = f"Ses0{session}{marked}_{scenario}"
            lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
            for number, code in enumerate(codes):
                turn = f"{dialog}_{speaker}{number:03d}"
                extension = "WAV" if (session, number) == (2, 0) else "wav"
                write(
                    corpus / f"Session{session}/sentences/wav/{dialog}/{turn}.{extension}",
                    2 * session + (speaker == "M"),
                    number,
                    SECONDS,
                )
                lines += iemocap_block(turn, code, number)
            if session == 5 and speaker == "M":
                lines += iemocap_block(f"{dialog}_M099", "neu", 99)  # without a recording
                write(corpus / f"Session5/sentences/wav/{dialog}/{dialog}_MXX0.wav", 11, 50, SECONDS)
            evaluation = corpus / f"Session{session}/dialog/EmoEvaluation"
            for folder in ("Categorical", "Attribute", "Self-evaluation"):
                (evaluation / folder).mkdir(parents=True, exist_ok=True)
                (evaluation / folder / f"{dialog}_e1.txt").write_text(
                    f"[0.0 - 1.0]\t{dialog}_F000\tsad\t[]\n"
                )
            end = "\r\n" if session == 3 else "\n"
            (evaluation / f"{dialog}.txt").write_bytes("".join(line + end for line in lines).encode())
            (evaluation / f"._{dialog}.txt").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        ")
    spoil(corpus, "Session4", place / "disk 2")
    return {"iemocap": corpus}


def iemocap_block(turn: str, code: str, number: int) -> list[str]:
    """Lines of a turn in a file of EmoEvaluation."""
    return [
        f"[{number}.2901 - {number + 1}.5]\t{turn}\t{code}\t[2.5000, 3.0000, {1 + number % 4}.0000]",
        "C-E2:\tNeutral; Anger;\t()",
        "C-F1:\tNeutral;\t(curious)",
        "A-E3:\tval 3; act 2; dom  2;\t()",
        "",
    ]


CREMA_ACTORS = (1001, 1003, 1005, 1006, 1007, 1009, 1048, 1049, 1061, 1076)


def crema_d(place: Path) -> dict[str, Path]:
    """Ten actors of train, dev and test, of all five folds."""
    corpus = place / "CREMA D"
    wavs, names = corpus / "AudioWAV", []
    for actor in CREMA_ACTORS:
        for number, emotion in enumerate(("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")):
            names.append(f"{actor}_TIE_{emotion}_XX")
            write(wavs / f"{names[-1]}.wav", actor, number, SECONDS)
    shutil.copy(wavs / "1006_TIE_HAP_XX.wav", wavs / "1006_TIE_NEU_XX.wav")
    soundfile.write(wavs / "1076_MTI_SAD_XX.wav", np.zeros(1600), 16000)
    write(wavs / "1040_ITH_SAD_X.wav", 1040, 0, SECONDS)
    write(wavs / "copy of 1001_TIE_ANG_XX.wav", 1001, 0, SECONDS)
    lines = [
        '"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","MultiModalLevel"'
    ]
    for number, name in enumerate([*names, "1040_ITH_SAD_XX", "1002_IEO_ANG_LO"]):
        letter = name[9]
        voice = f"{letter}:N" if number % 10 == 1 else letter
        lines.append(f'"{number}","{name}","{voice}","71.67","H","57","{letter}","57.38"')
    (corpus / "processedResults").mkdir()
    (corpus / "processedResults/summaryTable.csv").write_text("\n".join(lines) + "\n")
    people = [
        f'{a},{20 + a % 50},"{"Male" if a % 2 else "Female"}","Caucasian","Not Hispanic"'
        for a in range(1001, 1092)
    ]
    (corpus / "VideoDemographics.csv").write_text(
        "\r\n".join(['"ActorID","Age","Sex","Race","Ethnicity"', *people]) + "\r\n"
    )
    spoil(corpus, "AudioWAV", place / "disk 2")
    return {"crema_d": corpus}


def ravdess(place: Path) -> dict[str, Path]:
    """Two actors of every fold, everything twice, and some song and video."""
    corpus = place / "rav dess"
    for actor in (1, 11, 4, 10, 8, 9, 3, 5, 2, 15, 6, 13):
        for emotion in range(1, 9):
            path = corpus / f"Actor_{actor:02d}/03-01-{emotion:02d}-01-02-01-{actor:02d}.wav"
            write(path, actor, emotion, SECONDS / 2, rate=48000)
    stereo(corpus / "Actor_05/03-01-08-01-02-01-05.wav", 48000)
    shutil.copytree(corpus, place / "again")
    shutil.move(place / "again", corpus / "audio_speech_actors_01-24")
    write(corpus / "Actor_01/03-02-03-01-02-01-01.wav", 1, 20, SECONDS)
    write(corpus / "Actor_01/01-01-03-01-02-01-01.wav", 1, 21, SECONDS)
    (corpus / "Actor_01/01-01-03-01-02-01-01.mp4").write_bytes(b"a film")
    spoil(corpus, "Actor_13", place / "disk 2")
    return {"ravdess": corpus}


def stereo(path: Path, rate: int) -> None:
    """Give a recording a second channel, at another rate."""
    samples = speech(7, 7, SECONDS, rate)
    soundfile.write(path, np.stack([samples, samples / 2], axis=1), rate)


MSP_HEADER = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"
MSP_SPEAKERS = {"Train": (3, 40, 500), "Development": (41, 42), "Test1": (7, 8), "Test2": (9, 10)}


def msp_podcast(place: Path) -> dict[str, Path]:
    """All partitions, a speaker in two of them, unknown speakers, and Test3 without labels."""
    corpus = place / "MSP Podcast"
    rows = [
        (f"MSP-PODCAST_{1000 + speaker:04d}_{number:04d}", code, speaker, part)
        for part, speakers in MSP_SPEAKERS.items()
        for speaker in speakers
        for number, code in enumerate("AHNSDUCF")
    ]
    rows += [
        ("MSP-PODCAST_1023_0235", "X", 3, "Train"),  # stereo, 44.1 kHz
        ("MSP-PODCAST_1024_0001_02", "O", 3, "Train"),
        ("MSP-PODCAST_1025_0001", "N", "Unknown", "Train"),
        ("MSP-PODCAST_1025_0002", "A", "Unknown", "Train"),
        ("MSP-PODCAST_1025_0003", "N", "Unknown", "Test1"),
        ("MSP-PODCAST_1026_0001", "H", 7, "Train"),  # a speaker of Test1
        ("MSP-PODCAST_1026_0002", "H", 42, "Train"),  # and of Development
        ("MSP-PODCAST_1909_1017", "N", 3, "Train"),  # without a recording
    ]
    lines = [MSP_HEADER]
    for number, (name, code, speaker, part) in enumerate(rows):
        gender = "Unknown" if speaker == "Unknown" else ("Male", "Female")[speaker % 2]
        lines.append(f"{name}.wav,{code},{1 + number % 6}.5,4.0,3.777778,{speaker},{gender},{part}")
        if name != "MSP-PODCAST_1909_1017":
            write(corpus / f"Audios/{name}.wav", number % 50, number, SECONDS)
    stereo(corpus / "Audios/MSP-PODCAST_1023_0235.wav", 44100)
    write(corpus / "Audios/MSP-PODCAST_test3_0001.wav", 1, 1, SECONDS)
    (corpus / "Labels").mkdir()
    (corpus / "Labels/labels_consensus.csv").write_text("\n".join(lines) + "\n")
    spoil(corpus, "Audios", place / "disk 2")
    return {"msp_podcast": corpus}
