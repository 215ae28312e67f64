"""Byte ranges of a row-major array to hyperslabs.

A range of consecutive elements of an n-dimensional array is at most 2n - 1 boxes: a ragged start
and a ragged end in each dimension but the first, and one box of whole rows between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from h5fs.model.objects import Hyperslab


def split_into_hyperslabs(shape: tuple[int, ...], start: int, stop: int) -> tuple[Hyperslab, ...]:
    """Return boxes that together hold elements ``[start, stop)`` of a row-major array, in order.

    ``start`` and ``stop`` are element indices, ``0 <= start <= stop <= prod(shape)``, or a
    ``ValueError`` is raised. Each box is itself in row-major order, and the boxes follow one
    another without a gap.
    """
    if not 0 <= start <= stop <= prod(shape):
        raise ValueError(f"elements [{start}, {stop}) are not in an array of shape {shape}")
    if start == stop:
        return ()
    return tuple(_boxes((), shape, start, stop))


def _boxes(
    prefix: tuple[int, ...], shape: tuple[int, ...], start: int, stop: int
) -> Iterator[Hyperslab]:
    """Yield the boxes of ``[start, stop)`` in the subarray of ``shape`` at index ``prefix``."""
    if not shape:
        yield Hyperslab(prefix, (1,) * len(prefix))
        return
    row = prod(shape[1:])
    first, into_first = divmod(start, row)
    last, into_last = divmod(stop, row)
    if first == last:
        yield from _boxes((*prefix, first), shape[1:], into_first, into_last)
        return
    if into_first:
        yield from _boxes((*prefix, first), shape[1:], into_first, row)
        first += 1
    if first < last:
        ones = (1,) * len(prefix)
        zeros = (0,) * (len(shape) - 1)
        yield Hyperslab((*prefix, first, *zeros), (*ones, last - first, *shape[1:]))
    if into_last:
        yield from _boxes((*prefix, last), shape[1:], 0, into_last)
