"""Datasets with variable-length parts as ``.npy`` files hold them: a scan reads every element once.

Under the store's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from h5py import h5d, h5f, h5i, h5o, h5r

from h5fs.model.objects import RegionTarget
from h5fs.store.chunks.geometry import Box, Grid
from h5fs.store.hdf5.objects.references import PathOf, describe_region
from h5fs.store.hdf5.reading.datasets import creation_of
from h5fs.store.hdf5.types.memory_types import MemoryType, read_box, read_objects
from h5fs.store.variable_datasets import (
    RUN_ELEMENTS,
    Array,
    SequenceDataset,
    VariableDataset,
    make_variable_dataset,
)

if TYPE_CHECKING:
    from h5fs.store.hdf5.reading.chunk_index import WrittenChunks
    from h5fs.store.hdf5.reading.stored_texts import StoredTexts


def project_variable(
    dataset_id: h5d.DatasetID,
    memory: MemoryType,
    *,
    path_of: PathOf,
    on_progress: Callable[[], None],
    find_texts: Callable[[np.dtype[Any]], StoredTexts | None],
) -> VariableDataset | SequenceDataset:
    """Return what reads a dataset of elements that become objects, after a scan.

    The parameters are those of ``project_dataset``. Raises ``UnsupportedTypeError``.
    """
    element_count = dataset_id.get_space().get_simple_extent_npoints()
    file_id = h5i.get_file_id(dataset_id)

    def text_of_reference(reference: Any) -> bytes:
        return _describe_reference(reference, file_id, path_of)

    texts = find_texts(memory.dtype)
    if texts is None:
        from h5fs.store.hdf5.reading.checked_chunks import check_all

        check_all(dataset_id, on_progress)

    def read(source: h5d.DatasetID, start: int, stop: int) -> Array:
        found = None if texts is None else texts.read(source, start, stop)
        return read_objects(source, memory, start, stop) if found is None else found

    projected = make_variable_dataset(memory.dtype, read, element_count, text_of_reference)
    if isinstance(projected, SequenceDataset):
        projected.scan(dataset_id, on_progress)
    else:
        _measure_elements(dataset_id, memory, projected, on_progress)
    return projected


def _measure_elements(
    dataset_id: h5d.DatasetID,
    memory: MemoryType,
    projected: VariableDataset,
    on_progress: Callable[[], None],
) -> None:
    """Measure every written element, and one of those that were never written.

    A dataset may claim a trillion elements of which a few were written.
    """
    creation = creation_of(dataset_id)
    space = dataset_id.get_space()
    element_count = space.get_simple_extent_npoints()
    if creation.get_layout() == h5d.CHUNKED and element_count:
        from h5fs.store.hdf5.reading.chunk_index import list_written_chunks

        grid = Grid(space.get_simple_extent_dims(), creation.get_chunk(), 1)
        is_sparse = dataset_id.get_num_chunks() < grid.chunk_count
        written = list_written_chunks(dataset_id, grid, on_progress) if is_sparse else None
        if written is not None:
            for box in _written_boxes(written, grid):
                on_progress()
                projected.part.measure(read_box(dataset_id, memory, box))
            return
    elif creation.get_layout() == h5d.CONTIGUOUS and not dataset_id.get_storage_size():
        element_count = min(element_count, 1)
    projected.scan(dataset_id, element_count, on_progress)


def _written_boxes(written: WrittenChunks, grid: Grid) -> Iterator[Box]:
    """Yield boxes that cover the chunks that were written, and one element that was not."""
    numbers = written.numbers
    missing = np.flatnonzero(numbers != np.arange(len(numbers)))
    first = int(missing[0]) if len(missing) else len(numbers)
    if first < grid.chunk_count:
        start = grid.box(first).start
        yield Box(start, (1,) * len(start))
    for number in numbers.tolist():
        yield from _split_box(grid.box(number))


def _split_box(box: Box) -> Iterator[Box]:
    """Yield parts of a box of at most about ``RUN_ELEMENTS`` each, cut along one dimension."""
    rows = max(1, RUN_ELEMENTS * box.count[0] // prod(box.count))
    for first in range(0, box.count[0], rows):
        count = min(rows, box.count[0] - first)
        yield Box((box.start[0] + first, *box.start[1:]), (count, *box.count[1:]))


def _describe_reference(reference: Any, file_id: h5f.FileID, path_of: PathOf) -> bytes:
    """Return the path that a reference leads to, with its selection; empty for a null one."""
    if not isinstance(reference, h5r.Reference) or not reference:
        return b""
    try:
        address = h5o.get_info(h5r.dereference(reference, file_id)).addr
    except Exception:  # any of h5py's: its target has been deleted
        return b""
    path = path_of(address)
    if not path:
        return b""
    if isinstance(reference, h5r.RegionReference):
        return format_region(describe_region(h5r.get_region(reference, file_id), path))
    return path


def format_region(region: RegionTarget) -> bytes:
    """Return a region as text: ``/d[0:2,3:5]``, more blocks after ``;``, points in braces.

    ``/d[...]`` is the whole dataset and ``/d[]`` nothing of it.
    """
    if region.everything:
        return region.path + b"[...]"
    if region.points:
        return region.path + b"{%s}" % b";".join(
            b",".join(b"%d" % index for index in point) for point in region.points
        )
    return region.path + b"[%s]" % b";".join(
        b",".join(b"%d:%d" % edges for edges in zip(start, stop, strict=True))
        for start, stop in region.blocks
    )
