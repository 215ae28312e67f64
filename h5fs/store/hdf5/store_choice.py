"""Makes the store of a process: it reads, or reads through a log, or writes.

What a file needs is imported when it is there: a command that reads one file ends before the rest
of this room could be imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from h5fs.model.settings import StoreOptions
from h5fs.store.hdf5.store import Hdf5Store, ignore
from h5fs.store.library_interface import ChangedObjects
from h5fs.store.workers.worker_file import FetchRanges, FileKind


def make_library_store(
    options: StoreOptions,
    kind: FileKind,
    files: Sequence[int],
    fetch: FetchRanges,
    *,
    on_change: Callable[[ChangedObjects, int], None] = ignore,
    **others: Any,
) -> Hdf5Store:
    """Return a store that is not opened yet.

    ``files``: descriptors of the mounted file, as its ``kind`` says. ``fetch`` brings what is
    missing of a file that comes bit by bit. ``on_change``: see ``StepwiseStore``; ``others``: the
    further arguments of ``Hdf5Store``.
    """
    if kind is FileKind.PLAIN:
        return Hdf5Store(options, main=files[0] if files else None, **others)
    if kind is FileKind.FETCHED:
        from h5fs.store.hdf5.fetched_main import FetchedMain

        data, presence = files
        return Hdf5Store(options, driven=FetchedMain(data, presence, fetch), **others)
    return _make_logged_store(options, files, on_change, **others)


def _make_logged_store(
    options: StoreOptions,
    files: Sequence[int],
    on_change: Callable[[ChangedObjects, int], None],
    **others: Any,
) -> Hdf5Store:
    from h5fs.store.hdf5.logged_main import LoggedMain, SnapshotMain
    from h5fs.store.log.logged_file import LoggedFile
    from h5fs.store.log.main_witness import MainWitness
    from h5fs.store.log.system_calls import LogFile, RealFile

    main, log, record = files
    if options.is_beside_writer:
        from h5fs.store.hdf5.snapshot_store import SnapshotStore

        return SnapshotStore(options, SnapshotMain(main, log), **others)
    witness = MainWitness(RealFile(main), RealFile(record)) if options.mode.writes else None
    file = LoggedFile(RealFile(main), LogFile(log), boot_id=options.boot_id, witness=witness)
    logged = LoggedMain(file, main, user_block=options.user_block)
    if options.mode.writes:
        from h5fs.store.hdf5.writing_store import WritingHdf5Store

        return WritingHdf5Store(options, logged, on_change=on_change, **others)
    return Hdf5Store(options, driven=logged, **others)


if TYPE_CHECKING:  # that these keep the promise, to the type
    from h5fs.store.hdf5.writing_store import WritingHdf5Store
    from h5fs.store.library_interface import LibraryStore, WritingLibraryStore

    _READS: type[LibraryStore] = Hdf5Store
    _WRITES: type[WritingLibraryStore] = WritingHdf5Store
