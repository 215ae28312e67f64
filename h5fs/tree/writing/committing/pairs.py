"""Pairs: the two files that are a dataset of variable-length sequences. Under the tree's lock."""

from __future__ import annotations

from math import prod

from h5fs.errors import InvalidArrayError
from h5fs.model.objects import DatasetInfo
from h5fs.projection.names import Projection, encode_name
from h5fs.store.interface import WritingStore
from h5fs.tree.contents.content import ArrayContent
from h5fs.tree.lookup import Lookup
from h5fs.tree.nodes import PARTNERS, Node
from h5fs.tree.writing.committing.draft_to_object import (
    IncompleteError,
    commit_sequences,
    is_as_shown,
    read_header,
)
from h5fs.tree.writing.names.places import Places
from h5fs.tree.writing.pending.pending import Pending
from h5fs.tree.writing.pending.writable_file import WritableFile


class Pairs:
    """Makes one dataset of two files, once both are there."""

    def __init__(
        self, store: WritingStore, pending: Pending, lookup: Lookup, places: Places
    ) -> None:
        self._store = store
        self._pending = pending
        self._lookup = lookup
        self._places = places

    def commit(
        self, projection: Projection, folder: Node, name: bytes, file: WritableFile
    ) -> list[WritableFile] | None:
        """Make a dataset of a file and its partner, as that was written, or is in the HDF5 file.

        Return the other files that have become part of the HDF5 file; None where the file waits.
        """
        other_path = _path_of_partner(projection, name, file)
        other = self._being_written(other_path)
        assert file.draft is not None
        read_header(file.draft)
        if other is None or other.draft is None:
            if not self._commit_with_shown(projection, folder, name, file, other_path):
                return None
        else:
            try:
                read_header(other.draft)
            except IncompleteError:
                return None
            self._places.find_overwritten(folder, name, file.path)
            is_values = projection is Projection.VALUES
            values, offsets = (file, other) if is_values else (other, file)
            if not (self._is_as_shown(values) and self._is_as_shown(offsets)):
                commit_sequences(self._store, folder.info.ref, name, values, offsets)
        self._lookup.forget()
        for path in (file.path, other_path):
            self._pending.remove_whiteout(path)
        return [] if other is None or other.draft is None else [other]

    def complete_partner(
        self, projection: Projection, name: bytes, file: WritableFile
    ) -> WritableFile | None:
        """Return a file's partner, if that was written and is a whole file. Raises
        ``InvalidArrayError``."""
        other = self._being_written(_path_of_partner(projection, name, file))
        if other is None or other.draft is None:
            return None
        try:
            read_header(other.draft)
        except IncompleteError:
            return None
        return other

    def _being_written(self, path: bytes) -> WritableFile | None:
        return self._pending.staged(path) or next(
            (each for each in self._pending.edited_files() if each.path == path), None
        )

    def _commit_with_shown(
        self, projection: Projection, folder: Node, name: bytes, file: WritableFile,
        other_path: bytes,
    ) -> bool:  # fmt: skip
        """Write one file of sequences anew, with the other as the HDF5 file has it; return False
        where there is none, or both do not fit.
        """
        node = self._lookup.find_any(other_path)
        if node is None or self._pending.is_whited_out(other_path):
            return False
        content = self._places.readable_content_of(node)
        if not isinstance(content, ArrayContent):
            return False
        if self._is_as_shown(file):
            return True
        if not _keeps_shape(content.dataset, projection, file):
            return False  # the dataset would lose its dimensions
        other = WritableFile(other_path, node, content)
        other.begin(empty=False)
        values, offsets = (file, other) if projection is Projection.VALUES else (other, file)
        try:
            commit_sequences(self._store, folder.info.ref, name, values, offsets)
        except InvalidArrayError:
            return False
        finally:
            other.discard()
        return True

    def _is_as_shown(self, file: WritableFile) -> bool:
        """Whether what was written to a file is what the HDF5 file shows there."""
        node = self._lookup.find_any(file.path)
        if node is None or self._pending.is_whited_out(file.path) or file.draft is None:
            return False
        return is_as_shown(file.draft, self._places.readable_content_of(node))


def _keeps_shape(dataset: DatasetInfo, projection: Projection, file: WritableFile) -> bool:
    """Whether a dataset of sequences has the same dimensions when one of its files is written."""
    if dataset.value_count is None or dataset.sequences_per_element != 1 or dataset.shape is None:
        return False
    if len(dataset.shape) == 1 or projection is Projection.VALUES:
        return True
    assert file.draft is not None
    return read_header(file.draft).shape == (prod(dataset.shape) + 1,)


def _path_of_partner(projection: Projection, name: bytes, file: WritableFile) -> bytes:
    return file.path.rpartition(b"/")[0] + b"/" + encode_name(name, PARTNERS[projection])
