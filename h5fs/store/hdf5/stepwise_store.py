"""Changes of an HDF5 file in steps: each leads from one whole file to the next.

After a step the library is flushed, and the log gets a commit that outlives this process. Steps
that are made together share one flush and one commit. When something fails within a step, this
store is broken: the library's state of the file differs from the log's. The worker then ends, and
the next one begins at the last commit.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from types import TracebackType
from typing import Any

import msgspec
from h5py import h5d, h5f, h5g

from h5fs.errors import (
    ChangeFailedError,
    H5fsError,
    InvalidArrayError,
    LostChangesError,
    NoSpaceError,
    StaleError,
    UnsupportedTypeError,
)
from h5fs.model.objects import Contiguous, DatasetInfo, ObjectInfo, ObjectKind, ObjectRef
from h5fs.model.settings import StoreOptions
from h5fs.store.hdf5.library_errors import reading
from h5fs.store.hdf5.logged_main import LoggedMain
from h5fs.store.hdf5.objects.links import describe_opened, look_at
from h5fs.store.hdf5.plugins import register_plugins
from h5fs.store.hdf5.reading.datasets import creation_of
from h5fs.store.hdf5.reading.open_identifiers import OpenIdentifier
from h5fs.store.hdf5.reading.projected import FixedDataset, details_of
from h5fs.store.hdf5.store import Hdf5Store, ignore
from h5fs.store.hdf5.writing.creating import Inherited
from h5fs.store.hdf5.writing.hidden_group import (
    any_has_members,
    as_named_now,
    find_hidden,
    find_nameless,
    make_hidden,
    remove_hidden,
)
from h5fs.store.hdf5.writing.replacing import Written
from h5fs.store.hidden_names import HIDDEN_PATH, is_below_hidden, nameless_name
from h5fs.store.library_interface import ChangedObjects
from h5fs.store.resolving import is_there

_log = logging.getLogger(__name__)


class _Together:
    """Steps that will be committed by one commit: whether there was one, and what they change."""

    __slots__ = ("changed", "has_begun")

    def __init__(self) -> None:
        self.has_begun = False
        self.changed: ChangedObjects = ()

    def add(self, changed: ChangedObjects) -> None:
        """Add the objects whose data a step has changed; None: any."""
        if self.changed is not None:
            known = self.changed
            self.changed = None if changed is None else tuple(dict.fromkeys(known + changed))


class StepwiseStore(Hdf5Store):
    """A store that can take steps, and that has a hidden group for objects without a name.

    ``is_broken``: it must not be used any more. ``on_change`` is told of each commit, and
    after each checkpoint, which objects' data are others now or gone (None: any), and where in
    the log the last commit ends.
    """

    _is_read_by_chunk = False

    def __init__(
        self,
        options: StoreOptions,
        logged: LoggedMain,
        *,
        on_change: Callable[[ChangedObjects, int], None] = ignore,
        **others: Any,
    ) -> None:
        super().__init__(options, driven=logged, **others)
        self._file, self._logged = logged.file, logged
        self._on_change = on_change
        self._together: _Together | None = None
        self._hidden_id: h5g.GroupID | None = None

    def open(self) -> None:
        """Open the mounted file. Raises ``CannotOpenError``, ``UnreadableError``."""
        register_plugins()  # what is written opens datasets in more than one place
        super().open()

    def find_missing(self, paths: tuple[bytes, ...]) -> tuple[bytes, ...]:
        with self._lock:
            return tuple(path for path in paths if not is_there(self, path))

    def open_hidden(self, makes: bool) -> ObjectInfo | None:
        with self._changing(HIDDEN_PATH):
            file_id = self._files.file_id(0)
            nameless = find_nameless(file_id) if not makes else []
            hidden = find_hidden(file_id)
            if nameless or (makes and hidden is None):
                with self._step(None if nameless else ()):
                    hidden = make_hidden(file_id)
                    for name in nameless:
                        hidden.unlink(name)
            if hidden is None:
                return None
            return self._links.describe_object(file_id, HIDDEN_PATH, file=0, path=HIDDEN_PATH)

    def remove_hidden(self) -> None:
        with self._changing(HIDDEN_PATH):
            hidden = find_hidden(self._files.file_id(0))
            if hidden is not None:
                with self._step(None):
                    self._forget_all()
                    self._hidden_id = None
                    remove_hidden(self._files.file_id(0), hidden)

    def drop_nameless(self, object_ids: tuple[int, ...]) -> None:
        with self._changing(HIDDEN_PATH):
            hidden = self._hidden_id or find_hidden(self._files.file_id(0))
            if hidden is None:
                return
            kept = {each: nameless_name(each) for each in object_ids}
            kept = {each: name for each, name in kept.items() if hidden.links.exists(name)}
            if kept:
                has_paths = self._object_paths and not any_has_members(hidden, kept.values())
                with self._step(tuple(kept)):
                    self._forget_all(unlinked=tuple(kept) if has_paths else None)
                    for name in kept.values():
                        hidden.unlink(name)

    def _make_hidden(self) -> h5g.GroupID:
        """Return the hidden group, which stays open: small changes need it one after another."""
        if self._hidden_id is None:
            self._hidden_id = make_hidden(self._files.file_id(0))
        return self._hidden_id

    def close(self) -> None:
        self._hidden_id = None
        super().close()

    def commit(self, is_checkpoint: bool = False) -> None:
        with self._lock, self._failing("commit"):
            h5f.flush(self._files.file_id(0))
            if is_checkpoint:
                self._file.checkpoint()
            else:
                self._file.commit(durable=True)
            self._on_change((), self._file.log_bytes)

    def shorten_log(self) -> None:
        with self._lock, self._failing("bring the log into the file"):
            h5f.flush(self._files.file_id(0))
            try:
                self._file.checkpoint()
            except OSError as error:
                if self._file.failure is not None:
                    raise
                _log.warning("the log stays at %d bytes: %s", self._file.log_bytes, error)
            self._on_change((), self._file.log_bytes)

    def _open_identifier(self, ref: ObjectRef) -> Any:
        return super()._open_identifier(
            as_named_now(self._files.file_id(0), ref, self._on_progress)
        )

    def _changing(self, what: bytes) -> _Changing:
        """Hold the lock; turn what h5py raises before a step into a refusal that names ``what``."""
        return _Changing(self._lock, what)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Commit all steps of the block at its end, by one commit.

        What an operation refuses before its step may be caught within the block. After any
        exception that leaves the block the store is broken, unless no step had begun.
        """
        with self._lock:
            self._together = together = _Together()
            try:
                yield
                if together.has_begun and not self.is_broken:
                    with self._failing("change the file"):
                        self._commit_step(together.changed)
            except BaseException:
                self.is_broken = self.is_broken or together.has_begun
                raise
            finally:
                self._together = None

    def _step(self, changed: ChangedObjects, *, attributes: bool = False) -> _Step:
        """Commit the changes of the block; after an exception the store is broken.

        The commit comes later where several steps are made together.

        ``changed``: the objects whose data are others afterwards, or gone; None: any.
        ``attributes``: any ``H5fsError`` is raised as it is, and not as a ``ChangeFailedError``.
        """
        return _Step(self, changed, keeps_refusals=attributes)

    def begin_step(self) -> None:
        """Take note that the library is about to change something (for ``_Step``)."""
        self._logged.is_flushed = False
        if self._together is not None:
            self._together.has_begun = True

    def end_step(self, changed: ChangedObjects) -> None:
        """Commit what a step has changed, now or together with others (for ``_Step``)."""
        if self._together is None:
            self._commit_step(changed)
        else:
            self._together.add(changed)

    def _commit_step(self, changed: ChangedObjects) -> None:
        h5f.flush(self._files.file_id(0))
        self._logged.is_flushed = True
        self._file.commit(durable=False)
        self._on_change(changed, self._file.log_bytes)

    @contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.break_off(what, error)
            raise

    def break_off(self, what: str, error: BaseException, *, keeps_refusals: bool = False) -> None:
        """Be broken by an error; raise what it means, or return where it means what it says."""
        self.is_broken = True
        if isinstance(error, OSError) and error.errno is not None:  # h5py's have one of the disk's
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpaceError(f"{what}: {error.strerror}") from error
            if error.errno == errno.ESTALE:
                raise StaleError(f"{what}: {error.strerror}") from error
            raise LostChangesError(f"{what}: {error}") from error
        if not isinstance(error, Exception):
            return  # files to ask for, where half of a step is done
        is_refusal = isinstance(error, InvalidArrayError | UnsupportedTypeError)
        if isinstance(error, H5fsError) and (keeps_refusals or is_refusal):
            return
        # Any of h5py's: the log undoes what was done so far.
        raise ChangeFailedError(f"{what}: {' '.join(str(error).split())}") from error

    def _forget_all(self, *parents: ObjectRef, unlinked: tuple[int, ...] | None = None) -> None:
        """Forget everything cached that may be wrong after the next step.

        ``parents``: groups that the step takes links from, or gives links to. They stay open: a
        path to one of them needs none of its own links, so that it is not removed with any.
        ``unlinked``: the ids of all objects that lose a link, and have no members; None: any.
        """
        self._opened.clear(*parents)
        self._scanned.clear()
        self._read.clear()
        if unlinked is None:
            self._object_paths.clear()
        elif self._object_paths:
            self._path_of(0).forget(unlinked)

    def _note_path(self, object_id: int, path: bytes) -> None:
        """Take note that an object, perhaps a new one, has got a link."""
        if self._object_paths and not is_below_hidden(path[1:]):
            self._path_of(0).note(object_id, path)

    def _forget_elements(self, ref: ObjectRef) -> None:
        """Forget what depends on the elements of a dataset, whose type stays as it is."""
        self._read.pop(ref, None)
        projected = self._scanned.get(ref)
        if isinstance(projected, FixedDataset):
            projected.forget()
        else:
            self._scanned.pop(ref, None)

    def _info(self, group: ObjectRef, name: bytes) -> ObjectInfo:
        link = self.get_link(group, name)
        assert link.target is not None
        return self._with_dataset(link.target)

    def _inherited(self, group: ObjectRef) -> Inherited:
        """Return what is made in a group takes over."""
        opened = self._opened.open(group)
        if opened.inherited is None:
            opened.inherited = Inherited(opened.identifier)
        inherited: Inherited = opened.inherited
        return inherited

    def _info_of(self, written: Written, path: bytes) -> ObjectInfo:
        """Return what a dataset is that was just written."""
        dataset_id, plain = written.dataset_id, written.plain
        info = describe_opened(
            dataset_id, path, look_at(dataset_id), holds_sequences=False if plain else None
        )
        creation = written.creation or creation_of(dataset_id)
        is_own = plain is not None or (
            creation.get_layout() == h5d.CONTIGUOUS and not creation.get_external_count()
        )
        if is_own:
            # As if it had been opened, and its data were found to be its own.
            self._opened.keep(info.ref, OpenIdentifier(dataset_id, creation, is_permitted=True))
        if plain is None:
            return self._with_dataset(info)
        self._scanned[info.ref] = plain
        return _add_dataset(info, _describe_plain(written, plain))

    def _with_dataset(self, info: ObjectInfo) -> ObjectInfo:
        """Add how a dataset looks where that takes no scan."""
        if info.kind is not ObjectKind.DATASET or info.holds_sequences:
            return info
        with suppress(H5fsError):  # the change is made; whoever asks for the dataset is told why
            if isinstance(self._projected(info.ref), FixedDataset):
                return _add_dataset(info, self.describe_dataset(info.ref))
        return info


