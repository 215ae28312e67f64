"""The ``.npy`` file of an array that is not in memory, against ``np.save``."""

from __future__ import annotations

import io
import warnings
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from support.dtypes import SCALARS, compounds
from support.reference import npy_bytes

from h5fs.errors import TooLargeError, UnsupportedTypeError
from h5fs.projection.npy import OFFSET_MAX, format_header, project_array

DTYPES = st.recursive(SCALARS, compounds, max_leaves=6)
SHAPES = st.lists(st.integers(0, 3), max_size=5).map(tuple)
WIDE = np.dtype([(f"field_{i:05d}", "<f4") for i in range(3000)])
WIDE_AND_UNICODE = np.dtype([(f"größe_Δ_{i:05d}", "<f4") for i in range(3000)])


def saved(dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[bytes, bytes]:
    """Return header and data as np.save writes them for an array of counting bytes."""
    raw = np.arange(prod(shape) * dtype.itemsize, dtype=np.uint8).tobytes()
    array = np.ndarray(shape, dtype, raw) if raw else np.zeros(shape, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of formats that old numpys cannot read
        whole = npy_bytes(array)
    return whole[: len(whole) - array.nbytes], whole[len(whole) - array.nbytes :]


def loads(dtype: np.dtype[Any]) -> bool:
    """Whether numpy can spell the dtype in a header at all (empty parts make some ambiguous)."""
    try:
        np.lib.format.descr_to_dtype(np.lib.format.dtype_to_descr(dtype))
        saved(dtype, (1,))
    except (ValueError, TypeError):
        return False
    return True


@pytest.mark.semantics("D1")
@given(DTYPES, SHAPES)
@example(np.dtype("<f8"), ())
@example(np.dtype("<f8"), (0,))
@example(np.dtype("?"), (1, 2, 3, 4, 5))
@example(np.dtype([("Δx", "<f8")]), (2,))
@example(np.dtype([("é", "<f8")]), (2,))
@example(WIDE, (1,))
@example(WIDE_AND_UNICODE, (1,))
def test_the_header_is_that_of_np_save(dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    assume(loads(dtype))
    assert format_header(dtype, shape) == saved(dtype, shape)[0]


@pytest.mark.parametrize(
    ("dtype", "version"),
    [(np.dtype("<i4"), 1), (WIDE, 2), (np.dtype([("Δ", "<i4")]), 3), (WIDE_AND_UNICODE, 3)],
)
def test_the_oldest_format_that_can_say_it_is_used(dtype: np.dtype[Any], version: int) -> None:
    assert format_header(dtype, (2,))[6] == version


@given(st.lists(st.integers(0, 2**62), max_size=32).map(tuple))
def test_a_header_of_any_shape_reads_back(shape: tuple[int, ...]) -> None:
    file = io.BytesIO(format_header(np.dtype("<i2"), shape))
    assert np.lib.format.read_magic(file) == (1, 0)
    assert np.lib.format.read_array_header_1_0(file) == (shape, False, np.dtype("<i2"))
    assert file.read() == b""


@given(DTYPES, SHAPES, SHAPES)
def test_dimensions_of_a_subarray_trail_those_of_the_dataset(
    base: np.dtype[Any], shape: tuple[int, ...], trailing: tuple[int, ...]
) -> None:
    assume(loads(base) and len(shape + trailing) < 10)
    npy = project_array(np.dtype((base, trailing)), shape)
    header, data = saved(base, shape + trailing)
    assert npy.header == header
    assert npy.size_bytes == len(header) + len(data)


@pytest.mark.semantics("S7")
def test_a_file_that_off_t_cannot_hold_is_too_large() -> None:
    header = len(project_array(np.dtype("u1"), (OFFSET_MAX,)).header)
    assert project_array(np.dtype("u1"), (OFFSET_MAX - header,)).size_bytes == OFFSET_MAX
    with pytest.raises(TooLargeError):
        _ = project_array(np.dtype("u1"), (OFFSET_MAX - header + 1,)).size_bytes


@pytest.mark.semantics("D14")
@pytest.mark.parametrize("dtype", [np.dtype("O"), np.dtype([("a", "<i4"), ("b", "O")])])
def test_objects_are_refused(dtype: np.dtype[Any]) -> None:
    with pytest.raises(UnsupportedTypeError):
        project_array(dtype, (1,))


def test_fields_that_overlap_have_no_spelling() -> None:
    overlapping = np.dtype({"names": ["a", "b"], "formats": ["<i4", "<i4"], "offsets": [0, 2]})
    with pytest.raises(UnsupportedTypeError):
        project_array(overlapping, (1,))
