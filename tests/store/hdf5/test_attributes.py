"""Attributes of HDF5 objects: read to the bit, written to the bit, one failure at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5a, h5d, h5g, h5p, h5s, h5t
from hypothesis import HealthCheck, given, settings
from strategies.attributes import (
    DATASET_PATH,
    DATASET_SHAPE,
    OBJECT_PATHS,
    attribute_sets,
)
from support.damage import flip_bytes

from h5fs.errors import AttributeTooLargeError, UnreadableError
from h5fs.model.datatypes import (
    ArrayType,
    ByteOrder,
    CompoundType,
    Datatype,
    EnumType,
    SequenceType,
    StringType,
)
from h5fs.model.objects import Attribute, Element, UnnamedTarget, UnreadableAttribute
from h5fs.projection.json.attribute_file import TEXT, attributes_from_json, attributes_to_json
from h5fs.projection.json.numpy_spelling import standard_float, standard_integer
from h5fs.store.hdf5.objects import attributes as attributes_module
from h5fs.store.hdf5.objects.attributes import (
    delete_attributes,
    list_names,
    read_attribute,
    read_attributes,
    write_attribute,
)
from h5fs.store.hdf5.types import elements_in_memory as memory_module
from h5fs.store.hdf5.types.type_ids import create_datatype

KNOWN_CRASHES = {
    "cve-2024-32609.h5",  # the library, on a walk
    "cve-2024-32623.h5",  # h5py reading region references within other types
    "cve-2025-2309.h5",
    "h5repack_attr_refs.h5",
}
INT16 = standard_integer(2, ByteOrder.LITTLE, signed=True)
FLOAT64 = standard_float(8, ByteOrder.LITTLE)


def new_file(libver: str = "latest") -> h5py.File:
    file = h5py.File("attributes", "w", driver="core", backing_store=False, libver=libver)
    for path in OBJECT_PATHS:
        if path not in (b"/", DATASET_PATH):
            file.create_group(path)
    file[DATASET_PATH] = np.zeros(DATASET_SHAPE)
    return file


@pytest.fixture
def file() -> Iterator[h5py.File]:
    with new_file() as opened:
        yield opened


def in_offset_order(element: Element, datatype: Datatype) -> Element:
    """Return an element with its compounds' members in the order that the library gives them."""
    if element is None:
        return None
    if isinstance(datatype, CompoundType):
        pairs = sorted(zip(datatype.members, element, strict=True), key=lambda p: p[0].offset)
        return tuple(in_offset_order(part, member.type) for member, part in pairs)
    if isinstance(datatype, ArrayType | SequenceType):
        return tuple(in_offset_order(item, datatype.base) for item in element)
    return element


def sort_members(datatype: Datatype) -> Datatype:
    if isinstance(datatype, CompoundType):
        members = sorted(datatype.members, key=lambda member: member.offset)
        sorted_members = (
            type(member)(member.name, member.offset, sort_members(member.type))
            for member in members
        )
        return CompoundType(datatype.size_bytes, tuple(sorted_members))
    if isinstance(datatype, ArrayType):
        return ArrayType(sort_members(datatype.base), datatype.shape)
    if isinstance(datatype, SequenceType):
        return SequenceType(sort_members(datatype.base))
    return datatype


def canonical(attribute: Attribute | UnreadableAttribute) -> Attribute:
    assert isinstance(attribute, Attribute), attribute
    elements = tuple(in_offset_order(e, attribute.type) for e in attribute.elements)
    return Attribute(attribute.name, sort_members(attribute.type), attribute.shape, elements)


@pytest.mark.semantics("A4")
@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(attribute_sets())
def test_any_attribute_goes_to_json_and_back_onto_another_object_with_type_shape_and_bits(
    written: tuple[Attribute, ...],
) -> None:
    with new_file() as file:
        one, two = (h5g.create(file.id, name) for name in (b"one", b"two"))
        for attribute in written:
            write_attribute(one, attribute)
        read = read_attributes(one)
        assert {canonical(a) for a in read} == {canonical(a) for a in written}
        for attribute in attributes_from_json(attributes_to_json(read)):
            write_attribute(two, attribute)
        assert read_attributes(two) == read
        for name in list_names(one):
            types = [h5a.open(owner, name).get_type() for owner in (one, two)]
            assert types[0].equal(types[1])


