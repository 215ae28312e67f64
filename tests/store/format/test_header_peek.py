"""The peek at a dataset's type against what h5py says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5d, h5o, h5p, h5s, h5t
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.unfiltered_edges import leave_edges_unfiltered

from h5fs.model.link_table import Links
from h5fs.model.settings import StoreOptions
from h5fs.store import open_store
from h5fs.store.format.file_layout import FileLayout
from h5fs.store.format.headers.peek import (
    HEAD_BYTES,
    Peeked,
    peek_at_datatype,
    read_edges_are_whole,
)

STRING = h5t.py_create(h5py.string_dtype(), logical=True)
INTEGERS = h5t.vlen_create(h5t.STD_I32LE)
COMPOUND = h5t.create(h5t.COMPOUND, 24)
COMPOUND.insert(b"n", 0, h5t.STD_I64LE)
COMPOUND.insert(b"values", 8, INTEGERS)
TYPES: dict[str, Any] = {
    "integer": h5t.STD_I32LE,
    "big-endian float": h5t.IEEE_F64BE,
    "bitfield": h5t.STD_B16LE,
    "fixed string": h5t.py_create(np.dtype("S7")),
    "variable string": STRING,
    "opaque": h5t.py_create(np.dtype("V5")),
    "enum": h5t.py_create(h5py.enum_dtype({"A": 1, "B": 2}), logical=True),
    "boolean": h5t.py_create(np.dtype(bool), logical=True),
    "object reference": h5t.STD_REF_OBJ,
    "region reference": h5t.STD_REF_DSETREG,
    "compound": h5t.py_create(np.dtype([("a", "<i4"), ("b", "<f8", (2,))])),
    "wide compound": h5t.py_create(np.dtype([(f"member_{i}", "<i4") for i in range(40)])),
    "compound with a sequence": COMPOUND,
    "array": h5t.array_create(h5t.STD_I32LE, (3,)),
    "sequence of integers": INTEGERS,
    "sequence of strings": h5t.vlen_create(STRING),
    "sequence of sequences": h5t.vlen_create(INTEGERS),
    "sequence of compounds": h5t.vlen_create(COMPOUND),
    "array of sequences": h5t.array_create(INTEGERS, (2,)),
    "array of arrays of sequences": h5t.array_create(h5t.array_create(INTEGERS, (2,)), (2,)),
}
LIBVERS = ("earliest", "v108", "latest")


def is_sequence(type_id: Any) -> bool:
    """What h5py says: a variable-length sequence, or an array of them."""
    while type_id.get_class() == h5t.ARRAY:
        type_id = type_id.get_super()
    return bool(type_id.get_class() == h5t.VLEN)


def head_of(file: Path, name: str) -> bytes:
    """Return the start of a dataset's object header, which may lie behind a user block."""
    with h5py.File(file) as opened:
        place = h5o.get_info(opened[name].id).addr + opened.userblock_size
    return file.read_bytes()[place : place + HEAD_BYTES]


def make_dataset(
    opened: h5py.File,
    name: str,
    type_id: Any,
    *,
    track_times: bool = False,
    track_order: bool = False,
) -> h5py.Dataset:
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_obj_track_times(track_times)
    if track_order:
        creation.set_attr_creation_order(h5p.CRT_ORDER_TRACKED | h5p.CRT_ORDER_INDEXED)
    return h5py.Dataset(
        h5d.create(opened.id, name.encode(), type_id, h5s.create_simple((2,)), creation)
    )


@pytest.mark.parametrize("libver", LIBVERS)
@pytest.mark.parametrize("kind", TYPES)
def test_a_plain_dataset_is_told_at_a_glance(tmp_path: Path, libver: str, kind: str) -> None:
    with h5py.File(tmp_path / "f.h5", "w", libver=libver) as opened:
        make_dataset(opened, "d", TYPES[kind])
    expected = Peeked.SEQUENCE if is_sequence(TYPES[kind]) else Peeked.OTHER
    if TYPES[kind].get_class() == h5t.ARRAY:
        expected = Peeked.UNKNOWN  # its base is looked up by opening it
    assert peek_at_datatype(head_of(tmp_path / "f.h5", "d")) is expected


@st.composite
def histories(draw: st.DrawFn) -> dict[str, Any]:
    """Return how a dataset came to be: everything that moves the messages of its header."""
    return {
        "kind": draw(st.sampled_from(sorted(TYPES))),
        "libver": draw(st.sampled_from(LIBVERS)),
        "user_block": draw(st.sampled_from([0, 512, 2048])),
        "track_times": draw(st.booleans()),
        "track_order": draw(st.booleans()),
        "is_committed": draw(st.booleans()),
        "attributes": draw(st.lists(st.integers(0, 300), max_size=14)),
        "deleted": draw(st.integers(0, 5)),
    }


