"""Plain values and frozen structs as msgpack, with dtypes, and back."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from h5fs.errors import UnreadableError
from h5fs.model.objects import Attribute, RegionTarget, UnnamedTarget


def decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    """Return what decodes a value of a type."""
    return msgspec.msgpack.Decoder(kind, dec_hook=_decode_other)


def with_elements(attribute: Any) -> Any:
    """Return a value that was decoded; an attribute with its elements as they were.

    Raises ``UnreadableError``.
    """
    if not isinstance(attribute, Attribute):
        return attribute
    elements = tuple(map(_restore_element, attribute.elements))
    return msgspec.structs.replace(attribute, elements=elements)


def _encode_other(value: Any) -> Any:
    if isinstance(value, np.dtype):
        return _dtype_to_plain(value)
    raise NotImplementedError(type(value))


def _decode_other(kind: type, plain: Any) -> Any:
    if kind is np.dtype or getattr(kind, "__origin__", None) is np.dtype:
        return _dtype_from_plain(plain)
    raise NotImplementedError(kind)


def _dtype_to_plain(dtype: np.dtype[Any]) -> Any:
    """Return a dtype as strings, numbers and lists; unlike ``descr``, with every offset."""
    if dtype.subdtype is not None:
        return [_dtype_to_plain(dtype.subdtype[0]), list(dtype.shape)]
    if dtype.names is None or dtype.fields is None:
        return dtype.str
    fields = [dtype.fields[name][:2] for name in dtype.names]
    return {
        "names": [name.encode("utf-8", "surrogateescape") for name in dtype.names],
        "formats": [_dtype_to_plain(member) for member, _ in fields],
        "offsets": [offset for _, offset in fields],
        "itemsize": dtype.itemsize,
    }


def _dtype_from_plain(plain: Any) -> np.dtype[Any]:
    if isinstance(plain, str):
        return np.dtype(plain)
    if isinstance(plain, list):
        base, shape = plain
        return np.dtype((_dtype_from_plain(base), tuple(shape)))
    return np.dtype(
        {
            "names": [name.decode("utf-8", "surrogateescape") for name in plain["names"]],
            "formats": [_dtype_from_plain(member) for member in plain["formats"]],
            "offsets": plain["offsets"],
            "itemsize": plain["itemsize"],
        }
    )


def _restore_element(plain: Any) -> Any:
    """Return an element, whose encoding has no type: a list was a tuple, a dict was a target."""
    if isinstance(plain, list):
        return tuple(map(_restore_element, plain))
    if isinstance(plain, dict):
        try:
            return msgspec.convert(plain, UnnamedTarget | RegionTarget, strict=False)
        except msgspec.ValidationError as error:
            raise UnreadableError(f"the worker's answer has no such element: {error}") from None
    return plain


ENCODER = msgspec.msgpack.Encoder(enc_hook=_encode_other)
