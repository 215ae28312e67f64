"""Texts of variable length, many at a time: the same as one by one."""

from __future__ import annotations

import h5py
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from h5fs.projection.views.quoting import escape_text
from h5fs.store.variable_elements import make_part

_TEXTS = st.one_of(
    st.binary(max_size=12),
    st.text(max_size=9).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.text("ab\"\0\n'", max_size=9).map(str.encode),
    st.text(st.characters(codec="utf-8"), max_size=9),
    st.just(0),  # what h5py leaves where the file has a null pointer
)


@given(st.lists(st.lists(_TEXTS, min_size=1, max_size=6), min_size=1, max_size=3))
def test_texts_are_measured_and_laid_out_as_each_alone(runs: list[list[bytes | str | int]]) -> None:
    part = make_part(h5py.string_dtype(), lambda _reference: b"")
    arrays = [np.array(run, object) for run in runs]
    sizes = [part.measure(array) for array in arrays]

    texts = [[_bytes_of(value) for value in run] for run in runs]
    every = [text for run in texts for text in run]
    assert sizes == [sum(map(len, run)) for run in texts]
    expected = np.array([_decoded(text, every) for text in every])
    assert part.dtype() == expected.dtype
    assert np.concatenate([part.convert(array) for array in arrays]).tobytes() == expected.tobytes()
    (width,) = part.text_widths((b"name",))
    assert width.size_bytes == max(len(escape_text(text)) for text in every)


def test_members_of_compounds_keep_their_values_whatever_order_they_are_declared_in() -> None:
    declared = {"names": ["last", "first"], "formats": ["<i4", "<f8"], "offsets": [8, 0]}
    inner = np.dtype({**declared, "itemsize": 12})
    dtype = np.dtype(
        [("one", inner), ("two", inner, (2,)), ("many", h5py.vlen_dtype(inner)),
         ("text", h5py.string_dtype())]
    )  # fmt: skip
    row = np.zeros(1, dtype)
    row["one"] = (1, 1.5)
    row["two"] = [[(2, 2.5), (3, 3.5)]]
    row["many"][0] = np.array([(4, 4.5)], inner)
    row["text"][0] = "abc"
    part = make_part(dtype, lambda _reference: b"")
    part.measure(row)
    converted = part.convert(row)
    assert converted.dtype == part.dtype()
    for found, expected in (
        (converted["one"], [(1.5, 1)]),
        (converted["two"][0], [(2.5, 2), (3.5, 3)]),
        (converted["many"]["values"][0], [(4.5, 4)]),
    ):
        assert found.dtype.names == ("first", "last")  # in the order of their offsets
        assert found.tolist() == expected


def _bytes_of(value: bytes | str | int) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    return value or b"" if not isinstance(value, int) else b""


def _decoded(text: bytes, every: list[bytes]) -> bytes | str:
    try:
        for each in every:
            each.decode("utf-8")
    except UnicodeDecodeError:
        return text
    return text.decode("utf-8")
