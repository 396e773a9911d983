"""Archives and scripts against Kaldi's own files, and what is said about broken ones."""

import io
import os
import pickle
import resource
import struct
from pathlib import Path

import kaldiio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pydino.base import UserError
from pydino.kaldi import (
    ArchiveWriter,
    ObjectReader,
    archives,
    read_ark,
    read_object,
    read_scp_objects,
    read_table,
)
from pydino.kaldi.archive_writer import encode_object
from pydino.kaldi.objects import read_object_at

FIXTURES = Path(__file__).parent / "fixtures/kaldi"


@pytest.fixture(autouse=True)
def in_fixtures(monkeypatch):
    monkeypatch.chdir(FIXTURES)  # the scp files are relative to it


def same(array, expected):
    assert (array.dtype, array.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(
    "ark, npz",
    [("mat_f64.ark", "mat_f64"), ("mat.txt", "mat_from_text"), ("int.ark", "int"), ("int.txt", "int")],
)
def test_archives_read_as_kaldi_reads_them(ark, npz):
    expected = np.load(f"arc/{npz}.npz")
    objects = dict(read_ark(f"arc/{ark}"))
    assert set(objects) == set(expected.files)
    for key, array in objects.items():
        if array.size:  # an empty text object is a vector here
            same(array, expected[key])
        assert array.size == expected[key].size and array.flags.writeable


@pytest.mark.parametrize("name, prefix", [("mat_f32", "mat_"), ("vec_f32", "vec_"), ("mat_ne", "mat_")])
def test_binary_archives_hold_the_source_bit_for_bit_by_archive_and_by_script(name, prefix):
    source = np.load("arc/source.npz")
    by_script = dict(read_scp_objects(f"arc/{name}.scp"))
    for key, array in read_ark(f"arc/{name}.ark"):
        same(
            array,
            source[prefix + key] if key != "empty" or prefix == "vec_" else np.empty((0, 0), np.float32),
        )
        same(by_script.pop(key), array)
    assert not by_script


def test_single_files_and_scripts_into_text():
    source = np.load("arc/source.npz")
    same(read_object("arc/single_feat.mat"), source["mat_feat"])
    same(read_object("arc/single_vec.vec"), source["vec_vec"])
    same(read_object("arc/int_single.vec"), np.load("arc/int.npz")["ali"])
    same(read_object("arc/mean_f64.vec"), np.load("arc/mean_f64.npz")["mean"])
    np.testing.assert_allclose(read_object("arc/single_feat.txt"), source["mat_feat"], rtol=1e-6)
    in_order = dict(read_ark("arc/vec_scp.txt"))
    for key, array in read_scp_objects("arc/vec_scp.scp"):
        same(array, in_order[key])


@pytest.mark.parametrize("name", ["range", "range_vec"])
def test_ranges_are_inclusive_and_the_row_end_is_tolerated_like_kaldi(name):
    expected = np.load(f"arc/{name}_read.npz")
    objects = dict(read_scp_objects(f"arc/{name}.scp"))
    assert set(objects) == set(expected.files)
    for key, array in objects.items():
        same(array, expected[key])


@pytest.mark.parametrize("number", range(8))
def test_ranges_that_kaldi_refuses_are_refused_by_key_and_file(number):
    with pytest.raises(UserError, match=r"x.*arc/mat_f32\.ark|arc/mat_f32\.ark.*\(x\)"):
        list(read_scp_objects(f"arc/bad{number}.scp"))


@pytest.mark.parametrize(
    "source, text, target",
    [
        ("mat_f32.ark", False, "mat_f32.ark"),
        ("vec_f32.ark", False, "vec_f32.ark"),
        ("mat_f64.ark", False, "mat_f64.ark"),
        ("int.ark", False, "int.ark"),
        ("mat_f32.ark", True, "mat.txt"),
        ("vec_f32.ark", True, "vec.txt"),
        ("mat_f64.ark", True, "mat_f64.txt"),
        ("int.ark", True, "int.txt"),
    ],
)
def test_written_archives_are_kaldis_byte_for_byte(tmp_path, source, text, target):
    with ArchiveWriter(tmp_path / "a.ark", tmp_path / "a.scp", text=text) as out:
        for key, array in read_ark(f"arc/{source}"):
            out.write(key, array)
    assert (tmp_path / "a.ark").read_bytes() == Path(f"arc/{target}").read_bytes()
    scp = Path(f"arc/{target}").with_suffix(".scp")
    if scp.exists() and not text:
        ours = (tmp_path / "a.scp").read_text().replace(str(tmp_path / "a.ark"), f"arc/{target}")
        assert ours == "".join(sorted(scp.read_text().splitlines(keepends=True)))


@pytest.mark.parametrize(
    "ark, good, message",
    [
        ("trunc_data", 11, r"trunc_data.ark, byte 3411 \(big\).*140 of 240 bytes.*truncated"),
        ("trunc_header", 11, r"byte 3411 \(big\).*header.*truncated"),
        ("trunc_key", 11, r"byte 3407.*inside the key 'bi'"),
        ("trunc_afterkey", 11, r"byte 3411 \(big\).*ends before"),
        ("trunc_comp", 11, r"byte 1468 \(big\).*77 of 84 bytes"),
        ("trunc_vec", 1, r"byte 86 \(one\).*truncated"),
        ("badtok", 0, r"byte 2 \(k\): unknown type 'XX'"),
        ("comp/empty_mid", 2, r"byte 91: expected a key.*empty compressed matrix"),
    ],
)
def test_broken_archives_are_named_with_key_and_offset(ark, good, message):
    objects = read_ark(f"arc/{ark}.ark")
    for _ in range(good):
        next(objects)
    with pytest.raises(UserError, match=message):
        next(objects)


def test_every_cut_of_an_archive_is_noticed(tmp_path):
    integers = Path("arc/int.ark").read_bytes()[:190]
    content = Path("arc/vec_f32.ark").read_bytes() + integers.replace(b"empty", b"blank").replace(
        b"one", b"uno"
    )
    whole = len(read_ark_bytes(tmp_path, content))
    boundaries = 0
    for size in range(1, len(content)):
        try:
            read_ark_bytes(tmp_path, content[:size])
            boundaries += 1
        except UserError:
            pass
    # Well-formed only where an entry ends, and where an int vector cut after its count looks like a single
    # integer.
    assert boundaries == whole - 1 + 2


def read_ark_bytes(folder, content):
    (folder / "x.ark").write_bytes(content)
    return list(read_ark(folder / "x.ark"))


def test_a_corrupt_size_does_not_take_the_memory_it_promises(tmp_path):
    head = b"k \0BFM \4" + struct.pack("<i", 2**31 - 1) + b"\4" + struct.pack("<i", 2**31 - 1)
    with pytest.raises(UserError, match="truncated"):
        read_ark_bytes(tmp_path, head)
    with pytest.raises(UserError, match="corrupt"):
        read_ark_bytes(tmp_path, b"k \0BFM \4" + struct.pack("<i", -3) + b"\4" + struct.pack("<i", 2))


def test_a_pickle_in_an_archive_is_not_opened(tmp_path):
    with pytest.raises(UserError):
        read_ark_bytes(tmp_path, b"k PKL" + pickle.dumps([1]))


def test_missing_files_duplicates_and_offsets_are_errors(tmp_path):
    with pytest.raises(UserError, match=r"nosuch.ark \(a\).*No such file"):
        list(read_scp_objects("arc/missing.scp"))
    with pytest.raises(UserError, match="'feat' occurs twice"):
        list(read_scp_objects("arc/dup.scp"))
    with pytest.raises(UserError, match=r"\(one\): duplicate key"):
        read_ark_bytes(tmp_path, b"one [ 1 ]\none [ 1 ]\n")
    with pytest.raises(UserError, match="byte 99999.*wrong offset"):
        read_object("arc/mat_f32.ark:99999")
    assert list(read_ark("arc/zero.ark")) == []


def test_commands_run_only_when_allowed_and_fail_loudly():
    with pytest.raises(UserError, match="--allow-pipes true"):
        read_object("cat arc/single_vec.vec |")
    same(read_object("cat arc/single_vec.vec |", allow_pipes=True), read_object("arc/single_vec.vec"))
    same(
        read_object("cat arc/single_vec.vec |[2:4]", allow_pipes=True), read_object("arc/single_vec.vec")[2:5]
    )
    assert dict(read_ark("cat arc/int.ark |", allow_pipes=True)).keys() == np.load("arc/int.npz").keys()
    with pytest.raises(UserError, match="failed with status"):
        read_object("false | cat |", allow_pipes=True)


def test_text_as_people_write_it():
    def read(name):
        return dict(read_ark(f"arc/text_{name}.txt")).popitem()[1].tolist()

    assert read("crlf") == read("semicolons") == [[1, 2], [3, 4]] and read("split_lines") == [[5, 6], [7, 8]]
    assert read("one_line") == [1, 2] and read("underflow") == [[0, 1]]
    assert read("inf") == [[np.inf, 1], [2, 3]] and read("infinity") == [[1, np.inf], [2, 3]]
    assert read("minus_inf") == [[1, 2], [-np.inf, 3]]  # Kaldi writes it, but refuses to read it
    assert np.isnan(read("nan")).tolist() == [[False, True], [False, True]]
    for name, message in [
        ("bad", r"\(a\): the rows have \[1, 2\]"),
        ("overflow", "32-bit floats"),
        ("no_space_bracket", r"got '\[1 2'"),
    ]:
        with pytest.raises(UserError, match=message):
            read(name)


@given(arrays(st.sampled_from([np.float32, np.float64]), array_shapes(max_dims=2, max_side=6)))
def test_floats_survive_writing_and_kaldiio_reads_the_same(array):
    body = encode_object(array)
    same(read_object_at(io.BytesIO(body), "it"), array)
    same(kaldiio.matio.read_kaldi(io.BytesIO(body)), array)


@given(
    arrays(
        np.float32, array_shapes(max_dims=2, max_side=5), elements=st.floats(-(2.0**100), 2.0**100, width=32)
    )
)
def test_text_survives_within_seven_digits(array):
    back = read_object_at(io.BytesIO(encode_object(array, text=True)), "it")
    assert back.shape == array.shape
    np.testing.assert_allclose(back, array, rtol=1e-6, atol=1e-44)


@given(st.lists(st.integers(-(2**31), 2**31 - 1)))
def test_integers_survive(values):
    array = np.array(values, dtype=np.int64)
    for text in (False, True):
        same(read_object_at(io.BytesIO(encode_object(array, text=text)), "it"), array.astype(np.int32))


def test_a_single_integer_of_an_archive(tmp_path):
    content = b"".join(
        key + b" " + encode_object(np.int32(value)) for key, value in [(b"a", 3), (b"b", 0), (b"c", 1)]
    )
    objects = dict(read_ark_bytes(tmp_path, content))
    assert objects["a"] == 3 and objects["a"].ndim == 0 and objects["c"] == 1


def test_what_cannot_be_stored_is_named(tmp_path):
    with pytest.raises(UserError, match="'k' is complex"), ArchiveWriter(tmp_path / "a.ark") as out:
        out.write("k", np.zeros(3, complex))
    with pytest.raises(UserError, match="'k' has integers beyond"), ArchiveWriter(tmp_path / "a.ark") as out:
        out.write("k", np.array([2**31]))
    with (
        pytest.raises(UserError, match="'k' has NaN"),
        ArchiveWriter(tmp_path / "a.ark", compression=1) as out,
    ):
        out.write("k", np.full((2, 2), np.nan, np.float32))
    with pytest.raises(UserError, match="duplicate key 'k'"), ArchiveWriter(tmp_path / "a.ark") as out:
        out.write("k", np.zeros(3))
        out.write("k", np.zeros(3))
    for key in ("", "a b", "a\n", "\0"):
        with pytest.raises(UserError, match="cannot be a key"), ArchiveWriter(tmp_path / "a.ark") as out:
            out.write(key, np.zeros(3))
    with pytest.raises(UserError, match="1 to 7"):
        ArchiveWriter(tmp_path / "a.ark", compression=8)
    assert list(tmp_path.iterdir()) == []


def test_memory_layout_and_byte_order_do_not_matter(tmp_path):
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
    variants = {
        "a": matrix,
        "b": np.asfortranarray(matrix),
        "c": matrix.astype(">f4"),
        "d": np.repeat(matrix, 2, 1)[:, ::2],
    }
    with ArchiveWriter(tmp_path / "a.ark") as out:
        for key, array in variants.items():
            out.write(key, array)
    for _, array in read_ark(tmp_path / "a.ark"):
        same(array, matrix)


@pytest.mark.parametrize("name", ["with blank", "Größe 語", "a:1", "x[1]"])
def test_paths_with_blanks_and_other_letters_are_read_back(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with ArchiveWriter(f"{name}/v.ark", f"{name}/v.scp") as out:
        out.write("zoé", np.arange(3, dtype=np.float32))
        out.write("b", np.ones(2))
    # relative as given, sorted
    assert Path(f"{name}/v.scp").read_text(encoding="utf-8").splitlines()[0].startswith(f"b {name}/v.ark:")
    assert dict(read_scp_objects(f"{name}/v.scp"))["zoé"].tolist() == [0, 1, 2]


def test_an_error_leaves_nothing_and_an_earlier_pair_as_it_was(tmp_path):
    ark, scp = tmp_path / "a.ark", tmp_path / "a.scp"
    with ArchiveWriter(ark, scp) as out:
        out.write("k", np.zeros(3))
    before = ark.read_bytes(), scp.read_bytes()
    with pytest.raises(RuntimeError), ArchiveWriter(ark, scp) as out:
        out.write("other", np.ones(30))
        raise RuntimeError
    assert (ark.read_bytes(), scp.read_bytes()) == before and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("size", [10, 100_000])  # refused when flushed, when written
def test_a_full_disk_leaves_nothing_and_says_so(tmp_path, size):
    ark, scp = tmp_path / "a.ark", tmp_path / "a.scp"
    with ArchiveWriter(ark, scp) as out:
        out.write("k", np.zeros(3))
    before = ark.read_bytes(), scp.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))
        with pytest.raises(UserError, match=r"cannot write .*a\.(ark|scp): File too large.*free some space"):
            with ArchiveWriter(ark, scp) as out:
                out.write("k", np.zeros(size))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (ark.read_bytes(), scp.read_bytes()) == before and len(list(tmp_path.iterdir())) == 2


