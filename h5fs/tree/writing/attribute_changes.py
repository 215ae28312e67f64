"""Attributes that are not written as text by a program: single ones, and those of a new hard link.

Under the tree's lock.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext

from h5fs.errors import (
    ExistsError,
    H5fsError,
    NoAttributeError,
    UnsupportedTypeError,
    show_path,
)
from h5fs.projection.json.attribute_file_changes import change_attributes, holds_attribute
from h5fs.projection.names import GROUP_ATTRIBUTES, Projection
from h5fs.tree.lookup import Lookup
from h5fs.tree.nodes import NodeKind
from h5fs.tree.writing.closings import Closings
from h5fs.tree.writing.names.places import Places, attributes_path
from h5fs.tree.writing.opened_files import OpenedFiles
from h5fs.tree.writing.openings import Openings
from h5fs.tree.writing.pending.pending import Pending
from h5fs.tree.writing.pending.writable_file import WritableFile
from h5fs.tree.writing.removals import Removals
from h5fs.tree.writing.writes import Writes
from h5fs.tree.xattrs import OWN_PREFIX, USER_PREFIX

_KINDS = (NodeKind.ARRAY, NodeKind.VALUES, NodeKind.OFFSETS, NodeKind.DATATYPE)


class AttributeChanges:
    """Changes attributes by what changes attribute files, so that both have the same rules."""

    def __init__(
        self, pending: Pending, lookup: Lookup, places: Places, openings: Openings,
        opened: OpenedFiles, writes: Writes, closings: Closings, removals: Removals,
    ) -> None:  # fmt: skip
        self._pending = pending
        self._lookup = lookup
        self._places = places
        self._openings = openings
        self._opened = opened
        self._writes = writes
        self._closings = closings
        self._removals = removals

    def set_extended(self, path: bytes, name: bytes, value: bytes | None, flags: int) -> None:
        """Answer ``setxattr``, or ``removexattr`` (None). ``flags`` are those of ``setxattr``."""
        if not name.startswith(USER_PREFIX) or name.startswith(OWN_PREFIX):
            refusal = UnsupportedTypeError(f"{show_path(name)} cannot be set")
            refusal.is_news = name.startswith(USER_PREFIX)  # `cp` and `sed -i` try access lists
            raise refusal
        attribute = name.removeprefix(USER_PREFIX)
        has_it = holds_attribute(self._text_to_change(self._file_of(path)), attribute)
        if has_it and flags & os.XATTR_CREATE:
            raise ExistsError(f"{show_path(path)} has an attribute {show_path(attribute)}")
        if not has_it and flags & os.XATTR_REPLACE:
            raise NoAttributeError(f"{show_path(path)} has no attribute {show_path(attribute)}")
        self.change(path, {attribute: value})

    def change(self, path: bytes, changes: Mapping[bytes, bytes | None]) -> None:
        """Set attributes of the object at a path in one step; None removes one.

        Raises ``InvalidAttributesError``, and ``NoAttributeError`` where one that is to be removed
        is not there; the object has its old attributes then. Who writes the object's attribute file
        at the same time goes on with that, and replaces them all at its `close`.
        """
        file_path = self._file_of(path)
        old = self._text_to_change(file_path)
        new = change_attributes(old, changes)
        if new == old:
            return
        unfinished = self._unfinished(file_path)
        with unfinished.without_draft() if unfinished is not None else nullcontext():
            self._change_text(file_path, old, new)

    def _change_text(self, file_path: bytes, old: bytes, new: bytes) -> None:
        is_new = not self._places.is_there(file_path)
        if is_new:
            handle = self._openings.create(file_path, os.O_WRONLY, 0, 0o666)
        else:
            handle = self._openings.open(file_path, os.O_WRONLY, 0)
        opened, file = self._opened.get(handle), self._opened.get_writable(handle)
        had_draft = file.draft is not None and not is_new
        file.started_from = old
        try:
            self._writes.truncate(file, 0)
            self._writes.write(file, memoryview(new), 0)
            self._closings.flush(opened, 0)
        except H5fsError:
            if is_new:
                self._removals.unlink(file_path)
            elif had_draft:
                self._writes.truncate(file, 0)
                self._writes.write(file, memoryview(old), 0)
            else:
                file.discard()
            raise
        finally:
            file.started_from = None
            self._closings.release(self._opened.remove(handle))

    def copy_for_later(self, existing: bytes, new: bytes) -> bool:
        """Let an attribute file wait for an object that is not there yet, with another one's text.

        This is how ``link`` of an attribute file is answered: programs that unpack archives make
        the hard links of attributes before those of their dataset. Returns whether it was one of
        these; nothing is done otherwise.
        """
        if not self._is_attribute_file(existing) or not self._is_missing_owner(new):
            return False
        text = self._text_of(existing)
        handle = self._openings.create(new, os.O_WRONLY, 0, 0o666)
        file = self._opened.get_writable(handle)
        try:
            self._writes.write(file, memoryview(text), 0)
            self._closings.flush(self._opened.get(handle), 0)
            if self._pending.staged(existing) is None:
                self._pending.note_copy(file, self._places.find_own(existing).info.ref)
        except H5fsError:
            self._removals.unlink(new)
            raise
        finally:
            self._closings.release(self._opened.remove(handle))
        return True

    def _is_attribute_file(self, path: bytes) -> bool:
        if not path.endswith(Projection.ATTRIBUTES.suffix):
            return False
        return self._pending.staged(path) is not None or (
            self._places.find_own(path).kind is NodeKind.ATTRIBUTES
        )

    def _is_missing_owner(self, path: bytes) -> bool:
        """Whether a path is free, and that of the attributes of a dataset which is not there."""
        if self._places.is_there(path):
            return False
        folder, meaning = self._places.folder_and_file(path)
        if meaning is None or meaning.projection is not Projection.ATTRIBUTES:
            return False
        return self._places.owner_of(folder, meaning.link_name) is None

    def _file_of(self, path: bytes) -> bytes:
        """Return the path of an object's attribute file. Raises ``UnsupportedTypeError``."""
        if not self._pending.is_outside(path):
            node = self._places.find_visible(path)
            if node.kind is NodeKind.FOLDER and not node.is_symbolic_link:
                return path.rstrip(b"/") + b"/" + GROUP_ATTRIBUTES
            meaning = self._places.folder_and_file(path)[1]
            if node.kind in _KINDS and meaning is not None and meaning.link_name is not None:
                return attributes_path(path, meaning.link_name)
        raise UnsupportedTypeError(
            f"{show_path(path)} is no group, dataset or datatype of the HDF5 file"
        )

    def _unfinished(self, file_path: bytes) -> WritableFile | None:
        """Return an attribute file that a program is just writing anew, if it is one."""
        if not self._places.is_there(file_path):
            return None
        file = self._openings.being_written(file_path)
        return file if file is not None and file.is_unfinished else None

    def _text_to_change(self, file_path: bytes) -> bytes:
        """Return the text of the attributes that an object has, or that wait for others."""
        if self._unfinished(file_path) is None:
            return self._text_of(file_path)
        return self._lookup.text_of(file_path) if self._lookup.find_any(file_path) else b""

    def _text_of(self, file_path: bytes) -> bytes:
        if not self._places.is_there(file_path):
            return b""
        file = self._openings.being_written(file_path)
        if file is None or file.draft is None:
            return self._lookup.text_of(file_path)
        return file.draft.read(0, file.draft.size_bytes)
