"""Pictures of arrays: which elements are shown, of which size, and in which grey or colour.

An array of two dimensions is a grey picture, one with a last dimension of 3 or 4 behind these a
colour picture. Of a stack of such planes a contact sheet shows nine at most, evenly spaced from the
first one to the last; where these are large, the middle plane is the picture. Every n-th row and
column is shown, so that the longest side fits.

How an image wants to be shown (``ImageLook``) is in its attributes, which ``stat`` does not read:
so the picture's file has the same size whatever they say.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from h5fs.errors import TooLargeError, UnsupportedTypeError
from h5fs.model.objects import DatasetInfo
from h5fs.projection.views.images import PALETTE_COLOURS
from h5fs.projection.views.pixels import Values, colour_pixels, shaded_pixels
from h5fs.projection.views.png import encode_png, padded_size, png_size
from h5fs.projection.views.view_requests import ImageLook, Interlace

_TILES_ACROSS = 3
_GAP, _GAP_SHADE = 2, 128  # pixels between tiles, told from black and from white
_MOST_SHEET_BYTES = 2**24
"""Elements of the planes of a sheet: the first look at a compressed stack of 36x2048x2048 took
1.3 s or more with nine planes, 0.4 s with one."""

_MOST_PLANE_BYTES = 2**31
"""Elements of a plane that is shown: more take too long to look at."""

_MOST_RANK = 4
_COLOURS = (3, 4)


class Picture(Struct, frozen=True):
    """A picture of planes of ``rows`` by ``columns`` elements of ``colours`` values each.

    ``planes``: the numbers of the planes that are shown, ``across`` of them side by side.
    ``step``: of how many rows, and of how many columns, one is shown. ``channels``: how many the
    PNG file has. ``interlace``: which dimension has the colours.
    """

    planes: tuple[int, ...]
    rows: int
    columns: int
    colours: int
    step: int
    across: int
    channels: int
    interlace: Interlace = Interlace.PIXEL

    @property
    def tile(self) -> tuple[int, int]:
        """Height and width of one plane in the picture."""
        return -(-self.rows // self.step), -(-self.columns // self.step)

    @property
    def sheet(self) -> tuple[int, int]:
        """Height and width of the picture."""
        height, width = self.tile
        down = -(-len(self.planes) // self.across)
        return height * down + _GAP * (down - 1), width * self.across + _GAP * (self.across - 1)

    @property
    def stored_planes(self) -> tuple[int, ...]:
        """The planes of the dataset that are read."""
        return tuple(range(self.colours)) if self.interlace is Interlace.PLANE else self.planes

    @property
    def row_items(self) -> tuple[int, int, int]:
        """How a row is stored: how many lines, columns in each, and values in each column."""
        lines = self.colours if self.interlace is Interlace.LINE else 1
        return lines, self.columns, self.colours if self.interlace is Interlace.PIXEL else 1

    @property
    def size_bytes(self) -> int:
        """Size of the file, before it is padded."""
        height, width = self.sheet
        return png_size(width, height, self.channels)


def picture_size(array: DatasetInfo, size: int) -> int:
    """Return the size of the picture's file, whatever the array's attributes say.

    Raises ``UnsupportedTypeError`` for what no picture shows, ``TooLargeError``.
    """
    shape = array.shape or ()
    sizes = [project_picture(array, size).size_bytes]
    for interlace in (Interlace.PLANE, Interlace.LINE):
        if _is_interlaced(shape, array.dtype, interlace):
            look = ImageLook(interlace=interlace)
            sizes.append(project_picture(array, size, look).size_bytes)
    return padded_size(sizes)


def project_picture(array: DatasetInfo, size: int, look: ImageLook | None = None) -> Picture:
    """Return the picture of an array, whose longest side has at most ``size`` pixels.

    Raises ``UnsupportedTypeError`` for what no picture shows, ``TooLargeError``.
    """
    shape, dtype = array.shape or (), array.dtype
    if dtype.kind not in "biufc" or dtype.subdtype is not None or not prod(shape):
        raise UnsupportedTypeError("no picture shows this")
    interlace = look.interlace if look is not None else Interlace.PIXEL
    if not _is_interlaced(shape, dtype, interlace):
        interlace = Interlace.PIXEL
    leading, rows, columns, colours = _split(shape, dtype, interlace)
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
    most_rows, most_columns = ((size - _GAP * (n - 1)) // n for n in (down, across))
    step = max(-(-rows // most_rows), -(-columns // most_columns), 1)
    # Colours that are not finite are transparent.
    channels = 4 if colours == _COLOURS[0] and dtype.kind == "f" else colours
    return Picture(planes, rows, columns, colours, step, across, channels, interlace)


def _is_interlaced(shape: tuple[int, ...], dtype: np.dtype[Any], interlace: Interlace) -> bool:
    """Whether an array's colours are in another dimension than the last, as ``interlace`` says."""
    if interlace is Interlace.PIXEL or len(shape) != 3 or dtype.kind != "u":
        return False
    return shape[0 if interlace is Interlace.PLANE else 1] == PALETTE_COLOURS


def _split(
    shape: tuple[int, ...], dtype: np.dtype[Any], interlace: Interlace
) -> tuple[tuple[int, ...], int, int, int]:
    """Return the dimensions before a plane, its rows, columns and colours."""
    if not 2 <= len(shape) <= _MOST_RANK:
        raise UnsupportedTypeError(f"no picture of {len(shape)} dimensions")
    if interlace is Interlace.PLANE:
        return (), shape[1], shape[2], shape[0]
    if interlace is Interlace.LINE:
        return (), shape[0], shape[2], shape[1]
    if len(shape) > 2 and (shape[-1] == 1 or (shape[-1] in _COLOURS and dtype.kind != "c")):
        return shape[:-3], shape[-3], shape[-2], shape[-1]
    return shape[:-2], shape[-2], shape[-1], 1


def render_picture(
    picture: Picture, dtype: np.dtype[Any], data: Any, look: ImageLook | None, size_bytes: int
) -> bytes:
    """Return the PNG file; ``data`` are the elements shown, one stored plane after another."""
    values = _arrange(picture, np.frombuffer(data, dtype))
    if look is not None and look.is_upside_down:
        values = values[:, ::-1]
    if look is not None and look.is_mirrored:
        values = values[:, :, ::-1]
    if picture.channels == 1:
        pixels, palette = shaded_pixels(values, look)
    else:
        pixels, palette = colour_pixels(values, look, picture.channels), None
    return encode_png(_sheet(picture, pixels), palette, size_bytes)


def _arrange(picture: Picture, flat: Values) -> Values:
    """Return values as planes, rows, columns and colours."""
    height, width = picture.tile
    lines, _, each = picture.row_items
    stored = flat.reshape(len(picture.stored_planes), height, lines, width, each)
    if picture.interlace is Interlace.PLANE:
        return stored[:, :, 0, :, 0].transpose(1, 2, 0)[None]
    if picture.interlace is Interlace.LINE:
        return stored[..., 0].transpose(0, 1, 3, 2)
    return stored[:, :, 0]


def _sheet(picture: Picture, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return planes side by side and below each other, with gaps between them."""
    _, height, width, channels = pixels.shape
    sheet = np.full((*picture.sheet, channels), _GAP_SHADE, np.uint8)
    if channels == 4:
        sheet[:, :, 3] = 255
    for place, plane in enumerate(pixels):
        row, column = divmod(place, picture.across)
        top, left = row * (height + _GAP), column * (width + _GAP)
        sheet[top : top + height, left : left + width] = plane
    return sheet
