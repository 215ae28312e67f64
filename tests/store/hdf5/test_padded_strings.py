"""Fixed-length strings of every padding, with nulls and spaces in odd places, against h5py."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5a, h5d, h5p, h5s, h5t
from support.reference import npy_bytes

from h5fs.model.settings import StoreOptions
from h5fs.projection.json.attribute_file import attributes_from_json, attributes_to_json
from h5fs.store import open_store
from h5fs.tree import Tree

PADDINGS = {
    "terminated": h5t.STR_NULLTERM, "null-padded": h5t.STR_NULLPAD, "space-padded": h5t.STR_SPACEPAD
}  # fmt: skip
TEXTS = [bytes(text) for text in itertools.product(b"a\0 ", repeat=4)]
UNITS = b"degrees_north\0"


def string_type(padding: int, size: int) -> h5t.TypeStringID:
    found = h5t.C_S1.copy()
    found.set_size(size)
    found.set_strpad(padding)
    return found


def wrapped(inner: h5t.TypeID, how: str) -> h5t.TypeID:
    if how == "array":
        return h5t.array_create(inner, (1,))
    found = h5t.create(h5t.COMPOUND, inner.get_size() + 3)
    found.insert(b"text", 2, inner)
    return found


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("strings") / "f.h5"
    with h5py.File(file, "w") as opened:
        for name, padding in PADDINGS.items():
            inner = string_type(padding, 4)
            space = h5s.create_simple((len(TEXTS),))
            packed = np.frombuffer(b"".join(TEXTS), "V4")
            for how, place in (("plain", inner), ("array", wrapped(inner, "array"))):
                h5a.create(opened.id, f"{name} {how}".encode(), place, space).write(packed, place)
            compound = wrapped(inner, "compound")
            rows = np.zeros(len(TEXTS), "V7").view([("", "V2"), ("text", "V4"), ("", "V1")])
            rows["text"] = packed
            h5a.create(opened.id, f"{name} compound".encode(), compound, space).write(
                rows.view("V7"), compound
            )
            for layout, chunks in (("contiguous", None), ("chunked", (10,))):
                creation = h5p.create(h5p.DATASET_CREATE)
                if chunks:
                    creation.set_chunk(chunks)
                made = h5d.create(opened.id, f"{name} {layout}".encode(), inner, space, creation)
                made.write(h5s.ALL, h5s.ALL, packed, inner)
        units = string_type(h5t.STR_SPACEPAD, len(UNITS))
        attribute = h5a.create(opened.id, b"units", units, h5s.create(h5s.SCALAR))
        attribute.write(np.array(UNITS, "V14"), units)
    return file


def texts_of(value: Any) -> list[str]:
    if isinstance(value, np.ndarray) and value.dtype.names:
        value = value["text"]
    return [text.decode() for text in np.ravel(value).tolist()]


@pytest.mark.semantics("A2", "A6")
def test_attributes_show_the_text_that_h5py_reads_and_keep_their_bits(file: Path) -> None:
    store = open_store(StoreOptions(file, workers=0))
    try:
        attributes = store.read_attributes(store.root().ref)
    finally:
        store.close()
    data = attributes_to_json(attributes)
    document = json.loads(data)
    assert document["units"] == "degrees_north"
    assert document["$types"]["units"]["stored"] == "ZGVncmVlc19ub3J0aAA="
    with h5py.File(file) as opened:
        for name in opened.attrs:
            if name == "units":
                continue
            shown = document[name]
            if name.endswith("compound"):
                shown = [row["text"] for row in shown]
            elif name.endswith("array"):
                shown = [row[0] for row in shown]
            assert shown == texts_of(opened.attrs[name]), name
    assert attributes_from_json(data) == tuple(attributes)
    # By a program that edits another attribute and knows nothing of $types.
    del document["$types"]
    edited = json.dumps({**document, "other": 1}).encode()
    assert attributes_from_json(edited, attributes)[:-1] == tuple(attributes)


@pytest.mark.semantics("A2")
def test_a_string_that_changes_is_padded_and_the_others_keep_their_bits(file: Path) -> None:
    store = open_store(StoreOptions(file, workers=0))
    try:
        attributes = store.read_attributes(store.root().ref)
    finally:
        store.close()
    document = json.loads(attributes_to_json(attributes))
    document["space-padded compound"][3]["text"] = "new"
    document["terminated plain"][0] = "x"
    changed = {a.name: a for a in attributes_from_json(json.dumps(document).encode(), attributes)}
    for old in attributes:
        expected = list(old.elements)
        if old.name == b"space-padded compound":
            expected[3] = (b"new ",)
        if old.name == b"terminated plain":
            expected[0] = b"x\0\0\0"
        assert changed[old.name].elements == tuple(expected), old.name


@pytest.mark.semantics("D1")
@pytest.mark.parametrize("layout", ["contiguous", "chunked"])
@pytest.mark.parametrize("padding", PADDINGS)
def test_arrays_are_what_h5py_reads(file: Path, padding: str, layout: str) -> None:
    tree = Tree(open_store(StoreOptions(file, workers=0)))
    name = f"{padding} {layout}"
    try:
        handle = tree.open(f"/{name}.npy".encode(), os.O_RDONLY)
        data = tree.read(handle, 10_000, 0)
        tree.release(handle)
    finally:
        tree.close()
    with h5py.File(file) as opened:
        assert data == npy_bytes(opened[name][()])
