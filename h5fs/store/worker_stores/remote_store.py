"""Opens HDF5 files that are objects on other machines, at ``https://``, ``s3://`` and the like."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import structs

from h5fs.model.objects import Contiguous, DatasetInfo, ObjectRef
from h5fs.model.settings import ExternalPolicy, StoreOptions
from h5fs.store.ahead.array_ahead import ArrayAhead
from h5fs.store.ahead.habits import Habits
from h5fs.store.fetched_file import FetchedFile
from h5fs.store.interface import ArrayPart
from h5fs.store.sources.remote_files import RemoteFiles
from h5fs.store.sources.remote_object import RemoteObject
from h5fs.store.statistics import RemoteStatistics, StoreStatistics
from h5fs.store.worker_stores.worker_store import WorkerStore, opened
from h5fs.store.workers.starting.worker_starter import WorkerStarter


class RemoteStore(WorkerStore):
    """The store of one version of an object. The end of ``close`` calls ``on_close``, once."""

    def __init__(
        self,
        options: StoreOptions,
        starter: WorkerStarter | None,
        remote: RemoteObject,
        on_close: Callable[[], None] = lambda: None,
        *,
        habits: Habits | None = None,
    ) -> None:
        # Links lead out of such a file to paths beside it, where this machine has nothing.
        options = structs.replace(options, external=ExternalPolicy.NONE)
        main = FetchedFile(str(options.location), remote)
        super().__init__(options, starter, main, habits=habits)
        self._on_close = on_close
        self._remote = remote
        self._array_ahead = ArrayAhead(remote, cache_bytes=options.remote.cache_bytes)

    def read_into(
        self,
        ref: ObjectRef,
        dataset: DatasetInfo,
        part: ArrayPart,
        offset: int,
        buffer: memoryview,
    ) -> None:
        if isinstance(dataset.data, Contiguous):
            self._array_ahead.note(ref, dataset, offset, len(buffer))
        super().read_into(ref, dataset, part, offset, buffer)

    def statistics(self) -> StoreStatistics:
        counts = self._remote.counts
        remote = RemoteStatistics(
            counts.requests, counts.bytes, counts.reads - counts.misses, counts.misses,
            counts.in_flight, counts.last_error,
        )  # fmt: skip
        return structs.replace(super().statistics(), remote=remote)

    def close(self) -> None:
        super().close()
        on_close, self._on_close = self._on_close, lambda: None
        on_close()


def open_version(
    options: StoreOptions,
    starter: WorkerStarter | None,
    remote: RemoteObject,
    habits: Habits | None = None,
) -> RemoteStore:
    """Open one version of an object; it is closed when the store is, or cannot be opened.

    Raises ``CannotOpenError``, ``UnreadableError``.
    """
    return opened(RemoteStore(options, starter, remote, habits=habits))


def open_remote_store(options: StoreOptions, starter: WorkerStarter | None) -> RemoteStore:
    """Open an object by its URL. Raises ``CannotOpenError``, ``UnreadableError``."""
    assert options.url is not None
    files = RemoteFiles(options.remote)
    try:
        remote = files.open(options.url)
        store = RemoteStore(options, starter, remote, files.close)
    except BaseException:
        files.close()
        raise
    return opened(store)
