"""Corpora spread over disks by links, and corpora that a Mac has copied: every preparation lists the same
recordings as of a plain copy.
"""

import argparse
import os
import shutil

import pytest

from local import (
    prepare_emodb,
    prepare_librispeech,
    prepare_musan,
    prepare_rirs,
    prepare_speechocean762,
    prepare_voxceleb,
    prepare_wavdir,
)
from local.walk import by_name, list_files, with_extension
from pydino.base import UserError


def touch(*paths) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"audio")


def put_elsewhere(folder, disk) -> None:
    """Move a folder to another disk and leave a link to it in its place."""
    disk.mkdir(exist_ok=True)
    moved = disk / f"{len(list(disk.iterdir()))} {folder.name}"
    shutil.move(folder, moved)
    folder.symlink_to(moved, target_is_directory=True)


def test_all_files_in_c_order_without_the_hidden_ones(tmp_path):
    touch(*(tmp_path / file for file in ("a.wav", "b/c.wav", "b/d/e.wav", "B.wav", "a-b.wav", "é.wav")))
    touch(tmp_path / "._a.wav", tmp_path / ".trash/x.wav", tmp_path / "b/.DS_Store")
    assert list_files(tmp_path) == ["B.wav", "a-b.wav", "a.wav", "b/c.wav", "b/d/e.wav", "é.wav"]
    assert with_extension(["x.WAV", "y.wav", "z.flac", "wav"], ".wav") == ["x.WAV", "y.wav"]


def test_links_in_a_circle_end_and_nothing_is_listed_twice(tmp_path, capsys):
    corpus, disk = tmp_path / "corpus", tmp_path / "disk"
    touch(corpus / "b/1.wav", disk / "x/2.wav", disk / "y/3.wav")
    (disk / "x/back").symlink_to(corpus)  # from the other disk to the corpus
    (disk / "x/beside").symlink_to(disk / "y")  # a link behind a link
    (corpus / "a").symlink_to("b")  # before what it leads to, which is in the corpus itself
    (corpus / "b/up").symlink_to("..")
    (corpus / "b/far up").symlink_to(tmp_path)  # above the corpus: this would list all that lies there
    (corpus / "c").symlink_to(disk / "x")
    (corpus / "d").symlink_to(disk / "x")
    (corpus / "4.wav").symlink_to(disk / "y/3.wav")  # a link to a file
    assert list_files(corpus) == ["4.wav", "b/1.wav", "c/2.wav", "c/beside/3.wav"]
    assert "listed already, skipped: a b/far up b/up c/back d" in capsys.readouterr().err
    (tmp_path / "way in").symlink_to(corpus)
    assert list_files(tmp_path / "way in") == list_files(corpus)


def test_a_link_that_leads_nowhere_is_an_error_and_not_a_smaller_corpus(tmp_path):
    touch(tmp_path / "a.wav")
    (tmp_path / "disk2").symlink_to(tmp_path / "not mounted")
    with pytest.raises(UserError, match="disk2 is a link to .*not mounted, which is not there; mount"):
        list_files(tmp_path)
    with pytest.raises(UserError, match="cannot read the folder .*nowhere"):
        list_files(tmp_path / "nowhere")


def test_two_recordings_of_one_name_are_an_error():
    assert by_name(["x/a.wav", "b.wav"], "corpus") == {"a": "x/a.wav", "b": "b.wav"}
    with pytest.raises(UserError, match="corpus holds two recordings called a, x/a.wav and y/a.wav"):
        by_name(["x/a.wav", "y/a.wav"], "corpus")