class _Changing(reading):
    """See ``StepwiseStore._changing``."""

    __slots__ = ("_lock",)

    def __init__(self, lock: AbstractContextManager[object], what: bytes) -> None:
        super().__init__(what)
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is not None:
                super().__exit__(kind, error, traceback)
        finally:
            self._lock.__exit__(None, None, None)


class _Step:
    """See ``StepwiseStore._step``."""

    __slots__ = ("_changed", "_keeps_refusals", "_store")

    def __init__(
        self, store: StepwiseStore, changed: ChangedObjects, *, keeps_refusals: bool
    ) -> None:
        self._store = store
        self._changed = changed
        self._keeps_refusals = keeps_refusals

    def __enter__(self) -> None:
        self._store.begin_step()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._break_off(error)
            return
        try:
            self._store.end_step(self._changed)
        except BaseException as late:
            self._break_off(late)
            raise

    def _break_off(self, error: BaseException) -> None:
        self._store.break_off("change the file", error, keeps_refusals=self._keeps_refusals)


def _describe_plain(written: Written, plain: FixedDataset) -> DatasetInfo:
    """Return what ``describe_dataset`` does of a contiguous dataset that was just made."""
    dataset_id = written.dataset_id
    size = dataset_id.get_storage_size()
    offset = dataset_id.get_offset() if size and plain.lies_as_read(dataset_id) else None
    return DatasetInfo(
        written.shape, plain.dtype, size,
        data=None if offset is None else Contiguous(offset), **details_of(plain),
    )  # fmt: skip


def _add_dataset(info: ObjectInfo, dataset: DatasetInfo) -> ObjectInfo:
    return msgspec.structs.replace(
        info, dataset=dataset, storage_size_bytes=dataset.storage_size_bytes
    )
