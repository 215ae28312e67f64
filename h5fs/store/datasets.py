"""Datasets: opening them, and what their headers say.

Functions over open identifiers; they keep nothing. Under the store's lock.
"""

from __future__ import annotations

import os
from math import prod
from pathlib import Path
from typing import Any

from h5py import h5d, h5p, h5s, h5z

from h5fs.errors import UnsupportedTypeError, show_path
from h5fs.objects import DatasetInfo, Layout, ObjectRef
from h5fs.store.translation import reading

_LAYOUTS = {
    h5d.COMPACT: Layout.COMPACT,
    h5d.CONTIGUOUS: Layout.CONTIGUOUS,
    h5d.CHUNKED: Layout.CHUNKED,
    h5d.VIRTUAL: Layout.VIRTUAL,
}

# A chunk larger than HDF5's cache is decoded again for every read that touches it: the cache takes
# two of them, as long as they are not absurd.
_MAX_CHUNK_CACHE_BYTES = 128 * 2**20


def open_dataset(file_id: Any, ref: ObjectRef, *, folder: Path) -> h5d.DatasetID:
    """Open a dataset with settings that suit it; raw data outside the file is in ``folder``.

    Raises ``UnreadableError``.
    """
    with reading(show_path(ref.path)):
        dataset_id = h5d.open(file_id, ref.path)
        access = h5p.create(h5p.DATASET_ACCESS)
        slots, cache_bytes, preemption = access.get_chunk_cache()
        wanted_bytes = min(2 * _chunk_bytes(dataset_id), _MAX_CHUNK_CACHE_BYTES)
        has_outside_data = dataset_id.get_create_plist().get_external_count() > 0
        if wanted_bytes <= cache_bytes and not has_outside_data:
            return dataset_id
        access.set_chunk_cache(slots, max(wanted_bytes, cache_bytes), preemption)
        if has_outside_data:
            # A relative name of a raw data file would be taken from the working directory.
            access.set_efile_prefix(os.fsencode(folder))
        dataset_id.close()
        return h5d.open(file_id, ref.path, access)


def list_outside_files(dataset_id: h5d.DatasetID) -> list[bytes]:
    """Return the names of the files, other than its own, that hold a dataset's elements."""
    creation = dataset_id.get_create_plist()
    names = [creation.get_external(i)[0] for i in range(creation.get_external_count())]
    if creation.get_layout() == h5d.VIRTUAL:
        sources = [
            creation.get_virtual_filename(i) for i in range(creation.get_virtual_count())
        ]
        names += [os.fsencode(source) for source in sources if source != "."]
    return names


def check_filters(dataset_id: h5d.DatasetID) -> None:
    """Raise ``UnsupportedTypeError`` when elements are stored through a filter that is missing."""
    creation = dataset_id.get_create_plist()
    if creation.get_layout() != h5d.CHUNKED or not creation.get_nfilters():
        return
    for index in range(creation.get_nfilters()):
        code, _, _, name = creation.get_filter(index)
        if h5z.filter_avail(code) or dataset_id.get_num_chunks() == 0:
            continue
        if not dataset_id.get_chunk_info(0).filter_mask & 1 << index:
            raise UnsupportedTypeError(
                f"filter {code} ({name.decode('utf-8', 'replace')}) is not installed; "
                "most are in: pip install hdf5plugin"
            )


def describe_dataset(dataset_id: h5d.DatasetID, ref: ObjectRef) -> DatasetInfo:
    """Return what a dataset's header says. Raises ``UnreadableError``."""
    with reading(show_path(ref.path)):
        creation = dataset_id.get_create_plist()
        space = dataset_id.get_space()
        is_null = space.get_simple_extent_type() == h5s.NULL
        layout = _LAYOUTS[creation.get_layout()]
        return DatasetInfo(
            ref=ref,
            shape=None if is_null else space.get_simple_extent_dims(),
            layout=layout,
            storage_size_bytes=dataset_id.get_storage_size(),
            maxshape=None if is_null else _max_shape(space),
            chunk_shape=creation.get_chunk() if layout is Layout.CHUNKED else None,
        )


def _max_shape(space: h5s.SpaceID) -> tuple[int | None, ...]:
    dims: tuple[int, ...] = space.get_simple_extent_dims(maxdims=True)
    return tuple(None if size == h5s.UNLIMITED else size for size in dims)


def _chunk_bytes(dataset_id: h5d.DatasetID) -> int:
    creation = dataset_id.get_create_plist()
    if creation.get_layout() != h5d.CHUNKED:
        return 0
    return int(prod(creation.get_chunk()) * dataset_id.get_type().get_size())
