"""HDF5 data, whoever keeps them: a local file, an object at a URL, a domain of a data service.

Other rooms enter by ``open_store``, and get a ``Store`` or ``WritingStore`` (``interface``) that
gives them plain values of ``h5fs.model``. Only ``hdf5``, which runs in workers, imports h5py.
ARCHITECTURE.md says what each room of the store is for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # workers are started before what takes long to import
    from h5fs.model.settings import StoreOptions
    from h5fs.store.ahead.habits import Habits
    from h5fs.store.interface import Store, WritingStore
    from h5fs.store.worker_stores.writing_worker_store import WritingWorkerStore
    from h5fs.store.workers.starting.worker_starter import WorkerStarter

    _WRITES: type[WritingStore] = WritingWorkerStore  # it keeps the promise, to the type

__all__ = ["open_store"]


def open_store(
    options: StoreOptions, starter: WorkerStarter | None = None, *, habits: Habits | None = None
) -> Store:
    """Open an HDF5 file, by its path or its URL. Raises ``CannotOpenError``, ``UnreadableError``.

    Workers come from ``starter``, which may have been started, and which the caller closes; without
    one the store has its own. With ``options.workers`` 0 there are no workers: then the process
    that opens the store must be the one that uses it, since HDF5's locks do not survive a fork.
    With workers this process never imports h5py. ``habits``: those of the programs that will read
    this file and others with it; at a URL they are not needed.
    """
    if options.url is not None:
        from h5fs.store.schemes import find_scheme

        return find_scheme(options.url, options.mode).open_store(options, starter)
    from h5fs.store.log.log_path import has_log

    if options.mode.writes or has_log(options.file):
        logged = _open_logged(options, starter, habits)
        if logged is not None:
            return logged
    if options.workers == 0:
        from h5fs.store.local_store import LocalStore

        local = LocalStore(options)
        local.open()
        return local
    from h5fs.store.worker_stores.worker_store import WorkerStore, opened

    return opened(WorkerStore(options, starter, habits=habits))


def _open_logged(
    options: StoreOptions, starter: WorkerStarter | None, habits: Habits | None
) -> Store | None:
    """Open a file through its log: to write, or to read what a writer has left in it.

    None when the log that was to be read is gone by now.
    """
    from msgspec import structs

    from h5fs.store.log.file_and_log import open_logged, read_boot_id
    from h5fs.store.mounted_file import FileWithLog
    from h5fs.store.worker_stores.worker_store import WorkerStore, opened

    if options.mode.writes:
        from h5fs.store.worker_stores.writing_worker_store import WritingWorkerStore

    options = structs.replace(options, boot_id=read_boot_id())
    files = open_logged(options.file, options.mode, options.locking, options.boot_id)
    if files is None:
        return None
    store: WorkerStore
    try:
        if options.mode.writes:
            store = WritingWorkerStore(options, files, starter)
        else:
            store = WorkerStore(options, starter, FileWithLog(options, files), habits=habits)
    except BaseException:  # as by a signal, which ends the start
        files.close(removes_log=False)
        raise
    return opened(store)
