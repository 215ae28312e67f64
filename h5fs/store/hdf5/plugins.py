"""The filters that HDF5 does not bring itself."""

from __future__ import annotations

import logging

_log = logging.getLogger(__name__)


def register_plugins() -> None:
    """Give HDF5 the filters of hdf5plugin, if it is installed; importing it is all it takes."""
    try:
        import hdf5plugin  # noqa: F401
    except ImportError:
        _log.info("hdf5plugin is not installed: blosc, zstd, lz4 and others cannot be read")
