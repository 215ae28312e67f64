"""The HDF5 file: the only room that imports h5py, and that only in `hdf5` and in worker processes.

What leaves it are the plain values of ``h5fs.objects``, ``h5fs.datatypes`` and ``h5fs.link_table``,
never an object of h5py. ``open_store`` is the door.

- `interface`: what the tree asks (``Store``), what the HDF5 library answers (``LibraryStore``)
- `hdf5`: the library's side
- `process`: worker processes around it, and what happens when one dies or hangs
- `chunks`: chunked arrays, decoded in the workers, kept in shared memory
- `remote_store`, `local_store`: the two stores
"""

from __future__ import annotations

from h5fs.options import StoreOptions
from h5fs.store.interface import ArrayPart, Store

__all__ = ["ArrayPart", "Store", "open_store"]


def open_store(options: StoreOptions) -> Store:
    """Open an HDF5 file. Raises ``CannotOpenError``, ``UnreadableError``.

    With ``options.workers`` 0, call it in the process that will use the store: HDF5's locks do not
    survive a fork. This process imports no h5py then.
    """
    store: Store
    if options.workers == 0:
        from h5fs.store.local_store import LocalStore  # imports h5py

        local = LocalStore(options)
        local.open()
        store = local
    else:
        from h5fs.store.remote_store import RemoteStore

        remote = RemoteStore(options)
        remote.prepare()
        try:
            remote.open()
        except BaseException:
            remote.close()
            raise
        store = remote
    return store
