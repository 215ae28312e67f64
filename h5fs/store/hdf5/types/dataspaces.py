"""Dataspaces of arrays as a whole: kept, since to make and close one takes the library 14 us."""

from __future__ import annotations

import functools

from h5py import h5s

_MOST_KEPT = 64


@functools.lru_cache(_MOST_KEPT)
def dataspace_of(shape: tuple[int, ...]) -> h5s.SpaceID:
    """Return the dataspace of an array, all of which is selected; it must be left as it is."""
    return h5s.create_simple(shape) if shape else h5s.create(h5s.SCALAR)
