"""How the service stores a dataset, in the words of an HDF5 file. Pure."""

from __future__ import annotations

from typing import Final

import numpy as np

from h5fs.errors import H5fsError
from h5fs.model.datatypes import Datatype
from h5fs.store.hsds.answers import ObjectAnswer
from h5fs.store.hsds.datatype_json import element_dtype, wire_bytes

_MOST_FILTERS: Final = 32


def describe_filters(answer: ObjectAnswer) -> tuple[str, ...]:
    """Return the filters of a dataset, each with its level where it has one."""
    filters = answer.creation.get("filters")
    found = []
    for each in filters[:_MOST_FILTERS] if isinstance(filters, list) else ():
        if isinstance(each, str):
            found.append(each)
        elif isinstance(each, dict):
            name = str(each.get("name") or each.get("class") or each.get("id"))
            found.append(f"{name}({each['level']})" if "level" in each else name)
    return tuple(found)


def fill_value_of(answer: ObjectAnswer, datatype: Datatype) -> bytes | None:
    """Return the fill value as the ``.npy`` file would hold it; None where there is none."""
    try:
        dtype = element_dtype(datatype)
        if wire_bytes(datatype) is None or dtype.hasobject or dtype.shape:
            return None
        value = answer.creation.get("fillValue")
        if isinstance(value, list):
            value = tuple(value)
        return np.zeros(1, dtype).tobytes() if value is None else np.array([value], dtype).tobytes()
    except (H5fsError, TypeError, ValueError, OverflowError):
        return None
