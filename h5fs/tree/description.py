"""What is known of a dentry's object, for people who look without mounting."""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct

from h5fs.model.objects import StorageInfo


class Description(Struct, frozen=True):
    """``kind``: group, dataset, datatype, link or unreadable. ``target``: a link's text.

    For datasets ``shape`` and ``dtype`` are those of the ``.npy`` file and ``storage`` is what the
    HDF5 file says. ``size_bytes``: of the file in the mount, None for a group.
    """

    kind: str
    attribute_count: int = 0
    target: bytes | None = None
    shape: tuple[int, ...] | None = None
    dtype: np.dtype[Any] | None = None
    storage: StorageInfo | None = None
    size_bytes: int | None = None
