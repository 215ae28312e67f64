"""Where elements of fixed size can be read without the library, or chunk by chunk.

Under the store's lock.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from h5py import h5d

from h5fs.model.objects import Chunked, Contiguous, DatasetInfo, ObjectRef, Virtual
from h5fs.store.format.headers.peek import read_edges_are_whole
from h5fs.store.hdf5.objects.files import OpenFiles
from h5fs.store.hdf5.objects.links import address_of
from h5fs.store.hdf5.reading import chunks
from h5fs.store.hdf5.reading.open_identifiers import OpenIdentifier, OpenIdentifiers
from h5fs.store.hdf5.reading.projected import FixedDataset, ProjectedDataset
from h5fs.store.hdf5.reading.virtual import describe_virtual


class ShortWays:
    """Finds short ways to the elements of one store's datasets.

    ``describe_source`` opens and describes a source of a virtual dataset; None where virtual
    datasets are to be read by the library.
    """

    def __init__(
        self,
        files: OpenFiles,
        opened: OpenIdentifiers,
        describe_source: Callable[[ObjectRef], tuple[h5d.DatasetID, DatasetInfo]] | None,
    ) -> None:
        self._files = files
        self._opened = opened
        self._describe = describe_source

    def find(
        self, ref: ObjectRef, dataset_id: Any, opened: OpenIdentifier, projected: ProjectedDataset
    ) -> Contiguous | Chunked | Virtual | None:
        """Return the way to an open dataset's elements; None where only the library reads them."""
        if not isinstance(projected, FixedDataset):
            return None
        creation = opened.creation
        layout = creation.get_layout()
        if layout == h5d.CHUNKED:
            read = functools.partial(self._files.read_raw, ref.file, address_of(ref))
            return chunks.describe_chunks(
                dataset_id, creation, projected.memory, whole_edges=read_edges_are_whole(read)
            )
        if layout == h5d.VIRTUAL and self._describe is not None:
            return describe_virtual(
                dataset_id, creation, opened.outside, projected.dtype, self._describe_source
            )
        is_plain = layout == h5d.CONTIGUOUS and not creation.get_external_count()
        if not is_plain or not dataset_id.get_storage_size():
            return None
        offset = dataset_id.get_offset()  # in the file: a user block counts
        if offset is None or not dataset_id.get_type().equal(projected.memory.type_id):
            return None
        return Contiguous(offset)

    def _describe_source(self, ref: ObjectRef) -> tuple[h5d.DatasetID, DatasetInfo] | None:
        assert self._describe is not None
        is_virtual = self._opened.open(ref).creation.get_layout() == h5d.VIRTUAL
        return None if is_virtual else self._describe(ref)
