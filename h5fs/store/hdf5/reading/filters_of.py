"""The filters of a dataset, as values."""

from __future__ import annotations

from h5py import h5p

from h5fs.model.objects import Filter


def filters_of(creation: h5p.PropDCID) -> tuple[Filter, ...]:
    """Return the filters of a dataset in the order in which they are applied."""
    found = [creation.get_filter(index) for index in range(creation.get_nfilters())]
    return tuple(Filter(code, tuple(options)) for code, _, options, _ in found)
