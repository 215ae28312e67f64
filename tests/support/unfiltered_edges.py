"""Datasets whose chunks at the edge are stored without their filters, which h5py cannot ask for."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

from h5py import h5p

_DONT_FILTER_PARTIAL_CHUNKS = 0x02  # H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS


@functools.cache
def library() -> ctypes.CDLL:
    """Return the HDF5 library that h5py has loaded."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    paths = {line.split()[-1] for line in lines if "/libhdf5" in line and "_hl" not in line}
    library = ctypes.CDLL(paths.pop())
    library.H5Pset_chunk_opts.argtypes = [ctypes.c_int64, ctypes.c_uint]
    return library


def leave_edges_unfiltered(creation: h5p.PropDCID) -> None:
    """Let datasets that are made with ``creation`` have such chunks; its chunk shape is set."""
    assert library().H5Pset_chunk_opts(creation.id, _DONT_FILTER_PARTIAL_CHUNKS) == 0
