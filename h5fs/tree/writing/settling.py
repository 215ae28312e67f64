"""Drafts that become part of the HDF5 file, and the files that were drafts."""

from __future__ import annotations

import logging

from h5fs.errors import (
    H5fsError,
    InvalidNameError,
    NotFoundError,
    show_path,
)
from h5fs.model.objects import LinkKind, ObjectInfo, ObjectKind
from h5fs.projection.names import (
    DentryName,
    Projection,
    encode_name,
)
from h5fs.tree.content import ArrayContent, Content
from h5fs.tree.nodes import PARTNERS, Node, NodeKind
from h5fs.tree.writing.committing import (
    IncompleteError,
    check_json,
    commit_array,
    commit_attributes,
    commit_datatype,
    commit_sequences,
    delete_attributes,
    is_as_shown,
    read_header,
)
from h5fs.tree.writing.drafts import Draft
from h5fs.tree.writing.keeping import KeepingTree
from h5fs.tree.writing.writable_file import WritableFile

_log = logging.getLogger(__name__)

_MOST_TOLD = 5


class SettlingTree(KeepingTree):
    """What a draft becomes, by its name; how a file ends that is not to become anything."""

    def _commit_file(self, file: WritableFile) -> None:
        """Make a draft part of the HDF5 file, unless it has to wait for something.

        Raises ``InvalidArrayError``, ``InvalidAttributesError`` and what the store raises; the
        draft stays then, and so does what the HDF5 file has.
        """
        if not file.is_changed or file.is_gone:
            return
        folder, meaning = self._place(file.path)
        if meaning is None:
            return  # a scratch file
        with self.lookup.changing():
            is_done = self._commit_as(meaning, folder, file)
        if not is_done:
            self._let_wait(file, meaning)
            return
        self._settle(file)
        if meaning.link_name is not None and meaning.projection is not Projection.ATTRIBUTES:
            self._apply_waiting(file.path.rpartition(b"/")[0], meaning.link_name)

    def _let_wait(self, file: WritableFile, meaning: DentryName) -> None:
        """Keep a file that cannot become part of the HDF5 file yet; a kill does not harm it."""
        self._keep(file)
        if meaning.projection is Projection.ATTRIBUTES and file.node is not None:
            # What is shown, until it can be applied, is what was written.
            self._pending.let_wait(file)

    def _commit_as(self, meaning: DentryName, folder: Node, file: WritableFile) -> bool:
        group, name, draft = folder.info.ref, meaning.link_name, file.draft
        assert draft is not None
        if meaning.projection is Projection.ATTRIBUTES:
            owner = folder.info if name is None else self._owner_of(folder, name)
            if owner is None:
                check_json(draft)
                self._pending.stop_awaiting(file)
                return False
            missing = commit_attributes(self._writer, owner.ref, draft)
            self._pending.await_targets(file, missing)
            if file.awaits:
                return False
            self._pending.unhide(file.path)
            return True
        if name is None:
            raise InvalidNameError(f"{show_path(file.path)}: the name is too long")
        if meaning.projection is Projection.ARRAY:
            if is_as_shown(draft, self._content_at(file.path)):
                return True
            commit_array(self._writer, group, name, file, is_read=self._is_read(file, folder))
        elif meaning.projection is Projection.DATATYPE:
            commit_datatype(self._writer, group, name, draft, lambda: self._text_of(file.path))
        else:
            return self._commit_pair(meaning.projection, folder, name, file)
        return True

    def _commit_pair(
        self, projection: Projection, folder: Node, name: bytes, file: WritableFile
    ) -> bool:
        """Make a dataset of sequences, once both of its files are here."""
        other_name = encode_name(name, PARTNERS[projection])
        other_path = file.path.rpartition(b"/")[0] + b"/" + other_name
        other = self._pending.staged(other_path) or next(
            (each for each in self._pending.edited_files() if each.path == other_path), None
        )
        assert file.draft is not None
        read_header(file.draft)
        if other is None or other.draft is None:
            return False  # it waits
        values, offsets = (file, other) if projection is Projection.VALUES else (other, file)
        assert values.draft is not None and offsets.draft is not None
        try:
            read_header(other.draft)
        except IncompleteError:
            return False
        commit_sequences(self._writer, folder.info.ref, name, values.draft, offsets.draft)
        self.forget()
        self._settle(other)
        return True

    def _settle(self, file: WritableFile) -> None:
        """A draft has become part of the HDF5 file: let the file be what is there.

        Whoever has it open goes on seeing what was written, where that is not what is shown now.
        """
        self._pending.settle(file)
        self._forget_kept(file)
        try:
            node = self.lookup.find(file.path)
        except NotFoundError:  # attributes that are none leave no file
            file.discard()
            file.node = file.content = None
            return
        file.node, file.inode = node, node.inode
        file.content = self.lookup.content_of(node)
        file.is_dirty = False
        if not file.opened or _reads_alike(file.draft, file.content):
            file.discard()
        self._pending.set_times(node.inode, file.atime_ns, file.mtime_ns)
        if file.opened:
            self._pending.begin_editing(node, file)

    def _apply_waiting(self, folder_path: bytes, link_name: bytes) -> None:
        """Apply what has waited for an object of that name: its attributes, and others' to it."""
        path = folder_path + b"/" + encode_name(link_name, Projection.ATTRIBUTES)
        waiting = self._pending.staged(path)
        if waiting is not None and not waiting.awaits:
            self._try_to_commit(waiting)
        if not self._pending.awaits_any():
            return
        new = (
            self.lookup.find_folder(folder_path or b"/").info.ref.path.rstrip(b"/")
            + b"/"
            + link_name
        )
        for file in self._pending.arrived(new):
            self._try_to_commit(file)

    def _apply_in_part(self, file: WritableFile) -> None:
        """At the end: apply those attributes that refer to nothing that never came."""
        folder, meaning = self._place(file.path)
        if not file.awaits or meaning is None or file.draft is None:
            return
        name = meaning.link_name
        owner = folder.info if name is None else self._owner_of(folder, name)
        if owner is not None:
            with self.lookup.changing():
                missing = commit_attributes(self._writer, owner.ref, file.draft, in_part=True)
            where = ", ".join(show_path(target) for target in missing[:_MOST_TOLD])
            _log.warning(
                "%s: attributes refer to what is not there (%s)", show_path(file.path), where
            )

    def _try_to_commit(self, file: WritableFile) -> None:
        try:
            self._commit_file(file)
        except H5fsError as error:
            _log.warning("%s is not in the HDF5 file: %s", show_path(file.path), error)

    def _let_disappear(self, file: WritableFile) -> None:
        file.is_gone = True
        self._pending.stop_awaiting(file)
        self._forget_kept(file)
        file.has_other_names = file.node is not None and file.node.info.hard_link_count > 1
        if file.origin is not None:
            self._end_hiding(file.origin)
        if not file.opened:
            self._drop(file)

    def _end_editing_of(self, node: Node) -> None:
        """Let what is written to a node go, once the node is gone; not before, as that may fail."""
        edited = self._pending.end_editing_of(node)
        if edited is not None:
            self._let_disappear(edited)

    def _let_replaced_disappear(self, file: WritableFile, kept_as: bytes | None) -> None:
        """Let a file go whose name is another's now, which may be kept as it was."""
        if file.kept_as == kept_as:
            file.kept_as = None
        self._let_disappear(file)

    def _drop(self, file: WritableFile) -> None:
        file.discard()
        if file.held is not None:
            held, file.held = file.held, None
            self._writer.let_go(held)

    def _end_hiding(self, path: bytes) -> None:
        """Delete what was renamed away and has not come back."""
        if not self._pending.is_hidden(path):
            return
        self._pending.unhide(path)
        try:
            node = self.lookup.find(path)
            if node.kind is NodeKind.ATTRIBUTES:
                with self.lookup.changing():
                    delete_attributes(self._writer, node.info.ref)
        except H5fsError as error:
            _log.warning("%s: %s", show_path(path), error)

    def _is_read(self, file: WritableFile, folder: Node) -> bool:
        """Whether a handle other than the file's own reads the dataset that it is to become."""
        try:
            node = self.lookup.find(file.path)
        except NotFoundError:
            return False
        return any(
            opened.held == node.info.ref and opened.file is not file
            for opened in self._open_handles.values()
        )

    def _content_at(self, path: bytes) -> Content | None:
        """Return what the HDF5 file shows at a path; None for nothing, or nothing readable."""
        try:
            return self.lookup.content_of(self.lookup.find(path))
        except H5fsError:
            return None

    def _text_of(self, path: bytes) -> bytes:
        try:
            content = self.lookup.content_of(self.lookup.find(path))
        except NotFoundError:
            return b""
        buffer = bytearray(content.size_bytes)
        content.read_into(memoryview(buffer), 0)
        return bytes(buffer)

    def _owner_of(self, folder: Node, name: bytes) -> ObjectInfo | None:
        """Return the dataset or datatype whose attributes ``NAME.attrs.json`` are."""
        try:
            link = self.lookup.get_link(folder.info.ref, name)
        except NotFoundError:
            return None
        if link.kind is not LinkKind.HARD or link.target is None:
            return None
        return link.target if link.target.kind is not ObjectKind.GROUP else None


def _reads_alike(draft: Draft | None, content: Content) -> bool:
    """Whether a draft, byte by byte, is what the HDF5 file shows, so that it need not be kept."""
    if draft is None:
        return True
    if not isinstance(content, ArrayContent):
        size = content.size_bytes
        text = bytearray(size)
        content.read_into(memoryview(text), 0)
        return draft.size_bytes == size and draft.read(0, size) == text
    header = content.npy.header
    return (
        draft.size_bytes == content.size_bytes
        and draft.read(0, len(header)) == header
        and not content.dataset.is_scanned
    )
