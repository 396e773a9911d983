"""Lists of noises and room impulse responses, on tiny trees of the official layouts."""

import argparse

import pytest

from local import prepare_musan, prepare_rirs
from pydino.base import UserError
from pydino.kaldi import read_table


def prepare(module, *arguments) -> None:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    module.prepare(parser.parse_args([str(argument) for argument in arguments]))


def touch(*paths) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"audio")


@pytest.fixture
def musan(tmp_path):
    root = tmp_path / "musan"
    for name in (
        "noise/free-sound/noise-free-sound-0000",
        "noise/sound-bible/noise-sound-bible-0001",
        "music/fma/music-fma-0000",
        "speech/us-gov/speech-us-gov-0007",
    ):
        touch(root / f"{name}.wav")
    (root / "noise/free-sound/ANNOTATIONS").write_text("x\n")
    return root


@pytest.fixture
def rirs(tmp_path):
    root = tmp_path / "RIRS_NOISES"
    for size in ("small", "medium", "large"):
        touch(
            root / f"simulated_rirs/{size}room/Room001/Room001-00001.wav",
            root / f"simulated_rirs/{size}room/Room002/Room002-00001.wav",
        )
        (root / f"simulated_rirs/{size}room/rir_list").write_text("x\n")
    real = root / "real_rirs_isotropic_noises"
    touch(real / "air_type1_air_binaural_lecture_0_1.wav", real / "RVB2014_type1_noise_largeroom1_1.wav")
    line = (
        "--rir-id 00001 --room-id lecture "
        "RIRS_NOISES/real_rirs_isotropic_noises/air_type1_air_binaural_lecture_0_1.wav\n"
    )
    (real / "rir_list").write_text(line)
    touch(root / "pointsource_noises/noise-free-sound-0000.wav")
    return root


def test_musan_has_three_lists(musan, tmp_path, capsys):
    prepare(prepare_musan, musan, tmp_path / "lists")
    assert sorted(path.name for path in (tmp_path / "lists").iterdir()) == [
        "music.scp",
        "noise.scp",
        "speech.scp",
    ]
    assert read_table(tmp_path / "lists/noise.scp") == {
        "noise-free-sound-0000": str(musan / "noise/free-sound/noise-free-sound-0000.wav"),
        "noise-sound-bible-0001": str(musan / "noise/sound-bible/noise-sound-bible-0001.wav"),
    }
    assert "speech: 1 recordings of the corpus's 426: a part" in capsys.readouterr().err
    prepare(prepare_musan, musan.parent, tmp_path / "again")  # the folder above it will do
    assert (tmp_path / "again/noise.scp").read_text() == (tmp_path / "lists/noise.scp").read_text()


def test_musan_that_is_not_whole_is_refused(musan, tmp_path):
    (musan / "music/fma/music-fma-0000.wav").write_bytes(b"")
    with pytest.raises(UserError, match="1 of 1 recordings are missing or empty: .*music-fma-0000.wav"):
        prepare(prepare_musan, musan, tmp_path / "lists")
    (musan / "music/fma/music-fma-0000.wav").unlink()
    with pytest.raises(UserError, match="no .wav recording in .*music"):
        prepare(prepare_musan, musan, tmp_path / "lists")
    with pytest.raises(UserError, match="musan not found: .*local/download.py musan"):
        prepare(prepare_musan, tmp_path / "nowhere", tmp_path / "lists")


def test_rirs_lists_hold_responses_and_no_noises(rirs, tmp_path):
    prepare(prepare_rirs, rirs, tmp_path / "lists")
    lists = {path.stem: read_table(path) for path in (tmp_path / "lists").iterdir()}
    assert sorted(lists) == ["largeroom", "mediumroom", "realroom", "smallroom"]
    assert lists["smallroom"] == {
        f"smallroom-{room}-00001": str(rirs / f"simulated_rirs/smallroom/{room}/{room}-00001.wav")
        for room in ("Room001", "Room002")
    }
    name = "air_type1_air_binaural_lecture_0_1"
    assert lists["realroom"] == {f"realroom-{name}": str(rirs / f"real_rirs_isotropic_noises/{name}.wav")}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1"])
@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_rirs_with_a_list_in_another_encoding(rirs, tmp_path, encoding, end):
    file = rirs / "real_rirs_isotropic_noises/rir_list"
    file.write_bytes(
        file.read_text().replace("lecture RIRS", "Büro RIRS").replace("\n", end).encode(encoding)
    )
    prepare(prepare_rirs, rirs, tmp_path / "lists")
    assert list(read_table(tmp_path / "lists/realroom.scp")) == [
        "realroom-air_type1_air_binaural_lecture_0_1"
    ]


def test_rirs_in_part_and_in_disorder(rirs, tmp_path, capsys):
    (rirs / "simulated_rirs/largeroom").rename(tmp_path / "elsewhere")
    prepare(prepare_rirs, rirs, tmp_path / "lists")
    assert (
        not (tmp_path / "lists/largeroom.scp").exists()
        and "largeroom: no response in" in capsys.readouterr().err
    )
    table = rirs / "real_rirs_isotropic_noises/rir_list"
    table.write_text(table.read_text() + "what.wav\n")
    with pytest.raises(UserError, match="rir_list, line 2: expected '--rir-id"):
        prepare(prepare_rirs, rirs, tmp_path / "lists")
    table.unlink()
    with pytest.raises(UserError, match="distinguishes responses from noises"):
        prepare(prepare_rirs, rirs, tmp_path / "lists")
