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

from typing import TYPE_CHECKING

from h5fs.options import StoreOptions

if TYPE_CHECKING:  # numpy takes long to import, and the worker processes can start meanwhile
    from h5fs.store.interface import Store
    from h5fs.store.process.nursery import Nursery

__all__ = ["open_store"]


def open_store(options: StoreOptions, nursery: Nursery | None = None) -> Store:
    """Open an HDF5 file. Raises ``CannotOpenError``, ``UnreadableError``.

    Workers come from ``nursery``, which may have been started and stays the caller's; without one
    the store has its own. With ``options.workers`` 0 there are none: call it in the process that
    will use the store then, since HDF5's locks do not survive a fork. Else this process never
    imports h5py.
    """
    if options.workers == 0:
        from h5fs.store.local_store import LocalStore

        local = LocalStore(options)
        local.open()
        return local
    from h5fs.store.remote_store import RemoteStore

    remote = RemoteStore(options, nursery)
    try:
        remote.open()
    except BaseException:
        remote.close()
        raise
    return remote
