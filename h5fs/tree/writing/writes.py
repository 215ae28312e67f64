"""Writes: bytes that programs write go to the HDF5 file in place, or to a draft.

Under the tree's lock.
"""

from __future__ import annotations

import time

from h5fs.errors import H5fsError, MixedPagesError, NoSpaceError, show_path
from h5fs.projection.names import Projection
from h5fs.store.interface import WritingStore
from h5fs.tree.contents.content import ArrayContent
from h5fs.tree.lookup import Lookup
from h5fs.tree.writing.names.places import Places
from h5fs.tree.writing.pending.changes_in_flight import ChangesInFlight
from h5fs.tree.writing.pending.direct_arrays import large_array_header, try_direct_array
from h5fs.tree.writing.pending.pending import Pending
from h5fs.tree.writing.pending.writable_file import WritableFile

_HEADER_BYTES = 128  # of nearly all .npy files; the data of others go by way of a draft


class Writes:
    """Changes what an open file has; `close` makes that last."""

    def __init__(
        self, store: WritingStore, pending: Pending, lookup: Lookup, places: Places,
        in_flight: ChangesInFlight,
    ) -> None:  # fmt: skip
        self._store = store
        self._pending = pending
        self._lookup = lookup
        self._places = places
        self._in_flight = in_flight

    def write(
        self, file: WritableFile, data: memoryview, offset: int, *, is_page: bool = False,
        is_mixed: bool = False,
    ) -> None:  # fmt: skip
        """Write bytes; ``is_page``: of a map; ``is_mixed``: with others' between them.

        Raises ``NoSpaceError``, which `close` tells once more.
        """
        if is_mixed:
            self._check_mixed(file)
        file.mtime_ns = time.time_ns()
        if file.draft is None and isinstance(file.content, ArrayContent):
            data, offset = _skip_header(file.content, data, offset)
            if self._write_in_place(file, file.content, data, offset, is_page=is_page):
                return
        if not data:
            return
        draft = file.begin(empty=False)
        try:
            draft.write(data, offset)
        except NoSpaceError as error:
            file.failure = error
            raise
        if not file.was_offered and draft.size_bytes >= _HEADER_BYTES:
            self._offer_direct_array(file)

    def _check_mixed(self, file: WritableFile) -> None:
        """Refuse pages in which there may be what others read of an array that this one replaces.

        Pages of a draft that was never cut are what others read, but for what was written to them.
        """
        if file.draft is None or file.draft.is_cut:
            file.is_mixed = file.draft is not None
            raise MixedPagesError(f"{show_path(file.path)}: others read the array that was here")

    def truncate(self, file: WritableFile, size: int) -> None:
        """Cut a file, or let it grow by zeros."""
        file.begin(empty=size == 0).truncate(size)
        file.mtime_ns = time.time_ns()

    def _write_in_place(
        self, file: WritableFile, content: ArrayContent, data: memoryview, offset: int, *,
        is_page: bool,
    ) -> bool:  # fmt: skip
        start = len(content.npy.header)
        is_inside = start <= offset and offset + len(data) <= content.size_bytes
        # How wide text is follows from all elements: it takes a new array.
        is_lost = file.is_gone and not file.has_other_names
        if not is_inside or content.dataset.is_scanned or is_lost:
            return False
        if data:
            elements, is_alone = bytes(data), self._is_alone(file)
            try:
                with self._in_flight.waiting(file.path, file, is_alone=is_alone):
                    self._store.write_elements(content.ref, offset - start, elements, is_page)
            finally:
                self._lookup.note_changed_elements()
            self._forget_storage(file, content)
            self._pending.set_times(file.inode, file.mtime_ns, file.mtime_ns)
        return True

    def _is_alone(self, file: WritableFile) -> bool:
        """Whether a file's dataset is found by no other path."""
        if file.is_gone:
            return False
        folder, meaning = self._places.folder_and_file(file.path)
        name = meaning.link_name if meaning is not None else None
        return name is not None and self._lookup.is_alone(folder, name)

    def _forget_storage(self, file: WritableFile, content: ArrayContent) -> None:
        """Forget how much a dataset takes in the HDF5 file, where a write may have changed that."""
        if content.storage_bytes == content.dataset.data_bytes or file.is_gone:
            return
        folder, meaning = self._places.folder_and_file(file.path)
        if meaning is None or meaning.link_name is None:
            self._lookup.forget()
            return
        with self._lookup.changing_link(folder, meaning.link_name):
            pass  # it is done

    def _offer_direct_array(self, file: WritableFile) -> None:
        """Let the data of a large new array go to the HDF5 file as they come."""
        file.was_offered = True
        if file.node is not None or file.is_gone or file.draft is None:
            return
        header = large_array_header(self._store, file.draft.read(0, _HEADER_BYTES))
        if header is None:
            return
        try:
            folder, meaning = self._places.folder_and_file(file.path)
        except H5fsError:
            return  # what was written is in the draft: `close` tells if it can go nowhere
        if meaning is None or meaning.projection is not Projection.ARRAY:
            return
        with self._in_flight.waiting(file.path, file, is_alone=True):
            direct = try_direct_array(self._store, folder.info.ref, header)
        if direct is not None:
            file.draft.send_to(direct)


def _skip_header(content: ArrayContent, data: memoryview, offset: int) -> tuple[memoryview, int]:
    """Leave out what writes the header as it is: a page that was mapped comes back whole."""
    header = content.npy.header
    part = header[offset : offset + len(data)]
    if part and data[: len(part)] == part:
        return data[len(part) :], offset + len(part)
    return data, offset