def test_fixed_elements_are_read_as_the_bits_in_the_file(file: h5py.File) -> None:
    bits = b"\x01\x00\x00\x00\x00\x00\xf0\x7f" + b"\x00\x00\x00\x00\x00\x00\x00\x80"
    file.attrs["nan"] = np.frombuffer(bits, "<f8")
    file.attrs.create("text", np.array([b"a\0b", b"  \0"]), dtype="S3")
    nan = read_attribute(file["/"].id, b"nan")
    assert b"".join(nan.elements) == bits
    assert read_attribute(file["/"].id, b"text").elements == (b"a\0b", b"  \0")


def test_a_null_string_is_told_from_an_empty_one(file: h5py.File) -> None:
    write_attribute(file["/"].id, Attribute(b"s", TEXT, (3,), (None, b"", b"\xff")))
    assert read_attribute(file["/"].id, b"s").elements == (None, b"", b"\xff")


def test_attributes_come_in_the_order_of_creation_where_it_is_kept(file: h5py.File) -> None:
    tracked = file.create_group("tracked", track_order=True)
    plain = file.create_group("plain", track_order=False)
    for group in (tracked, plain):
        for name in ("c", "a", "b"):
            group.attrs[name] = 1
    assert list_names(tracked.id) == (b"c", b"a", b"b")
    assert list_names(plain.id) == (b"a", b"b", b"c")


@pytest.mark.semantics("A1")
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_attributes_are_read_and_changed_while_raw_data_outside_are_read(
    tmp_path: Path, mode: str
) -> None:
    """The library opens an object anew to list its attributes, and takes one whose raw data it
    looks for in another folder for another object."""
    file = tmp_path / "f.h5"
    with h5py.File(file, "w", track_order=True) as opened:
        segments = [("raw", 0, h5py.h5f.UNLIMITED)]
        with_raw = opened.create_dataset("d", (3,), "<i4", external=segments)
        with_raw.attrs["z"], with_raw.attrs["a"] = 1, 2
    (tmp_path / "raw").write_bytes(np.arange(3, dtype="<i4").tobytes())
    access = h5p.create(h5p.DATASET_ACCESS)
    access.set_efile_prefix(os.fsencode(tmp_path))
    with h5py.File(file, mode) as opened:
        dataset_id = h5d.open(opened.id, b"d", access)
        names = list_names(dataset_id)
        assert set(names) == {b"z", b"a"}
        assert [each.name for each in read_attributes(dataset_id)] == list(names)
        if mode == "r+":
            delete_attributes(dataset_id, [b"a"])
            assert list_names(dataset_id) == (b"z",)


def test_more_than_a_thousand_attributes_are_read(file: h5py.File) -> None:
    for number in range(1200):
        file.attrs[f"attribute {number:04}"] = number
    found = read_attributes(file["/"].id)
    assert [a.name for a in found] == [b"attribute %04d" % number for number in range(1200)]


def test_ten_thousand_elements_are_read(file: h5py.File) -> None:
    file.attrs["numbers"] = np.random.default_rng(0).random(10_000)
    file.attrs["texts"] = [f"text {number}" for number in range(10_000)]
    found = read_attributes(file["/"].id)
    assert [len(a.elements) for a in found if isinstance(a, Attribute)] == [10_000, 10_000]


def test_reading_strings_again_and_again_does_not_grow_the_process(file: h5py.File) -> None:
    file.attrs["texts"] = ["x" * 1000] * 100

    def resident_pages() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    for _ in range(100):
        read_attributes(file["/"].id)
    before = resident_pages()
    for _ in range(300):
        read_attributes(file["/"].id)
    assert (resident_pages() - before) * 4096 < 300 * 100_000 / 4


def test_a_reference_to_an_object_without_a_path_keeps_its_bits(file: h5py.File) -> None:
    gone = file.create_group("gone")
    file.attrs["reference"] = gone.ref
    del file["gone"]
    before = read_attribute(file["/"].id, b"reference")
    assert isinstance(before.elements[0], UnnamedTarget)
    write_attribute(file["group"].id, before)
    assert read_attribute(file["group"].id, b"reference") == before


