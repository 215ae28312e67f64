"""Builds a table of links, from header scans and, where these are not sure, from the library."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from h5py import h5t

from h5fs.errors import H5fsError
from h5fs.model.link_table import OBJECT_KINDS, ROW, LinkTable
from h5fs.model.objects import DatasetInfo, Link, ObjectRef
from h5fs.store.format.headers.scan import (
    CHUNKED,
    COMPACT,
    CONTIGUOUS,
    DATASET,
    UNDEFINED,
    UNKNOWN,
    FileLayout,
    HeaderScan,
    read_shape,
)
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


class LinkTableBuilder:
    """The links of a group on their way into a table, in the order of ``names``.

    A link that nothing was set for leads to an UNREADABLE object. ``may_change``: headers may be
    rearranged, so that compact data, which lie in them, have no place that lasts.
    """

    def __init__(self, group: ObjectRef, names: list[bytes], *, may_change: bool = False) -> None:
        self._group = group
        self._may_change = may_change
        self._names = names
        self._rows = np.zeros(len(names), ROW)
        self._rows["dataset"] = self._rows["array"] = -1
        self._rows["file_offset"] = -1
        self._rows["hard_link_count"] = 1
        self._datasets: list[DatasetInfo] = []
        self._others: dict[int, Link] = {}

    def unknown(self) -> list[int]:
        """Return the indexes of all links whose targets no scan has described."""
        places: list[int] = np.flatnonzero(self._rows["kind"] == 0).tolist()
        return places

    def set_scanned(
        self,
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
        self._set_datasets(rows, known, scan, arrays, layout)
        self._rows[indexes[known]] = rows

    def _set_datasets(
        self,
        rows: npt.NDArray[Any],
        known: npt.NDArray[Any],
        scan: HeaderScan,
        arrays: list[_Array],
        layout: FileLayout,
    ) -> None:
        places = []
        for array in arrays:
            places.append(len(self._datasets) if array.array is not None else -1)
            if array.array is not None:
                self._datasets.append(array.array)
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
        is_whole = (layout_class == CONTIGUOUS) | (is_whole & (not self._may_change))
        has_place = is_plain & as_stored & is_whole & (offset != UNDEFINED)
        place = np.where(has_place, offset, 0).astype(np.int64) + layout.base_offset
        rows["file_offset"] = np.where(has_place, place, -1)

    def set_link(self, index: int, link: Link) -> None:
        """Take over one link as the library describes it."""
        if link.target is None:
            self._others[index] = link
            return
        info = link.target
        self._rows[index] = (
            info.ref.id, 0, -1, info.mtime, info.ctime, info.atime, info.attribute_count,
            info.hard_link_count, -1, -1, OBJECT_KINDS.index(info.kind), info.holds_sequences,
        )  # fmt: skip

    def table(self) -> LinkTable:
        """Return the table."""
        stops = np.cumsum([len(name) for name in self._names], dtype="<u8")
        return LinkTable(
            self._group,
            b"".join(self._names),
            stops.tobytes(),
            self._rows.tobytes(),
            tuple(self._datasets),
            self._others,
        )
