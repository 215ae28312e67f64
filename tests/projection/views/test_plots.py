"""Line plots: what is read, which points are drawn, and what is written beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from support.png import decode_png

from h5fs.errors import UnsupportedTypeError
from h5fs.model.objects import Chunked, DatasetInfo
from h5fs.projection.views.plots import project_plot, reduce_line, say_ticks, ticks_between
from h5fs.projection.views.rendering import render_view
from h5fs.projection.views.view_requests import PlotLabels, PlotRequest

FLOATS = st.floats(width=64)


@pytest.mark.semantics("V12")
@settings(deadline=None, max_examples=40)
@given(
    st.one_of(npst.integer_dtypes(), npst.floating_dtypes(sizes=(16, 32, 64)),
              npst.complex_number_dtypes(sizes=(64, 128)), st.just(np.dtype("?"))),
    st.integers(1, 300), st.sampled_from([16, 100, 300]), st.data(),
)  # fmt: skip
def test_any_numbers_are_a_picture_of_the_size_that_was_said(
    dtype: np.dtype[Any], count: int, size: int, data: st.DataObject
) -> None:
    raw = data.draw(npst.arrays("u1", count * dtype.itemsize)).tobytes()
    scale = data.draw(st.one_of(st.none(), npst.arrays("f8", count, elements=FLOATS)))
    plot = project_plot(DatasetInfo((count,), dtype, 0), size)
    if dtype.kind == "b":
        raw = bytes(byte & 1 for byte in raw)
    order = PlotRequest(
        dtype, count, size, tuple(plot.starts()), plot.run_length, PlotLabels("é\u4e00", "x"),
        None if scale is None else scale.dtype, b"" if scale is None else scale.tobytes(),
    )  # fmt: skip
    file = render_view(order, raw)
    assert len(file) == plot.size_bytes
    pixels = decode_png(file)
    assert pixels.shape == (plot.height, plot.width, 4)
    assert (pixels[:, :, 3] == 255).all()


@pytest.mark.semantics("V12")
@settings(deadline=None)
@given(npst.arrays("f8", st.integers(100, 2000), elements=FLOATS), st.integers(1, 20))
def test_each_column_keeps_its_smallest_and_its_largest_value(
    y: npt.NDArray[Any], columns: int
) -> None:
    x = np.arange(len(y)) / len(y) * columns
    places = np.floor(x).astype(int)
    drawn: dict[int, list[float]] = {}
    for across, values in reduce_line(x, y, columns):
        assert np.isfinite(values).all() and len(values)
        for place, value in zip(across.tolist(), values.tolist(), strict=True):
            drawn.setdefault(int(place), []).append(value)
    for place in range(columns):
        finite = [value for value in y[places == place].tolist() if np.isfinite(value)]
        assert (place in drawn) == bool(finite)
        if finite:
            assert (min(drawn[place]), max(drawn[place])) == (min(finite), max(finite))
            assert set(drawn[place]) <= set(finite)


@pytest.mark.semantics("V12")
@settings(deadline=None)
@given(st.integers(1, 2**62), st.integers(1, 2**40), st.booleans())
def test_runs_are_within_the_array_few_and_from_its_first_to_its_last_element(
    count: int, chunk: int, is_chunked: bool
) -> None:
    data = Chunked((min(chunk, count),), (), b"\0") if is_chunked else None
    plot = project_plot(DatasetInfo((count,), np.dtype("u1"), 0, data=data), 1024)
    starts = plot.starts()
    assert len(starts) == plot.run_count <= 128
    assert starts == sorted(starts)
    assert (starts[0], starts[-1] + plot.run_length) == (0, count)
    assert plot.run_count * plot.run_length <= 2**23


@pytest.mark.semantics("V12")
@settings(deadline=None)
@given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300))
def test_ticks_lie_between_the_ends_and_are_told_apart(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    ticks = ticks_between(low, high, 6)
    assert 1 <= len(ticks) <= 15
    slack = (high - low) * 1e-6
    assert all(low - slack <= tick <= high + slack for tick in ticks)
    assert len(set(say_ticks(ticks))) == len(ticks)


def test_ticks_read_well() -> None:
    def between(low: float, high: float, **more: float) -> list[str]:
        return say_ticks(ticks_between(low, high, 5, **more))

    assert between(0, 1) == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert between(-0.3, 4.2) == ["0", "1", "2", "3", "4"]
    assert between(0, 2e6) == ["0", "500,000", "1,000,000", "1,500,000", "2,000,000"]
    assert between(0, 3e-7) == ["0", "1e-7", "2e-7", "3e-7"]
    assert between(1e20, 3e20) == ["1.0e20", "1.5e20", "2.0e20", "2.5e20", "3.0e20"]
    assert between(0, 2, least=1.0) == ["0", "1", "2"]
    assert between(7, 7) == ["7"]


def test_what_no_line_shows() -> None:
    for shape, dtype in (((0,), "f8"), ((2, 2), "f8"), ((), "f8"), ((3,), "S2"), ((3,), "M8[s]")):
        with pytest.raises(UnsupportedTypeError):
            project_plot(DatasetInfo(shape, np.dtype(dtype), 0), 1024)
