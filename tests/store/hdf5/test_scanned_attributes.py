"""Attributes that are read past the library are those that the library reads."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies.attributes import attribute_sets
from support.sources import BytesSource

from h5fs.errors import UnreadableError
from h5fs.model.objects import Attribute
from h5fs.store.format.file_layout import read_file_layout
from h5fs.store.hdf5.objects.attributes import read_attributes, write_attribute
from h5fs.store.hdf5.objects.scanned_attributes import AttributeTypes, ScannedAttributes


def scan(content: bytes, addresses: list[int]) -> list[tuple[Attribute, ...] | None]:
    source = BytesSource(content)
    layout = read_file_layout(source)
    assert layout is not None
    return ScannedAttributes(source, layout, AttributeTypes()).read(addresses)


def write_plain(file: Path, libver: str, *, track_order: bool = False) -> None:
    with h5py.File(file, "w", libver=libver) as opened:
        for number in range(20):
            group = opened.create_group(f"g{number}", track_order=track_order)
            group.attrs["units"] = "mV"
            group.attrs["nothing"] = ""
            group.attrs["words"] = ["one", "zwei", "три"]
            group.attrs["a"] = float(number)
            group.attrs["fixed"] = np.bytes_(b"abc")
            group.attrs["matrix"] = np.arange(6, dtype=">i2").reshape(2, 3)
            group.attrs["pair"] = np.array([(1, 2.5)], [("x", "u1"), ("y", "<f8")])
            group.attrs["truth"] = True
            group.attrs["null"] = h5py.Empty("<f4")


def read_all(file: Path) -> tuple[list[int], list[Any]]:
    with h5py.File(file) as opened:
        groups = list(opened.values())
        addresses = [h5py.h5o.get_info(group.id).addr for group in groups]
        return addresses, [read_attributes(group.id) for group in groups]


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("track_order", [False, True])
def test_plain_attributes_take_no_library(tmp_path: Path, libver: str, track_order: bool) -> None:
    write_plain(tmp_path / "f.h5", libver, track_order=track_order)
    addresses, expected = read_all(tmp_path / "f.h5")
    # With the order tracked, nine attributes are dense: they are not in the header.
    is_dense = track_order or libver == "latest"
    found = scan((tmp_path / "f.h5").read_bytes(), addresses)
    assert found == ([None] * 20 if is_dense else expected)


@pytest.mark.parametrize("track_order", [False, True])
def test_attributes_come_in_the_order_of_hdf5(tmp_path: Path, track_order: bool) -> None:
    with h5py.File(tmp_path / "f.h5", "w", libver="latest") as opened:
        for number in range(10):
            group = opened.create_group(f"g{number}", track_order=track_order)
            for name in ("z", "a", "m", "Z"):
                group.attrs[name] = number
            del group.attrs["a"]
            group.attrs["b"] = 1
    addresses, expected = read_all(tmp_path / "f.h5")
    assert scan((tmp_path / "f.h5").read_bytes(), addresses) == expected
    first = [attribute.name for attribute in expected[0]]
    assert first == ([b"z", b"m", b"Z", b"b"] if track_order else [b"Z", b"b", b"m", b"z"])


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(attribute_sets(), st.sampled_from(["earliest", "latest"]), st.sampled_from([0, 512]))
def test_any_attributes_are_as_the_library_reads_them_or_left_to_it(
    written: tuple[Attribute, ...], libver: str, user_block: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "f.h5")
        with h5py.File(path, "w", libver=libver, userblock_size=user_block) as file:
            group = file.create_group("g")
            try:
                for attribute in written:
                    write_attribute(group.id, attribute)
            except Exception:  # what this format cannot hold
                return
        try:
            addresses, expected = read_all(path)
        except UnreadableError:
            with h5py.File(path) as file:
                addresses, expected = [h5py.h5o.get_info(file.id, b"g").addr], [None]
        assert scan(path.read_bytes(), addresses) in ([None], expected)


def test_references_and_sequences_are_left_to_the_library(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        for number, name in enumerate("abcd"):
            group = opened.create_group(name)
            group.attrs["plain"] = number
        opened["a"].attrs["reference"] = opened["b"].ref
        space = h5py.h5s.create(h5py.h5s.SCALAR)
        numbers = h5py.h5t.vlen_create(h5py.h5t.STD_I32LE)
        h5py.h5a.create(opened["d"].id, b"sequence", numbers, space)
        opened["type"] = np.dtype("<i8")
        opened["c"].attrs.create("committed", 3, dtype=opened["type"])
    with h5py.File(tmp_path / "f.h5") as opened:
        addresses = [h5py.h5o.get_info(opened[name].id).addr for name in "abcd"]
        expected = read_attributes(opened["b"].id)
    found = scan((tmp_path / "f.h5").read_bytes(), addresses)
    assert found == [None, expected, None, None]


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_damage_is_no_exception_and_shows_nothing_that_the_library_does_not(
    tmp_path: Path, libver: str
) -> None:
    write_plain(tmp_path / "f.h5", "earliest")
    if libver == "latest":
        with h5py.File(tmp_path / "f.h5", "w", libver="latest") as opened:
            for number in range(20):
                group = opened.create_group(f"g{number}")
                group.attrs["units"], group.attrs["a"] = "mV", number
    content = (tmp_path / "f.h5").read_bytes()
    addresses, expected = read_all(tmp_path / "f.h5")
    assert scan(content, addresses) == expected
    chance = random.Random(20261129)
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 20)):
            damaged[chance.randrange(100, len(damaged))] = chance.randrange(256)
        found = scan(bytes(damaged), addresses)
        assert len(found) == len(addresses)


def test_addresses_beyond_the_file_are_left_to_the_library(tmp_path: Path) -> None:
    write_plain(tmp_path / "f.h5", "earliest")
    content = (tmp_path / "f.h5").read_bytes()
    assert scan(content, [2**63, len(content), len(content) - 1, 2**64 - 1]) == [None] * 4
    assert scan(content[:1000], read_all(tmp_path / "f.h5")[0])[-1] is None
