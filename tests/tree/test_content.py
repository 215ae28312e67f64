"""Byte ranges of a ``.npy`` file: the header, then just the elements that are touched."""

from __future__ import annotations

import io
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from h5fs.errors import UnreadableError
from h5fs.model.objects import Attribute, DatasetInfo, ObjectRef
from h5fs.projection.json.attribute_file import INT64
from h5fs.projection.npy import project_array
from h5fs.store.element_ranges import read_through_library
from h5fs.store.interface import ArrayPart, Store
from h5fs.tree.contents.content import (
    MOST_WITH_ATTRIBUTES_BYTES,
    ArrayContent,
    attributes_content,
    written_attributes_content,
)

REF = ObjectRef(0, 96, b"/d")
DTYPES = st.sampled_from(["u1", "<i2", ">f8", "S5", "<c16", [("a", "u1"), ("b", "<f4", (3,))]])


class StandInStore:
    """Reads whole elements of an array, as the HDF5 library does; notes which."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._data = array.tobytes()
        self._item_bytes = array.dtype.itemsize
        self.touched: list[tuple[int, int]] = []

    def read_into(
        self,
        ref: ObjectRef,
        dataset: DatasetInfo,
        part: ArrayPart,
        offset: int,
        buffer: memoryview,
    ) -> None:
        def read(start: int, stop: int) -> bytes:
            self.touched.append((start, stop))
            return self._data[start * self._item_bytes : stop * self._item_bytes]

        buffer[:] = read_through_library(read, self._item_bytes, offset, len(buffer))


@pytest.mark.semantics("D1", "D2")
@given(DTYPES, npst.array_shapes(max_dims=3, max_side=6), st.integers(0, 700), st.integers(0, 700))
def test_any_range_is_that_of_np_save_and_touches_no_other_element(
    description: Any, shape: tuple[int, ...], offset: int, size: int
) -> None:
    dtype = np.dtype(description)
    count = int(np.prod(shape))
    array = np.frombuffer(bytes(i % 251 for i in range(count * dtype.itemsize)), dtype)
    array = array.reshape(shape)
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    expected = file.getvalue()
    store = StandInStore(array)
    npy = project_array(dtype, shape)
    content = ArrayContent(
        cast(Store, store), REF, DatasetInfo(shape, dtype, 0), ArrayPart.ELEMENTS, npy,
        npy.size_bytes, 0,
    )  # fmt: skip
    buffer = bytearray(size)
    got = content.read_into(memoryview(buffer), offset)
    assert bytes(buffer[:got]) == expected[offset : offset + size]
    first = max(offset - len(npy.header), 0)
    last = min(offset + size, len(expected)) - len(npy.header)
    if last > first:
        item_bytes = dtype.itemsize
        assert store.touched == [(first // item_bytes, -(-last // item_bytes))]
    else:
        assert store.touched == []


def test_fewer_bytes_than_elements_have_are_an_error() -> None:
    with pytest.raises(UnreadableError, match="8 of 16 bytes"):
        read_through_library(lambda *_: bytes(8), 8, 4, 8)


def test_only_short_texts_are_kept_with_their_attributes() -> None:
    for count in (1, MOST_WITH_ATTRIBUTES_BYTES):
        attributes = (Attribute(b"a", INT64, (count,), (bytes(8),) * count),)
        content = written_attributes_content(attributes)
        is_short = content.size_bytes <= MOST_WITH_ATTRIBUTES_BYTES
        assert is_short == (count == 1)
        assert content.attributes == (attributes if is_short else None)
        assert content.data == attributes_content(attributes).data
