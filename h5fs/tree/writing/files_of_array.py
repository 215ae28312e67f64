"""Files of one array that are open to write at the same time, each with a draft of its own.

One is that of the array's names in the HDF5 file; each temporary name has one, and so has each name
that is gone. Under the tree's lock.
"""

from __future__ import annotations

import logging

from h5fs.errors import H5fsError, show_path
from h5fs.model.objects import ObjectRef
from h5fs.store.interface import WritingStore
from h5fs.tree.lookup import Lookup
from h5fs.tree.nodes import Node
from h5fs.tree.writing.keeper import Keeper
from h5fs.tree.writing.opened_files import OpenedFiles
from h5fs.tree.writing.pending.pending import Pending
from h5fs.tree.writing.pending.writable_file import WritableFile

_log = logging.getLogger(__name__)


class FilesOfArrays:
    """Lets files go on when another one of their array is committed."""

    def __init__(
        self, store: WritingStore, pending: Pending, lookup: Lookup, opened: OpenedFiles,
        keeper: Keeper,
    ) -> None:  # fmt: skip
        self._store = store
        self._pending = pending
        self._lookup = lookup
        self._opened = opened
        self._keeper = keeper

    def complete_drafts(self, ref: ObjectRef, file: WritableFile) -> None:
        """Let what is written to a dataset by other files than that one, which is about to be
        committed, go on from nothing that changes then."""
        for other in (*self._files(ref), *self._keeper.kept_datasets(ref)):
            if other is not file and other.draft is not None:
                other.draft.complete()

    def go_on(self, old: ObjectRef, new: Node, file: WritableFile) -> None:
        """A file of a dataset was committed: let the others be of the dataset that there is now,
        of another shape or another one."""
        edited = self._pending.edited_array(old)
        for other in self._files(old):
            node = new if other.is_gone else self._lookup.find_any(other.path)
            if other is file or node is None:
                continue
            self._be_of(other, node)
            if other is edited:
                self._pending.end_editing(other)
                self._pending.begin_editing(node, other)

    def _files(self, ref: ObjectRef) -> list[WritableFile]:
        """Return the files by names of the HDF5 file, and those without names. There are two of the
        same names where one got its name back that was opened by a temporary one."""
        files, edited = self._opened.of_array(ref), self._pending.edited_array(ref)
        return files if edited is None or edited in files else [*files, edited]

    def hold_for(self, file: WritableFile, ref: ObjectRef) -> None:
        """Keep the object that a file has become for those who have it open, instead of what they
        had before: its name may go while they read it."""
        for opened in self._opened.of_file(file):
            if opened.held == ref:
                continue
            old, opened.held = opened.held, ref
            self._store.hold(ref)
            if old is not None:
                self.let_go(old)

    def let_go(self, ref: ObjectRef) -> None:
        """Keep an object no longer, or until the mount ends, if that fails."""
        try:
            self._store.let_go(ref)
        except H5fsError as error:
            _log.warning("%s is kept though nobody needs it: %s", show_path(ref.path), error)

    def _be_of(self, file: WritableFile, node: Node) -> None:
        file.node, file.inode, file.content = node, node.inode, self._lookup.content_of(node)
        self.hold_for(file, node.info.ref)
