"""Where elements can be read without the library, or chunk by chunk.

Under the store's lock.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from h5py import h5d

from h5fs.model.objects import Chunked, Contiguous, ObjectRef, Virtual
from h5fs.store.format.headers.peek import read_edges_are_whole
from h5fs.store.hdf5.objects.files import OpenFiles
from h5fs.store.hdf5.objects.links import address_of
from h5fs.store.hdf5.reading.open_identifiers import OpenIdentifier
from h5fs.store.hdf5.reading.projected import FixedDataset, ProjectedDataset

if TYPE_CHECKING:
    from h5fs.store.hdf5.reading.stored_texts import KeptBlocks, StoredTexts


LEAST_TEXTS = 1024
"""The library takes no longer for fewer."""


def has_whole_edges(files: OpenFiles, ref: ObjectRef) -> bool:
    """Whether a dataset's chunks that stick out of the array are surely stored filtered."""
    read = functools.partial(files.read_raw, ref.file)
    return read_edges_are_whole(read, address_of(ref), files.layout(ref.file))


class DirectReading:
    """Finds how the elements of one store's datasets can be read past the HDF5 library.

    ``may_change``: a program may be writing; then the library reads what cannot be read past it
    safely.
    """

    def __init__(
        self,
        files: OpenFiles,
        may_change: bool,
        on_progress: Callable[[], None],
    ) -> None:
        self._files = files
        self._may_change = may_change
        self._on_progress = on_progress
        self._kept: KeptBlocks | None = None

    def find(
        self, ref: ObjectRef, dataset_id: Any, opened: OpenIdentifier, projected: ProjectedDataset
    ) -> Contiguous | Chunked | Virtual | None:
        """Return the way to an open dataset's elements; None where only the library reads them."""
        if not isinstance(projected, FixedDataset):
            return None
        creation = opened.creation
        layout = creation.get_layout()
        if layout == h5d.CHUNKED:
            from h5fs.store.hdf5.reading.chunk_description import describe_chunks

            return describe_chunks(
                dataset_id,
                creation,
                projected.memory,
                whole_edges=has_whole_edges(self._files, ref),
            )
        if layout == h5d.VIRTUAL and not self._may_change:
            from h5fs.store.hdf5.reading.virtual import describe_virtual

            return describe_virtual(dataset_id, creation, opened.outside, projected.dtype)
        is_plain = layout == h5d.CONTIGUOUS and not creation.get_external_count()
        if not is_plain or not dataset_id.get_storage_size():
            return None
        offset = dataset_id.get_offset()  # in the file: a user block counts
        if offset is None or not projected.lies_as_read(dataset_id):
            return None
        return Contiguous(offset)

    def find_texts(
        self, ref: ObjectRef, opened: OpenIdentifier, dtype: np.dtype[Any]
    ) -> StoredTexts | None:
        """Return what reads a dataset whose elements h5py reads as ``dtype``, where that can be."""
        count = opened.identifier.get_space().get_simple_extent_npoints()
        opened.outside.check_mapped(opened.identifier, 0, count)  # all are about to be read
        if self._may_change or count < LEAST_TEXTS:
            return None
        layout = self._files.layout(ref.file)
        if layout is None:
            return None
        from h5fs.store.hdf5.reading.stored_texts import FileBytes, KeptBlocks, find_stored_texts

        self._kept = self._kept or KeptBlocks()
        return find_stored_texts(
            opened.identifier, opened.creation, dtype,
            FileBytes(self._files.bytes_of(ref.file), layout), self._kept, self._on_progress,
            whole_edges=has_whole_edges(self._files, ref),
        )  # fmt: skip
