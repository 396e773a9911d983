"""Reading audio: formats, parts, channels, and every kind of broken file with a message that says what, where
and how to fix it.
"""

import struct
import wave

import numpy as np
import pytest
import soundfile

from pydino.audio import read_audio, resample
from pydino.base import UserError

RATE = 16000


@pytest.fixture
def signal():
    return (np.random.default_rng(0).standard_normal(RATE) * 3000).astype(np.int16)


def write_wav(path, samples, rate=RATE, channels=1):
    with wave.open(str(path), "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(np.asarray(samples, dtype="<i2").tobytes())
    return str(path)


def fails(words, *arguments, **options):
    with pytest.raises(UserError) as caught:
        read_audio(*arguments, **options)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_plain_wav_keeps_the_integers(tmp_path, signal):
    samples, rate = read_audio(write_wav(tmp_path / "a é b.wav", signal))
    assert rate == RATE and samples.dtype == np.float32
    np.testing.assert_array_equal(samples, signal)


@pytest.mark.parametrize(
    "subtype, tolerance", [("PCM_16", 0), ("PCM_24", 0), ("FLOAT", 0), ("PCM_U8", 256), ("ULAW", 700)]
)
def test_other_encodings_have_the_same_scale(tmp_path, signal, subtype, tolerance):
    soundfile.write(tmp_path / "a.wav", signal / 32768.0, RATE, subtype=subtype)
    assert np.abs(read_audio(str(tmp_path / "a.wav"))[0] - signal).max() <= tolerance


def test_flac_and_its_parts(tmp_path, signal):
    soundfile.write(tmp_path / "a.flac", signal, RATE)
    np.testing.assert_array_equal(read_audio(str(tmp_path / "a.flac"))[0], signal)
    np.testing.assert_array_equal(read_audio(str(tmp_path / "a.flac"), 0.25, 0.5)[0], signal[4000:8000])


@pytest.mark.parametrize(
    "start, end, first, last",
    [(0.0, 0.1, 0, 1600), (0.3, 0.7, 4800, 11200), (0.5, 1.4, 8000, 16000), (0.5, -1, 8000, 16000)],
)
def test_segments_of_wav(tmp_path, signal, start, end, first, last):
    """An end up to half a second too late is cut, as extract-segments does; -1 is the end of the file."""
    np.testing.assert_array_equal(
        read_audio(write_wav(tmp_path / "a.wav", signal), start, end)[0], signal[first:last]
    )


def test_segment_outside_the_recording(tmp_path, signal):
    path = write_wav(tmp_path / "a.wav", signal)
    fails(["a.wav", "1.00 s", "segments"], path, 0.5, 1.6)
    fails(["a.wav", "segments"], path, 1.0, 1.2)


def test_extra_chunks_and_extensible_header(tmp_path, signal):
    content = signal.tobytes()
    form = (
        struct.pack("<HHIIHHHHI", 0xFFFE, 1, RATE, 2 * RATE, 2, 16, 22, 16, 4)
        + struct.pack("<H", 1)
        + b"\0" * 14
    )
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"LIST" + struct.pack("<I", 5) + b"abcde\0"
    (tmp_path / "a.wav").write_bytes(
        b"RIFF" + struct.pack("<I", 0) + body + b"data" + struct.pack("<I", len(content)) + content
    )
    np.testing.assert_array_equal(read_audio(str(tmp_path / "a.wav"))[0], signal)


def test_stream_header_without_a_length(tmp_path, signal):
    content = bytearray(open(write_wav(tmp_path / "a.wav", signal), "rb").read())
    content[40:44] = b"\xff" * 4
    (tmp_path / "a.wav").write_bytes(content)
    np.testing.assert_array_equal(read_audio(str(tmp_path / "a.wav"))[0], signal)


def test_wav_inside_an_archive(tmp_path, signal):
    content = open(write_wav(tmp_path / "a.wav", signal), "rb").read()
    (tmp_path / "wav.ark").write_bytes(b"utt1 " + content)
    np.testing.assert_array_equal(read_audio(f"{tmp_path}/wav.ark:5")[0], signal)


def test_pipes_run_only_when_allowed(tmp_path, signal):
    command = f"cat '{write_wav(tmp_path / 'a.wav', signal)}' |"
    fails(["command", "--allow-pipes true"], command)
    np.testing.assert_array_equal(read_audio(command, allow_pipes=True)[0], signal)
    np.testing.assert_array_equal(read_audio(command, 0.25, 0.5, allow_pipes=True)[0], signal[4000:8000])
    fails(["false | cat", "status 1"], "false | cat |", allow_pipes=True)


def test_several_channels(tmp_path, signal):
    path = write_wav(tmp_path / "stereo.wav", np.stack([signal, -signal], axis=1), channels=2)
    fails(["stereo.wav", "2 channels", "--channel"], path)
    np.testing.assert_array_equal(read_audio(path, channel=1)[0], -signal)
    fails(["stereo.wav", "--channel 2"], path, channel=2)


def test_broken_files(tmp_path, signal):
    fails(["nowhere.wav", "No such file"], str(tmp_path / "nowhere.wav"))
    (tmp_path / "empty.wav").touch()
    fails(["empty.wav", "empty"], str(tmp_path / "empty.wav"))
    fails(["none.wav", "no samples"], write_wav(tmp_path / "none.wav", []))
    whole = open(write_wav(tmp_path / "cut.wav", signal), "rb").read()
    (tmp_path / "cut.wav").write_bytes(whole[:10000])
    fails(["cut.wav", "32000 bytes", "9956", "truncated"], str(tmp_path / "cut.wav"))
    (tmp_path / "text.wav").write_text("this is no audio")
    fails(["text.wav", "cannot be decoded"], str(tmp_path / "text.wav"))


def test_samples_that_are_no_numbers(tmp_path):
    soundfile.write(
        tmp_path / "nan.wav", np.array([0.0, np.nan, np.inf, 0.5], dtype=np.float32), RATE, subtype="FLOAT"
    )
    fails(["nan.wav", "2 of 4 samples", "NaN"], str(tmp_path / "nan.wav"))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_flac_is_never_taken_for_a_short_one(tmp_path, signal, share):
    soundfile.write(tmp_path / "whole.flac", np.tile(signal, 5), RATE)
    content = (tmp_path / "whole.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(content[: int(share * len(content))])
    fails(["cut.flac", "truncated"], str(tmp_path / "cut.flac"))


@pytest.mark.parametrize("rate, to", [(22050, 16000), (8000, 16000), (44100, 16000), (16000, 11025)])
def test_resampling_keeps_tones_in_time_and_drops_those_beyond_half_the_rate(rate, to):
    time, new_time = np.arange(2 * rate) / rate, np.arange(2 * to) / to
    tone = lambda t, hertz: 1000 * np.sin(2 * np.pi * hertz * t + 0.3)  # noqa: E731
    middle = slice(to // 4, -to // 4)  # away from the ends
    low = 0.4 * min(rate, to)
    np.testing.assert_allclose(
        resample(tone(time, low), rate, to)[middle], tone(new_time, low)[middle], atol=0.5
    )
    if rate > to:
        assert np.abs(resample(tone(time, 0.53 * to), rate, to)[middle]).max() < 1.0  # 60 dB down
    assert len(resample(tone(time, low), rate, to)) == 2 * to
