"""The HDF5 file: the only room that imports h5py.

What leaves it are the plain values of ``h5fs.objects`` and ``h5fs.datatypes``, never an object of
h5py. ``open_store`` is the door.
"""

from __future__ import annotations

from h5fs.options import StoreOptions
from h5fs.store.interface import Store

__all__ = ["Store", "open_store"]


def open_store(options: StoreOptions) -> Store:
    """Open an HDF5 file. Raises ``CannotOpenError``, ``UnreadableError``.

    Call it in the process that will use the store: HDF5's locks do not survive a fork.
    """
    from h5fs.store.hdf5.store import Hdf5Store  # imports h5py, which the caller may not want yet

    store = Hdf5Store(options)
    store.open()
    return store
