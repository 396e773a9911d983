"""VoxCeleb on a tiny tree of its official layout: the places of its parts, its trial lists, and error
messages.
"""

import argparse
import os
import subprocess
from pathlib import Path

import pytest

from local import prepare_voxceleb
from pydino.base import UserError, load_config
from pydino.kaldi import read_table
from pydino.recipe import Recipe

ROOT = Path(__file__).resolve().parents[1]
# Test part, then development part, of VoxCeleb1; a video's name may begin with a hyphen.
TEST = ["id10270/5r0dWxy17C8/00001", "id10270/-WXujl_xAVM/00017", "id10271/a/00001"]
DEV = ["id10001/1zcIwhmdeo4/00001", "id10002/b/00002"]
ALL = {
    "id10270-5r0dWxy17C8-00001",
    "id10270--WXujl_xAVM-00017",
    "id10271-a-00001",
    "id10001-1zcIwhmdeo4-00001",
    "id10002-b-00002",
}
VOXCELEB2 = ["id00012/21Uxsk56VDQ/00001", "id00012/21Uxsk56VDQ/00002", "id00015/0fijmz4vTVU/00001"]


def touch(folder, names, form):
    for name in names:
        path = folder / f"{name}.{form}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"audio")


def trial(kind, left, right):
    return f"{kind} {left}.wav {right}.wav\n"


@pytest.fixture
def roots(tmp_path):
    one, two = tmp_path / "VoxCeleb1", tmp_path / "VoxCeleb2"
    touch(one / "wav", TEST + DEV, "wav")
    touch(two / "dev/flac", VOXCELEB2, "flac")
    touch(two / "test/flac", ["id00017/01dfn2spqyE/00001"], "flac")
    o = trial(1, TEST[0], TEST[1]) + trial(0, TEST[0], TEST[2])
    (one / "veri_test2.txt").write_text(o)
    (one / "veri_test.txt").write_text(o + trial(0, TEST[1], TEST[2]))
    (one / "list_test_all2.txt").write_text(trial(0, DEV[0], DEV[1]) + trial(0, DEV[0], TEST[2]))
    (one / "list_test_hard2.txt").write_text(trial(0, DEV[1], TEST[2]))
    return two, one


def prepare(*arguments):
    parser = argparse.ArgumentParser()
    prepare_voxceleb.add_arguments(parser)
    prepare_voxceleb.prepare(parser.parse_args([str(argument) for argument in arguments]))


def test_train_is_voxceleb2_and_test_is_what_the_lists_name(roots, tmp_path):
    prepare(*roots, tmp_path / "data")
    train, test = tmp_path / "data/train", tmp_path / "data/test"
    assert read_table(train / "utt2spk") == {
        "id00012-21Uxsk56VDQ-00001": "id00012",
        "id00012-21Uxsk56VDQ-00002": "id00012",
        "id00015-0fijmz4vTVU-00001": "id00015",
    }
    assert read_table(train / "wav.scp")["id00012-21Uxsk56VDQ-00002"] == str(
        roots[0] / "dev/flac/id00012/21Uxsk56VDQ/00002.flac"
    )
    assert set(read_table(test / "utt2spk")) == ALL
    assert (test / "trials_O").read_text().splitlines() == [
        "id10270-5r0dWxy17C8-00001 id10270--WXujl_xAVM-00017 target",
        "id10270-5r0dWxy17C8-00001 id10271-a-00001 nontarget",
    ]
    assert (test / "trials_H").read_text() == "id10002-b-00002 id10271-a-00001 nontarget\n"
    assert len((test / "trials_E").read_text().splitlines()) == 2


def test_the_first_lists_by_option_and_o_needs_no_development_part(roots, tmp_path):
    (roots[1] / "list_test_all2.txt").unlink()
    for speaker in ("id10001", "id10002"):
        (roots[1] / "wav" / speaker).rename(tmp_path / speaker)
    prepare("--trials", "O", "--lists", "original", *roots, tmp_path / "data")
    assert len((tmp_path / "data/test/trials_O").read_text().splitlines()) == 3
    assert not (tmp_path / "data/test/trials_E").exists()
    with pytest.raises(
        UserError,
        match="1 of the 4 utterances of the lists O, H are not there: id10002-b-00002; O needs the test part",
    ):
        prepare("--trials", "O,H", *roots, tmp_path / "data2")
    with pytest.raises(
        UserError,
        match="no list of trials .*list_test_all2.txt; get it with: curl -o .*meta/list_test_all2.txt",
    ):
        prepare(*roots, tmp_path / "data3")
    with pytest.raises(UserError, match="there is no list 'X'"):
        prepare("--trials", "X", *roots, tmp_path / "data4")


@pytest.mark.parametrize(
    "places", [("dev/wav", "test/wav"), ("vox1_dev_wav/wav", "vox1_test_wav/wav"), ("", ""), ("wav", "wav")]
)
def test_the_parts_of_voxceleb1_may_lie_together_or_apart(roots, tmp_path, places):
    two, one = roots
    (one / "wav").rename(tmp_path / "old")
    for place, names in zip(places, (DEV, TEST), strict=True):
        touch(one / place, names, "wav")
    (one / "meta").mkdir()
    for path in one.glob("*.txt"):
        path.rename(one / "meta" / path.name)
    prepare(two, one, tmp_path / "data")
    assert set(read_table(tmp_path / "data/test/utt2spk")) == ALL


