"""What a worker is asked to make of elements: lines of a table or of text, or a picture.

Plain values; ``rendering`` makes it. Imports nothing that takes long, since every worker knows the
values, and few are asked.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import numpy as np
from msgspec import Struct

from h5fs.model.objects import Enumeration, TextWidth


class Interlace(Enum):
    """In which dimension of a dataset the colours are: the last, the first or the middle one."""

    PIXEL = "INTERLACE_PIXEL"
    PLANE = "INTERLACE_PLANE"
    LINE = "INTERLACE_LINE"


class ImageLook(Struct, frozen=True):
    """How the attributes of an image want it to be shown.

    ``is_indexed``: its elements are places in ``palette``, which has three bytes for each colour
    and is empty where there is none. ``lowest`` and ``highest``: None where nothing says what is
    black and what is white.
    """

    interlace: Interlace = Interlace.PIXEL
    is_indexed: bool = False
    is_true_colour: bool = False
    lowest: float | None = None
    highest: float | None = None
    is_white_zero: bool = False
    transparent: int | None = None
    is_upside_down: bool = False
    is_mirrored: bool = False
    palette: bytes = b""


class PlotLabels(Struct, frozen=True):
    """What is written beside a line plot: above it, and along its axis."""

    title: str = ""
    x: str = ""


class LinesRequest(Struct, frozen=True, tag=True, tag_field="class"):
    """Lines of the table of a dataset, ``row_count`` of them from ``first_row`` on.

    ``is_text``: lines of its ``.txt`` file instead. The other fields are those of ``DatasetInfo``
    that a table depends on.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    enumerations: tuple[Enumeration, ...]
    text_widths: tuple[TextWidth, ...]
    first_row: int
    row_count: int
    is_text: bool = False


class PictureRequest(Struct, frozen=True, tag=True, tag_field="class"):
    """The picture of an array of that shape and type, of at most ``size`` pixels a side.

    ``look``: how an image wants to be shown.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    size: int
    look: ImageLook | None = None


class PlotRequest(Struct, frozen=True, tag=True, tag_field="class"):
    """The line plot of ``count`` elements, ``size`` pixels wide.

    The elements are those of runs of ``run_length``, which begin at ``starts``. ``scale``: the
    elements of a dimension scale in the same places; none where the axis shows numbers of elements.
    """

    dtype: np.dtype[Any]
    count: int
    size: int
    starts: tuple[int, ...]
    run_length: int
    labels: PlotLabels
    scale_dtype: np.dtype[Any] | None = None
    scale: bytes = b""


ViewRequest = LinesRequest | PictureRequest | PlotRequest
