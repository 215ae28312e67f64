"""The store of a mount: workers for what needs the HDF5 library, short ways for what does not.

Lives in the daemon and imports no h5py, so that nothing that a file does to the library can reach
it. Safe to call from any thread.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import structs

from h5fs.errors import CannotOpenError, StaleError, UnreadableError, show_path
from h5fs.model.file_status import FileStatus, SpaceStatus
from h5fs.model.link_table import LinkTable
from h5fs.model.objects import (
    Chunked,
    Contiguous,
    DatasetInfo,
    Link,
    LinkKind,
    ObjectRef,
    StorageInfo,
    Virtual,
)
from h5fs.model.settings import StoreOptions
from h5fs.projection.views.view_requests import ViewRequest
from h5fs.store.ahead.habits import Habits
from h5fs.store.ahead.objects_ahead import LookFailedError, ObjectsAhead
from h5fs.store.ahead.walk import Asked
from h5fs.store.external_policy import places_of_external
from h5fs.store.interface import ArrayPart, ObjectStore
from h5fs.store.library_interface import MOST_DATA_AHEAD_BYTES, Look, ObjectDetails
from h5fs.store.mounted_file import MountedFile, PlainFile
from h5fs.store.sources.interface import Source
from h5fs.store.sources.local_file import LocalFile
from h5fs.store.statistics import QuarantinedObject, StoreStatistics
from h5fs.store.workers.grants import Grants
from h5fs.store.workers.passing_on import passed_on
from h5fs.store.workers.pool import WorkerPool
from h5fs.store.workers.quarantine import Quarantine, Subject
from h5fs.store.workers.starting.worker_starter import WorkerStarter
from h5fs.system.cores import count_cores
from h5fs.system.system_errors import advise

if TYPE_CHECKING:  # imported when chunks are read
    from h5fs.store.chunks.reader import ChunkReader

_MOST_UNSAFE_NAMES = 8


def link_subject(group: ObjectRef, link: Link) -> Subject:
    """Return the subject of a request about a link."""
    return Subject(group, link.name)


def _root_of(file: int) -> Subject:
    return Subject(ObjectRef(file, 0, b"/"), b"")


def _attributes_of(ref: ObjectRef) -> Subject:
    return Subject(ref, of_attributes=True)


class WorkerStore:
    """Answers the questions of ``h5fs.store.interface.Store``.

    ``main`` is the mounted file; without one it is the file at ``options.file``. ``_lock`` protects
    ``_beside``, the files that external links led to, and ``_chunk_reader``, which is made when it
    is first needed; nothing else is taken while it is held. The
    store takes the worker starter with it when it closes, unless it was given one that others use
    too. ``habits``: of the programs that read this file and others with it.
    """

    def __init__(
        self,
        options: StoreOptions,
        starter: WorkerStarter | None = None,
        main: MountedFile | None = None,
        *,
        habits: Habits | None = None,
    ) -> None:
        self._options = options
        self._main = main or PlainFile(options)
        own_starter = WorkerStarter()
        self._own_starter = own_starter if starter is None else None
        self._path = _path_of(options)
        self._lock = threading.Lock()
        self._beside: dict[int, LocalFile] = {}
        count = options.workers if options.workers is not None else max(count_cores(), 2)
        self._grants = Grants(options.external, self._path.parent)
        self._quarantine = Quarantine(lambda: self._main.source.version)
        self._pool = WorkerPool(
            # Where links lead is a matter of where the file is now, and not of what a symbolic
            # link names later.
            structs.replace(options, location=self._path),
            1 if options.mode.writes else count, self._quarantine, starter or own_starter,
            self._grants, on_change=self._note_change, on_loss=self._note_loss,
        )  # fmt: skip
        self._chunk_pool = self._pool_for_chunks(max(count, 1), starter or own_starter)
        self._chunk_reader: ChunkReader | None = None
        # In a mode that writes, or below a program that writes, what is kept might be old.
        changes = options.mode.writes or options.is_swmr
        self._ahead = None if changes else ObjectsAhead(
            self._look_ahead, self._is_open_to, batches_at_once=max(1, min(count - 1, 4)),
            habits=habits,
        )  # fmt: skip

    def _pool_for_chunks(self, _count: int, _starter: WorkerStarter) -> WorkerPool:
        return self._pool

    @property
    def _chunks(self) -> ChunkReader:
        reader = self._chunk_reader
        return reader if reader is not None else self._make_chunk_reader()

    def _make_chunk_reader(self) -> ChunkReader:
        from h5fs.store.chunks.reader import ChunkReader

        with self._lock:
            if self._chunk_reader is None:
                self._chunk_reader = ChunkReader(
                    self._chunk_pool, self._options.cache_bytes, self._main.chunk_fetcher()
                )
            return self._chunk_reader

    def _note_change(self, *_change: Any) -> None:
        raise UnreadableError("a worker that only reads has changed something")

    def _note_loss(self) -> None:
        """Take note that a worker is gone; nothing is lost with one that only reads."""

    def open(self) -> None:
        """Open the mounted file. Raises ``CannotOpenError``, ``UnreadableError``."""
        if self._own_starter is not None:
            self._own_starter.start()
        try:
            self._main.open()
        except OSError as error:
            what = self._options.location
            raise CannotOpenError(f"{what}: {error.strerror}{advise(error)}") from None
        self._pool.open(self._main.for_workers())
        threading.Thread(target=self._start_workers, name="start-workers", daemon=True).start()

    def _start_workers(self) -> None:
        try:
            self._pool.start_all()
        except UnreadableError:
            return  # the mount has ended meanwhile

    def _pass_on(self, method: str, arguments: tuple[Any, ...], subject: Subject) -> Any:
        return self._pool.call(method, *arguments, subject=subject)

    def _pass_to_preferred(self, method: str, arguments: tuple[Any, ...], subject: Subject) -> Any:
        # What a scan of a dataset found out stays in the worker that made it.
        return self._pool.call(
            method, *arguments, subject=subject, preferred_worker=_preferred_worker(subject.ref)
        )

    root = passed_on(ObjectStore.root, _pass_on, _root_of)
    get_link = passed_on(ObjectStore.get_link, _pass_on, Subject)
    follow = passed_on(ObjectStore.follow, _pass_on, link_subject)
    find_link = passed_on(ObjectStore.find_link, _pass_on, Subject)
    describe_datatype = passed_on(ObjectStore.describe_datatype, _pass_to_preferred, Subject)
    read_attributes = passed_on(ObjectStore.read_attributes, _pass_to_preferred, _attributes_of)

    def describe_dataset(self, ref: ObjectRef) -> DatasetInfo:
        dataset: DatasetInfo = self._known_of(ref, Asked.DATASET) or self._pass_to_preferred(
            "describe_dataset", (ref,), Subject(ref)
        )
        return dataset

    def describe_storage(self, ref: ObjectRef) -> StorageInfo:
        storage: StorageInfo = self._known_of(ref, Asked.STORAGE) or self._pass_to_preferred(
            "describe_storage", (ref,), Subject(ref)
        )
        return storage

    def attributes_at_hand(self, ref: ObjectRef) -> bytes | None:
        text: bytes | None = self._known_of(ref, Asked.ATTRIBUTES)
        return text

    def _known_of(self, ref: ObjectRef, asked: Asked, *, keeps: bool = False) -> Any:
        """Return an answer that a worker has given before it was asked for; None without one."""
        return None if self._ahead is None else self._ahead.get(ref, asked, keeps=keeps)

    def _is_open_to(self, ref: ObjectRef) -> bool:
        """Whether nothing of an object is in quarantine."""
        return not self._quarantine.holds(Subject(ref), _attributes_of(ref))

    def _look_ahead(self, looks: tuple[Look, ...]) -> tuple[ObjectDetails, ...]:
        def fail(note: bytes) -> None:
            raise LookFailedError(int(note) if note.isdigit() else None)

        details: tuple[ObjectDetails, ...] = self._pool.call(
            "look_ahead", looks, subject=Subject(looks[0].ref, b"ahead"), on_failure=fail,
            is_ahead=True,
        )  # fmt: skip
        return details

    def list_links(self, group: ObjectRef) -> LinkTable:
        def blame(note: bytes) -> None:
            # The library was looking at a link's target: that is to blame, not the group.
            if note and len(self._quarantine.unsafe_names(group)) < _MOST_UNSAFE_NAMES:
                raise _BehindLinkError(note)

        while True:
            unsafe = self._quarantine.unsafe_names(group)
            if len(unsafe) >= _MOST_UNSAFE_NAMES:
                unsafe = frozenset({b""})  # looks at no target any more
            try:
                table: LinkTable = self._pool.call(
                    "list_links", group, unsafe, subject=Subject(group), on_failure=blame
                )
            except _BehindLinkError as error:
                reason = "the library crashes or hangs when it looks at it"
                self._quarantine.add(Subject(group, error.name), reason)
            else:
                self._grants.add_early(
                    path
                    for link in table.others.values()
                    if link.kind is LinkKind.EXTERNAL
                    for path in places_of_external(link.external_file, self._folder_of(group.file))
                )
                if self._ahead is not None:
                    self._ahead.note_listing(table)
                return table

    def _folder_of(self, file: int) -> Path:
        if not file:
            return self._path.parent
        return Path(os.fsdecode(self._pool.numbered_file(file).path)).parent

    def read_into(
        self,
        ref: ObjectRef,
        dataset: DatasetInfo,
        part: ArrayPart,
        offset: int,
        buffer: memoryview,
    ) -> None:
        if isinstance(dataset.data, Contiguous):
            start = dataset.data.file_offset + offset
            try:
                if self._source(ref.file).read_into(buffer, start) == len(buffer):
                    return
            except OSError as error:
                raise UnreadableError(f"{show_path(ref.path)}: {error.strerror}") from None
            # The file is shorter than it says: the library knows what that means.
        elif part is ArrayPart.ELEMENTS and self._is_at_hand(ref, dataset, offset, buffer):
            return
        elif isinstance(dataset.data, Chunked):
            self._quarantine.check(Subject(ref))
            self._chunks.read_into(ref, dataset, dataset.data, offset, buffer)
            return
        elif isinstance(dataset.data, Virtual):
            from h5fs.store.worker_stores.virtual_arrays import sources_under

            for source, start, piece in sources_under(dataset.data, offset, buffer):
                self.read_into(source.ref, source.dataset, part, start, piece)
            return

        size: int = self._pool.call(
            "read_data", ref, part, offset, len(buffer), dataset.shape, subject=Subject(ref),
            into=buffer,
            asked_bytes=max(len(buffer), dataset.dtype.itemsize),  # it reads whole elements
            preferred_worker=_preferred_worker(ref), preferred_only=dataset.is_scanned,
        )  # fmt: skip
        if size != len(buffer):
            raise UnreadableError(f"{show_path(ref.path)}: {size} of {len(buffer)} bytes came back")

    def make_view(
        self, ref: ObjectRef, request: ViewRequest, data: bytes, buffer: memoryview
    ) -> None:
        size: int = self._pool.call(
            "render_view", ref, request, data, subject=Subject(ref), into=buffer,
            asked_bytes=len(data) + len(buffer),
        )  # fmt: skip
        if size != len(buffer):
            raise UnreadableError(f"{show_path(ref.path)}: {size} of {len(buffer)} bytes came back")

    def _is_at_hand(
        self, ref: ObjectRef, dataset: DatasetInfo, offset: int, buffer: memoryview
    ) -> bool:
        """Whether a small array's elements were read before; if so, fill ``buffer`` with them."""
        size_bytes = dataset.data_bytes
        if size_bytes > MOST_DATA_AHEAD_BYTES:
            return False
        stop = offset + len(buffer)
        data = self._known_of(ref, Asked.DATA, keeps=stop < size_bytes)
        if data is None or len(data) != size_bytes:
            return False
        buffer[:] = data[offset:stop]
        return True

    def file_status(self, file: int) -> FileStatus:
        try:
            return (self._main if file == 0 else self._open_beside(file)).status()
        except OSError as error:
            raise CannotOpenError(f"{self._name_of(file)}: {error.strerror}") from None

    def file_system_status(self) -> SpaceStatus:
        try:
            return self._main.space()
        except OSError as error:
            raise CannotOpenError(f"{self._name_of(0)}: {error.strerror}") from None

    def statistics(self) -> StoreStatistics:
        quarantined = tuple(
            QuarantinedObject(self._name_of(subject.ref.file), subject.path, reason)
            for subject, reason in self._quarantine.reasons().items()
        )
        return StoreStatistics(
            self._chunks.statistics(), self._pool.statistics(), quarantined=quarantined,
            log_problem=self._main.problem,
        )  # fmt: skip

    def _name_of(self, file: int) -> str:
        """Return the path of a file that an ``ObjectRef`` names, for messages."""
        if file == 0:
            return show_path(os.fsencode(str(self._options.location)))
        try:
            return show_path(self._pool.numbered_file(file).path)
        except UnreadableError:
            return f"file {file}"

    def close(self) -> None:
        self._main.interrupt()
        if self._ahead is not None:
            self._ahead.close()
        if self._chunk_reader is not None:
            self._chunk_reader.close()
        self._pool.close()
        if self._own_starter is not None:
            self._own_starter.close()
        with self._lock:
            for source in self._beside.values():
                os.close(source.descriptor)
            self._beside.clear()
        self._main.close()

    def _source(self, file: int) -> Source:
        """Return the bytes of a file, opened when it is first needed."""
        return self._main.source if file == 0 else self._open_beside(file)

    def _open_beside(self, file: int) -> LocalFile:
        source = self._beside.get(file)
        if source is not None:
            return source
        beside = self._pool.numbered_file(file)
        try:
            opened = self._grants.open(beside.path)
        except OSError as error:
            name = show_path(beside.path)
            raise CannotOpenError(f"{name}: {error.strerror}{advise(error)}") from None
        status = os.fstat(opened)
        if (status.st_dev, status.st_ino) != (beside.device, beside.inode):
            os.close(opened)
            raise StaleError(f"{show_path(beside.path)} has been replaced since links led to it")
        with self._lock:
            if file in self._beside:
                os.close(opened)
            return self._beside.setdefault(file, LocalFile(opened))


_Store = TypeVar("_Store", bound=WorkerStore)


def opened(store: _Store) -> _Store:
    """Open a store, and return it; close it when that fails. Raises what opening raises."""
    try:
        store.open()
    except BaseException:
        store.close()
        raise
    return store


class _BehindLinkError(Exception):
    """The library crashed or hung while it looked at what a link leads to."""

    def __init__(self, name: bytes) -> None:
        super().__init__(name)
        self.name = name


def _path_of(options: StoreOptions) -> Path:
    """Return the real path; for a URL one that is for messages, and leads nowhere."""
    if options.url is not None:
        return Path("/", options.url.name)
    return Path(os.path.realpath(options.file))


def _preferred_worker(ref: ObjectRef) -> int:
    """Return which worker knows most of an object."""
    return hash(ref) >> 4
