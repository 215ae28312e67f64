"""The scan of many object headers against what h5py says of each object."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5d, h5g, h5i, h5l, h5o, h5p, h5s, h5t
from hypothesis import example, given
from hypothesis import strategies as st
from support.unfiltered_edges import leave_edges_unfiltered

from h5fs.store.format.file_layout import FileLayout, read_file_layout
from h5fs.store.format.headers import arena
from h5fs.store.format.headers.array_messages import measure_datatype
from h5fs.store.format.headers.peek import read_edges_are_whole
from h5fs.store.format.headers.scan import (
    CHUNKED,
    COMPACT,
    CONTIGUOUS,
    DATASET,
    DATATYPE,
    GROUP,
    LAYOUT_NOT_KNOWN,
    UNDEFINED,
    UNKNOWN,
    VIRTUAL,
    HeaderScan,
    read_shape,
    scan_headers,
)
from h5fs.store.format.lookup3 import checksum_blocks
from h5fs.store.sources.local_file import LocalFile

LIBVERS = ("earliest", "v108", "latest")
KINDS = {h5o.TYPE_GROUP: GROUP, h5o.TYPE_DATASET: DATASET, h5o.TYPE_NAMED_DATATYPE: DATATYPE}
LAYOUTS = {
    h5d.COMPACT: COMPACT,
    h5d.CONTIGUOUS: CONTIGUOUS,
    h5d.CHUNKED: CHUNKED,
    h5d.VIRTUAL: VIRTUAL,
}


def find_objects(opened: h5py.File) -> dict[int, tuple[Any, Any]]:
    """Return what h5py says of every object that hard links lead to, and the object, by address.

    Leaves out objects that it cannot look at, and has None for one that it cannot open.
    """
    found: dict[int, tuple[Any, Any]] = {}
    waiting = [(opened.id, b"/")]
    while waiting:
        location, name = waiting.pop()
        try:
            info = h5o.get_info(location, name)
        except Exception:  # any of h5py's
            continue
        if info.addr in found:
            continue
        try:
            identifier = h5o.open(location, name)
        except Exception:  # any of h5py's
            identifier = None
        found[info.addr] = info, identifier
        if isinstance(identifier, h5g.GroupID):
            names: list[bytes] = []
            try:
                identifier.links.iterate(
                    lambda name, info, names=names: (
                        names.append(name) if info.type == h5l.TYPE_HARD else None
                    ),
                    info=True,
                )
            except Exception:  # any of h5py's; a damaged index
                continue
            waiting += [(identifier, name) for name in names]
    return found


def scan_file(path: Path, addresses: list[int]) -> tuple[FileLayout, HeaderScan]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        layout = read_file_layout(LocalFile(descriptor))
        assert layout is not None
        return layout, scan_headers(LocalFile(descriptor), layout, np.array(addresses, np.uint64))
    finally:
        os.close(descriptor)


def check_compact(scan: HeaderScan, i: int, dataset: h5d.DatasetID, layout: FileLayout) -> None:
    """The elements lie where the scan says."""
    file_type = dataset.get_type()
    size = dataset.get_space().get_simple_extent_npoints() * file_type.get_size()
    if dataset.get_storage_size() != size or file_type.detect_class(h5t.VLEN):
        return  # elements have another size in memory
    shape = dataset.get_space().get_simple_extent_dims()
    elements = np.zeros(shape, np.dtype((np.void, file_type.get_size())))
    dataset.read(h5s.ALL, h5s.ALL, elements, file_type)
    content = Path(os.fsdecode(h5i.get_file_id(dataset).name)).read_bytes()
    start = int(scan.data_offset[i]) + layout.base_offset
    assert content[start : start + elements.nbytes] == elements.tobytes()


def check_dataset(scan: HeaderScan, i: int, dataset: h5d.DatasetID, layout: FileLayout) -> None:
    """Compare everything that the scan claims to know of a dataset with what h5py says."""
    creation = dataset.get_create_plist()
    if scan.layout_class[i] != LAYOUT_NOT_KNOWN:
        assert scan.layout_class[i] == LAYOUTS[creation.get_layout()]
        offset = dataset.get_offset()
        if scan.layout_class[i] == COMPACT and scan.data_offset[i] != UNDEFINED:
            check_compact(scan, i, dataset, layout)
        elif scan.data_offset[i] == UNDEFINED:
            # The library adds the user block to its undefined address as well.
            assert offset in (None, layout.base_offset - 1)
        else:
            assert offset == int(scan.data_offset[i]) + layout.base_offset
    if scan.storage_bytes[i] != -1:
        assert scan.storage_bytes[i] == dataset.get_storage_size()
    assert scan.has_external[i] == (creation.get_external_count() > 0)
    if scan.array_index[i] == -1:
        return
    space, datatype = scan.arrays[scan.array_index[i]]
    is_null = dataset.get_space().get_simple_extent_type() == h5s.NULL
    assert read_shape(space, layout) == (None if is_null else dataset.shape)
    assert h5t.decode(b"\x03\x00" + datatype).equal(dataset.get_type())


def check_file(path: Path, opened: h5py.File) -> Counter[str]:
    """Compare the scan with h5py for every object of a file; count how much the scan knows."""
    objects = find_objects(opened)
    layout, scan = scan_file(path, list(objects))
    counts: Counter[str] = Counter()
    for i, (info, identifier) in enumerate(objects.values()):
        counts["objects"] += 1
        if scan.kind[i] == UNKNOWN:
            continue
        counts["known"] += 1
        assert scan.kind[i] == KINDS[info.type]
        assert scan.attribute_count[i] == info.num_attrs
        assert scan.hard_link_count[i] == info.rc
        assert (scan.mtime[i], scan.ctime[i], scan.atime[i]) == (info.mtime, info.ctime, info.atime)
        if scan.kind[i] != DATASET:
            assert scan.array_index[i] == -1
            assert scan.layout_class[i] == LAYOUT_NOT_KNOWN
            continue
        counts["datasets"] += 1
        counts["arrays"] += int(scan.array_index[i] >= 0)
        counts["layouts"] += int(scan.layout_class[i] != LAYOUT_NOT_KNOWN)
        if isinstance(identifier, h5d.DatasetID):
            check_dataset(scan, i, identifier, layout)
    return counts


Setting = Callable[[Any], object]


def create(
    opened: h5py.File,
    name: str,
    *settings: Setting,
    datatype: Any = h5t.STD_I32LE,
    shape: tuple[int, ...] | None = (6, 4),
    space: Any = None,
) -> h5py.Dataset:
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_obj_track_times("untracked" not in name)
    for setting in settings:
        setting(creation)
    space = h5s.create_simple(shape) if space is None else space
    return h5py.Dataset(h5d.create(opened.id, name.encode(), datatype, space, creation))


def early(creation: Any) -> None:
    creation.set_alloc_time(h5d.ALLOC_TIME_EARLY)


def compact(creation: Any) -> None:
    creation.set_layout(h5d.COMPACT)


def chunked(creation: Any) -> None:
    creation.set_chunk((3, 3))


def ordered(creation: Any) -> None:
    creation.set_attr_creation_order(h5p.CRT_ORDER_TRACKED | h5p.CRT_ORDER_INDEXED)


def make_layouts(opened: h5py.File) -> None:
    create(opened, "contiguous")
    create(opened, "allocated", early)
    create(opened, "written")[:] = 1
    create(opened, "untracked", early, ordered)
    create(opened, "compact", compact)
    create(opened, "chunked", chunked)[:] = 1
    create(opened, "gzip", chunked, lambda c: c.set_deflate(4))[:] = 1
    create(opened, "fletcher32", chunked, lambda c: c.set_fletcher32())[:] = 1
    create(opened, "null", space=h5s.create(h5s.NULL))
    create(opened, "scalar", early, space=h5s.create(h5s.SCALAR))
    create(opened, "empty", shape=(0, 3))
    create(opened, "external", lambda c: c.set_external(b"outside.bin", 0, 96))
    opened.create_dataset("growing", (3,), "f8", maxshape=(None,), chunks=(2,))
    layout = h5py.VirtualLayout((6, 4), "i4")
    layout[:] = h5py.VirtualSource(opened["contiguous"])
    if opened.libver[1] != "earliest":
        opened.create_virtual_dataset("virtual", layout)


def make_datatypes(opened: h5py.File) -> None:
    opened["committed"] = np.dtype([("x", "f8"), ("y", "i4")])
    create(opened, "of committed", datatype=opened["committed"].id)
    string = h5t.py_create(h5py.string_dtype(), logical=True)
    types = {
        "big": h5t.IEEE_F64BE,
        "bits": h5t.STD_B16LE,
        "string": h5t.py_create(np.dtype("S7")),
        "text": string,
        "opaque": h5t.py_create(np.dtype("V5")),
        "enum": h5t.py_create(h5py.enum_dtype({"A": 1, "longer name": 2}), logical=True),
        "object": h5t.STD_REF_OBJ,
        "region": h5t.STD_REF_DSETREG,
        "compound": h5t.py_create(np.dtype([("a", "<i4"), ("bcdefghij", "<f8", (2,))])),
        "wide": h5t.py_create(np.dtype([(f"member_{i}", "<i4") for i in range(90)])),
        "array": h5t.array_create(h5t.array_create(h5t.STD_I32LE, (3, 2)), (2,)),
        "sequence": h5t.vlen_create(h5t.vlen_create(string)),
        "time": h5t.UNIX_D32LE,
    }
    for name, datatype in types.items():
        create(opened, name, datatype=datatype, shape=(2,))


def make_attributes(opened: h5py.File) -> None:
    for count in (0, 1, 3, 7, 8, 9, 30):
        for kind, settings in (("plain", ()), ("ordered", (ordered,)), ("untracked", ())):
            dataset = create(opened, f"{kind} {count}", *settings)
            group = opened.create_group(f"group {kind} {count}", track_order=kind == "ordered")
            for number in range(count):
                dataset.attrs[f"attribute {number}"] = "x" * 9 * number
                group.attrs[f"attribute {number}"] = number
    for number in range(4):
        del opened["plain 7"].attrs[f"attribute {number}"]
        opened["plain 1"].attrs["attribute 0"] = "y" * 1000 * number


def make_links(opened: h5py.File) -> None:
    for number in range(5):
        opened.create_group(f"a/{number}/b")
        opened[f"a/{number}/again"] = create(opened, f"d{number}")
        opened[f"a/{number}/up"] = opened["a"]
        opened[f"soft {number}"] = h5py.SoftLink("/a")
    many = opened.create_group("many")
    for number in range(50):
        many.create_group(f"{number}", track_order=bool(number % 2))
    opened["d1"].attrs["n"] = 1
    del opened["a/1/again"], opened["a/2"]


MAKERS = {
    "layouts": make_layouts,
    "datatypes": make_datatypes,
    "attributes": make_attributes,
    "links": make_links,
}
# Dense attributes are left to the library.
LEAST_KNOWN = {"attributes": 0.6}


def make_file(path: Path, maker: str, libver: str, user_block: int = 0) -> None:
    with h5py.File(path, "w", libver=(libver, "latest"), userblock_size=user_block) as opened:
        MAKERS[maker](opened)


@pytest.mark.parametrize("user_block", [0, 512, 4096])
@pytest.mark.parametrize("libver", LIBVERS)
@pytest.mark.parametrize("maker", MAKERS)
def test_the_scan_agrees_with_the_library(
    tmp_path: Path, maker: str, libver: str, user_block: int
) -> None:
    path = tmp_path / "f.h5"
    make_file(path, maker, libver, user_block)
    with h5py.File(path) as opened:
        counts = check_file(path, opened)
    assert counts["known"] >= LEAST_KNOWN.get(maker, 0.97) * counts["objects"]
    assert counts["layouts"] == counts["datasets"]
    # Not of the one that is virtual, and the one with a committed datatype.
    assert counts["arrays"] >= counts["datasets"] - (maker in ("layouts", "datatypes"))


def test_the_same_array_stands_once_in_the_table(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as opened:
        for number in range(40):
            opened[f"a{number}"] = np.zeros(3, "i4")
            opened[f"b{number}"] = np.zeros(number % 2, "f8")
        addresses = [h5o.get_info(opened[name].id).addr for name in opened]
    _, scan = scan_file(path, addresses)
    assert len(scan.arrays) == 3
    assert Counter(scan.array_index.tolist()).keys() == {0, 1, 2}


def test_many_objects_in_any_order_and_more_than_once_are_each_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as opened:
        for number in range(300):
            create(opened, f"{number}", early, shape=(number + 1,))
        addresses = [h5o.get_info(opened[f"{number}"].id).addr for number in range(300)]
    numbers = np.random.default_rng(1).integers(0, 300, 5000)
    monkeypatch.setattr("h5fs.store.format.headers.scan.HEADERS_AT_ONCE", 64)
    layout, scan = scan_file(path, [addresses[number] for number in numbers])
    assert (scan.kind == DATASET).all()
    assert (scan.storage_bytes == 4 * (numbers + 1)).all()
    shapes = [read_shape(space, layout) for space, _ in scan.arrays]
    assert [shapes[i] for i in scan.array_index] == [(number + 1,) for number in numbers]


def test_chunks_at_the_edge_without_filters_are_told(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w", libver="latest") as opened:
        for name, are_filtered in (("filtered", True), ("unfiltered", False)):
            create(opened, name, chunked, lambda c: c.set_deflate(4),
                   *(() if are_filtered else (leave_edges_unfiltered,)))  # fmt: skip
        addresses = [h5o.get_info(opened[name].id).addr for name in ("filtered", "unfiltered")]
    layout, scan = scan_file(path, addresses)
    assert (scan.kind == DATASET).all()
    content = path.read_bytes()
    for address, are_whole in zip(addresses, (True, False), strict=True):
        found = read_edges_are_whole(lambda at, n: content[at:][:n], address, layout)
        assert found == are_whole


@pytest.mark.parametrize("libver", ["v108", "latest"])
def test_a_damaged_header_with_a_checksum_is_unknown(tmp_path: Path, libver: str) -> None:
    path = tmp_path / "f.h5"
    make_file(path, "layouts", libver)
    with h5py.File(path) as opened:
        addresses = list(find_objects(opened))
    content = path.read_bytes()
    for address in addresses:
        damaged = bytearray(content)
        damaged[address + 40] ^= 1
        path.write_bytes(damaged)
        _, scan = scan_file(path, addresses)
        assert [a for a, kind in zip(addresses, scan.kind, strict=True) if not kind] == [address]


@pytest.mark.parametrize("libver", LIBVERS)
def test_a_file_that_is_cut_off_has_unknown_objects(tmp_path: Path, libver: str) -> None:
    path = tmp_path / "f.h5"
    make_file(path, "attributes", libver)
    with h5py.File(path) as opened:
        addresses = [*find_objects(opened), 0, 1, 2**62, 2**63, 2**64 - 1]
    layout, whole = scan_file(path, addresses)
    assert (whole.kind[-5:] == UNKNOWN).all()
    size = path.stat().st_size
    for keep in range(size, 96, -max(size // 150, 1)):
        os.truncate(path, keep)
        _, scan = scan_file(path, addresses)
        known = scan.kind != UNKNOWN
        assert (scan.kind[known] == whole.kind[known]).all()
        assert (scan.attribute_count[known] == whole.attribute_count[known]).all()
        assert not known[np.array(addresses, np.float64) + layout.base_offset > keep].any()


_CHUNKED = [
    {"shape": (4,), "chunks": (4,)},
    {"shape": (30,), "chunks": (4,)},
    {"shape": (33,), "chunks": (4,)},  # more chunks than are looked at
    {"shape": (6, 4), "chunks": (3, 2), "compression": "gzip"},
    {"shape": (6, 4, 5), "chunks": (6, 4, 5), "fletcher32": True, "shuffle": True},
    {"shape": (5,) * 6, "chunks": (3, 5, 5, 5, 5, 5), "dtype": "u1", "compression": "lzf"},
    {"shape": (0,), "chunks": (4,), "maxshape": (None,)},
    {"shape": (8,), "chunks": (8,), "scaleoffset": 4},  # a filter that is not everywhere
    {"shape": (2**20,), "chunks": (2**19,), "dtype": "f8"},  # larger chunks than are looked at
]


def test_the_scan_knows_how_much_few_small_chunks_take(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    written = (0.0, 0.5, 1.0)
    with h5py.File(path, "w", libver="earliest", userblock_size=512) as opened:
        for number, settings in enumerate(_CHUNKED):
            for part in written:
                dataset = opened.create_dataset(f"{number} {part}", **{"dtype": "i4", **settings})
                rows = int(part * dataset.shape[0])
                dataset[:rows] = np.arange(dataset[:rows].size).reshape(dataset[:rows].shape)
    with h5py.File(path) as opened:
        counts = check_file(path, opened)
        objects = find_objects(opened)
        _, scan = scan_file(path, list(objects))
        sizes = {h5i.get_name(found): scan.storage_bytes[i]
                 for i, (_, found) in enumerate(objects.values())}  # fmt: skip
    assert counts["datasets"] == len(_CHUNKED) * len(written)
    unknown = {name for name, size in sizes.items() if size == -1} - {b"/"}
    left_out = {b"/%d %.1f" % (number, part) for number in (7, 8) for part in written}
    assert unknown == {b"/2 1.0"} | left_out
    assert all(sizes[b"/%d 1.0" % number] > 0 for number in (0, 1, 3, 4, 5))


def test_no_addresses_and_no_bytes_are_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    make_file(path, "links", "latest")
    _, scan = scan_file(path, [])
    assert scan.kind.size == 0
    assert scan.arrays == ()
    descriptor = os.open(path, os.O_RDONLY)
    os.truncate(path, 0)
    source = LocalFile(descriptor)
    assert read_file_layout(source) is None
    assert scan_headers(source, FileLayout(0, 8, 8), np.array([96], np.uint64)).kind[0] == 0
    os.close(descriptor)


def test_a_descriptor_that_cannot_be_read_has_unknown_objects(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    make_file(path, "links", "latest")
    descriptor = os.open(path, os.O_WRONLY)
    source = LocalFile(descriptor)
    assert read_file_layout(source) is None
    assert scan_headers(source, FileLayout(0, 8, 8), np.array([48], np.uint64)).kind[0] == 0
    os.close(descriptor)


def header_of(*messages: tuple[int, bytes], count: int | None = None) -> bytes:
    """Return a version 1 header."""
    body = b"".join(
        kind.to_bytes(2, "little") + len(data).to_bytes(2, "little") + bytes(4) + data
        for kind, data in messages
    )
    count = len(messages) if count is None else count
    return (
        b"\1\0" + count.to_bytes(2, "little") + b"\1\0\0\0" + len(body).to_bytes(8, "little") + body
    )


def scan_bytes(path: Path, content: bytes, addresses: list[int]) -> HeaderScan:
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        source = LocalFile(descriptor)
        return scan_headers(source, FileLayout(0, 8, 8), np.array(addresses, np.uint64))
    finally:
        os.close(descriptor)


SYMBOL_TABLE = (0x11, bytes(16))


def continuation(address: int, size: int) -> tuple[int, bytes]:
    return 0x10, address.to_bytes(8, "little") + size.to_bytes(8, "little")


@pytest.mark.parametrize(
    ("what", "header"),
    [
        ("a block that leads to itself", header_of(continuation(16, 24))),
        ("a block twice", header_of(continuation(64, 8), continuation(64, 8), count=4)),
        ("a block beyond the end", header_of(SYMBOL_TABLE, continuation(1 << 40, 64))),
        ("a block at no address", header_of(SYMBOL_TABLE, continuation(2**64 - 1, 64))),
        ("a huge block", header_of(SYMBOL_TABLE, continuation(64, 2**64 - 8))),
        ("an unknown message", header_of(SYMBOL_TABLE, (0x40, b""))),
        ("two of a kind", header_of(SYMBOL_TABLE, SYMBOL_TABLE)),
        ("a short message", header_of((0x11, bytes(8)))),
        ("messages without end", header_of(*[(0, b"")] * 5000)),
        ("fewer messages than stated", header_of(SYMBOL_TABLE, count=2)),
        ("a message that runs over", header_of(SYMBOL_TABLE)[:-24] + b"\x11\0\x20\0" + bytes(20)),
    ],
)
def test_what_is_not_right_is_unknown(tmp_path: Path, what: str, header: bytes) -> None:
    assert scan_bytes(tmp_path / "f", header + bytes(256), [0]).kind[0] == UNKNOWN, what


def test_a_header_made_by_hand_is_a_group(tmp_path: Path) -> None:
    scan = scan_bytes(tmp_path / "f", header_of(SYMBOL_TABLE, (0, b"")) + bytes(256), [0])
    assert scan.kind[0] == GROUP
    header = header_of(SYMBOL_TABLE, continuation(128, 8), count=3)
    scan = scan_bytes(tmp_path / "f", header.ljust(512, b"\0"), [0])
    assert scan.kind[0] == GROUP


def test_a_batch_that_does_not_fit_in_memory_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arena, "_ARENA_BYTES", 2048)
    header = header_of(SYMBOL_TABLE).ljust(4096, b"\0")
    scan = scan_bytes(tmp_path / "f", header * 8, [4096 * number for number in range(8)])
    assert scan.kind.tolist() == [GROUP] * 4 + [UNKNOWN] * 4


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"", None),
        (b"Four score and seven years ago", 0x17770551),  # from lookup3.c
    ],
)
def test_checksums_are_those_of_lookup3(data: bytes, checksum: int | None) -> None:
    if checksum is None:
        assert not checksum_blocks(np.zeros(16, np.uint8), *np.zeros((2, 0), np.int64)).size
        return
    buffer = np.frombuffer(data + b"x" * 16, np.uint8)
    assert checksum_blocks(buffer, np.array([0]), np.array([len(data)])).tolist() == [checksum]


@given(st.binary(min_size=1, max_size=60))
@example(b"\x06\x01\x00\x00\x08\x00\x00\x00")
@example(b"\x18\xff\xff\x00\x08\x00\x00\x00" + b"\x10\x08\0\0\x04\0\0\0\0\0 \0")
def test_a_datatype_message_never_ends_beyond_its_bytes(message: bytes) -> None:
    length = measure_datatype(message)
    assert length is None or 8 <= length <= len(message)


def test_an_array_datatype_whose_size_is_not_that_of_its_elements_is_not_plain() -> None:
    base = b"\x10\x08\0\0\x04\0\0\0\0\0\x20\0"
    right = b"\x3a\0\0\0\x18\0\0\0\x02" + b"\x02\0\0\0\x03\0\0\0" + base
    assert measure_datatype(right + bytes(7)) == len(right)
    assert measure_datatype(right.replace(b"\x18", b"\x17")) is None


@st.composite
def damages(draw: st.DrawFn) -> tuple[str, str, list[tuple[float, int]]]:
    places = st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255))
    return (
        draw(st.sampled_from(sorted(MAKERS))),
        draw(st.sampled_from(LIBVERS)),
        draw(st.lists(places, min_size=1, max_size=40)),
    )


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Any]:
    """The bytes of every file, and the addresses of its objects."""
    files = {}
    for maker in MAKERS:
        for libver in LIBVERS:
            path = tmp_path_factory.mktemp("pristine") / "f.h5"
            make_file(path, maker, libver)
            with h5py.File(path) as opened:
                files[maker, libver] = path.read_bytes(), list(find_objects(opened))
    return files


@given(damage=damages())
def test_no_damage_raises_or_hangs(
    tmp_path_factory: pytest.TempPathFactory,
    pristine: dict[tuple[str, str], Any],
    damage: tuple[str, str, list[tuple[float, int]]],
) -> None:
    maker, libver, changes = damage
    content, addresses = pristine[maker, libver]
    damaged = bytearray(content)
    for where, value in changes:
        # Half of them within headers, where they matter.
        place = int(where * 2 * len(damaged))
        if place >= len(damaged):
            place = addresses[place % len(addresses)] + place // len(addresses) % 300
        damaged[min(place, len(damaged) - 1)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.h5"
    scan = scan_bytes(path, bytes(damaged), addresses)
    assert (scan.kind <= DATATYPE).all()
    assert (scan.array_index < len(scan.arrays)).all()
    for _, datatype in scan.arrays:
        assert measure_datatype(datatype) == len(datatype)


@given(st.binary(max_size=2000), st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 2000)))
def test_no_bytes_upset_the_scan(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, addresses: list[int]
) -> None:
    scan_bytes(tmp_path_factory.getbasetemp() / "garbage", content, addresses)


def test_whatever_the_scan_knows_of_the_corpus_is_what_the_library_says(corpus: Path) -> None:
    counts: Counter[str] = Counter()
    failures = []
    for path in sorted(corpus.rglob("*")):
        # The library crashes on some of those.
        if path.name.startswith("cve-") or not path.is_file() or not h5py.is_hdf5(path):
            continue
        try:
            opened = h5py.File(path)
        except OSError:
            continue
        with opened:
            try:
                counts += check_file(path, opened)
            except AssertionError as error:
                failures.append((str(path.relative_to(corpus)), str(error)))
    print(dict(counts))
    assert not failures
    assert counts["objects"] > 5000
    assert counts["known"] > 0.9 * counts["objects"]
