"""Datasets as ``.npy`` files hold them: one way to read for each kind of type.

Under the store's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from h5py import h5d
from msgspec import Struct

from h5fs.errors import UnsupportedTypeError
from h5fs.store.hdf5.types.memory_types import MemoryType, memory_type, read_fixed
from h5fs.store.interface import ArrayPart

if TYPE_CHECKING:  # few files have such elements
    from h5fs.store.hdf5.objects.references import PathOf
    from h5fs.store.hdf5.reading.stored_texts import StoredTexts
    from h5fs.store.variable_datasets import SequenceDataset, VariableDataset

_LARGE_ELEMENT_BYTES = 2**18


class FixedDataset(Struct):
    """A dataset of elements of one size: the file holds what HDF5 gives.

    ``is_as_read``: what ``lies_as_read`` answers, once that is known.
    """

    memory: MemoryType
    is_as_read: bool | None = None
    _kept: tuple[int, bytearray] = (-1, bytearray())

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the file."""
        return self.memory.file_dtype

    def read(self, dataset_id: h5d.DatasetID, start: int, stop: int) -> bytearray:
        """Return elements ``[start, stop)`` as the file holds them.

        HDF5 reads whole elements only. A large element (of an HDF5 array type), which takes many
        requests, is kept: otherwise each request would read all of it again.
        """
        if stop - start != 1 or self.memory.dtype.itemsize <= _LARGE_ELEMENT_BYTES:
            return read_fixed(dataset_id, self.memory, start, stop)
        if self._kept[0] != start:
            self._kept = (start, read_fixed(dataset_id, self.memory, start, stop))
        return self._kept[1]

    def lies_as_read(self, dataset_id: h5d.DatasetID) -> bool:
        """Whether the dataset's elements lie in its file just as the library gives them."""
        if self.is_as_read is None:
            self.is_as_read = bool(dataset_id.get_type().equal(self.memory.type_id))
        return self.is_as_read

    def forget(self) -> None:
        """Let go of the element that was kept."""
        self._kept = (-1, bytearray())


ProjectedDataset: TypeAlias = "FixedDataset | VariableDataset | SequenceDataset"


def project_dataset(
    dataset_id: h5d.DatasetID,
    *,
    path_of: PathOf,
    on_progress: Callable[[], None],
    find_texts: Callable[[np.dtype[Any]], StoredTexts | None],
) -> ProjectedDataset:
    """Return what reads a dataset, after a scan when its type has variable-length parts.

    ``path_of`` names the targets of references; ``on_progress`` is called as the scan goes on.
    ``find_texts`` returns what reads elements of a dtype past the library, where that can be.
    Raises ``UnsupportedTypeError``.
    """
    memory = memory_type(dataset_id.get_type())
    if not memory.dtype.hasobject:
        return FixedDataset(memory)
    from h5fs.store.hdf5.reading.variable_projected import project_variable

    return project_variable(
        dataset_id, memory, path_of=path_of, on_progress=on_progress, find_texts=find_texts
    )


def details_of(projected: ProjectedDataset) -> dict[str, Any]:
    """Return the fields of ``DatasetInfo`` that follow from the kind of type."""
    if isinstance(projected, FixedDataset):
        return {"enumerations": projected.memory.enumerations}
    from h5fs.store.variable_datasets import SequenceDataset

    details: dict[str, Any] = {"text_widths": projected.part.text_widths(()), "is_scanned": True}
    if isinstance(projected, SequenceDataset):
        details["value_count"] = projected.value_count
        details["sequences_per_element"] = projected.per_element
    return details


def read_part(
    projected: ProjectedDataset, part: ArrayPart, dataset_id: h5d.DatasetID, start: int, stop: int
) -> bytes | bytearray:
    """Return elements ``[start, stop)`` of one of a dataset's files.

    Raises ``UnsupportedTypeError`` when the dataset has no such file.
    """
    if isinstance(projected, FixedDataset):
        if part is not ArrayPart.ELEMENTS:
            raise UnsupportedTypeError(f"a dataset that has no {part.value}")
        return projected.read(dataset_id, start, stop)
    from h5fs.store.variable_datasets import SequenceDataset

    if isinstance(projected, SequenceDataset) != (part is not ArrayPart.ELEMENTS):
        raise UnsupportedTypeError(f"a dataset that has no {part.value}")
    if not isinstance(projected, SequenceDataset):
        return projected.read(dataset_id, start, stop)
    if part is ArrayPart.OFFSETS:
        return projected.read_offsets(dataset_id, start, stop)
    return projected.read_values(dataset_id, start, stop)
