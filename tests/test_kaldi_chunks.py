"""Rows read at random equal the rows of the whole matrix, for every way of storing it."""

import os
import pickle

import numpy as np
import pytest

from pydino.base import UserError
from pydino.kaldi import ArchiveWriter, ChunkReader, chunks, read_scp_objects

LENGTH, DIM = 7, 5


@pytest.fixture(params=[None, "double", *range(1, 8)])
def scp(request, tmp_path):
    rng = np.random.default_rng(0)
    compression = request.param if isinstance(request.param, int) else None
    with ArchiveWriter(tmp_path / "a.ark", tmp_path / "a.scp", compression=compression) as out:
        for rows in (LENGTH, 9, 40, 300):
            matrix = rng.normal(0, 20, (rows, DIM))
            out.write(f"u{rows:03d}", matrix if request.param == "double" else matrix.astype(np.float32))
    return tmp_path / "a.scp"


def random_chunks(reader, count=50):
    rng = np.random.default_rng(1)
    keys = [reader.keys[i] for i in rng.integers(len(reader.keys), size=count)]
    return keys, [int(rng.integers(reader.num_frames(key) - LENGTH + 1)) for key in keys]


@pytest.mark.parametrize("read_over", [0, 16384])  # column by column, and in one piece
def test_chunks_are_the_rows_of_the_matrix(scp, monkeypatch, read_over):
    monkeypatch.setattr(chunks, "_READ_OVER", read_over)
    whole = {key: matrix.astype(np.float32) for key, matrix in read_scp_objects(scp)}
    reader = ChunkReader(scp)
    assert reader.dim == DIM and {key: reader.num_frames(key) for key in reader.keys} == {
        key: len(m) for key, m in whole.items()
    }
    keys, starts = random_chunks(reader)
    for key, start in zip(keys, starts, strict=True):
        np.testing.assert_array_equal(reader.read(key, start, LENGTH), whole[key][start : start + LENGTH])
    for key in whole:
        np.testing.assert_array_equal(reader.read(key), whole[key])


def test_ranges_in_the_script_are_taken_off(scp):
    table = {key: str(line) for key, line in (text.split(" ", 1) for text in scp.read_text().splitlines())}
    matrix = dict(read_scp_objects(scp))["u300"].astype(np.float32)
    reader = ChunkReader({"part": table["u300"] + "[10:19,1:3]", "rows": table["u300"] + "[290:301,0:2]"})
    assert (reader.dim, reader.num_frames("part"), reader.num_frames("rows")) == (3, 10, 10)
    np.testing.assert_array_equal(reader.read("part", 2, 4), matrix[12:16, 1:4])
    np.testing.assert_array_equal(reader.read("rows"), matrix[290:300, 0:3])
    with pytest.raises(IndexError):
        reader.read("part", 5, 6)


def test_little_is_read(tmp_path, monkeypatch):
    with ArchiveWriter(tmp_path / "a.ark", tmp_path / "a.scp") as out:
        out.write("u", np.zeros((10_000, DIM), np.float32))
    reader, sizes = ChunkReader(tmp_path / "a.scp"), []
    preadv = os.preadv

    def counting(handle, buffers, offset):
        sizes.append(sum(buffer.nbytes for buffer in buffers))
        return preadv(handle, buffers, offset)

    monkeypatch.setattr(os, "preadv", counting)
    reader.read("u", 5000, LENGTH)
    assert sum(sizes) == 4 * LENGTH * DIM


def test_children_and_pickles_read_the_same(scp):
    reader = ChunkReader(scp)
    expected = reader.read("u040")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader)).read("u040"), expected)
    child = os.fork()
    if child == 0:
        os._exit(0 if all(np.array_equal(reader.read("u040"), expected) for _ in range(50)) else 1)
    for _ in range(50):
        np.testing.assert_array_equal(reader.read("u040"), expected)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_files_beyond_the_limit_are_closed_and_opened_again(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "_OPEN_FILES", 2)
    table = {}
    for name in "abcd":
        with ArchiveWriter(tmp_path / f"{name}.ark") as out:
            out.write(name, np.full((3, 2), ord(name), np.float32))
        table[name] = f"{tmp_path}/{name}.ark:2"
    reader = ChunkReader(table)
    before = len(os.listdir("/proc/self/fd"))
    for name in "abcdabcd":
        assert reader.read(name)[0, 0] == ord(name)
    assert len(os.listdir("/proc/self/fd")) - before <= 1
    reader.close()


def test_what_has_no_random_access_is_refused_by_name(tmp_path):
    with ArchiveWriter(tmp_path / "t.ark", text=True) as out:
        out.write("u", np.ones((3, 2)))
    with ArchiveWriter(tmp_path / "v.ark") as out:
        out.write("u", np.ones(3, np.float32))
    with ArchiveWriter(tmp_path / "m.ark", tmp_path / "m.scp") as out:
        out.write("narrow", np.ones((3, 2), np.float32))
        out.write("wide", np.ones((3, 3), np.float32))
    for rxfilename, message in [
        (f"{tmp_path}/t.ark:2", r"\(u\).*text archive"),
        (f"{tmp_path}/v.ark:2", r"\(u\): a vector"),
        ("cat x |", r"\(u\).*command"),
        (f"{tmp_path}/no.ark:2", "No such file"),
        (f"{tmp_path}/m.ark:7[0:1,0:5]", "columns 0:5"),
    ]:
        with pytest.raises(UserError, match=message):
            ChunkReader({"u": rxfilename})
    with pytest.raises(UserError, match=r"\(wide\): 3 columns, but the other matrices have 2"):
        ChunkReader(tmp_path / "m.scp").read("wide")
    with pytest.raises(UserError, match="'none' is not in"):
        ChunkReader(tmp_path / "m.scp").num_frames("none")
    (tmp_path / "empty.scp").write_text("")
    with pytest.raises(UserError, match="empty.scp is empty"):
        ChunkReader(tmp_path / "empty.scp")


def test_a_truncated_archive_is_named_with_key_and_offset(scp):
    ark = scp.with_suffix(".ark")
    reader = ChunkReader(scp)
    reader.num_frames("u300")
    os.truncate(ark, ark.stat().st_size - 1)
    with pytest.raises(
        UserError, match=r"a\.ark, byte \d+ \(u300\): the file ends inside the numbers: truncated"
    ):
        reader.read("u300")
    with pytest.raises(UserError, match=r"a\.ark, byte \d+ \(u300\).*truncated"):
        ChunkReader(scp).num_frames("u300")
