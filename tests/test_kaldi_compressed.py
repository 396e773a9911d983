"""Compressed matrices against the bytes Kaldi writes and the numbers it reads."""

import io
from pathlib import Path

import kaldiio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pydino.kaldi import ArchiveWriter, read_ark, read_scp_objects
from pydino.kaldi.archive_writer import encode_object
from pydino.kaldi.objects import read_object_at

ARC = Path(__file__).parent / "fixtures/kaldi/arc"
METHODS = range(1, 8)


def decoded(body: bytes) -> np.ndarray:
    return read_object_at(io.BytesIO(body), "it")


@pytest.mark.parametrize("name", [*(f"m{method}" for method in METHODS), "few"])
def test_read_to_kaldis_numbers_bit_for_bit(name):
    expected = np.load(ARC / f"comp/{name}_read.npz")
    matrices = dict(read_ark(ARC / f"comp/{name}.ark"))
    assert set(matrices) == set(expected.files)
    for key, matrix in matrices.items():
        assert matrix.dtype == np.float32
        np.testing.assert_array_equal(matrix, expected[key], err_msg=key)


@pytest.mark.parametrize("method", METHODS)
def test_written_to_kaldis_bytes(tmp_path, method):
    with ArchiveWriter(tmp_path / "a.ark", tmp_path / "a.scp", compression=method) as out:
        for key, matrix in read_ark(ARC / "mat_ne.ark"):
            out.write(key, matrix)
    assert (tmp_path / "a.ark").read_bytes() == (ARC / f"comp/m{method}.ark").read_bytes()
    offsets = {line.rsplit(":", 1)[1] for line in (tmp_path / "a.scp").read_text().splitlines()}
    assert offsets == {
        line.rsplit(":", 1)[1] for line in (ARC / f"comp/m{method}.scp").read_text().splitlines()
    }


def test_fewer_rows_than_quarters_are_written_to_kaldis_bytes(tmp_path):
    with ArchiveWriter(tmp_path / "a.ark", compression=2) as out:
        for key, values in read_ark(ARC / "comp/few_in.txt"):
            out.write(key, np.atleast_2d(values))
    assert (tmp_path / "a.ark").read_bytes() == (ARC / "comp/few.ark").read_bytes()


def test_an_empty_matrix_is_never_compressed(tmp_path):
    with ArchiveWriter(tmp_path / "a.ark", tmp_path / "a.scp", compression=1) as out:
        out.write("a", np.ones((3, 2), np.float32))
        out.write("b", np.empty((0, 0), np.float32))
        out.write("c", np.ones((9, 2), np.float32))
    assert [matrix.shape for _, matrix in read_ark(tmp_path / "a.ark")] == [(3, 2), (0, 0), (9, 2)]
    assert [matrix.shape for _, matrix in read_scp_objects(tmp_path / "a.scp")] == [(3, 2), (0, 0), (9, 2)]


matrices = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=20),
    elements=st.floats(-(2.0**20), 2.0**20, width=32),
)


@given(matrices, st.sampled_from([1, 2, 3, 5]))
def test_the_error_is_at_most_a_step_of_the_codes(matrix, method):
    back = decoded(encode_object(matrix, method))
    spread = float(matrix.max() - matrix.min()) or 1 + abs(float(matrix.min()))
    # A column header may be pushed up by three of its steps where values coincide; one byte over a column is
    # 1/64 of a quarter.
    step = {1: 1 / 63, 2: 1 / 63, 3: 1 / 65535, 5: 1 / 255}[method]
    assert np.abs(back - matrix).max() <= step * spread + 1e-6 * np.abs(matrix).max() + 1e-40


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2)))
def test_whole_numbers_in_their_range_survive(values):
    np.testing.assert_array_equal(decoded(encode_object(values.astype(np.float32), 6)), values)
    np.testing.assert_array_equal(
        decoded(encode_object(values.astype(np.float32) * 100 - 9000, 4)), values * 100.0 - 9000
    )


@given(matrices, st.sampled_from(METHODS))
def test_kaldiio_agrees_on_what_is_read(matrix, method):
    body = encode_object(matrix, method)
    np.testing.assert_allclose(
        decoded(body),
        kaldiio.matio.read_kaldi(io.BytesIO(body)),
        rtol=1e-5,
        atol=1e-6 * max(1.0, float(np.abs(matrix).max())),
    )
