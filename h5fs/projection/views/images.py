"""Images: datasets whose attributes say that they are pictures.

Format: "HDF5 Image and Palette Specification", version 1.2, of the HDF Group. Attributes that
change which pixels are seen are followed: IMAGE_SUBCLASS, INTERLACE_MODE (and the line interlace of
HDF4), PALETTE, IMAGE_MINMAXRANGE, IMAGE_WHITE_IS_ZERO, IMAGE_TRANSPARENCY and DISPLAY_ORIGIN. A
palette of a colour model other than RGB is ignored.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from h5fs.model.objects import DatasetInfo
from h5fs.projection.views.labels import Labels
from h5fs.projection.views.view_requests import ImageLook, Interlace

PALETTE_COLOURS = 3
_MOST_ENTRIES = 2**16


def read_look(labels: Labels) -> tuple[ImageLook, bytes | None] | None:
    """Return how an image looks, and the HDF5 path of its palette; None for what is no image."""
    if labels.text(b"CLASS") != "IMAGE":
        return None
    subclass, origin = labels.text(b"IMAGE_SUBCLASS"), labels.text(b"DISPLAY_ORIGIN")
    is_true_colour = subclass == "IMAGE_TRUECOLOR"
    mode = labels.text(b"INTERLACE_MODE")
    by_name = {each.value: each for each in Interlace}
    limits = labels.numbers(b"IMAGE_MINMAXRANGE")
    has_limits = len(limits) == 2 and limits[0] < limits[1]
    transparent = labels.numbers(b"IMAGE_TRANSPARENCY")
    look = ImageLook(
        interlace=by_name.get(mode, Interlace.PIXEL) if is_true_colour else Interlace.PIXEL,
        is_indexed=subclass == "IMAGE_INDEXED",
        is_true_colour=is_true_colour,
        lowest=limits[0] if has_limits else None,
        highest=limits[1] if has_limits else None,
        is_white_zero=labels.numbers(b"IMAGE_WHITE_IS_ZERO")[:1] == [1],
        transparent=int(transparent[0]) if transparent and not is_true_colour else None,
        is_upside_down=origin in ("LL", "LR"),
        is_mirrored=origin in ("UR", "LR"),
    )
    return look, None if is_true_colour else next(iter(labels.targets(b"PALETTE")), None)


def palette_bytes(palette: DatasetInfo) -> int | None:
    """Return how many bytes a palette's elements have; None where that palette cannot be used."""
    shape, dtype = palette.shape or (), palette.dtype
    if len(shape) != 2 or shape[1] != PALETTE_COLOURS or dtype.kind not in "uif":
        return None
    return palette.data_bytes if 0 < shape[0] <= _MOST_ENTRIES else None


def read_palette(dtype: np.dtype[Any], data: bytes, labels: Labels) -> bytes:
    """Return the colours of a palette, three bytes each; nothing where the model is not RGB."""
    if labels.text(b"PAL_COLORMODEL") not in ("", "RGB"):
        return b""
    values = np.frombuffer(data, dtype).astype(np.float64)
    if dtype.kind == "f":
        values = np.nan_to_num(values) * 255.0  # floats are from 0 to 1
    return np.clip(np.rint(values), 0, 255).astype(np.uint8).tobytes()
