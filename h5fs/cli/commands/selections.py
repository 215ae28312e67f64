"""A part of an array, ``x.npy[0, :10]``: numpy's basic selection; no more is read than it needs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from types import EllipsisType
from typing import Any

import numpy as np

from h5fs.errors import InvalidArrayError, MountError, UsageError
from h5fs.projection.npy import NpyHeader, parse_header
from h5fs.tree import Tree

_INDEX = re.compile(r"[+-]?\d+")
_SLICE = re.compile(r"([+-]?\d+)?:([+-]?\d+)?(?::([+-]?\d+)?)?")
_PLACE = re.compile(rb"(.+)\[([^\[\]]*)\]", re.DOTALL)
_HEADER_BYTES = 4096  # most headers are shorter
_CHEAP_BYTES = 2**16  # what lies between elements is read with them, when it is no more than this

Item = int | slice | EllipsisType


def split_selection(path: bytes) -> tuple[bytes, str | None]:
    """Split ``/x.npy[0, :10]`` into the path and the selection, None where there is none."""
    match = _PLACE.fullmatch(path)
    return (match[1], match[2].decode("utf-8", "replace")) if match else (path, None)


def parse_selection(text: str) -> tuple[Item, ...]:
    """Return what is between the brackets. Raises ``UsageError``."""
    items: list[Item] = []
    for part in (each.strip() for each in text.split(",")):
        match = _SLICE.fullmatch(part)
        if part == "...":
            items.append(Ellipsis)
        elif _INDEX.fullmatch(part):
            items.append(int(part))
        elif match is not None and not (match[3] and int(match[3]) == 0):
            items.append(slice(*(None if each is None else int(each) for each in match.groups())))
        else:
            raise UsageError(
                f"[{text}]: {part!r} is no integer, slice (start:stop:step) or ... as numpy has it"
            )
    if items.count(Ellipsis) > 1:
        raise UsageError(f"[{text}]: only one ... may be in it")
    return tuple(items)


@dataclass(frozen=True)
class _Axis:
    """What is selected of an axis; an axis that is an index is not in the result."""

    picked: range
    size: int
    is_index: bool = False

    @property
    def is_whole(self) -> bool:
        return self.picked == range(self.size)


def read_selection(tree: Tree, path: bytes, text: str) -> np.ndarray[Any, Any]:
    """Return a selected part of an array. Raises ``MountError``, ``UsageError``, ``H5fsError``."""
    items = parse_selection(text)
    data = bytearray()
    handle = tree.open(path, os.O_RDONLY)
    try:
        header = _read_header(tree, handle)
        dtype, shape = header.dtype.base, (*header.shape, *header.dtype.shape)
        axes = _axes(items, shape, text)
        strides = [prod(shape[axis + 1 :]) * dtype.itemsize for axis in range(len(shape))]
        for offset, size, step in _ranges(axes, strides, dtype.itemsize):
            piece = tree.read(handle, size, header.size_bytes + offset)
            data += piece if step == 1 else _every(piece, step, dtype.itemsize)
    finally:
        tree.release(handle)
    kept = tuple(len(axis.picked) for axis in axes if not axis.is_index)
    return np.frombuffer(bytes(data), dtype).reshape(kept)


def _read_header(tree: Tree, handle: int) -> NpyHeader:
    count = _HEADER_BYTES
    while (header := parse_header(data := tree.read(handle, count, 0))) is None:
        if len(data) < count:
            raise InvalidArrayError("not a .npy file")
        count *= 16
    return header


def _axes(items: tuple[Item, ...], shape: tuple[int, ...], text: str) -> list[_Axis]:
    given = [item for item in items if not isinstance(item, EllipsisType)]
    if len(given) > len(shape):
        raise MountError(f"[{text}]: the array has {len(shape)} dimensions, not {len(given)}")
    at = items.index(Ellipsis) if Ellipsis in items else len(items)
    rest = [slice(None)] * (len(shape) - len(given))
    axes = []
    spelled_out = zip([*given[:at], *rest, *given[at:]], shape, strict=True)
    for number, (item, size) in enumerate(spelled_out):
        if isinstance(item, slice):
            axes.append(_Axis(range(size)[item], size))
        elif -size <= item < size:
            axes.append(_Axis(range(size)[item % size : item % size + 1], size, is_index=True))
        else:
            raise MountError(f"[{text}]: {item} is not within dimension {number}, of size {size}")
    return axes


def _ranges(
    axes: list[_Axis], strides: list[int], item_bytes: int
) -> Iterator[tuple[int, int, int]]:
    """Yield ranges of the array's bytes in the order of the result: offset, size, step.

    Of a range with another step than 1 only every step-th element is wanted, backwards where the
    step is negative.
    """
    if any(not axis.picked for axis in axes):
        return
    last = len(axes)
    while last and axes[last - 1].is_whole:
        last -= 1
    if not last:
        yield 0, prod(axis.size for axis in axes) * item_bytes, 1
        return
    picked, stride = axes[last - 1].picked, strides[last - 1]
    is_cheap = picked.step == 1 or (
        stride == item_bytes and abs(picked.step) * stride <= _CHEAP_BYTES
    )
    outer: list[int] = [0]
    for axis, step in zip(axes[: last - 1], strides, strict=False):
        outer = [base + index * step for base in outer for index in axis.picked]
    for base in outer:
        if is_cheap:
            low, high = min(picked[0], picked[-1]), max(picked[0], picked[-1])
            step = picked.step if len(picked) > 1 else 1
            yield base + low * stride, (high - low + 1) * stride, step
        else:
            for index in picked:
                yield base + index * stride, stride, 1


def _every(piece: bytes, step: int, item_bytes: int) -> bytes:
    elements = np.frombuffer(piece, np.dtype((np.void, item_bytes)))
    return elements[::step].tobytes()
