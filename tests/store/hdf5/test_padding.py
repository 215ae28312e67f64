"""The padding of compounds that h5fs reads by a type of its own, to the bit."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t
from support.in_process import InProcessStore

from h5fs.model.settings import StoreOptions
from h5fs.tree import Tree

pytestmark = pytest.mark.semantics("D6")

COUNT, SIZE = 40, 24


def enumeration(base: h5t.TypeID = h5t.STD_I16BE) -> h5t.TypeID:
    found = h5t.enum_create(base)
    for number, name in enumerate((b"RED", b"GREEN")):
        found.enum_insert(name, number)
    return found


def boolean() -> h5t.TypeID:
    return h5t.py_create(np.dtype(bool), logical=True)


def opaque() -> h5t.TypeID:
    found = h5t.create(h5t.OPAQUE, 3)
    found.set_tag(b"tag")
    return found


def nested() -> h5t.TypeID:
    found = h5t.create(h5t.COMPOUND, 8)
    found.insert(b"e", 1, enumeration())
    found.insert(b"i", 4, h5t.STD_U8LE)
    return found


MEMBERS: dict[str, Callable[[], h5t.TypeID]] = {
    "integer": lambda: h5t.STD_I32BE,
    "enumeration": enumeration,
    "enumeration of bytes": lambda: enumeration(h5t.STD_U8LE),
    "boolean": boolean,
    "array of enumerations": lambda: h5t.array_create(enumeration(), (2, 2)),
    "compound": nested,
    "array of compounds": lambda: h5t.array_create(nested(), (2,)),
}


def terminated() -> h5t.TypeID:
    found = h5t.C_S1.copy()
    found.set_size(4)
    return found


def stored_and_shown(
    path: Path, member: h5t.TypeID, beside: h5t.TypeID, *, is_chunked: bool
) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Return the bytes of a dataset of compounds as they are stored, and as they are shown."""
    stored = h5t.create(h5t.COMPOUND, SIZE)
    stored.insert(b"b", 1, beside)
    stored.insert(b"m", 5, member)
    raw = np.random.default_rng(1).integers(1, 256, (COUNT, SIZE), "u1")
    raw[:, 5] = 1  # a boolean is one of two
    with h5py.File(path, "w") as opened:
        creation = h5p.create(h5p.DATASET_CREATE)
        if is_chunked:
            creation.set_chunk((7,))
            creation.set_deflate(1)
        space = h5s.create_simple((COUNT,))
        dataset = h5d.create(opened.id, b"d", stored, space, creation)
        dataset.write(h5s.ALL, h5s.ALL, raw, mtype=dataset.get_type())
    store = InProcessStore(StoreOptions(path))
    store.open()
    try:
        tree = Tree(store)
        handle = tree.open(b"/d.npy", os.O_RDONLY)
        found = tree.read(handle, 2**20, 0)[-raw.size :]
        tree.release(handle)
    finally:
        store.close()
    return raw, np.frombuffer(found, "u1").reshape(raw.shape)


@pytest.mark.parametrize("beside", [lambda: h5t.STD_B8LE, opaque], ids=["bitfield", "opaque"])
@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("is_chunked", [False, True], ids=["contiguous", "chunked"])
def test_padding_is_as_stored_whatever_else_is_in_the_compound(
    tmp_path: Path, member: str, beside: Callable[[], h5t.TypeID], is_chunked: bool
) -> None:
    raw, shown = stored_and_shown(
        tmp_path / "f.h5", MEMBERS[member](), beside(), is_chunked=is_chunked
    )
    assert (shown == raw).all()


def test_padding_is_zeros_beside_a_string_that_is_converted(tmp_path: Path) -> None:
    raw, shown = stored_and_shown(tmp_path / "f.h5", terminated(), h5t.STD_B8LE, is_chunked=False)
    raw[:, [0, *range(2, 5), *range(9, SIZE)]] = 0
    assert (shown[:, :8] == raw[:, :8]).all()
    assert (shown[:, 9:] == 0).all()