def test_m4a_is_refused_with_the_line_that_converts_it(roots, tmp_path):
    """The line is run, with a program in the place of ffmpeg that copies; then the preparation goes
    through.
    """
    two, one = roots
    (two / "dev/flac").rename(tmp_path / "gone")
    folder = two / "dev" / "aac"
    touch(folder, VOXCELEB2, "m4a")
    with pytest.raises(UserError, match="VoxCeleb2: 3 of 3 recordings exist only as .m4a.*Convert") as caught:
        prepare(two, one, tmp_path / "data")
    (tmp_path / "bin").mkdir()
    ffmpeg = tmp_path / "bin/ffmpeg"
    ffmpeg.write_text('#!/bin/bash\nwhile [ "$1" != -i ]; do shift; done\ncp "$2" "${@: -1}"\n')
    ffmpeg.chmod(0o755)
    line = str(caught.value).splitlines()[-1]
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", line], check=True, env=environment)
    assert sorted(str(p.relative_to(two / "dev/flac")) for p in (two / "dev/flac").rglob("*.*")) == [
        f"{name}.flac" for name in VOXCELEB2
    ]
    prepare(two, one, tmp_path / "data")
    assert read_table(tmp_path / "data/train/wav.scp")["id00015-0fijmz4vTVU-00001"].endswith(
        "dev/flac/id00015/0fijmz4vTVU/00001.flac"
    )


def test_mistakes_speak(roots, tmp_path, capsys):
    two, one = roots
    with pytest.raises(UserError, match="VoxCeleb2 not found: no folder .*--corpus voxceleb2=DIR"):
        prepare(tmp_path / "nowhere", one, tmp_path / "data")
    with pytest.raises(UserError, match="does not look like VoxCeleb2"):
        (tmp_path / "empty").mkdir()
        prepare(tmp_path / "empty", one, tmp_path / "data")
    with pytest.raises(
        UserError,
        match="speakers are both in train and in test: id10001 id10002 .*VOXCELEB2_ROOT comes first",
    ):
        prepare(one, one, tmp_path / "data")
    (two / "dev/flac/id00012/21Uxsk56VDQ/00001.flac").write_bytes(b"")
    with pytest.raises(UserError, match="VoxCeleb2: 1 of 3 recordings are missing or empty"):
        prepare(two, one, tmp_path / "data")
    touch(two / "dev/flac", VOXCELEB2, "flac")
    path = one / "veri_test2.txt"
    path.write_text(path.read_text() * 2)
    prepare("--trials", "O", two, one, tmp_path / "data")
    assert "2 duplicate trials are counted once" in capsys.readouterr().err
    path.write_text(trial(1, TEST[0], TEST[1]) + trial(0, TEST[0], TEST[1]))
    with pytest.raises(UserError, match="veri_test2.txt, line 2: .*contradicts"):
        prepare(two, one, tmp_path / "data")
    path.write_text("1 Eartha_Kitt/x/0000001.wav Ray_Romano/y/0000002.wav\n")
    with pytest.raises(UserError, match="veri_test2.txt, line 1: expected '1 id10270/"):
        prepare(two, one, tmp_path / "data")


def test_the_recipe_hands_both_roots_and_the_noises_to_stage_1(tmp_path):
    recipe = (ROOT / "egs/voxceleb/conf/recipe.yaml").read_text()
    recipe = recipe.replace("disk_gb: 120", "disk_gb: 0.01")
    (tmp_path / "recipe.yaml").write_text(recipe)
    roots = [
        "--corpus",
        "voxceleb1=/v 1",
        "--corpus",
        "voxceleb2=/v2",
        "--corpus=musan=/musan",
        "--corpus=rirs=/rirs",
    ]
    command = [
        ROOT / "egs/voxceleb/run.sh",
        "--recipe-file",
        tmp_path / "recipe.yaml",
        "--work-dir",
        tmp_path,
        "--ngpu",
        "0",
    ]
    done = subprocess.run(
        [*command, *roots, "--dry-run", "--stop-stage", "1"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert [line.strip() for line in done.stdout.splitlines()] == [
        "utils/check_system.sh --backend local --disk-gb 0.01 --programs '' --ngpu 0 "
        "voxceleb2 /v2 voxceleb1 '/v 1' musan /musan rirs /rirs",
        "local/prepare_voxceleb.py /v2 '/v 1' data",
        "local/prepare_musan.py /musan data/musan",
        "local/prepare_rirs.py /rirs data/rirs",
    ]
    assert load_config(Recipe, ROOT / "egs/voxceleb/conf/recipe.yaml").train_set.min_duration == 4.0
    done = subprocess.run([*command, "--stop-stage", "0"], capture_output=True, text=True)
    assert done.returncode != 0 and "no corpus at" in done.stderr and "--corpus voxceleb2=DIR" in done.stderr
