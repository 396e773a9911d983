"""Random speakers, emotions and sentences, as voice variants and text for espeak-ng.

A *speaker* is a vocal tract (scale and strength of each formant), a pitch and its range, a voice quality, a
rhythm, an accent and a rate; a *style* (the "impaired" one is slow and hesitant) is drawn independently of
the voice. An *utterance* adds an emotion, a little day-to-day variation, and a sentence. The voice file's
format is espeak-ng's: docs/voices.md of github.com/espeak-ng/espeak-ng.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from local.mini.keyed_draws import KeyedDraws
from pydino.base import read_lines

ACCENTS = ("en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029")
NUM_FORMANTS = 9  # espeak-ng's 0 (below the first) to 8


@dataclass(frozen=True)
class Emotion:
    """Effect of an emotion on a voice: factors on pitch, pitch range and rate; additions to roughness and
    breath.
    """

    pitch: float = 1.0
    range: float = 1.0
    rate: float = 1.0
    roughness: float = 0.0
    breath: float = 0.0


EMOTIONS = {
    "neutral": Emotion(),
    "angry": Emotion(pitch=1.12, range=1.5, rate=1.15, roughness=2.0),
    "happy": Emotion(pitch=1.22, range=1.8, rate=1.07),
    "sad": Emotion(pitch=0.90, range=0.45, rate=0.82, breath=12.0),
}

# Day-to-day variation of one speaker, as standard deviations of the logarithm.
PITCH_VARIATION, RATE_VARIATION, FORMANT_VARIATION = 0.05, 0.06, 0.010
# The impaired style: rate, and at each word probabilities of a repetition and of a pause or filler before it.
IMPAIRED_RATE, REPETITION, HESITATION = 0.80, 0.18, 0.22
FILLERS = ("um,", "uh,", "er,", ",", ", ,")


@dataclass(frozen=True)
class Speaker:
    """A random speaker. Frequencies in Hz, rate in words a minute, the rest in espeak-ng's units."""

    name: str
    gender: str  # m or f
    impaired: bool
    accent: str
    pitch: float
    range: float  # upper over lower pitch, minus one
    rate: float
    flutter: float
    roughness: float
    breath: float
    consonants: np.ndarray = field(repr=False)  # strength of unvoiced and voiced noise, percent
    formants: np.ndarray = field(repr=False)  # (9, 3): frequency, strength, width, percent
    tone: np.ndarray = field(repr=False)  # (3,) amplitudes at 600, 1200 and 2000 Hz
    rhythm: np.ndarray = field(repr=False)  # (8,) additions to the lengths of stressed and unstressed vowels


def draw_speaker(seed: int, name: str, index: int, partner: str) -> Speaker:
    """Draw a speaker.

    Args:
        index, partner: speakers come in pairs (2k, 2k + 1) with a common ``partner`` name. In each pair one
            is female and one impaired, by two independent coins, so that both labels are balanced in any even
            number of speakers and neither depends on the other or on the rest of the voice.
    """
    own, pair = KeyedDraws(seed, name), KeyedDraws(seed, partner)
    gender = "fm"[(index + pair.choice("gender", (0, 1))) % 2]
    tract = own.uniform("tract", *((0.98, 1.20) if gender == "f" else (0.86, 1.08)))
    frequency = 100 * tract * np.exp(own.normal("formant frequency", 0.06, NUM_FORMANTS))
    strength = 100 * np.exp(own.normal("formant strength", 0.35, NUM_FORMANTS))
    width = 100 * np.exp(own.normal("formant width", 0.25, NUM_FORMANTS))
    low, high = (150, 250) if gender == "f" else (80, 160)
    return Speaker(
        name=name,
        gender=gender,
        impaired=(index + pair.choice("style", (0, 1))) % 2 == 0,
        accent=own.choice("accent", ACCENTS),
        pitch=low * (high / low) ** own.uniform("pitch"),
        range=own.uniform("range", 0.25, 0.7),
        rate=own.uniform("rate", 145, 200),
        flutter=own.uniform("flutter", 0, 15),
        roughness=max(0.0, own.uniform("roughness", -3, 4)),
        breath=max(0.0, own.uniform("breath", -20, 35)),
        consonants=own.uniform("consonants", 50, 160, size=2),
        formants=np.stack([frequency, strength, width], axis=1),
        tone=np.array([170, 135, 110]) * np.exp(own.normal("tone", 0.3, 3)),
        rhythm=own.normal("rhythm", 22, 8),
    )


