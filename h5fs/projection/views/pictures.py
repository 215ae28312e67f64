"""Pictures of arrays: which elements are shown, of which size, and in which grey or colour.

An array of two dimensions is a grey picture, one with a last dimension of 3 or 4 behind these a
colour picture. Of a stack of such planes a contact sheet shows nine at most, evenly spaced from the
first one to the last; where these are large, the middle plane is the picture. Every n-th row and
column is shown, so that the longest side fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from h5fs.errors import TooLargeError, UnsupportedTypeError
from h5fs.model.objects import DatasetInfo
from h5fs.projection.views.png import encode_png, png_size

_TILES_ACROSS = 3
_MOST_SHEET_BYTES = 2**24
"""Elements of the planes of a sheet: the first look at a compressed stack of 36x2048x2048 took
1.3 s or more with nine planes, 0.4 s with one."""

_MOST_PLANE_BYTES = 2**31
"""Elements of a plane that is shown: more take too long to look at."""

_MOST_RANK = 4
_COLOURS = (3, 4)
_PERCENTILES = (1.0, 99.0)  # a few extreme elements must not make the rest grey


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of planes of ``rows`` by ``columns`` elements of ``colours`` values each.

    ``planes``: the numbers of those that are shown, ``across`` of them side by side; ``step``: each
    how many-th row and column is shown. ``channels`` of the PNG file.
    """

    planes: tuple[int, ...]
    rows: int
    columns: int
    colours: int
    step: int
    across: int
    channels: int

    @property
    def tile(self) -> tuple[int, int]:
        """Height and width of one plane in the picture."""
        return -(-self.rows // self.step), -(-self.columns // self.step)

    @property
    def size_bytes(self) -> int:
        """Size of the file."""
        height, width = self.tile
        down = -(-len(self.planes) // self.across)
        return png_size(width * self.across, height * down, self.channels)


def project_picture(array: DatasetInfo, size: int) -> Picture:
    """Return the picture of an array, whose longest side has at most ``size`` pixels.

    Raises ``UnsupportedTypeError`` for what no picture shows, ``TooLargeError``.
    """
    shape, dtype = array.shape or (), array.dtype
    if dtype.kind not in "biufc" or dtype.subdtype is not None or not prod(shape):
        raise UnsupportedTypeError("no picture shows this")
    colours = shape[-1] if len(shape) > 2 and shape[-1] in _COLOURS and dtype.kind != "c" else 1
    leading, (rows, columns) = _split(shape if colours == 1 else shape[:-1])
    count = prod(leading)
    shown = min(count, _TILES_ACROSS**2)
    plane_bytes = rows * columns * colours * dtype.itemsize
    planes = tuple(i * (count - 1) // max(shown - 1, 1) for i in range(shown))
    if shown * plane_bytes > _MOST_SHEET_BYTES:
        shown, planes = 1, (count // 2,)
    if plane_bytes > _MOST_PLANE_BYTES:
        raise TooLargeError("too many elements to look at for a picture")
    across = min(shown, _TILES_ACROSS)
    down = -(-shown // across)
    step = max(-(-rows * down // size), -(-columns * across // size), 1)
    while max(-(-rows // step) * down, -(-columns // step) * across) > size and step < max(
        rows, columns
    ):
        step += 1
    has_alpha = dtype.kind in "fc"
    channels = colours + 1 if has_alpha and colours < 4 else colours
    return Picture(planes, rows, columns, colours, step, across, channels)


def _split(shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, int]]:
    if not 2 <= len(shape) <= _MOST_RANK:
        raise UnsupportedTypeError(f"no picture of {len(shape)} dimensions")
    return shape[:-2], (shape[-2], shape[-1])


def render_picture(picture: Picture, dtype: np.dtype[Any], data: Any) -> bytes:
    """Return the PNG file; ``data`` are the elements shown, one plane after another."""
    height, width = picture.tile
    shape = (len(picture.planes), height, width, picture.colours)
    values = np.frombuffer(data, dtype).reshape(shape)
    shades = _shade(values)
    if picture.channels > picture.colours:
        # Real numbers that are nan, or infinite, are transparent.
        opaque = np.isfinite(values).all(axis=3, keepdims=True)
        shades = np.concatenate([shades, np.where(opaque, 255, 0).astype(np.uint8)], axis=3)
    down = -(-len(picture.planes) // picture.across)
    cells = np.zeros((down * picture.across, *shades.shape[1:]), np.uint8)
    cells[: len(shades)] = shades
    sheet = cells.reshape(down, picture.across, height, width, picture.channels)
    pixels = sheet.transpose(0, 2, 1, 3, 4).reshape(down * height, picture.across * width, -1)
    return encode_png(pixels)


def _shade(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return values as shades, from black for the lowest to white for the highest of most."""
    if values.dtype == np.uint8 and values.shape[3] > 1:
        return values.astype(np.uint8)  # colours as they are
    real = np.abs(values) if values.dtype.kind == "c" else values
    real = real.astype(np.float64)
    finite = real[np.isfinite(real)]
    low, high = np.percentile(finite, _PERCENTILES) if len(finite) else (0.0, 0.0)
    if high <= low:
        low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    with np.errstate(all="ignore"):
        scaled = (real - low) * (255.0 / (high - low)) if high > low else np.full(real.shape, 128.0)
    return np.clip(np.nan_to_num(scaled, nan=0.0), 0, 255).astype(np.uint8)
