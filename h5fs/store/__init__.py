"""The HDF5 file: the only room that imports h5py, and that only in `hdf5` and in worker processes.

Only plain values of ``h5fs.model`` leave this room, never an object of h5py. Other rooms enter by
``open_store``.

- `interface`: what the tree asks (``Store``, ``WritingStore``): all that a store needs to know
- `library_interface`: what is asked of the HDF5 library in a worker beside (``LibraryStore``)
- `schemes`: which URLs can be opened
- `sources`: raw bytes, wherever they are kept
- `hdf5`: the library's side
- `workers`, `worker_process`: the daemon's end of worker processes, and the worker's
- `chunks`: chunked arrays, decoded in the workers, kept in shared memory
- `worker_store`, `local_store`: the two stores
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # workers are started before what takes long to import
    from h5fs.model.settings import StoreOptions
    from h5fs.store.interface import Store, WritingStore
    from h5fs.store.worker_stores.worker_store import WorkerStore
    from h5fs.store.worker_stores.writing_worker_store import WritingWorkerStore
    from h5fs.store.workers.starting.worker_starter import WorkerStarter

    _WRITES: type[WritingStore] = WritingWorkerStore  # it keeps the promise, to the type

__all__ = ["open_store"]


def open_store(options: StoreOptions, starter: WorkerStarter | None = None) -> Store:
    """Open an HDF5 file, by its path or its URL. Raises ``CannotOpenError``, ``UnreadableError``.

    Workers come from ``starter``, which may have been started, and which the caller closes; without
    one the store has its own. With ``options.workers`` 0 there are no workers: then the process
    that opens the store must be the one that uses it, since HDF5's locks do not survive a fork.
    With workers this process never imports h5py.
    """
    if options.url is not None:
        from h5fs.store.schemes import find_scheme

        return find_scheme(options.url, options.mode).open_store(options, starter)
    from h5fs.store.log.log_path import has_log

    if options.mode.writes or has_log(options.file):
        logged = _open_logged(options, starter)
        if logged is not None:
            return logged
    if options.workers == 0:
        from h5fs.store.local_store import LocalStore

        local = LocalStore(options)
        local.open()
        return local
    from h5fs.store.worker_stores.worker_store import WorkerStore

    return _opened(WorkerStore(options, starter))


def _open_logged(options: StoreOptions, starter: WorkerStarter | None) -> Store | None:
    """Open a file through its log: to write, or to read what a writer has left in it.

    None when the log that was to be read is gone by now.
    """
    import dataclasses

    from h5fs.store.log.log_file import open_logged, read_boot_id
    from h5fs.store.mounted_file import FileWithLog
    from h5fs.store.worker_stores.worker_store import WorkerStore
    from h5fs.store.worker_stores.writing_worker_store import WritingWorkerStore

    options = dataclasses.replace(options, boot_id=read_boot_id())
    files = open_logged(options.file, options.mode, options.locking, options.boot_id)
    if files is None:
        return None
    if options.mode.writes:
        return _opened(WritingWorkerStore(options, files, starter))
    return _opened(WorkerStore(options, starter, FileWithLog(options, files)))


def _opened(store: WorkerStore) -> WorkerStore:
    try:
        store.open()
    except BaseException:
        store.close()
        raise
    return store