VOXCELEB1 = ["id10270/v/00001.wav", "id10271/v/00001.wav"]
CORPORA = {  # module: (files, other files, folders that are moved to other disks, arguments)
    prepare_musan: (
        [f"{k}/{s}/{k}-{s}-000{i}.wav" for k in ("noise", "music", "speech") for s in "ab" for i in "01"],
        {"noise/a/ANNOTATIONS": "x\n"},
        ["noise/a", "music"],
        ["{corpus}", "{out}"],
    ),
    prepare_rirs: (
        [f"simulated_rirs/{s}room/Room00{i}/Room00{i}-00001.wav" for s in ("small", "medium") for i in "12"]
        + ["real_rirs_isotropic_noises/rir_1.wav"],
        {
            "real_rirs_isotropic_noises/rir_list": "--rir-id 1 --room-id r RIRS_NOISES/"
            "real_rirs_isotropic_noises/rir_1.wav\n"
        },
        ["simulated_rirs/smallroom/Room001", "simulated_rirs/mediumroom", "real_rirs_isotropic_noises"],
        ["{corpus}", "{out}"],
    ),
    prepare_librispeech: (
        [f"train-clean-100/{s}/1/{s}-1-000{i}.flac" for s in (19, 26) for i in "01"]
        + [f"test-other/{s}/1/{s}-1-000{i}.flac" for s in (1001, 1002, 1003) for i in "01"],
        {},
        ["test-other/1002", "test-other/1003/1", "train-clean-100"],
        ["{corpus}", "{out}"],
    ),
    prepare_emodb: (
        [f"wav/{speaker}a01{emotion}a.wav" for speaker in ("03", "16") for emotion in "FNW"],
        {},
        ["wav"],
        ["{corpus}", "{out}"],
    ),
    prepare_speechocean762: (
        [f"WAVE/SPEAKER000{s}/0000{s}{i}.WAV" for s in "1234" for i in "12"],
        {
            f"{name}/{table}": "".join(lines)
            for name, speakers in (("train", "12"), ("test", "34"))
            for table, lines in {
                "wav.scp": [
                    f"0000{s}{i}\tWAVE/SPEAKER000{s}/0000{s}{i}.WAV\n" for s in speakers for i in "12"
                ],
                "utt2spk": [f"0000{s}{i}\t000{s}\n" for s in speakers for i in "12"],
                "spk2age": [f"000{s}\t{s}\n" for s in speakers],
                "spk2gender": [f"000{s}\tf\n" for s in speakers],
            }.items()
        },
        ["WAVE/SPEAKER0001", "WAVE", "test"],
        ["{corpus}", "{out}"],
    ),
    prepare_voxceleb: (
        [f"2/dev/wav/id0001{i}/v/0000{j}.wav" for i in "12" for j in "12"]
        + [f"1/wav/{name}" for name in VOXCELEB1],
        {"1/veri_test2.txt": "0 " + " ".join(VOXCELEB1) + "\n"},
        ["2/dev/wav/id00011", "2/dev/wav/id00012/v", "1/wav/id10270", "1/wav"],
        ["--trials", "O", "{corpus}/2", "{corpus}/1", "{out}"],
    ),
    prepare_wavdir: (
        ["2019/Café visit 1.WAV", "2019/b.flac", "c.mp3"],
        {},
        ["2019"],
        ["{corpus}", "{out}"],
    ),
}


@pytest.mark.parametrize("module", CORPORA, ids=lambda module: module.__name__.split("_")[-1])
def test_links_and_files_of_a_mac_change_nothing(module, tmp_path):
    files, texts, moved, arguments = CORPORA[module]
    corpus = tmp_path / "a corpus"

    def prepared(out):
        parser = argparse.ArgumentParser()
        module.add_arguments(parser)
        module.prepare(
            parser.parse_args([text.format(corpus=corpus, out=tmp_path / out) for text in arguments])
        )
        return {
            str(path.relative_to(tmp_path / out)): path.read_text(encoding="utf-8")
            for path in (tmp_path / out).rglob("*")
            if path.is_file()
        }

    touch(*(corpus / name for name in files))
    for name, text in texts.items():
        (corpus / name).parent.mkdir(exist_ok=True)
        (corpus / name).write_text(text)
    before = prepared("plain")
    assert sum(text.count(str(corpus)) for name, text in before.items() if name.endswith(".scp")) == len(
        files
    )
    for name in files:
        path = corpus / name
        path.with_name("._" + path.name).write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        ")
        (path.parent / ".DS_Store").write_bytes(b"\0")
    for folder in moved:
        put_elsewhere(corpus / folder, tmp_path / "disk 2")
    assert prepared("linked") == before
    assert os.path.islink(corpus / moved[0])