def test_killed_between_the_renames_no_script_points_into_another_archive(tmp_path, monkeypatch):
    ark, scp = tmp_path / "a.ark", tmp_path / "a.scp"
    with ArchiveWriter(ark, scp) as out:
        out.write("k", np.zeros(3))
    replace = os.replace

    def killed_after_the_archive(source, target):
        if str(target) == str(scp):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed_after_the_archive)
    with pytest.raises(KeyboardInterrupt), ArchiveWriter(ark, scp) as out:
        out.write("longer-key", np.ones(30))
    assert not scp.exists() and [key for key, _ in read_ark(ark)] == ["longer-key"]


def test_consecutive_entries_open_their_archive_once(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    matrices = {f"{name}{n}": rng.random((n + 1, 3), dtype=np.float32) for name in "ab" for n in range(5)}
    table = {}
    for name in "ab":
        with ArchiveWriter(tmp_path / f"{name}.ark", tmp_path / f"{name}.scp") as archive:
            for n in range(5):
                archive.write(f"{name}{n}", matrices[f"{name}{n}"])
        table |= read_table(tmp_path / f"{name}.scp")
    opened = []
    monkeypatch.setattr(archives, "_open_file", lambda path, *more: opened.append(path) or open(path, "rb"))
    with ObjectReader() as reader:
        for key, rxfilename in table.items():
            assert reader.shape(rxfilename) == matrices[key].shape
            same(reader.read(rxfilename, key), matrices[key])
        assert len(opened) == 2
        same(pickle.loads(pickle.dumps(reader)).read(table["b3"]), matrices["b3"])
    with pytest.raises(UserError, match=r"byte 99 \(x\)"), ObjectReader() as reader:
        reader.read(f"{tmp_path}/a.ark:99", "x")
