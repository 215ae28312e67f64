"""What views need of the HDF5 library's process: names and widths, and a place to be made in."""

from __future__ import annotations

from typing import Any

from h5fs.model.objects import ObjectRef
from h5fs.projection.views.view_requests import ViewRequest
from h5fs.store.hdf5.library_errors import reading
from h5fs.store.hdf5.reading.projected import FixedDataset, ProjectedDataset


class ViewRenderer:
    """Makes views in this process, which hostile elements may end. Uses no HDF5 library."""

    def render_view(self, ref: ObjectRef, request: ViewRequest, data: bytes) -> bytes:
        from h5fs.projection.views.rendering import render_view

        with reading(ref.path):
            return render_view(request, data)


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