@given(histories())
@settings(max_examples=150)
def test_the_store_knows_sequences_whatever_the_header_looks_like(
    tmp_path_factory: pytest.TempPathFactory, history: dict[str, Any]
) -> None:
    file = tmp_path_factory.mktemp("peek") / "f.h5"
    with h5py.File(
        file, "w", libver=history["libver"], userblock_size=history["user_block"]
    ) as opened:
        type_id = TYPES[history["kind"]].copy()
        if history["is_committed"]:
            type_id.commit(opened.id, b"type")
        dataset = make_dataset(
            opened,
            "d",
            type_id,
            track_times=history["track_times"],
            track_order=history["track_order"],
        )
        for number, size in enumerate(history["attributes"]):
            dataset.attrs[f"attribute {number}"] = "x" * size
        for number in range(min(history["deleted"], len(history["attributes"]))):
            del dataset.attrs[f"attribute {number}"]
    expected = is_sequence(TYPES[history["kind"]])
    peeked = peek_at_datatype(head_of(file, "d"))
    assert peeked in (Peeked.UNKNOWN, Peeked.SEQUENCE if expected else Peeked.OTHER)
    store = open_store(StoreOptions(file, workers=0))
    try:
        found = {link.name: link.target for link in Links(store.list_links(store.root().ref))}
        target = found[b"d"]
        assert target is not None
        assert target.holds_sequences == expected
    finally:
        store.close()


@example(b"", b"OHDR\x02")
@given(st.binary(max_size=HEAD_BYTES), st.sampled_from([b"", b"\x01", b"OHDR\x02"]))
def test_no_bytes_upset_the_peek(garbage: bytes, start: bytes) -> None:
    assert peek_at_datatype(start + garbage) in Peeked


NOTHING = b"\0\0\x08\0\0\0\0\0" + bytes(8)
LAYOUT = b"\x08\0\x08\0\0\0\0\0" + bytes([3, 2, 2]) + bytes(5)
SEQUENCES = b"\x03\0\x08\0\0\0\0\0" + bytes([0x19, 0, 0, 0]) + bytes(4)
OLD_HEAD = b"\x01\0\x01\0\x01\0\0\0\x10\0\0\0" + bytes(4)
NEW_NOTHING = b"\0\x08\0\0" + bytes(8)
NEW_LAYOUT = b"\x08\x08\0\0" + bytes([3, 2, 2]) + bytes(5)
NEW_SEQUENCES = b"\x03\x08\0\0" + bytes([0x19, 0, 0, 0]) + bytes(4)
NEW_HEAD = b"OHDR\x02\0\x0c"


@pytest.mark.parametrize(
    ("header", "message", "is_layout"),
    [
        (OLD_HEAD + NOTHING, LAYOUT, True),
        (OLD_HEAD + NOTHING, SEQUENCES, False),
        (NEW_HEAD + NEW_NOTHING, NEW_LAYOUT, True),
        (NEW_HEAD + NEW_NOTHING, NEW_SEQUENCES, False),
    ],
    ids=["old layout", "old type", "new layout", "new type"],
)
def test_what_lies_behind_a_block_of_messages_is_no_message(
    header: bytes, message: bytes, is_layout: bool
) -> None:
    def whole(file: bytes) -> bool:
        return read_edges_are_whole(lambda at, size: file[at:][:size], 0, FileLayout(0, 8, 8))

    inside = header[: -len(message)] + message
    if is_layout:
        assert whole(inside)
        assert not whole(header + message)
    else:
        assert peek_at_datatype(inside) is Peeked.SEQUENCE
        assert peek_at_datatype(header + message) is Peeked.UNKNOWN


@given(histories(), st.booleans())
@settings(max_examples=100)
def test_unfiltered_edges_are_known_whatever_the_header_looks_like(
    tmp_path_factory: pytest.TempPathFactory, history: dict[str, Any], is_unfiltered: bool
) -> None:
    file = tmp_path_factory.mktemp("peek") / "f.h5"
    with h5py.File(
        file, "w", libver=history["libver"], userblock_size=history["user_block"]
    ) as opened:
        creation = h5p.create(h5p.DATASET_CREATE)
        creation.set_chunk((4,))
        creation.set_shuffle()
        creation.set_obj_track_times(history["track_times"])
        if history["track_order"]:
            creation.set_attr_creation_order(h5p.CRT_ORDER_TRACKED | h5p.CRT_ORDER_INDEXED)
        if is_unfiltered:
            leave_edges_unfiltered(creation)
        type_id, space = TYPES[history["kind"]], h5s.create_simple((10,))
        dataset = h5py.Dataset(h5d.create(opened.id, b"d", type_id, space, creation))
        # As if it were messages, whatever step they are read in.
        opened["between"] = np.tile(np.frombuffer(b"\x08" + bytes(24), np.uint8), 1000)
        for number, size in enumerate(history["attributes"]):
            dataset.attrs[f"attribute {number}"] = "x" * size
        address = h5o.get_info(dataset.id).addr
    content = file.read_bytes()[history["user_block"] :]
    found = read_edges_are_whole(
        lambda at, size: content[at:][:size], address, FileLayout(history["user_block"], 8, 8)
    )
    assert found == (not is_unfiltered)


@pytest.mark.parametrize("libver", LIBVERS)
def test_a_header_that_is_cut_off_is_unknown_or_right(tmp_path: Path, libver: str) -> None:
    with h5py.File(tmp_path / "f.h5", "w", libver=libver) as opened:
        make_dataset(opened, "d", INTEGERS)
    head = head_of(tmp_path / "f.h5", "d")
    for size in range(6, len(head)):
        assert peek_at_datatype(head[:size]) in (Peeked.UNKNOWN, Peeked.SEQUENCE)
