"""The tree of a mode that writes, over data that other machines write at the same time.

It is the tree of any mode that writes, but believes what it has found for a moment only, asks what
a file holds at each ``open``, and writes just what programs have changed: elements of mapped pages,
attributes of an attribute file.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

from h5fs.errors import ExistsError, LostChangesError, NotFoundError, show_path
from h5fs.lru_cache import LruCache
from h5fs.model.objects import ObjectRef
from h5fs.store.interface import ArrayPart, WritingStore
from h5fs.tree.contents.content import ArrayContent, Content, TextContent
from h5fs.tree.contents.page_content import PageContent
from h5fs.tree.nodes import Node, NodeKind
from h5fs.tree.status import Status
from h5fs.tree.versions.renewing_tree import RENEWED_SECONDS, SharedStore
from h5fs.tree.versions.shared_pages import SharedPages, layout_of
from h5fs.tree.writing.opened_files import OpenedFile
from h5fs.tree.writing.pending.writable_file import WritableFile
from h5fs.tree.writing.writable_tree import WritableTree

_log = logging.getLogger(__name__)

_TEXTS_KEPT: Final = 1024


class Renewal:
    """Forgets, at the beginning of a call, what was found too long ago."""

    def __init__(self, forget: Callable[[], None]) -> None:
        self._forget = forget
        self._renewed_at = time.monotonic()

    def expire(self) -> None:
        """Let the next call forget all that was found."""
        self._renewed_at = -RENEWED_SECONDS

    def renew(self) -> None:
        """Forget what was found, if that is long ago. Under the tree's lock."""
        if time.monotonic() - self._renewed_at > RENEWED_SECONDS:
            self._renewed_at = time.monotonic()
            self._forget()


class SharedWritingStore(WritingStore, SharedStore, Protocol):
    """A store of data that others change, to write."""


