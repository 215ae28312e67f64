"""Line plots of arrays of one dimension: which elements are read, and which points are drawn.

An array of moderate size is read as a whole, and of the values in a column of pixels the first, the
smallest, the largest and the last are drawn: no spike is lost. Of a larger array, evenly spaced
runs of elements (whole chunks) are read; the picture says how much of the array that is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from h5fs.errors import UnsupportedTypeError
from h5fs.model.objects import Chunked, DatasetInfo
from h5fs.projection.views.png import png_size

_MOST_READ = 2**23
"""Elements of an array that is read as a whole: about 0.1 s, compressed 0.5 s."""

_MOST_IN_RUNS = 2**22
_MOST_RUNS = 128
_HEIGHT_OF_WIDTH = (9, 16)
_MOST_POINTS = 4  # of a column of pixels
_STEPS = (1, 2, 5)
_EXPONENT = re.compile(r"e\+?(-?)0*(?=[0-9])")

Numbers = npt.NDArray[np.float64]


class Plot(Struct, frozen=True):
    """A line plot of ``count`` elements, of which ``run_count`` runs of ``run_length`` are read."""

    count: int
    run_count: int
    run_length: int
    width: int
    height: int

    @property
    def size_bytes(self) -> int:
        """Size of the file."""
        return png_size(self.width, self.height, 1)

    def starts(self) -> list[int]:
        """Return where each run begins. The array's first and last elements are in runs."""
        last = self.count - self.run_length
        spaces = max(self.run_count - 1, 1)
        starts = [index * last // spaces for index in range(self.run_count)]
        # Runs but the last one begin where a chunk does.
        return [start - start % self.run_length for start in starts[:-1]] + starts[-1:]


def is_plotted(array: DatasetInfo) -> bool:
    """Whether an array is shown as a line: it has one dimension and numbers."""
    return array.shape is not None and len(array.shape) == 1 and array.dtype.kind in "biufc"


def plot_height(width: int) -> int:
    """Return how high a plot is."""
    return width * _HEIGHT_OF_WIDTH[0] // _HEIGHT_OF_WIDTH[1]


def project_plot(array: DatasetInfo, size: int) -> Plot:
    """Return the plot of an array, ``size`` pixels wide. Raises ``UnsupportedTypeError``."""
    if not is_plotted(array) or array.shape == (0,):
        raise UnsupportedTypeError("no line shows this")
    assert array.shape is not None
    count, height = array.shape[0], plot_height(size)
    if count <= _MOST_READ:
        return Plot(count, 1, count, size, height)
    length = _MOST_IN_RUNS // _MOST_RUNS
    if isinstance(array.data, Chunked):
        length = min(max(array.data.chunk_shape[0], 1), _MOST_IN_RUNS // 2)
    return Plot(count, min(_MOST_RUNS, _MOST_IN_RUNS // length), length, size, height)


def reduce_line(x: Numbers, y: Numbers, columns: int) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield the lines through values, as points; ``x`` is from 0 to ``columns``, either way.

    A column of pixels in which no value is finite is a gap.
    """
    if len(y) > _MOST_POINTS * columns:
        places = np.minimum(x.astype(np.int64), columns - 1)
        kept = _extremes(places, y)
        x, y = places[kept] + 0.5, y[kept]
    bounds = np.flatnonzero(np.diff(np.isfinite(y), prepend=False, append=False))
    for start, stop in bounds.reshape(-1, 2).tolist():
        yield x[start:stop], y[start:stop]


def _extremes(places: npt.NDArray[np.int64], y: Numbers) -> npt.NDArray[np.int64]:
    """Return where each column has its first, smallest, largest and last value, in order of place.

    A column in which nothing is finite has one place: a gap.
    """
    starts = np.flatnonzero(np.diff(places, prepend=-1))
    stops = np.append(starts[1:], len(y))
    kept: list[int] = []
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        part = y[start:stop]
        finite = np.flatnonzero(np.isfinite(part))
        if not len(finite):
            kept.append(start)
            continue
        part = part[finite]
        four = {0, int(part.argmin()), int(part.argmax()), len(part) - 1}
        kept += [start + int(finite[place]) for place in sorted(four)]
    return np.array(kept, np.int64)


def ticks_between(low: float, high: float, most: int, *, least: float = 0.0) -> list[float]:
    """Return round numbers from ``low`` to ``high``, about ``most``, ``least`` apart or more."""
    span = high - low
    if not np.isfinite(span) or span <= max(abs(low), abs(high)) * 1e-12:
        return [low] if span == 0 else [low, high]
    step = 10.0 ** np.floor(np.log10(span / most))
    step *= next((each for each in _STEPS if span / (step * each) <= most), 10)
    step = max(step, least)
    first, last = np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9)
    return [float(number * step) + 0.0 for number in np.arange(first, last + 1)]  # no -0.0


def say_ticks(ticks: list[float]) -> list[str]:
    """Return numbers as text, with no more digits than it takes to tell them apart."""
    largest = max(map(abs, ticks))
    steps = [abs(b / 2 - a / 2) for a, b in pairwise(ticks)]
    least = min(steps, default=largest / 1000) / 10
    style = "f" if 1e-4 <= largest < 1e10 or largest == 0 else "e"
    labels: list[str] = []
    for digits in range(17):
        labels = [f"{tick:,.{digits}{style if tick else 'f'}}" for tick in ticks]
        if all(
            abs(float(s.replace(",", "")) - t) <= least for s, t in zip(labels, ticks, strict=True)
        ):
            break
    return [_EXPONENT.sub(r"e\1", label) for label in labels]


def values_of(dtype: np.dtype[Any], data: bytes) -> Numbers:
    """Return elements as real numbers: of complex ones the modulus."""
    values = np.frombuffer(data, dtype)
    with np.errstate(all="ignore"):
        real = np.abs(values) if dtype.kind == "c" else values
        return real.astype(np.float64)
