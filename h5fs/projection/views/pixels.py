"""From values to pixels: contrast, palettes, and what is transparent."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from h5fs.projection.views.images import PALETTE_COLOURS
from h5fs.projection.views.view_requests import ImageLook

Values = npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]

_PERCENTILES = (1.0, 99.0)  # a few extreme elements must not make the rest grey
_GREY = bytes(range(256))


def shaded_pixels(values: Values, look: ImageLook | None) -> tuple[Pixels, Pixels]:
    """Return values as numbers of colours, and the palette: 256 colours, each with an alpha.

    Where values may be transparent, the first colour is transparent.
    """
    colours = _colours_of(look)
    hidden = None
    if values.dtype.kind in "fc":
        hidden = ~np.isfinite(values)
    elif look is not None and look.transparent is not None:
        hidden = values == look.transparent
    count = 256 if hidden is None else 255
    if look is not None and look.is_indexed and look.palette and values.dtype.kind in "iub":
        places = np.clip(values.astype(np.int64), 0, len(colours) - 1)
        if len(colours) > count:
            places = places * count // len(colours)
    else:
        places = _scale(values, look, count)
        if look is not None and look.is_white_zero:
            places = count - 1 - places
        colours = colours[np.arange(count) * (len(colours) - 1) // (count - 1)]
    if len(colours) > count:
        colours = colours[np.arange(count) * len(colours) // count]
    palette = np.zeros((256, 4), np.uint8)
    first = 256 - count
    palette[first : first + len(colours), :3] = colours
    palette[first:, 3] = 255
    if hidden is not None:
        places = np.where(hidden, 0, places + 1)
    return places.astype(np.uint8), palette


def colour_pixels(values: Values, look: ImageLook | None, channels: int) -> Pixels:
    """Return colours: of bytes as they are, of other numbers in contrast."""
    if values.dtype == np.uint8:
        return values.astype(np.uint8)
    shades = _scale(values, look, 256).astype(np.uint8)
    if channels == values.shape[3]:
        return shades
    opaque = np.isfinite(values).all(axis=3, keepdims=True)
    return np.concatenate([shades, np.where(opaque, 255, 0).astype(np.uint8)], axis=3)


def _colours_of(look: ImageLook | None) -> Pixels:
    if look is not None and look.palette:
        return np.frombuffer(look.palette, np.uint8).reshape(-1, PALETTE_COLOURS)
    return np.repeat(np.frombuffer(_GREY, np.uint8)[:, None], PALETTE_COLOURS, axis=1)


def _scale(values: Values, look: ImageLook | None, count: int) -> npt.NDArray[np.int64]:
    """Return values as one of ``count`` shades, from 0 for the lowest on."""
    real = np.abs(values) if values.dtype.kind == "c" else values
    real = real.astype(np.float64)
    low, high = _limits(real, values.dtype, look)
    if high <= low:
        return np.full(real.shape, count // 2, np.int64)
    with np.errstate(all="ignore"):
        # Halved: the difference of two floats may be beyond the largest one.
        scaled = (real / 2 - low / 2) / (high / 2 - low / 2) * (count - 1)
    scaled = np.nan_to_num(scaled, nan=0.0, posinf=count - 1.0, neginf=0.0)
    return np.clip(scaled, 0, count - 1).astype(np.int64)


def _limits(
    real: npt.NDArray[np.float64], dtype: np.dtype[Any], look: ImageLook | None
) -> tuple[float, float]:
    """Return the values that are shown black and white."""
    if look is not None:
        if look.lowest is not None and look.highest is not None:
            return look.lowest, look.highest
        if dtype == np.uint8 or (look.is_true_colour and dtype.kind == "u"):
            return 0.0, float(np.iinfo(dtype).max)
    finite = real[np.isfinite(real)]
    if not len(finite):
        return 0.0, 0.0
    low, high = np.percentile(finite, _PERCENTILES)
    if high <= low:
        low, high = finite.min(), finite.max()
    return float(low), float(high)
