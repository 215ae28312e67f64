"""A domain in a mode that writes, without the changes: open objects, hidden group, flush, end."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from h5fs.errors import (
    H5fsError,
    InvalidNameError,
    LostChangesError,
    show_path,
)
from h5fs.model.file_status import FileStatus, SpaceStatus
from h5fs.model.objects import ObjectRef
from h5fs.model.settings import ExternalPolicy, NewDatasets
from h5fs.store.hidden_names import is_hidden
from h5fs.store.hsds.answers import FlushAnswer, ObjectAnswer
from h5fs.store.hsds.client import Client
from h5fs.store.hsds.store import HsdsStore
from h5fs.store.hsds.writing.array_sender import ArraySender
from h5fs.store.hsds.writing.hidden_groups import HiddenGroups
from h5fs.store.hsds.writing.link_bodies import title_of
from h5fs.store.hsds.writing.link_changes import LinkChanges
from h5fs.store.hsds.writing.node_marks import NodeMarks
from h5fs.store.hsds.writing.removed_objects import LATER_SECONDS, RemovedObjects

_log = logging.getLogger(__name__)

_FREE_BYTES: Final = 1 << 40


class HoldingHsdsStore(HsdsStore):
    """Opens, flushes and closes a domain that is written, and knows what is open in it.

    ``_changes_lock`` protects ``_held``, ``_layouts``, ``_is_changed``; nothing else is taken
    while it is held. ``_commit_lock``, taken before it: one flush at a time; it protects ``_nodes``
    and ``_marks``.
    """

    def __init__(
        self, client: Client, domain: str, bucket: str, external: ExternalPolicy,
        cache_bytes: int, new_datasets: NewDatasets, *, later_seconds: float = LATER_SECONDS,
    ) -> None:  # fmt: skip
        super().__init__(client, domain, bucket, external, cache_bytes)
        self._new_datasets = new_datasets
        query = self._query(0)
        self._links = LinkChanges(client, query)
        self._writer = ArraySender(client, self._executor, query)
        self._hidden = HiddenGroups(client, query, self._links)
        self._removed = RemovedObjects(
            client, query, self._links, lambda: self._root_id(0), self._is_held, later_seconds
        )
        self._changes_lock = threading.Lock()
        self._held: Counter[str] = Counter()
        self._layouts: dict[str, tuple[float, ObjectAnswer]] = {}
        self._is_changed = False
        self._nodes: tuple[str, ...] = ()
        self._marks = NodeMarks(client, query)
        self._commit_lock = threading.Lock()
        self._is_closed = False

    def open(self) -> None:
        super().open()
        self._nodes = self._ask_for_nodes()
        self._marks.lay(self._root_id(0), len(self._nodes))

    def file_status(self, file: int) -> FileStatus:
        status = super().file_status(file)
        return status if file else FileStatus(
            status.mode | 0o200, status.uid, status.gid, status.size_bytes, status.atime_ns,
            status.mtime_ns,
        )  # fmt: skip

    def file_system_status(self) -> SpaceStatus:
        """Return a status with room for whatever comes: nobody knows how much is left."""
        space = super().file_system_status()
        free = _FREE_BYTES // space.fragment_bytes
        return SpaceStatus(
            space.block_bytes, space.fragment_bytes, space.fragments + free, free, free
        )

    def data_version(self, _ref: ObjectRef) -> None:
        return None

    def hold(self, ref: ObjectRef) -> None:
        object_id = self._id_of(ref)
        with self._changes_lock:
            self._held[object_id] += 1

    def let_go(self, *refs: ObjectRef) -> None:
        object_ids = [self._id_of(ref) for ref in refs]
        with self._changes_lock:
            for object_id in object_ids:
                self._held[object_id] -= 1
                if self._held[object_id] <= 0:
                    del self._held[object_id]

    def hidden_group(self, *, makes: bool = True) -> ObjectRef | None:
        with self._changing() if makes else contextlib.nullcontext():
            found = self._hidden.find(self._root_id(0), makes=makes)
        return None if found is None else self._describe(found[0], 0, found[1]).ref

    def remove_hidden(self) -> None:
        gone = self._hidden.remove(self._root_id(0))
        if gone is not None:
            with self._changing():
                self._removed.add(gone)

    def commit(self, is_checkpoint: bool = False) -> None:
        """Return when the service's nodes have written all that they were given.

        Raises ``LostChangesError`` when a node is another one than at the last commit, or was
        started again: what it had and had not written is gone.
        """
        del is_checkpoint  # everybody sees everything at once
        with self._commit_lock:
            self._commit()

    def _commit(self) -> None:
        with self._changes_lock:
            is_changed, self._is_changed = self._is_changed, False
        if not is_changed:
            return
        try:
            query = {**self._query(0), "flush": "1", "getdnids": "1"}
            nodes = tuple(self._client.ask("PUT", "/", FlushAnswer, query).dn_ids)
        except H5fsError:
            with self._changes_lock:
                self._is_changed = True
            raise
        ended = self._find_ended(nodes)
        if ended:
            raise LostChangesError(
                f"{self._domains[0].name}: the data nodes {', '.join(sorted(ended))} have ended "
                "since the last fsync, or were started again: what was written since then may be "
                "lost; write it again"
            )

    def _ask_for_nodes(self) -> tuple[str, ...]:
        return tuple(self._get("/", FlushAnswer, 0, {"getdnids": "1"}).dn_ids)

    def _find_ended(self, nodes: tuple[str, ...]) -> set[str]:
        """Return which nodes have ended, given those that there are; take these for the present."""
        old, self._nodes = self._nodes, nodes
        by_number = sorted(old)  # the answer to a flush has them in any order
        restarted = {by_number[number] for number in self._marks.find_restarted()}
        if len(old) != len(nodes):  # every object may have another home
            self._marks = NodeMarks(self._client, self._query(0))
        self._marks.lay(self._root_id(0), len(nodes))
        return restarted | (set(old) - set(nodes))

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._hidden.give_up()
            self.commit()
            self._removed.close()
        except H5fsError as error:
            _log.error("%s: what was written last may be lost: %s", self._domains[0].name, error)
        super().close()

    @contextmanager
    def _named_or_removed(self, object_id: str) -> Iterator[None]:
        """Remove a new object when the block, which is to name it, fails and leaves it nameless."""
        try:
            yield
        except BaseException:
            self._removed.add(object_id)
            raise

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._changes_lock:
            is_first, self._is_changed = not self._is_changed, True
        if is_first:
            self._note_nodes()
        try:
            yield
        finally:
            with self._changes_lock:
                self._is_changed = True
            self._maps(0).outdate()

    def _note_nodes(self) -> None:
        """Take note which nodes there are before a change: what others had was flushed, or EIO."""
        with self._commit_lock, contextlib.suppress(H5fsError):
            self._find_ended(self._ask_for_nodes())

    def _place(self, group: ObjectRef, name: bytes) -> str:
        """Return the id of a group in which a link may change. Raises ``InvalidNameError``."""
        if is_hidden(group.path, name):
            raise InvalidNameError(f"{show_path(name)} is h5fs's own")
        title_of(name)
        return self._group_id(group)

    def _is_held(self, object_id: str) -> bool:
        with self._changes_lock:
            return object_id in self._held
