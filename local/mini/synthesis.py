"""Text to clean speech: espeak-ng with one voice variant per utterance, then SoX for the sample rate."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from pydino.base import UserError

# The files of espeak-ng's data folder that English needs; the private copy consists of links.
_DATA = ("phontab", "phonindex", "phondata", "intonations", "en_dict", "lang")
_LONGEST_PATH = 120  # bytes; espeak-ng keeps the path of its data in a buffer of 160


def find_programs() -> str:
    """Check that espeak-ng and SoX are installed; return espeak-ng's version line ``eSpeak NG text-to-speech:
    1.51  Data at: ...``.

    Raises:
        UserError: one is missing; the message says how to get it.
    """
    missing = [name for name in ("espeak-ng", "sox") if shutil.which(name) is None]
    if missing:
        raise UserError(
            f"{' and '.join(missing)} not found, needed to make the synthetic speech of mini; "
            "install with: sudo apt-get install espeak-ng sox"
        )
    return _run(["espeak-ng", "--version"]).decode("utf-8", "replace").strip()


class Synthesiser:
    """Synthesises speech with voices given as text, from a private copy of espeak-ng's data folder.

    Starting espeak-ng costs about 10 ms as long as its voice is found by name, so the copy holds one variant,
    rewritten each time.

    Args:
        rate: samples a second of the speech.
        scratch: folder for the private copy, the caller's to remove; each Synthesiser makes its own in it.
    """

    def __init__(self, rate: int, scratch: str):
        match = re.search(r"Data at: (.*)", find_programs())
        import sox  # runs SoX on import, so imported only after the check

        self._resampler = sox.Transformer()
        self._resampler.set_output_format(rate=rate)
        source = Path(match.group(1).strip()) if match else Path("/")
        self._path = tempfile.mkdtemp(dir=scratch)
        if len(os.fsencode(self._path)) > _LONGEST_PATH:
            raise UserError(
                f"the temporary folder {scratch} has too long a name for espeak-ng; set TMPDIR to a shorter "
                "one, such as /tmp"
            )
        data = Path(self._path) / "espeak-ng-data"
        self._variant = data / "voices" / "!v" / "mini"
        self._variant.parent.mkdir(parents=True)
        for name in _DATA:
            if not (source / name).exists():
                raise UserError(f"espeak-ng's data folder {source} has no '{name}'; reinstall espeak-ng-data")
            os.symlink(source / name, data / name)

    def speak(self, text: str, voice: str, accent: str, words_per_minute: int) -> np.ndarray:
        """Return clean speech as (S,) float64 samples in [-1, 1] at the rate.

        Args:
            text: a sentence.
            voice: the content of an espeak-ng voice variant file.
            accent: an espeak-ng English, such as ``en-gb``.
            words_per_minute: rate of speaking.
        """
        self._variant.write_text(voice, encoding="utf-8")
        command = [
            "espeak-ng",
            f"--path={self._path}",
            "-v",
            f"{accent}+mini",
            "-s",
            str(words_per_minute),
            "--stdout",
            text,
        ]
        wav = _run(command)
        if wav[:4] != b"RIFF" or len(wav) < 44 + 2:
            raise UserError(f"espeak-ng wrote no speech; try by hand: {' '.join(command)}")
        # in a streamed header the length is unreliable, but not the rate
        made_at = int.from_bytes(wav[24:28], "little")
        samples = np.frombuffer(wav[44 : len(wav) // 2 * 2], dtype="<i2") / np.float32(32768)
        # Floating point in and out: no clipping where the filter overshoots, no dither.
        return self._resampler.build_array(input_array=samples, sample_rate_in=made_at).astype(np.float64)


def _run(command: list[str]) -> bytes:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        raise UserError(
            f"{command[0]} failed: {done.stderr.decode('utf-8', 'replace').strip()[-500:]}; command: "
            f"{' '.join(command)}"
        )
    return done.stdout
