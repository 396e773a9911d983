"""The data-directory tools as users run them: the shell scripts, on directories whose path has blanks and
non-ASCII letters.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pydino.kaldi import ArchiveWriter, DataDir, invert, read_table, validate, write_table
from pydino.kaldi.columns import read_lenient

ROOT = Path(__file__).resolve().parent.parent
UTTERANCES = [f"{speaker}-{n}" for speaker in "abc" for n in (1, 2, 3)]


def tool(name, *arguments, **more):
    return subprocess.run(
        [ROOT / "utils" / name, *map(str, arguments)], capture_output=True, text=True, timeout=60, **more
    )


def lines(path):
    return Path(path).read_text(encoding="utf-8").splitlines()


def make(path, utterances=UTTERANCES, **tables):
    """A valid data directory, and more tables (``utt2dur={...}``; an underscore before scp is a dot)."""
    path.mkdir(parents=True, exist_ok=True)
    utt2spk = {u: u.split("-")[0] for u in utterances}
    write_table(path / "utt2spk", utt2spk)
    write_table(path / "wav.scp", {u: f"/corpus/{u}.wav" for u in utterances})
    write_table(path / "spk2utt", invert(utt2spk))
    for name, table in tables.items():
        write_table(path / name.replace("_scp", ".scp"), table)
    return path


@pytest.fixture
def data(tmp_path):
    return make(
        tmp_path / "dätä dir" / "train",
        utt2emotion=dict.fromkeys(UTTERANCES[:5], "happy"),
        spk2age={"a": "7"},
        utt2hash={u: str(n) for n, u in enumerate(UTTERANCES)},
    )


def check(path, *options):
    return tool("validate_data_dir.sh", "--no-text", "--no-feats", *options, path)


# ---- validate


def test_a_valid_directory(data):
    begin = time.monotonic()
    done = check(data)
    assert done.returncode == 0
    assert f"Successfully validated data-directory {data}" in done.stderr
    assert time.monotonic() - begin < 5


def test_what_is_required_can_be_waived(data):
    done = tool("validate_data_dir.sh", data)
    assert done.returncode == 1
    assert f"no such file {data}/text (if this is by design, specify --no-text)" in done.stderr
    assert f"no such file {data}/feats.scp (if this is by design, specify --no-feats)" in done.stderr
    (data / "wav.scp").unlink()
    assert check(data).returncode == 1 and check(data, "--no-wav").returncode == 0


def append(line):
    return lambda path: path.write_text(path.read_text() + line)


def replace(old, new):
    return lambda path: path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    "name, change, message",
    [
        # Kaldi's script ends with status 0 here
        ("utt2spk", replace("a-2 a\n", "a-2\n"), "has wrong format: 'a-2 '"),
        ("utt2spk", replace("a-2 a\n", "a-2 a b\n"), "has wrong format: 'a-2 a b'"),
        ("utt2spk", lambda path: path.write_text(""), "empty file"),
        ("utt2spk", lambda path: path.unlink(), "no such file"),
        ("spk2utt", replace("a a-1 a-2", "a a-1"), "do not seem to match"),
        ("utt2spk", replace("b-2 b", "b-2 a"), "not in sorted order when sorted first on speaker-id"),
        ("wav.scp", append("a-0 /x.wav\n"), "is not sorted or has duplicates: 'a-0' comes after 'c-3'"),
        ("wav.scp", append("c-3 /corpus/c-3.wav\n"), "is not sorted or has duplicates: 'c-3' occurs twice"),
        ("wav.scp", append("c-3 /other.wav\n"), "twice with different values"),
        ("wav.scp", append("c-4 /x.wav"), "has invalid newline"),
        ("wav.scp", replace("\n", "\r\n"), "carriage returns"),
        ("wav.scp", append("\n"), "empty line"),
        ("wav.scp", replace("b-2 /corpus/b-2.wav\n", ""), "only in utt2spk: b-2 [lengths are 9 versus 8]"),
        ("wav.scp", replace("/corpus/b-2.wav", "~/b-2.wav"), "has wrong format: 'b-2 ~/b-2.wav'"),
        ("wav.scp", replace("/corpus/b-2.wav", "cat x | sox"), "| only at the end"),
        ("utt2emotion", append("z-1 sad\n"), "only in utt2emotion: z-1"),
        ("utt2hash", replace("b-2 4\n", ""), "only in utt2spk: b-2"),
        ("utt2hash", replace("b-2 4", "b-2 -4"), "below 2^64"),
        ("spk2age", append("z 9\n"), "speaker lists extracted from utt2spk and spk2age differ"),
    ],
)
def test_what_is_wrong_is_named_and_fails(data, name, change, message):
    change(data / name)
    done = check(data)
    assert done.returncode == 1
    assert message in done.stderr and f"{data}" in done.stderr
    assert "Traceback" not in done.stderr and "Successfully" not in done.stderr


@pytest.mark.parametrize(
    "name, line, message",
    [
        ("utt2num_frames", "1.5", "positive whole number"),
        ("utt2num_frames", "0", "positive whole number"),
        ("utt2dur", "-1", "seconds"),
        ("utt2dur", "nan", "seconds"),
        ("utt2warp", "1.6", "between 0.5 and 1.5"),
        ("text", "a <s> b", "<s>"),
        ("text", "bell \a", "non-printable"),
    ],
)
def test_values_of_known_files(data, name, line, message):
    write_table(data / name, dict.fromkeys(UTTERANCES, line))
    assert any(message in error for error in validate(data, feats=False))


def test_vad_is_compared_like_features(data):
    write_table(data / "vad.scp", {u: f"vad.ark:{n}" for n, u in enumerate(UTTERANCES[1:], 1)})
    assert "only in utt2spk: a-1" in check(data).stderr


def segmented(path):
    """Two recordings, three utterances, no text: Kaldi then leaves segments unchecked."""
    make(path, ["a-1", "a-2", "b-1"], segments={"a-1": "r1 0 1.5", "a-2": "r1 2 3", "b-1": "r2 0 2"})
    write_table(path / "wav.scp", {"r1": "/corpus/r1.wav", "r2": "/corpus/r2.wav"})
    write_table(path / "reco2dur", {"r1": "3", "r2": "2"})
    return path


def test_segments_are_compared_with_utt2spk_without_a_text(tmp_path):
    data = segmented(tmp_path / "seg")
    assert check(data).returncode == 0
    append("b-2 r2 1 2\n")(data / "segments")
    assert "only in segments: b-2" in check(data).stderr


@pytest.mark.parametrize("line", ["r2 2 1", "r2 0", "r2 0 -1", "r2 zero 1"])
def test_badly_formatted_segments(tmp_path, line):
    data = segmented(tmp_path / "seg")
    replace("r2 0 2", line)(data / "segments")
    assert any("badly formatted segments file" in error for error in validate(data, feats=False))


def test_one_speaker_is_a_warning(tmp_path):
    done = check(make(tmp_path / "one", ["a-1", "a-2"]))
    assert done.returncode == 0 and "only one speaker" in done.stderr


def test_misspelt_option(data):
    done = tool("validate_data_dir.sh", "--no-feat", data)
    assert done.returncode == 1 and "--no-feats" in done.stderr


# ---- validate --deep


@pytest.fixture
def deep(tmp_path):
    """Recordings of one second and archives that fit them."""
    folder = tmp_path / "wåv files"
    folder.mkdir()
    rng = np.random.default_rng(0)
    data = make(tmp_path / "dätä")
    for utterance in UTTERANCES:
        soundfile.write(folder / f"{utterance}.wav", rng.normal(0, 0.1, 8000), 8000, subtype="PCM_16")
    write_table(data / "wav.scp", {u: f"{folder}/{u}.wav" for u in UTTERANCES})
    write_table(data / "utt2dur", dict.fromkeys(UTTERANCES, "1.00"))
    write_table(data / "utt2num_frames", dict.fromkeys(UTTERANCES, "98"))
    for name, shape in {"feats": (98, 4), "vad": (98,), "energy": (98,)}.items():
        with ArchiveWriter(tmp_path / f"{name}.ark", data / f"{name}.scp") as archive:
            for utterance in UTTERANCES:
                archive.write(utterance, np.ones(shape, dtype=np.float32))
    return data


def test_deep_check_from_the_shell(deep):
    done = check(deep, "--deep")
    assert done.returncode == 0, done.stderr
    audio(deep).unlink()
    done = check(deep, "--deep")
    assert done.returncode == 1 and "b-2: cannot read" in done.stderr


def audio(deep, utterance="b-2"):
    return Path(read_table(deep / "wav.scp")[utterance])


def rewrite(samples, rate):
    return lambda deep: soundfile.write(audio(deep), samples, rate, subtype="PCM_16")


def other_archive(name, shape):
    def change(deep):
        with ArchiveWriter(deep / "other.ark", deep / "other.scp") as archive:
            archive.write("b-2", np.ones(shape, dtype=np.float32))
        write_table(deep / name, {**read_table(deep / name), **read_table(deep / "other.scp")})

    return change


def truncate(path, size):
    with open(path, "r+b") as stream:
        stream.truncate(size)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda deep: audio(deep).unlink(), "b-2: cannot read"),
        (lambda deep: truncate(audio(deep), 0), "the file is empty"),
        (lambda deep: audio(deep).write_text("not audio"), "cannot be decoded"),
        (
            lambda deep: truncate(audio(deep), 9000),
            "states 16000 bytes of samples but 8956 follow: a truncated copy",
        ),
        (rewrite(np.zeros(0), 8000), "has no samples"),
        (rewrite(np.zeros((8000, 2)), 8000), "has 2 channels"),
        (rewrite(np.zeros(16000), 16000), "1 recordings at 16000 Hz, others at 8000 Hz: b-2"),
        (rewrite(np.zeros(4000), 8000), "b-2 has a duration of 1.00 s, its recording lasts 0.50 s"),
        (other_archive("vad.scp", (97,)), "b-2 has 98 frames in feats.scp and 97 in vad.scp"),
        (other_archive("energy.scp", (99,)), "b-2 has 98 frames in feats.scp and 99 in energy.scp"),
        (other_archive("feats.scp", (98, 5)), "1 utterances have 5 features, others 4: b-2"),
        (other_archive("feats.scp", (97, 4)), "b-2 has 97 frames in feats.scp and 98 in utt2num_frames"),
        (other_archive("vad.scp", (98, 4)), "has the shape (98, 4), expected frames"),
        (lambda deep: truncate(deep.parent / "feats.ark", 14000), "feats.scp: c-3:"),
        (lambda deep: (deep.parent / "vad.ark").unlink(), "vad.scp: a-1: cannot read"),
        (lambda deep: replace("feats.ark:4\n", "feats.ark:9\n")(deep / "feats.scp"), "feats.scp: a-1:"),
    ],
)
def test_deep_check_finds(deep, change, message):
    change(deep)
    assert validate(deep) == []  # the text tables agree
    assert any(message in error for error in validate(deep, deep=True))


# ---- fix


def test_fix_intersects_over_vad_and_what_it_leaves_is_valid(data):
    write_table(data / "feats.scp", {u: f"f.ark:{n}" for n, u in enumerate(UTTERANCES)})
    write_table(data / "vad.scp", {u: f"v.ark:{n}" for n, u in enumerate(UTTERANCES) if u != "b-2"})
    done = tool("fix_data_dir.sh", data)
    assert done.returncode == 0, done.stderr
    assert "kept 8 utterances out of 9" in done.stderr and "not in vad.scp: b-2" in done.stderr
    assert "b-2" not in read_table(data / "feats.scp") and "b-2" not in read_table(data / "utt2hash")
    assert check(data).returncode == 0
    assert "b-2" in (data / ".backup/feats.scp").read_text()
    assert lines(data / ".backup/dropped") == ["b-2 not in vad.scp"]
    assert "kept all 8 utterances." in tool("fix_data_dir.sh", data).stderr


def test_fix_sorts_and_drops_exact_repeats(data):
    table = lines(data / "wav.scp")
    (data / "wav.scp").write_text("\r\n".join([*reversed(table), table[0]]))
    assert check(data).returncode == 1
    done = tool("fix_data_dir.sh", data)
    assert done.returncode == 0 and "kept all 9 utterances." in done.stderr
    assert lines(data / "wav.scp") == table and check(data).returncode == 0


def test_fix_refuses_to_choose_between_values(data):
    append("a-1 /other.wav\n")(data / "wav.scp")
    before = {f.name: f.read_bytes() for f in data.iterdir()}
    done = tool("fix_data_dir.sh", data)
    assert done.returncode == 1
    assert f"{data}/wav.scp, line 10: key 'a-1' occurs twice with different values" in done.stderr
    assert {f.name: f.read_bytes() for f in data.iterdir()} == before


@pytest.mark.parametrize(
    "before, line", [("", 2), ("\n", 3), ("x 1\n\n\ny 2\n", 6), ("x 1\n" * 400_000 + "\n", 400_003)]
)
def test_the_line_of_a_second_value_is_right(tmp_path, before, line):
    (tmp_path / "table").write_text(f"{before}a-1 first\na-1 second\n")
    _, found = read_lenient(tmp_path / "table")
    assert found.conflict.startswith(f"line {line}: key 'a-1' occurs twice")


def test_fix_drops_an_utterance_without_speaker(data):
    replace("b-2 b\n", "b-2\n")(data / "utt2spk")
    done = tool("fix_data_dir.sh", data)
    assert "malformed line in utt2spk: b-2" in done.stderr and check(data).returncode == 0
    assert "b-2" not in read_table(data / "wav.scp")


def test_fix_filters_label_maps_without_intersecting(data):
    append("z-1 sad\n")(data / "utt2emotion")
    replace("c-3 /corpus/c-3.wav\n", "")(data / "wav.scp")
    tool("fix_data_dir.sh", data)
    assert list(read_table(data / "utt2emotion")) == UTTERANCES[:5] and len(read_table(data / "utt2spk")) == 8
    tool("fix_data_dir.sh", "--utt-extra-files", "utt2emotion", data)
    assert list(read_table(data / "utt2spk")) == UTTERANCES[:5]


def test_fix_of_segments_follows_recordings(tmp_path):
    data = segmented(tmp_path / "seg")
    replace("r2 /corpus/r2.wav\n", "r3 /corpus/r3.wav\n")(data / "wav.scp")
    done = tool("fix_data_dir.sh", data)
    assert "kept 2 utterances out of 3" in done.stderr
    assert (
        list(read_table(data / "wav.scp")) == list(read_table(data / "reco2dur")) == ["r1"]
        and check(data).returncode == 0
    )


def test_fix_that_would_leave_nothing_changes_nothing(data):
    write_table(data / "wav.scp", {"x": "/x.wav"})
    before = (data / "utt2spk").read_bytes()
    done = tool("fix_data_dir.sh", data)
    assert done.returncode == 1 and "none would be left" in done.stderr and "wav.scp 1" in done.stderr
    assert (data / "utt2spk").read_bytes() == before and not (data / ".backup").exists()


# ---- split


def parts(folder):
    return [list(read_table(p / "utt2spk")) for p in sorted(Path(folder).iterdir()) if p.is_dir()]


def test_split_keeps_speakers_whole(data):
    done = tool("split_data.sh", data, 2)
    assert done.stdout.strip() == f"{data}/split2"
    split = parts(data / "split2")
    assert sum(split, []) == UTTERANCES and sorted(map(len, split)) == [3, 6]
    assert read_table(data / "split2/1/utt2emotion") == dict.fromkeys(UTTERANCES[:5], "happy")
    assert not any(validate(p, feats=False) for p in (data / "split2").iterdir() if p.is_dir())


@pytest.mark.parametrize("options, count", [((), 4), ((), 9), (("--per-utt",), 2)])
def test_split_by_utterance(data, options, count):
    done = tool("split_data.sh", *options, data, count)
    assert done.returncode == 0 and done.stdout.strip() == f"{data}/split{count}utt"
    sizes = list(map(len, parts(data / f"split{count}utt")))
    assert len(sizes) == count and sum(sizes) == 9 and max(sizes) - min(sizes) <= 1


def test_split_into_more_parts_than_utterances(data):
    done = tool("split_data.sh", data, 10)
    assert (
        done.returncode == 1 and "10 jobs are more than its 9 utterances; use --nj 9 or less" in done.stderr
    )


def test_split_is_fresh_by_content_not_by_time(data):
    tool("split_data.sh", data, 3)
    mark = data / "split3/1/.mine"
    mark.touch()
    os.utime(data / "wav.scp")
    tool("split_data.sh", data, 3)
    assert mark.exists()  # newer, and the same text: left alone
    text = data / "utt2emotion"
    old = text.stat()
    replace("happy", "bored")(text)
    os.utime(text, ns=(old.st_atime_ns, old.st_mtime_ns))
    tool("split_data.sh", data, 3)
    assert not mark.exists() and "bored" in (data / "split3/1/utt2emotion").read_text()


def test_a_damaged_split_is_made_again(data):
    tool("split_data.sh", data, 3)
    (data / "split3/2/wav.scp").unlink()
    tool("split_data.sh", data, 3)
    assert (data / "split3/2/wav.scp").exists() and not list(data.glob(".split*"))


def test_split_of_segments_takes_the_recordings_along(tmp_path):
    data = segmented(tmp_path / "seg")
    tool("split_data.sh", "--per-utt", data, 3)
    assert list(read_table(data / "split3utt/2/wav.scp")) == ["r1"] and list(
        read_table(data / "split3utt/3/reco2dur")
    ) == ["r2"]


# ---- subset


def subset_of(data, *arguments):
    target = data.parent / "part of it"
    done = tool("subset_data_dir.sh", *arguments[:-1], data, *arguments[-1], target)
    assert done.returncode == 0, done.stderr
    assert validate(target, feats=False) == []
    return list(read_table(target / "utt2spk"))


@pytest.mark.parametrize(
    "options, chosen",
    [
        ([], ["a-1", "a-3", "b-2", "c-1"]),
        (["--first"], UTTERANCES[:4]),
        (["--last"], UTTERANCES[-4:]),
        (["--shortest"], ["b-3", "c-1", "c-2", "c-3"]),
    ],
)
def test_subset_by_number(data, options, chosen):
    write_table(data / "utt2num_frames", {u: 100 - n for n, u in enumerate(UTTERANCES)})
    assert subset_of(data, *options, [4]) == chosen


def test_subset_by_speaker(data, tmp_path):
    assert subset_of(data, "--per-spk", [1]) == ["a-1", "b-1", "c-1"]
    whole = subset_of(data, "--speakers", [4])
    assert len(whole) == 6 and whole == subset_of(data, "--speakers", [4])
    (tmp_path / "list").write_text("c\na anything\nnobody\n")
    assert subset_of(data, "--spk-list", tmp_path / "list", []) == UTTERANCES[:3] + UTTERANCES[6:]
    (tmp_path / "list").write_text("b-1\nc-3\n")
    assert subset_of(data, "--utt-list", tmp_path / "list", []) == ["b-1", "c-3"]


def test_subset_carries_maps_and_facts_and_leaves_nothing_old(data):
    (data / "frame_shift").write_text("0.01\n")
    (data / "conf").mkdir()
    (data / "conf/fbank.yaml").write_text("num_mel_bins: 4\n")
    make(data.parent / "part of it", utt2lang=dict.fromkeys(UTTERANCES, "en"))
    subset_of(data, "--first", [2])
    part = data.parent / "part of it"
    assert read_table(part / "utt2emotion") == {"a-1": "happy", "a-2": "happy"} and read_table(
        part / "spk2age"
    ) == {"a": "7"}
    assert (
        (part / "frame_shift").exists()
        and (part / "conf/fbank.yaml").exists()
        and not (part / "utt2lang").exists()
    )


def test_subset_mistakes(data, tmp_path):
    assert (
        "cannot subset to more utterances than you originally had"
        in tool("subset_data_dir.sh", data, 10, tmp_path / "x").stderr
    )
    assert "same directory" in tool("subset_data_dir.sh", data, 2, data).stderr
    assert "--shortest needs" in tool("subset_data_dir.sh", "--shortest", data, 2, tmp_path / "x").stderr
    (tmp_path / "list").write_text("nobody\n")
    done = tool("subset_data_dir.sh", "--utt-list", tmp_path / "list", data, tmp_path / "x")
    assert done.returncode == 1 and "no utterance" in done.stderr and not (tmp_path / "x").exists()


# ---- combine and copy


def test_copy_renames_everywhere(data, tmp_path):
    copied = tmp_path / "copy"
    done = tool(
        "copy_data_dir.sh", "--utt-prefix", "x-", "--spk-prefix", "x-", "--utt-suffix", "-y", data, copied
    )
    assert done.returncode == 0 and "Successfully validated" in done.stderr
    assert read_table(copied / "utt2spk")["x-b-2-y"] == "x-b" and read_table(copied / "spk2age") == {
        "x-a": "7"
    }
    assert read_table(copied / "utt2uniq")["x-b-2-y"] == "b-2"
    assert read_table(copied / "utt2hash")["x-b-2-y"] == "4"  # of the first name, for good
    assert read_table(copied / "wav.scp")["x-b-2-y"] == "/corpus/b-2.wav"


def test_copy_keeps_recordings_of_segments(tmp_path):
    data = segmented(tmp_path / "seg")
    assert (
        tool(
            "copy_data_dir.sh", "--utt-prefix", "x-", "--spk-prefix", "x-", data, tmp_path / "copy"
        ).returncode
        == 0
    )
    assert list(read_table(tmp_path / "copy/wav.scp")) == ["r1", "r2"]
    assert read_table(tmp_path / "copy/segments")["x-a-1"] == "r1 0 1.5"


def test_copy_whose_names_do_not_sort_fails(data, tmp_path):
    done = tool(
        "copy_data_dir.sh",
        "--utt-suffix",
        "-x",
        "--spk-prefix",
        "q-",
        "--validate-opts",
        "--no-spk-sort",
        data,
        tmp_path / "copy",
    )
    assert done.returncode == 0
    replace("a-1 a", "a-1 z")(data / "utt2spk")
    done = tool("copy_data_dir.sh", data, tmp_path / "copy")
    assert done.returncode == 1 and "sorted first on speaker-id" in done.stderr


def test_combine(data, tmp_path):
    other = make(
        tmp_path / "other", ["d-1", "d-2"], utt2emotion={"d-1": "sad"}, utt2lang={"d-1": "en", "d-2": "en"}
    )
    done = tool("combine_data.sh", tmp_path / "both", data, other)
    assert done.returncode == 0, done.stderr
    assert (
        list(read_table(tmp_path / "both/utt2spk")) == [*UTTERANCES, "d-1", "d-2"]
        and check(tmp_path / "both").returncode == 0
    )
    assert read_table(tmp_path / "both/utt2emotion")["d-1"] == "sad"
    assert not (tmp_path / "both/utt2lang").exists()
    assert f"**not combining utt2lang as it does not exist everywhere** (not in {data})" in done.stderr


def test_combine_refuses_an_utterance_in_two_places(data, tmp_path):
    done = tool("combine_data.sh", tmp_path / "both", data, make(tmp_path / "other", ["b-2"]))
    assert done.returncode == 1 and "both have: b-2" in done.stderr and not (tmp_path / "both").exists()
    assert "is both the destination and one of the sources" in tool("combine_data.sh", data, data).stderr


def test_combine_makes_segments_and_utt2uniq_for_those_without(tmp_path):
    plain = make(
        tmp_path / "plain",
        ["c-1", "d-1"],
        utt2dur={"c-1": "1.5", "d-1": "2.25"},
        utt2uniq={"c-1": "x", "d-1": "y"},
    )
    done = tool("combine_data.sh", tmp_path / "both", segmented(tmp_path / "seg"), plain)
    assert done.returncode == 0, done.stderr
    assert read_table(tmp_path / "both/segments")["d-1"] == "d-1 0.00 2.25"
    assert read_table(tmp_path / "both/utt2uniq") == {
        "a-1": "a-1",
        "a-2": "a-2",
        "b-1": "b-1",
        "c-1": "x",
        "d-1": "y",
    }
    assert check(tmp_path / "both").returncode == 0


def test_combine_refuses_features_that_do_not_go_together(tmp_path):
    sources = []
    for name, shift in (("a", "0.01"), ("b", "0.02")):
        sources.append(make(tmp_path / name, [f"{name}-1"], feats_scp={f"{name}-1": "f.ark:5"}))
        (sources[-1] / "frame_shift").write_text(shift + "\n")
    done = tool("combine_data.sh", tmp_path / "both", *sources)
    assert done.returncode == 1 and "different frame_shift" in done.stderr and str(sources[1]) in done.stderr


# ---- the rest


def test_maps_there_and_back(data):
    back = tool("spk2utt_to_utt2spk", data / "spk2utt")
    assert back.stdout == (data / "utt2spk").read_text()
    assert tool("utt2spk_to_spk2utt", input=back.stdout).stdout == (data / "spk2utt").read_text()
    wrong = tool("utt2spk_to_spk2utt", input="a-1 a\nb-1\n")
    assert wrong.returncode == 1 and "line 2" in wrong.stderr


def test_data_dir_reads_when_asked(data):
    directory = DataDir(data)
    assert (
        directory.utterances == UTTERANCES
        and directory.feats_scp is None
        and directory.utt2emotion["a-1"] == "happy"
    )
    assert directory.wav_scp["a-1"] == "/corpus/a-1.wav"
    with pytest.raises(AttributeError, match="no table trials"):
        directory.trials  # noqa: B018


def test_combining_directories_whose_names_interleave_is_sorted(tmp_path):
    """Also the tables that are keyed by speaker, of which two directories may have the same."""
    for number in (1, 2):
        names = [f"{speaker}-{number}{n}" for speaker in "ab" for n in range(3)]
        for table, rest in (("wav.scp", "/corpus/{}.wav"), ("utt2dur", "1.5")):
            write_table(tmp_path / f"{number}/{table}", {name: rest.format(name) for name in names})
        write_table(tmp_path / f"{number}/utt2spk", {name: name[0] for name in names})
        write_table(tmp_path / f"{number}/spk2gender", {"a": "f", "b": "m"})
    done = tool("combine_data.sh", tmp_path / "both", tmp_path / "1", tmp_path / "2")
    assert done.returncode == 0, done.stderr
    names = [f"{speaker}-{number}{n}" for speaker in "ab" for number in (1, 2) for n in range(3)]
    both = tmp_path / "both"
    assert (both / "wav.scp").read_text() == "".join(f"{name} /corpus/{name}.wav\n" for name in names)
    assert (both / "spk2gender").read_text() == "a f\nb m\n"
    assert (both / "spk2utt").read_text() == f"a {' '.join(names[:6])}\nb {' '.join(names[6:])}\n"


MEMORY = """
import sys, tracemalloc
from pydino.kaldi import combine, fix, split
tool, *places = sys.argv[1:]
tracemalloc.start()
{"fix": lambda: fix(places[0]), "split": lambda: split(places[0], 8), "combine": lambda: combine("c", places)}[tool]()
print(tracemalloc.get_traced_memory()[1])
"""


@pytest.mark.parametrize("name", ["fix", "split", "combine"])
def test_about_one_table_at_a_time_is_in_memory(name, tmp_path):
    """So that 1.1 million utterances take less than 500 MB."""
    halves = [1, 2] if name == "combine" else [1]
    count = 20000 // len(halves)
    for half in halves:
        keys = [f"id{half}{n // 180:05d}-video{n:08d}-{n:05d}" for n in range(count)]
        rows = {"utt2spk": lambda key: key[:8], "utt2num_frames": lambda key: "400"}
        rows |= dict.fromkeys(
            ["wav.scp", "feats.scp", "vad.scp"], lambda key: f"/corpora/a/long/path/{key}.wav"
        )
        for table, rest in rows.items():
            write_table(tmp_path / f"{half}/{table}", {key: rest(key) for key in keys})
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, name, *map(str, halves)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) / count / len(halves) < 620  # bytes an utterance, blocks of files among them


def test_a_full_or_read_only_place_is_an_error(data, tmp_path):
    (tmp_path / "file").write_text("")
    done = tool("subset_data_dir.sh", data, 2, tmp_path / "file/part")
    assert done.returncode == 1 and "cannot write" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("name, absent", [("validate_data_dir.sh", "torch"), ("run_local.sh", "torch|numpy")])
def test_the_tools_do_not_load_torch(name, absent, data, tmp_path):
    done = subprocess.run(
        [
            ROOT / "utils" / name,
            *(["--no-text", "--no-feats", "--deep", data] if name.startswith("val") else ["a.log", "true"]),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"},
    )
    assert re.search(r"\| +pydino\.base$", done.stderr, re.MULTILINE) and not re.search(
        rf"\| +({absent})$", done.stderr, re.MULTILINE
    )


def test_shellcheck():
    tools = [
        p
        for p in (ROOT / "utils").iterdir()
        if p.is_file() and p.read_bytes().startswith(b"#!/usr/bin/env bash")
    ]
    done = subprocess.run(["shellcheck", "-x", *tools], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout


# ---- text as editors and other systems write it

BOM = "\ufeff".encode()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda content: BOM + content, "begins with a byte order mark"),
        (lambda content: content.replace(b"\n", b"\r\n"), "carriage returns"),
        (lambda content: content.replace(b"\n", b"\r"), "carriage returns"),
        (lambda content: b" " + content, "line 1: blank at the beginning"),
        (lambda content: content.removesuffix(b"\n"), "does not end with one"),
        (lambda content: b"\n" + content + b"\n", "line 1: empty line"),
    ],
)
@pytest.mark.parametrize("name", ["wav.scp", "utt2spk", "spk2utt", "utt2emotion"])
def test_what_an_editor_adds_is_named_and_fix_removes_it(data, name, change, message):
    before = {file: (data / file).read_bytes() for file in ("wav.scp", "utt2spk", "spk2utt", "utt2emotion")}
    (data / name).write_bytes(change(before[name]))
    done = check(data)
    assert done.returncode == 1 and message in done.stderr and "1 errors" in done.stderr, done.stderr
    done = tool("fix_data_dir.sh", data)
    assert done.returncode == 0 and "kept all 9 utterances." in done.stderr
    assert {file: (data / file).read_bytes() for file in before} == before


def test_what_is_not_utf8_is_named_by_every_tool(data, tmp_path):
    (data / "utt2emotion").write_bytes("a-1 fröhlich\n".encode("latin-1"))
    for done in (
        check(data),
        tool("fix_data_dir.sh", data),
        tool("copy_data_dir.sh", data, tmp_path / "copy"),
        tool("subset_data_dir.sh", data, 2, tmp_path / "copy"),
        tool("split_data.sh", data, 2),
        tool("combine_data.sh", tmp_path / "copy", data, make(tmp_path / "other", ["d-1"])),
    ):
        if "combine" not in done.args[0].name:  # not everywhere, so not read
            assert done.returncode == 1 and "Traceback" not in done.stderr
            assert f"{data}/utt2emotion is not UTF-8 text: byte 7 of line 1" in done.stderr
    assert "1 errors" in check(data).stderr
    (tmp_path / "list").write_bytes("a-1\nJürgen\n".encode("latin-1"))
    (data / "utt2emotion").unlink()
    done = tool("subset_data_dir.sh", "--utt-list", tmp_path / "list", data, tmp_path / "part")
    assert done.returncode == 1 and f"{tmp_path}/list is not UTF-8 text: byte 2 of line 2" in done.stderr
    done = tool("utt2spk_to_spk2utt", tmp_path / "list")
    assert done.returncode == 1 and "byte 2 of line 2" in done.stderr and "Traceback" not in done.stderr


def test_lists_with_other_line_ends(data, tmp_path):
    for content in (BOM + b"b-1\r\nc-3\r\n", b"b-1\rc-3\r", b"b-1\nc-3"):
        (tmp_path / "list").write_bytes(content)
        assert subset_of(data, "--utt-list", tmp_path / "list", []) == ["b-1", "c-3"]
    done = tool("utt2spk_to_spk2utt", input="\ufeffa-1 a\r\na-2 a\r\n")
    assert done.stdout == "a a-1 a-2\n"


def test_names_hold_what_only_unicode_calls_a_blank(tmp_path):
    """Validator and tools split where the reader splits."""
    names = ["a\u00a0b-1", "a\u00a0b-2", "c\u2028d\u3000-1", "e\x1cf\x85-1"]
    data = make(tmp_path / "data", names, utt2emotion=dict.fromkeys(names, "sehr\u00a0froh"))
    assert check(data, "--no-spk-sort").returncode == 0
    assert subset_of(data, "--first", [2]) == names[:2]
    assert tool("fix_data_dir.sh", data).returncode == 0 and list(read_table(data / "utt2spk")) == names
    assert tool("split_data.sh", "--per-utt", data, 4).returncode == 0
    assert parts(data / "split4utt") == [[name] for name in names]
    back = tool("spk2utt_to_utt2spk", data / "spk2utt")
    assert back.stdout == (data / "utt2spk").read_text(encoding="utf-8")


def test_a_tab_in_a_path_is_kept(data, tmp_path):
    paths = {u: f"/corpus/my\tfiles/{u} x.wav" for u in UTTERANCES}
    (data / "wav.scp").write_text("".join(f"{u} {p}\n" for u, p in paths.items()))
    assert check(data).returncode == 0 and read_table(data / "wav.scp") == paths
    assert tool("copy_data_dir.sh", data, tmp_path / "copy").returncode == 0
    assert read_table(tmp_path / "copy/wav.scp") == paths


# ---- size


def test_the_tools_do_not_keep_every_table(tmp_path):
    """What is measured at VoxCeleb's size by benchmarks/data_dirs.py, at a twentieth of it."""
    utterances = [f"id{n // 50:05d}-{n:015d}" for n in range(50_000)]
    data = make(
        tmp_path / "data",
        utterances,
        **{f"utt2map{n}": dict.fromkeys(utterances, "x" * 60) for n in range(8)},
    )
    code = (
        "import sys, tracemalloc; from pydino.kaldi import copy, validate; tracemalloc.start();"
        "assert not validate(sys.argv[1], feats=False); copy(sys.argv[1], sys.argv[2], utt_suffix='x');"
        "print(tracemalloc.get_traced_memory()[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, data, tmp_path / "copy"], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 30e6  # all tables as dictionaries of text are 110 MB
