"""What views need of the HDF5 library's process: names and widths, and a place to be made in."""

from __future__ import annotations

from typing import Any

from h5fs.model.objects import ObjectRef
from h5fs.projection.views.view_requests import ViewRequest
from h5fs.store.hdf5.library_errors import reading
from h5fs.store.hdf5.reading.projected import FixedDataset, ProjectedDataset
from h5fs.store.hdf5.types.array_descriptions import enumerations_of


class ViewRenderer:
    """Makes views in this process, which hostile elements may end. Uses no HDF5 library."""

    def render_view(self, ref: ObjectRef, request: ViewRequest, data: bytes) -> bytes:
        from h5fs.projection.views.rendering import render_view

        with reading(ref.path):
            return render_view(request, data)


def table_details(projected: ProjectedDataset) -> dict[str, Any]:
    """Return the fields of ``DatasetInfo`` that tables need beside shape and dtype."""
    if isinstance(projected, FixedDataset):
        return {"enumerations": enumerations_of(projected.memory.dtype)}
    return {"text_widths": projected.part.text_widths(())}