def voice_file(speaker: Speaker, emotion: Emotion, draws: KeyedDraws) -> str:
    """Return an espeak-ng voice variant: this speaker in this emotion, on this day (``draws``: the
    utterance's draws).
    """
    pitch = speaker.pitch * emotion.pitch * np.exp(draws.normal("pitch", PITCH_VARIATION))
    upper = pitch * (1 + speaker.range * emotion.range)
    formants = speaker.formants.copy()
    formants[:, 0] *= np.exp(draws.normal("formants", FORMANT_VARIATION, NUM_FORMANTS))
    breath = speaker.breath + emotion.breath
    tone = np.clip(speaker.tone, 20, 255)
    lines = [
        "language variant",
        "name mini",
        f"pitch {pitch:.0f} {upper:.0f}",
        f"flutter {speaker.flutter:.0f}",
        f"roughness {min(7, speaker.roughness + emotion.roughness):.0f}",
        "consonants {:.0f} {:.0f}".format(*speaker.consonants),
        "tone 600 {:.0f} 1200 {:.0f} 2000 {:.0f}".format(*tone),
        "stressAdd " + " ".join(f"{length:.0f}" for length in speaker.rhythm),
        *("formant {} {:.0f} {:.0f} {:.0f}".format(n, *row) for n, row in enumerate(formants)),
    ]
    if breath >= 1:
        lines.append("breath " + " ".join(f"{breath * fall:.0f}" for fall in (1, 1, 0.7, 0.5, 0.2, 0.15)))
    return "\n".join(lines) + "\n"


def words_per_minute(speaker: Speaker, emotion: Emotion, draws: KeyedDraws) -> int:
    """Return the rate for espeak-ng's option -s (80 to 450)."""
    rate = speaker.rate * emotion.rate * (IMPAIRED_RATE if speaker.impaired else 1.0)
    return int(np.clip(rate * np.exp(draws.normal("rate", RATE_VARIATION)), 80, 450))


def read_words(path: Path) -> dict[str, list[str]]:
    """Read the word list: ``kind: word word_word ...`` a line."""
    kinds = {}
    for line in read_lines(path):
        kind, colon, words = line.partition(":")
        if colon and not line.startswith("#"):
            kinds[kind] = [word.replace("_", " ") for word in words.split()]
    return kinds


# The shapes of a sentence; the last is for a hesitant speaker, who needs more time for fewer words.
SHAPES = (
    "determiner adjective noun verb determiner adjective noun preposition determiner place",
    "determiner noun verb determiner adjective noun preposition determiner adjective place time",
    "time determiner adjective noun verb determiner noun preposition determiner place",
)
SHORT_SHAPES = (
    "determiner adjective noun verb determiner adjective noun",
    "determiner noun verb determiner noun preposition determiner place",
    "determiner adjective noun verb determiner noun time",
)


def draw_sentence(draws: KeyedDraws, words: dict[str, list[str]], impaired: bool) -> str:
    """Draw a sentence from the word list, hesitations included where the speaker is impaired."""
    kinds = draws.choice("shape", SHORT_SHAPES if impaired else SHAPES).split()
    spoken = [draws.choice(f"word {n}", words[kind]) for n, kind in enumerate(kinds)]
    if not impaired:
        return " ".join(spoken) + "."
    text = []
    for n, word in enumerate(spoken):
        if n and draws.uniform(f"hesitates {n}") < HESITATION:
            text.append(draws.choice(f"filler {n}", FILLERS))
        if draws.uniform(f"repeats {n}") < REPETITION:
            text.append(word.split()[0] + ",")
        text.append(word)
    return " ".join(text) + "."
