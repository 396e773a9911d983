"""Recordings: every format that is read, whole, cut short, and with the heads that recorders, pipes and editors
leave.
"""

import io
import shutil
import struct
import subprocess

import numpy as np
import pytest
import soundfile

from pydino.audio import read_audio
from pydino.base import UserError
from pydino.kaldi.deep import audio_head
from pydino.kaldi.recordings import open_recording

RATE = 16000
WAVE_CODECS = ("PCM_16", "PCM_24", "PCM_32", "PCM_U8", "FLOAT", "DOUBLE", "ULAW", "ALAW")
FORMATS = [
    *(
        ("WAV", codec)
        for codec in (*WAVE_CODECS, "IMA_ADPCM", "MS_ADPCM", "GSM610", "G721_32", "NMS_ADPCM_32")
    ),
    *(("WAVEX", codec) for codec in WAVE_CODECS),
    *(("RF64", codec) for codec in WAVE_CODECS),
    *(("W64", codec) for codec in (*WAVE_CODECS, "IMA_ADPCM", "GSM610")),
    *(("AIFF", codec) for codec in (*WAVE_CODECS, "PCM_S8", "IMA_ADPCM", "GSM610")),
    *(("AU", codec) for codec in ("PCM_16", "PCM_24", "FLOAT", "ULAW", "ALAW", "G721_32", "G723_24")),
    *(("CAF", codec) for codec in ("PCM_16", "PCM_24", "FLOAT", "ULAW", "ALAC_16", "ALAC_24")),
    *(("NIST", codec) for codec in ("PCM_16", "PCM_24", "ULAW", "ALAW")),
    *(("FLAC", codec) for codec in ("PCM_16", "PCM_24")),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]
TOLERANCE = {"MP3": 0.01}  # its decoder rounds otherwise after a seek; of 32768


@pytest.fixture(scope="module")
def speech():
    """Six seconds with loud and faint parts, (S,) in -1 to 1, of values that 8 bits hold."""
    rng, time = np.random.default_rng(0), np.arange(6 * RATE) / RATE
    wave = 0.5 * np.sin(2 * np.pi * (150 + 40 * np.sin(time)) * time) * (np.sin(time) > 0)
    return np.round((wave + 0.02 * rng.standard_normal(len(time))) * 127) / 128


@pytest.fixture(scope="module")
def content(speech):
    """A function from format and codec to the bytes of the speech in it."""
    made: dict[tuple[str, str], bytes] = {}

    def write(form, codec):
        if (form, codec) not in made:
            out = io.BytesIO()
            soundfile.write(out, speech, RATE, format=form, subtype=codec)
            made[form, codec] = out.getvalue()
        return made[form, codec]

    return write


def samples_of(path, data: bytes) -> np.ndarray:
    path.write_bytes(data)
    return read_audio(str(path))[0]


def assert_truncated(path, data: bytes):
    path.write_bytes(data)
    for read in (read_audio, audio_head):
        with pytest.raises(UserError, match="truncated") as caught:
            read(str(path))
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("form, codec", FORMATS)
def test_whole_recordings_are_read_and_cut_ones_refused(tmp_path, content, form, codec):
    data, path = content(form, codec), tmp_path / "recording"
    whole = samples_of(path, data)
    decoded, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_allclose(whole, decoded * 32768, rtol=0, atol=TOLERANCE.get(form, 0))
    assert audio_head(str(path)) == (len(whole), RATE, 1)
    for share in (0.1, 0.5, 0.9):
        assert_truncated(path, data[: int(share * len(data))])
    assert_truncated(path, data[:-20])


@pytest.mark.parametrize("form, codec", FORMATS)
def test_a_part_of_a_recording_is_the_same_as_that_part_of_all_of_it(tmp_path, content, form, codec):
    path = tmp_path / "recording"
    whole = samples_of(path, content(form, codec))
    with open_recording(str(path)) as recording:  # one block after another is the same to the last bit
        starts = [*range(0, len(whole), 10007), len(whole)]
        blocks = [recording.read(*span)[:, 0] for span in zip(starts[:-1], starts[1:], strict=True)]
        blocks = np.concatenate(blocks)
        np.testing.assert_array_equal(
            blocks if blocks.dtype == np.int16 else blocks * np.float32(32768), whole
        )
    with open_recording(str(path)) as recording:
        for first, last in ((70000, 70100), (33, 1000), (41234, 44000)):
            part = recording.read(first, last)[:, 0]
            scaled = part if part.dtype == np.int16 else part * np.float32(32768)
            np.testing.assert_allclose(scaled, whole[first:last], rtol=0, atol=TOLERANCE.get(form, 0))