def test_an_attribute_that_fails_does_not_spoil_the_others(
    file: h5py.File, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.attrs["good"] = 1
    file.attrs["large"] = np.zeros(100)
    monkeypatch.setattr(attributes_module, "MAX_ATTRIBUTE_BYTES", 100)
    good, large = read_attributes(file["/"].id)
    assert isinstance(good, Attribute)
    assert isinstance(large, UnreadableAttribute)
    assert "800 bytes" in large.reason


@pytest.mark.semantics("A6")
def test_an_attribute_of_equal_type_and_shape_keeps_its_place(file: h5py.File) -> None:
    group = file.create_group("tracked", track_order=True)
    group.attrs["a"], group.attrs["b"] = 1, 2
    new = Attribute(b"a", standard_integer(8, ByteOrder.LITTLE, signed=True), (), (b"\7" * 8,))
    write_attribute(group.id, new)
    assert list_names(group.id) == (b"a", b"b")
    assert read_attribute(group.id, b"a") == new


def test_an_attribute_of_another_type_replaces_the_old_one_alone(file: h5py.File) -> None:
    file.attrs["a"] = 1
    new = Attribute(b"a", INT16, (2,), (b"\1\0", b"\2\0"))
    write_attribute(file["/"].id, new)
    assert read_attributes(file["/"].id) == (new,)


def test_a_failed_write_leaves_the_old_attribute(file: h5py.File) -> None:
    file.attrs["a"] = 1
    reference = h5t.STD_REF_OBJ
    write_attribute(file["/"].id, Attribute(b"b", INT16, (), (b"\1\0",)))
    before = read_attributes(file["/"].id)
    nowhere = Attribute(
        b"a", attributes_module.describe_datatype(reference), (), (b"/no/such/object",)
    )
    with pytest.raises(UnreadableError, match="write attribute a"):
        write_attribute(file["/"].id, nowhere)
    assert read_attributes(file["/"].id) == before


def test_more_than_64_kib_needs_an_object_of_the_newer_format() -> None:
    large = Attribute(b"large", FLOAT64, (10_000,), tuple([bytes(8)] * 10_000))
    with new_file("latest") as file:
        write_attribute(file["group"].id, large)
        assert read_attributes(file["group"].id) == (large,)
    with new_file("earliest") as file:
        with pytest.raises(AttributeTooLargeError):
            write_attribute(file["group"].id, large)
        assert read_attributes(file["group"].id) == ()


def test_an_attribute_is_deleted(file: h5py.File) -> None:
    file.attrs["a/b"] = 1
    delete_attributes(file["/"].id, [b"a/b"])
    assert read_attributes(file["/"].id) == ()


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_the_last_attribute_of_a_header_is_deleted_first(
    libver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first on, the library moves all others each time: 1,000 took half a minute."""
    deleted: list[bytes] = []
    real = h5a.delete

    def delete(object_id: object, name: bytes) -> None:
        deleted.append(name)
        real(object_id, name)

    monkeypatch.setattr(attributes_module.h5a, "delete", delete)
    with new_file(libver) as file:
        for number in range(30):
            file.attrs[f"a{number * 7 % 30}"] = number
        names: list[bytes] = []
        h5a.iterate(file["/"].id, names.append, order=h5py.h5.ITER_NATIVE)
        delete_attributes(file["/"].id, sorted(names))
    assert deleted == names[::-1]


def test_a_type_that_h5py_has_no_name_for_is_read(file: h5py.File) -> None:
    odd = EnumType(standard_integer(8, ByteOrder.BIG, signed=False), ((b"big", 2**64 - 1),))
    tid = create_datatype(odd)
    attribute_id = h5a.create(file.id, b"odd", tid, h5s.create(h5s.SCALAR))
    attribute_id.write(np.array(b"\xff" * 8, "V8"), mtype=tid)
    assert read_attribute(file["/"].id, b"odd") == Attribute(b"odd", odd, (), (b"\xff" * 8,))


def test_h5py_reads_what_is_written(file: h5py.File) -> None:
    root = file["/"].id
    write_attribute(root, Attribute(b"text", TEXT, (), ("é".encode(),)))
    write_attribute(root, Attribute(b"list", SequenceType(INT16), (1,), ((b"\1\0", b"\2\0"),)))
    fixed = StringType(3, TEXT.padding, TEXT.charset)
    write_attribute(root, Attribute(b"fixed", fixed, (), (b"ab\0",)))
    assert file.attrs["text"] == "é"
    assert file.attrs["list"][0].tolist() == [1, 2]
    assert file.attrs["fixed"] == b"ab"


def run_on(paths: list[Path]) -> dict[Path, list[list[str]]]:
    """Return the results of each file; a crash, and no end, are results, too."""
    program = Path(__file__).with_name("attribute_round_trip.py")
    done = subprocess.run(
        [sys.executable, str(program), *map(str, paths)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        check=False,
    )
    found: dict[Path, list[list[str]]] = {}
    results: list[list[str]] = []
    for line in done.stdout.splitlines():
        verdict, where, name, why = json.loads(line)
        if verdict != "end":
            results.append([verdict, where, name, why])
            continue
        if int(name) == -signal.SIGALRM:
            results.append(["timeout", where, "", ""])
        elif int(name):
            results.append(["crash", where, name, done.stderr[-500:]])
        found[Path(where)], results = results, []
    assert done.returncode == 0, done.stderr
    return found


def is_hdf5(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return b"\x89HDF\r\n" in stream.read(4096)


@pytest.mark.timeout(1200)
def test_every_attribute_of_the_corpus_comes_through_equal_to_what_h5py_reads(
    corpus: Path,
) -> None:
    files = sorted(path for path in corpus.rglob("*") if is_hdf5(path))
    if "H5FS_WHOLE_CORPUS" not in os.environ:  # all of them take five minutes
        files = files[::4]
    counts: Counter[str] = Counter()
    bad = []
    count = os.cpu_count() or 1
    with ThreadPoolExecutor(count) as pool:
        shares = list(pool.map(run_on, (files[start::count] for start in range(count))))
    found = {path: results for share in shares for path, results in share.items()}
    assert sorted(found) == files
    for path, results in found.items():
        for verdict, where, name, why in results:
            counts[verdict] += 1
            # A region reference is an object to h5py, even when nothing can follow it.
            is_bad_region = "serialized" in why and "selection" in why
            is_known = verdict == "crash" and path.name in KNOWN_CRASHES
            if verdict.startswith("unreadable"):
                print(f"{path.relative_to(corpus)} {where} {name}: {verdict}: {why}")
            if verdict in ("different", "timeout", "crash", "unreadable, h5py reads it") and (
                not is_bad_region and not is_known
            ):
                bad.append((str(path.relative_to(corpus)), verdict, where, name, why))
    print(dict(counts))
    assert not bad
    assert counts["equal"] > 5 * len(files)


@pytest.mark.semantics("W5", "A3")
def test_more_elements_than_are_worth_a_value_each_are_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attributes_module, "MAX_ELEMENTS", 100)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        for name, count in (("a", 60), ("b", 60), ("c", 30)):
            file.attrs[name] = range(count)
        read = attributes_module.read_attributes(file.id)
    assert [isinstance(each, Attribute) for each in read] == [True, False, True]


@pytest.mark.semantics("W5", "A3")
def test_members_and_items_are_elements_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (attributes_module, memory_module):
        monkeypatch.setattr(module, "MAX_ELEMENTS", 100)
    pair = np.dtype([("a", "i4"), ("b", "f8", (3,))])
    row = np.empty(2, object)
    row[:] = [np.arange(60), np.arange(50)]
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.attrs["few"] = np.zeros(15, pair)
        file.attrs["many"] = np.zeros(26, pair)
        file.attrs.create("numbers", row, dtype=h5py.vlen_dtype("i4"))
        file.attrs["rest"] = range(40)
        read = attributes_module.read_attributes(file.id)
    assert [isinstance(each, Attribute) for each in read] == [True, False, False, True]


@pytest.mark.semantics("A3")
def test_why_the_library_cannot_read_an_attribute_is_told(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        file.attrs["text"] = "some text in a heap"
        file.attrs["number"] = 1
    content = path.read_bytes()
    heap = content.rindex(b"GCOL", 0, content.index(b"some text in a heap"))
    flip_bytes(path, heap, 4)
    with h5py.File(path) as file:
        with pytest.raises(OSError, match="bad global heap collection signature"):
            _ = file.attrs["text"]
        found = {each.name: each for each in read_attributes(file.id)}
    assert isinstance(found[b"number"], Attribute)
    text = found[b"text"]
    assert isinstance(text, UnreadableAttribute)
    assert "bad global heap collection signature" in text.reason
