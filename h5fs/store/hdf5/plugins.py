"""The filters that HDF5 does not bring itself."""

from __future__ import annotations

import logging
from typing import Any

from h5py import h5z

_log = logging.getLogger(__name__)

_OWN_FILTERS = frozenset(
    {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32, h5z.FILTER_SZIP,
     h5z.FILTER_NBIT, h5z.FILTER_SCALEOFFSET, h5z.FILTER_LZF}
)  # fmt: skip
"""Those of the library and of h5py."""


def register_plugins() -> None:
    """Give HDF5 the filters of hdf5plugin, if it is installed; importing it is all it takes."""
    try:
        import hdf5plugin  # noqa: F401
    except ImportError:
        _log.info("hdf5plugin is not installed: blosc, zstd, lz4 and others cannot be read")


def register_plugins_for(creation: Any) -> None:
    """Register them where a dataset with these creation properties needs one."""
    codes = (creation.get_filter(index)[0] for index in range(creation.get_nfilters()))
    if not _OWN_FILTERS.issuperset(codes):
        register_plugins()
