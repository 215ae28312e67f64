"""The contents of views, over a store that is an array: any range of bytes is that of the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from projection.views.test_tables import arrays

from h5fs.cli.mount_options import MOUNT_OPTIONS
from h5fs.errors import H5fsError
from h5fs.model.objects import DatasetInfo, ObjectRef
from h5fs.model.settings import View, ViewOptions
from h5fs.projection.views.rendering import render_view
from h5fs.projection.views.view_requests import ViewRequest
from h5fs.tree.contents import picture_content
from h5fs.tree.contents.view_content import VIEWS, Views

REF = ObjectRef(0, 4, b"/d")


def test_every_view_has_a_row_and_a_word_in_the_help_of_its_option() -> None:
    assert list(VIEWS) == list(View)
    (option,) = (each for each in MOUNT_OPTIONS if each.name == "views")
    assert all(f"({view.word})" in option.help for view in View)


class ArrayStore:
    """One array, without attributes."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._data = array.tobytes()

    def read_into(self, _ref: Any, _dataset: Any, _part: Any, at: int, buffer: memoryview) -> None:
        assert at >= 0 and at + len(buffer) <= len(self._data)
        buffer[:] = self._data[at : at + len(buffer)]

    def make_view(self, _ref: Any, request: ViewRequest, data: bytes, buffer: memoryview) -> None:
        buffer[:] = render_view(request, data)

    def read_attributes(self, _ref: ObjectRef) -> tuple[()]:
        return ()


def content_of(array: npt.NDArray[Any], view: View) -> Any:
    """Return the content of a view. Raises ``H5fsError`` when the array has none of that kind."""
    store: Any = ArrayStore(array)
    views = Views(store, ViewOptions(frozenset(View), picture_size=64))
    content = views.open(view, REF, DatasetInfo(array.shape, array.dtype, array.nbytes))
    assert content.size_bytes >= 0
    return content


def read(content: Any, offset: int, size: int) -> bytes:
    buffer = memoryview(bytearray(size))
    return bytes(buffer[: content.read_into(buffer, offset)])


@pytest.mark.semantics("V3")
@settings(deadline=None, max_examples=100)
@given(
    st.one_of(arrays(), npst.arrays("f4", npst.array_shapes(min_dims=1, max_dims=4, max_side=9))),
    st.sampled_from(View),
    st.data(),
)
def test_any_range_of_bytes_of_a_view_is_that_of_the_whole(
    array: npt.NDArray[Any], view: View, data: st.DataObject
) -> None:
    try:
        content = content_of(array, view)
    except H5fsError:
        return  # it has no such view
    size = content.size_bytes
    whole = read(content, 0, size + 1)
    assert len(whole) == size
    for _ in range(3):
        start = data.draw(st.integers(0, size + 1))
        stop = data.draw(st.integers(start, size + 2))
        assert read(content, start, stop - start) == whole[start:stop]


@pytest.mark.semantics("V7")
@settings(deadline=None, max_examples=50)
@given(npst.arrays("u1", npst.array_shapes(min_dims=2, max_dims=3, max_side=150)))
def test_rows_that_are_too_large_for_memory_are_shown_like_others(
    array: npt.NDArray[np.uint8],
) -> None:
    content = content_of(array, View.PICTURE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture_content, "_MOST_ROW_BYTES", 0)
        patch.setattr(picture_content, "_PIECE_BYTES", 7)
        in_pieces = read(content_of(array, View.PICTURE), 0, content.size_bytes)
    assert in_pieces == read(content, 0, content.size_bytes)


@pytest.mark.semantics("V10")
@settings(deadline=None)
@given(
    st.one_of(npst.byte_string_dtypes(min_len=2, max_len=9), npst.unicode_string_dtypes(max_len=9)),
    npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4), st.data(),
)  # fmt: skip
def test_every_line_of_text_is_its_element(
    dtype: np.dtype[Any], shape: tuple[int, ...], data: st.DataObject
) -> None:
    texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n\v\f"),
                    max_size=9)  # fmt: skip
    flat = [data.draw(texts) for _ in range(int(np.prod(shape)))]
    values: list[Any] = list(flat)
    if dtype.kind == "S":
        values = [text.encode()[: dtype.itemsize] for text in flat]
    array = np.array(values, dtype).reshape(shape)
    whole = read(content_of(array, View.TEXT), 0, 10**6)
    whole.decode("utf-8", "strict")
    lines = whole.split(b"\n")
    assert lines.pop() == b"" and len(lines) == array.size
    assert len(set(map(len, lines))) <= 1
    for line, value in zip(lines, array.reshape(-1).tolist(), strict=True):
        shown = line.decode().rstrip(" ")
        if isinstance(value, str):
            assert shown == value.rstrip(" ")
        else:
            cut = value.decode("utf-8", "ignore")  # a character may be cut at the end
            assert shown == cut.rstrip(" ") or cut.encode() != value
