"""What header scans say of the links in a table; what these are not sure of, the library says."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from h5py import h5t

from h5fs.errors import H5fsError
from h5fs.model.link_table import ROW
from h5fs.model.objects import DatasetInfo
from h5fs.store.format.file_layout import FileLayout
from h5fs.store.format.headers.scan import (
    CHUNKED,
    COMPACT,
    CONTIGUOUS,
    DATASET,
    UNDEFINED,
    UNKNOWN,
    HeaderScan,
    read_shape,
)
from h5fs.store.hdf5.objects.link_table_builder import LinkTableBuilder
from h5fs.store.hdf5.types.array_descriptions import describe_array
from h5fs.store.hdf5.types.memory_types import memory_type
from h5fs.store.hdf5.types.sequences import is_sequence_type

_MESSAGE_PREFIX = b"\x03\x00"  # what H5Tencode writes before a datatype message


_MOST_BYTES = 2**62
_LARGE_ELEMENT_BYTES = 2**20  # for larger elements the library checks further limits


class _Array:
    """What datasets with the same dataspace and datatype messages have in common."""

    def __init__(self, space: bytes, datatype: bytes, layout: FileLayout) -> None:
        self.is_sequence = False
        self.is_known = True
        self.is_as_stored = False
        self.info: DatasetInfo | None = None
        self.array: DatasetInfo | None = None
        self.data_bytes = -1
        try:
            type_id = h5t.decode(_MESSAGE_PREFIX + datatype)
            self.is_sequence = is_sequence_type(type_id)
            memory = memory_type(type_id)
            self.array = describe_array(memory.dtype, read_shape(space, layout))
            if not memory.dtype.hasobject and memory.dtype.itemsize < _LARGE_ELEMENT_BYTES:
                self.info = self.array
                self.data_bytes = self.info.data_bytes
                self.is_as_stored = bool(type_id.equal(memory.type_id))
        except H5fsError:
            return  # opening such a dataset will say why
        except Exception:  # any of h5py's: the library has the last word
            self.is_known = False


def set_scanned(
    listing: LinkTableBuilder,
    indexes: npt.NDArray[Any],
    addresses: npt.NDArray[np.uint64],
    scan: HeaderScan,
    layout: FileLayout,
) -> None:
    """Take over what a scan says of the objects of hard links."""
    arrays = [_Array(space, datatype, layout) for space, datatype in scan.arrays]
    kind = scan.kind.copy()
    unknown = np.array([not array.is_known for array in arrays] + [True])
    kind[(kind == DATASET) & unknown[scan.array_index]] = UNKNOWN
    known = np.flatnonzero(kind != UNKNOWN)
    rows = np.zeros(len(known), ROW)
    rows["object_id"] = addresses[known]
    rows["kind"] = kind[known]
    rows["mtime"] = np.where(scan.mtime, scan.mtime, scan.ctime)[known]
    for name in ("ctime", "atime", "attribute_count", "hard_link_count"):
        rows[name] = getattr(scan, name)[known]
    array_index = scan.array_index[known]
    is_sequence = np.array([array.is_sequence for array in arrays] + [False])
    rows["holds_sequences"] = (rows["kind"] == DATASET) & is_sequence[array_index]
    _set_datasets(listing, rows, known, scan, arrays, layout)
    listing.set_rows(indexes[known], rows)


def _set_datasets(
    listing: LinkTableBuilder,
    rows: npt.NDArray[Any],
    known: npt.NDArray[Any],
    scan: HeaderScan,
    arrays: list[_Array],
    layout: FileLayout,
) -> None:
    places = []
    for array in arrays:
        places.append(len(listing.datasets) if array.array is not None else -1)
        if array.array is not None:
            listing.datasets.append(array.array)
    array_index = scan.array_index[known]
    is_dataset = rows["kind"] == DATASET
    rows["array"] = np.where(is_dataset, np.array([*places, -1])[array_index], -1)
    has_info = np.array([array.info is not None for array in arrays] + [False])
    layout_class = scan.layout_class[known]
    storage = scan.storage_bytes[known]
    is_plain = np.isin(layout_class, (COMPACT, CONTIGUOUS)) & (storage >= 0)
    is_plain &= ~scan.has_external[known].astype(bool) & is_dataset
    is_known = is_plain & has_info[array_index]
    rows["dataset"] = np.where(is_known, rows["array"], -1)
    has_size = is_known | ((layout_class == CHUNKED) & is_dataset & has_info[array_index])
    rows["storage_size_bytes"] = np.where(has_size, storage, -1)
    as_stored = np.array([array.is_as_stored for array in arrays] + [False])[array_index]
    offset = scan.data_offset[known]
    # Compact data of another size are damage, on which the library has the last word.
    sizes = [min(array.data_bytes, _MOST_BYTES) for array in arrays]
    is_whole = storage == np.array([*sizes, -1])[array_index]
    is_whole = (layout_class == CONTIGUOUS) | (is_whole & (not listing.may_change))
    has_place = is_plain & as_stored & is_whole & (offset != UNDEFINED)
    place = np.where(has_place, offset, 0).astype(np.int64) + layout.base_offset
    rows["file_offset"] = np.where(has_place, place, -1)