class SharedWritableTree(WritableTree):
    """Answers what ``WritableTree`` answers.

    ``_losses`` counts how often the service has lost what was written, and ``_losses_known`` has
    how many of these each handle's program has heard of, or are older than the handle. ``_taken``:
    why a handle's new file was given up. These and ``_pages`` are under the tree's lock.
    """

    def __init__(self, store: SharedWritingStore, *given: Any, **named: Any) -> None:
        super().__init__(store, *given, **named)
        self._forget_values = store.forget_values
        self._renewal = Renewal(self._forget)
        self._in_flight.on_begin = self._renewal.renew
        self._pages: dict[ObjectRef, SharedPages] = {}
        self._taken: dict[int, ExistsError] = {}
        self._losses = 0
        self._losses_known: dict[int, int] = {}
        self._texts: LruCache[ObjectRef, bytes] = LruCache(_TEXTS_KEPT)
        self._commits.text_before = self._text_before
        self._commits.grows_beneath_readers = True
        self._lookup.is_shared = True

    def keeps_cache(self, _handle: int) -> bool:
        """Return False: others may have written."""
        return False

    def page_content(self, handle: int) -> PageContent | None:
        """Return what a handle reads: of which object, and how it is laid out.

        Nobody tells what others have written, nor how many rows they have added: that does not
        keep two handles from sharing pages. That others have put another object in the place of
        one that is open does. Of two objects of one size the kernel knows nothing but a time in
        seconds, so that it would give the pages of one to who reads the other.
        """
        opened = self._opened.get(handle)
        with self._in_flight.call(file=opened.file):
            read = opened.read_of_file()
        return None if read is None else _page_content(*read)

    def changed_since(self, _version: object) -> None:
        """Return None: any file may have changed."""

    def get_lasting_status(self, path: bytes) -> tuple[Status, bool]:
        """Answer ``stat``, which never lasts. That nothing is there is asked anew: others may just
        have made it.
        """
        try:
            return super().get_lasting_status(path)[0], False
        except NotFoundError:
            self._renewal.expire()
            return super().get_lasting_status(path)[0], False

    def open(self, path: bytes, flags: int, pid: int = 0) -> int:
        """Open a file by what it holds now."""
        self._renewal.expire()
        handle = super().open(path, flags, pid)
        try:
            with self._in_flight.call():
                self._note_opening(self._opened.get(handle), flags)
                self._losses_known[handle] = self._losses
        except BaseException:  # the service is asked once more
            self.release(handle)
            raise
        return handle

    def create(self, path: bytes, flags: int, pid: int = 0, mode: int = 0o666) -> int:
        """Make a file where there is none now."""
        self._renewal.expire()
        handle = super().create(path, flags, pid, mode)
        with self._in_flight.call():
            self._losses_known[handle] = self._losses
        return handle

    def rename(self, old: bytes, new: bytes, flags: int = 0, pid: int = 0) -> None:
        """Rename what is there now."""
        self._renewal.expire()
        super().rename(old, new, flags, pid)

    def remove_folder(self, path: bytes) -> None:
        """Remove a folder that is empty now."""
        self._renewal.expire()
        super().remove_folder(path)

    def read_into(self, handle: int, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer``, and remember what the kernel gets of an array that may be mapped."""
        count = super().read_into(handle, buffer, offset)
        if self._pages:
            opened = self._opened.get(handle)
            pages = self._pages_of(opened)
            if pages is not None and not opened.bypasses_cache:
                pages.note(buffer[:count], offset)
        return count

    def write(
        self, handle: int, data: memoryview, offset: int, *, is_page: bool = False,
        is_mixed: bool = False,
    ) -> None:  # fmt: skip
        """Write bytes; of mapped pages those elements that a program has changed."""
        del is_mixed  # no handle keeps its pages
        pages = self._pages_of(self._opened.get(handle))
        if pages is None:
            super().write(handle, data, offset)
            return
        if not is_page:
            super().write(handle, data, offset)
            pages.note(data, offset)
            return
        data = data[: max(pages.content.size_bytes - offset, 0)]
        with self._in_flight.call():
            lent, ranges = pages.take(data, offset)
            if not ranges or self._store.change_array(pages.content.ref, lent, ranges):
                return
        super().write(handle, data, offset)

    def flush(self, handle: int, pid: int) -> None:
        """Answer ``close``: a new file whose name others have taken meanwhile is refused."""
        with self._giving_up_what_is_taken(handle):
            super().flush(handle, pid)

    def fsync(self, handle: int) -> None:
        """Answer ``fsync``: the service's nodes have written all that they were given.

        That they have lost some is found out once, and told to each program once.
        """
        try:
            with self._giving_up_what_is_taken(handle):
                super().fsync(handle)
        except LostChangesError:
            with self._in_flight.call():
                self._losses += 1
                self._losses_known[handle] = self._losses
            raise
        with self._in_flight.call():
            known = self._losses_known.get(handle, self._losses)
            self._losses_known[handle] = self._losses
        if known < self._losses:
            raise LostChangesError(
                "data nodes have ended since this file was opened, as the log says: what was "
                "written then may be lost; write it again"
            )

    def release(self, handle: int) -> None:
        """Forget a handle; with the last one of a file, what the kernel was given of it."""
        opened = self._opened.get(handle)
        super().release(handle)
        with self._in_flight.call():
            self._losses_known.pop(handle, None)
            self._taken.pop(handle, None)
            content = opened.file.content if opened.file is not None else None
            if opened.file is None or opened.file.opened or not isinstance(content, ArrayContent):
                return
            pages = self._pages.pop(content.ref, None)
            if pages is not None:
                pages.close()

    @contextmanager
    def _giving_up_what_is_taken(self, handle: int) -> Iterator[None]:
        """Forget a new file when it cannot have its name, since another mount was quicker.

        A second try would replace the other mount's file. ``numpy.save`` passes over the error of
        its first ``close``, of a copy of the descriptor, so that each ``close`` has to fail.
        """
        if handle in self._taken:
            raise self._taken[handle]
        try:
            yield
        except ExistsError as error:
            with self._in_flight.call():
                file = self._opened.get(handle).file
                if file is not None and file.node is None and not file.is_gone:
                    self._pending.unstage(file.path)
                    self._removals.let_disappear(file)
                    self._taken[handle] = error
                    _log.error(
                        "%s: another mount has made this name first; what was written here is not "
                        "stored", show_path(file.path),
                    )  # fmt: skip
            raise

    def _note_opening(self, opened: OpenedFile, flags: int) -> None:
        read = opened.read_of_file()
        if read is not None:
            self._forget_values(read[0].info.ref)
        if opened.file is None:
            self._note_text(opened)
            return
        file = opened.file
        if file.opened > 1 and file.node is not None and file.draft is None:
            node = self._lookup.find_any(file.path)
            if node is not None and node.info.ref == file.node.info.ref:
                file.node, file.content = node, self._lookup.content_of(node)
        if flags & os.O_ACCMODE == os.O_RDWR:  # what can be read and written can be mapped
            self._note_mappable(file.content)

    def _note_mappable(self, content: Content | None) -> None:
        if not isinstance(content, ArrayContent) or content.part is not ArrayPart.ELEMENTS:
            return
        pages = self._pages.get(content.ref)
        if pages is not None and not pages.follow(content):
            pages.close()
            pages = None
        self._pages[content.ref] = pages or SharedPages(content)

    def _note_text(self, opened: OpenedFile) -> None:
        """Remember which attributes a program sees, which it perhaps writes anew."""
        node = opened.node
        if (
            node is not None
            and node.kind is NodeKind.ATTRIBUTES
            and (isinstance(opened.content, TextContent))
        ):
            self._texts.put(node.info.ref, opened.content.data)

    def _text_before(self, file: WritableFile, ref: ObjectRef) -> bytes | None:
        if file.started_from is not None:
            return file.started_from
        if isinstance(file.content, TextContent):
            return file.content.data
        return b"" if file.made_at == file.path else self._texts.get(ref)

    def _pages_of(self, opened: OpenedFile) -> SharedPages | None:
        content = opened.content
        if opened.file is not None:
            content = opened.file.content if opened.file.draft is None else None
        return self._pages.get(content.ref) if isinstance(content, ArrayContent) else None

    def _forget(self) -> None:
        self._lookup.forget()
        self._lookup.forget_files()


def _page_content(node: Node, content: Content) -> PageContent:
    layout: Hashable = content.size_bytes
    if isinstance(content, TextContent):
        layout = content.data
    elif isinstance(content, ArrayContent):
        layout = layout_of(content)
    return PageContent((node.kind, node.info.ref, layout), None, lasts=True)
