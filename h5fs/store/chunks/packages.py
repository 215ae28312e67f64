"""Packages that decode faster than the HDF5 library, where they are installed."""

from __future__ import annotations

import importlib
from typing import Any, Final


def _import_or_none(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


deflate: Final = _import_or_none("deflate")  # without it, zlib takes twice the time or more
imagecodecs: Final = _import_or_none("imagecodecs")  # without it, the library decodes more chunks