@pytest.mark.parametrize("form, codec", [("VOC", "PCM_16"), ("IRCAM", "FLOAT"), ("AVR", "PCM_16")])
def test_formats_without_a_sign_of_truncation_are_refused(tmp_path, content, form, codec):
    path = tmp_path / "recording"
    path.write_bytes(content(form, codec))
    with pytest.raises(UserError, match="not of a supported format.*sox"):
        read_audio(str(path))


def chunk(name, body, size=None, order="<"):
    return (
        name + struct.pack(f"{order}I", len(body) if size is None else size) + body + b"\0" * (len(body) % 2)
    )


def wav(codec, body, size=None, before=b"", after=b"", order="<"):
    code, bits = {"PCM_16": (1, 16), "PCM_24": (1, 24), "FLOAT": (3, 32), "ULAW": (7, 8), "ALAW": (6, 8)}[
        codec
    ]
    form = struct.pack(f"{order}HHIIHH", code, 1, RATE, RATE * bits // 8, bits // 8, bits)
    magic = b"RIFF" if order == "<" else b"RIFX"
    chunks = before + chunk(b"fmt ", form, order=order) + chunk(b"data", body, size, order) + after
    return magic + struct.pack(f"{order}I", 4 + len(chunks)) + b"WAVE" + chunks


def body_of(data: bytes) -> bytes:
    """The samples of a WAV that soundfile wrote."""
    place = data.index(b"data") + 4
    return data[place + 4 : place + 4 + struct.unpack_from("<I", data, place)[0]]


UNKNOWN_SIZES = (
    *(0, 0x7FFFF000, 0x7FFFFF00, 0x7FFFFFDB, 0x7FFFFFFE, 0x7FFFFFFF, 0x80000000),
    *(0xFFFFF000, 0xFFFFFFDB, 0xFFFFFFFE, 0xFFFFFFFF),
)


@pytest.mark.parametrize("codec", ["PCM_16", "PCM_24", "FLOAT", "ULAW", "ALAW"])
def test_sizes_that_recorders_leave_mean_up_to_the_end(tmp_path, content, codec):
    data, path = content("WAV", codec), tmp_path / "a.wav"
    whole, body = samples_of(path, data), body_of(data)
    notes = chunk(b"LIST", b"INFO" + bytes(range(256)) * 12) + chunk(b"id3 ", b"ID3" + b"x" * 100)
    for size in UNKNOWN_SIZES:
        for after in (b"", notes):
            np.testing.assert_array_equal(samples_of(path, wav(codec, body, size, after=after)), whole)
    # stated sizes: right, or more than there is
    np.testing.assert_array_equal(samples_of(path, wav(codec, body, after=notes)), whole)
    for size in (len(body) + 1, 2 * len(body), 0x7F000000, 0x90000000):
        assert_truncated(path, wav(codec, body, size))


def test_chunks_are_not_taken_for_samples_where_there_are_none(tmp_path):
    path = tmp_path / "a.wav"
    for size in (0, 0xFFFFFFFF):
        path.write_bytes(wav("PCM_16", b"", size, after=chunk(b"LIST", b"INFO" + bytes(range(256)) * 12)))
        with pytest.raises(UserError, match="no samples"):
            read_audio(str(path))


@pytest.mark.parametrize("codec", ["PCM_16", "PCM_24", "FLOAT", "ULAW"])
@pytest.mark.parametrize(
    "before",
    [
        chunk(b"JUNK", bytes(28)) + chunk(b"bext", bytes(5000)),
        chunk(b"LIST", b"INFOISFT\5\0\0\0abcde"),
        chunk(b"LIST", b"INFOISFT\5\0\0\0abcde")[:-1],  # the writer forgot the padding
    ],
)
def test_chunks_before_the_samples(tmp_path, content, codec, before):
    data, path = content("WAV", codec), tmp_path / "a.wav"
    expected = samples_of(path, data)
    np.testing.assert_array_equal(samples_of(path, wav(codec, body_of(data), before=before)), expected)


def test_big_endian_riff(tmp_path, content):
    data, path = content("WAV", "PCM_16"), tmp_path / "a.wav"
    body = np.frombuffer(body_of(data), "<i2").astype(">i2").tobytes()
    np.testing.assert_array_equal(samples_of(path, wav("PCM_16", body, order=">")), samples_of(path, data))


def id3(size):
    lengths = [size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127]
    return b"ID3\3\0\0" + bytes(lengths) + bytes(size)


@pytest.mark.parametrize(
    "form, codec",
    [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("AIFF", "PCM_16"), ("FLAC", "PCM_16"), ("MP3", None)],
)
def test_a_tag_in_front_takes_nothing_away(tmp_path, content, form, codec):
    data, path = content(form, codec or "MPEG_LAYER_III"), tmp_path / "a"
    expected = samples_of(path, data)
    for size in (10, 5000, 70000):
        np.testing.assert_array_equal(samples_of(path, id3(size) + data), expected)
        assert_truncated(path, (id3(size) + data)[:-50])


def test_unknown_sizes_in_other_containers(tmp_path, content):
    path = tmp_path / "a"
    aiff, au, caf = content("AIFF", "PCM_16"), content("AU", "PCM_24"), content("CAF", "PCM_16")
    expected = {data: samples_of(path, data) for data in (aiff, au, caf)}
    place, common = aiff.index(b"SSND"), aiff.index(b"COMM")
    for size in (0, 0x7F000008, 0xFFFFFFFF):  # SoX and ffmpeg into a pipe
        changed = bytearray(aiff)
        changed[place + 4 : place + 8] = struct.pack(">I", size)
        changed[common + 10 : common + 14] = struct.pack(">I", size // 2)
        np.testing.assert_array_equal(samples_of(path, bytes(changed)), expected[aiff])
    for size in (0, 0x7FFFFFFF, 0xFFFFFFFF):
        np.testing.assert_array_equal(
            samples_of(path, au[:8] + struct.pack(">I", size) + au[12:]), expected[au]
        )
    for size in (0, 0xFFFFFFFFFFFFFFFF, 0x7FFFFFFFFFFFFFFF):
        for form in ("RF64", "W64"):
            data = content(form, "PCM_24")
            whole = samples_of(path, data)
            place = data.index(b"ds64") + 16 if form == "RF64" else data.index(b"data\xf3") + 16
            np.testing.assert_array_equal(
                samples_of(path, data[:place] + struct.pack("<Q", size) + data[place + 8 :]), whole
            )
    place = caf.index(b"data") + 4
    np.testing.assert_array_equal(
        samples_of(path, caf[:place] + b"\xff" * 8 + caf[place + 8 :]), expected[caf]
    )


@pytest.mark.parametrize("codec", ["PCM_16", "ULAW"])
def test_sphere(tmp_path, content, codec):
    """As written by hand: with and without the number of samples, followed by bytes that are none."""
    data, path = content("NIST", codec), tmp_path / "a.sph"
    expected = samples_of(path, data)
    np.testing.assert_array_equal(samples_of(path, data + b"trailing"), expected)
    without = data[:1024].replace(b"sample_count", b"unused_count") + data[1024:]
    np.testing.assert_array_equal(samples_of(path, without), expected)
    path.write_bytes(data[:1024].replace(b"end_head\n", b"").rstrip(b"\0 ") + b"\n" + data[1024:])
    path.write_bytes(
        b"NIST_1A\n   1024\nsample_count -i 16000\nsample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n".ljust(
            1024
        )
        + bytes(9000)
    )
    with pytest.raises(UserError, match="compressed.*sph2pipe"):
        read_audio(str(path))


def first_frame_size(data: bytes) -> int:
    """Of an MP3 of 16 kHz: from one sync to the next with the same format."""
    place = 4
    while data[place : place + 2] != data[:2] or (data[place + 2] ^ data[2]) & 0x0C:
        place += 1
    return place


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("pause", ["first", "last", "none"])
def test_mp3_without_a_count_of_frames_is_read_to_its_end(tmp_path, mode, pause):
    rng = np.random.default_rng(1)
    speech = 0.1 * rng.standard_normal(20 * RATE)
    speech[{"first": slice(0, 10 * RATE), "last": slice(10 * RATE, None), "none": slice(0)}[pause]] = 0
    path = tmp_path / "a.mp3"
    soundfile.write(path, speech, RATE, format="MP3", bitrate_mode=mode, compression_level=0.5)
    data = path.read_bytes()
    expected = read_audio(str(path))[0]
    assert len(expected) == len(speech)
    bare = data[first_frame_size(data) :]
    delay = 576  # of the encoder, which only LAME's part of that frame states
    for changed in (bare, id3(3000) + bare, bare + b"TAG" + bytes(125)):
        found = samples_of(path, changed)
        assert 0 <= len(found) - len(speech) - delay < 1152
        # The first frames may refer to bits in the frame that was taken away.
        np.testing.assert_array_equal(found[delay + 4000 : delay + len(speech)], expected[4000:])
        assert audio_head(str(path))[0] == len(found)
    assert_truncated(path, bare[: len(bare) // 2 + 7])  # not between two frames
    # Two files put together: the first one's count is not that of both.
    assert len(samples_of(path, data + data)) >= 2 * len(speech)
    # A damaged stretch costs what it holds, and no more.
    hole = bytearray(bare)
    hole[len(bare) // 2 : len(bare) // 2 + 500] = b"x" * 500
    assert len(samples_of(path, bytes(hole))) > 0.8 * len(speech)


def test_ogg_must_be_marked_as_ended(tmp_path, content):
    data, path = content("OGG", "VORBIS"), tmp_path / "a.ogg"
    last = data.rindex(b"OggS\0")
    assert_truncated(path, data[:last])  # cut between two pages


def test_flac_from_a_pipe_is_read_and_its_truncated_copies_refused(tmp_path, content):
    data, path = bytearray(content("FLAC", "PCM_16")), tmp_path / "a.flac"
    whole = samples_of(path, bytes(data))
    data[21] &= 0xF0  # the number of samples, 36 bits: 0 is unknown
    data[22:26] = bytes(4)
    np.testing.assert_array_equal(samples_of(path, bytes(data)), whole)
    np.testing.assert_array_equal(read_audio(str(path), 2.0, 3.0)[0], whole[2 * RATE : 3 * RATE])
    for end in (len(data) // 2, -1):
        assert_truncated(path, bytes(data[:end]))


@pytest.mark.skipif(shutil.which("sox") is None, reason="needs SoX")
@pytest.mark.parametrize("form", ["wav", "aiff", "au", "sph", "flac"])
def test_what_sox_writes_to_a_pipe(tmp_path, content, form):
    path = tmp_path / "a.wav"
    whole = samples_of(path, content("WAV", "PCM_16"))
    piped = subprocess.run(
        ["bash", "-c", f"cat '{path}' | sox -t wav - -D -t {form} - | cat"], capture_output=True, check=True
    )
    np.testing.assert_array_equal(samples_of(tmp_path / f"a.{form}", piped.stdout), whole)


@pytest.mark.parametrize("codec", ["PCM_16", "PCM_24"])
def test_more_than_four_gigabytes_in_rf64(tmp_path, codec):
    """A sparse file: the 64-bit size is used, and data after it are read."""
    width = int(codec[-2:]) // 8
    size = (5 << 30) // width * width
    head = wav(codec, b"")[12:-8]  # the format alone
    sizes = chunk(b"ds64", struct.pack("<QQQI", size, size, size // width, 0))
    path = tmp_path / "big.wav"
    with open(path, "wb") as out:
        out.write(b"RF64\xff\xff\xff\xffWAVE" + sizes + head + b"data\xff\xff\xff\xff")
        out.seek(size - width, 1)
        out.write(b"\x01\x02\x03"[-width:])
    with open_recording(str(path)) as recording:
        assert recording.samples == size // width
        assert recording.read(recording.samples - 2, recording.samples)[:, 0].astype(bool).tolist() == [
            False,
            True,
        ]
