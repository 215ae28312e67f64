"""Arrays read through real mounts, byte for byte as ``np.save`` writes what h5py reads."""

from __future__ import annotations

import os
import random
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from support.dtypes import compounds
from support.mounts import mounted
from support.reference import npy_bytes, plain_dtype

pytestmark = pytest.mark.filterwarnings(
    "ignore:Stored array in format:UserWarning", "ignore:metadata on a dtype:UserWarning"
)

FIXED_DTYPES = [
    *(np.dtype(f"{order}{kind}") for order in "<>" for kind in "i2 i4 i8 u2 u4 u8".split()),
    *(np.dtype(f"{order}{kind}") for order in "<>" for kind in "f2 f4 f8 c8 c16".split()),
    *map(np.dtype, ["i1", "u1", "?", "S1", "S7", "V5"]),
    np.dtype([("x", ">i2"), ("y", "<f8")]),
    np.dtype([("x", "i1"), ("inner", [("z", "<c8"), ("flags", "?", (3,))]), ("s", "S3")]),
    np.dtype([("a", "i1"), ("b", "<f8"), ("c", "<u2")], align=True),
    np.dtype({"names": ["p", "q"], "formats": ["<i4", "u1"], "offsets": [4, 13], "itemsize": 20}),
    np.dtype([("größe", "<f4"), ("Δ", "<i8", (2, 2))]),
]
SHAPES = [(), (1,), (0,), (37,), (3, 0, 2), (5, 7), (1000,), (40, 31), (4, 5, 6), (2, 3, 2, 3, 4)]
FILTERS: dict[str, dict[str, Any]] = {
    "chunked": {},
    "gzip": {"compression": "gzip"},
    "gzip and shuffle": {"compression": "gzip", "shuffle": True},
    "fletcher32": {"fletcher32": True},
    "lzf": {"compression": "lzf"},
    "all of them": {"compression": "gzip", "shuffle": True, "fletcher32": True},
}
LAYOUTS = ["compact", "contiguous", *FILTERS]


def fill(dtype: np.dtype[Any], shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    """Return an array of random bytes that are values of the dtype (padding is zero)."""
    values = np.random.default_rng(seed)
    array = np.zeros(shape, dtype)
    if dtype.names is not None:
        for name in dtype.names:
            base, *_ = dtype.fields[name]  # type: ignore[index]
            array[name] = fill(base.base, shape + base.shape, seed + 1)
    elif dtype.kind == "b":
        array[...] = values.integers(0, 2, shape)
    elif dtype.kind in "fc":
        array[...] = values.standard_normal(shape)
    else:
        raw = values.integers(0, 256, prod(shape) * dtype.itemsize, "u1")
        array = np.ndarray(shape, dtype, raw.tobytes()) if raw.size else array
    return array


def write(file: h5py.File, name: str, array: np.ndarray[Any, Any], layout: str) -> None:
    """Write an array in a layout; one that its shape cannot have becomes contiguous."""
    shape = array.shape
    if layout == "compact" and array.nbytes < 60_000:
        creation = h5p.create(h5p.DATASET_CREATE)
        creation.set_layout(h5d.COMPACT)
        kind = h5t.py_create(array.dtype, logical=True)
        space = h5s.create_simple(shape) if shape else h5s.create(h5s.SCALAR)
        made = h5py.Dataset(h5d.create(file.id, name.encode(), kind, space, creation))
        made[...] = array
    elif layout in FILTERS and shape:
        # Chunks that do not divide the shape, and room to grow.
        chunks = tuple(max(1, min(n, 1 + n * 2 // 3)) for n in shape)
        file.create_dataset(
            name, data=array, chunks=chunks, maxshape=(None,) * len(shape), **FILTERS[layout]
        )
    else:
        file.create_dataset(name, data=array)


def expected_bytes(dataset: h5py.Dataset) -> bytes:
    """Return what np.save writes for what h5py reads (whose scalars lose their byte order)."""
    array, dtype = np.asarray(dataset[()]), plain_dtype(dataset.dtype)
    # A copy would not have the padding that h5py read.
    return npy_bytes(array if array.dtype == dtype else array.astype(dtype))


@dataclass(frozen=True, repr=False)
class Sample:
    """A mount, and what each of its files must hold."""

    path: Path
    log: Path
    expected: dict[str, bytes]

    def __repr__(self) -> str:
        return f"a mount at {self.path}"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    """Every dtype in every shape, every layout among them, and some larger arrays."""
    file = tmp_path_factory.mktemp("reading") / "f.h5"
    choose = random.Random(7)
    with h5py.File(file, "w") as opened:
        for number, dtype in enumerate(FIXED_DTYPES):
            for shape in SHAPES:
                layout = LAYOUTS[(number + SHAPES.index(shape)) % len(LAYOUTS)]
                array = fill(dtype, shape, choose.randrange(2**30))
                write(opened, f"{number} {dtype.str[:8]} {shape} {layout}", array, layout)
        large = fill(np.dtype("<f4"), (300, 40, 50), 1)
        for layout in LAYOUTS:
            write(opened, f"large {layout}", large, layout)
        opened.create_dataset("half empty", (5000,), ">i4", chunks=(64,), fillvalue=7)[64:200] = 1
        opened.create_dataset("never written", (5000,), "<f8", fillvalue=np.nan)
        expected = {name: expected_bytes(opened[name]) for name in opened}
    with mounted(file) as mount:
        yield Sample(mount.path, mount.log, expected)


@pytest.mark.semantics("D1", "D3", "D4", "D5", "S1")
def test_every_dtype_shape_and_layout_is_what_np_save_writes(sample: Sample) -> None:
    wrong = []
    for name, expected in sample.expected.items():
        file = sample.path / f"{name}.npy"
        if file.stat().st_size != len(expected) or file.read_bytes() != expected:
            wrong.append(name)
    assert not wrong
    assert len(sample.expected) > 300


@pytest.mark.semantics("D1", "D2")
@given(st.data())
@settings(max_examples=500)
def test_any_range_of_any_file_is_that_range_of_the_whole(
    sample: Sample, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(sample.expected)))
    expected = sample.expected[name]
    places = st.one_of(
        st.integers(0, 200), st.integers(0, len(expected) + 10), st.just(len(expected) - 1)
    )
    offset = data.draw(places)
    size = data.draw(st.one_of(st.integers(0, 300), st.integers(0, len(expected) + 10)))
    descriptor = os.open(sample.path / f"{name}.npy", os.O_RDONLY)
    try:
        # Past the page cache now and then, so that the daemon itself gets odd ranges.
        if data.draw(st.booleans()):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        if data.draw(st.booleans()):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        is_right = os.pread(descriptor, size, offset) == expected[offset : offset + size]
    finally:
        os.close(descriptor)
    assert is_right, (name, offset, size)


ANY_DTYPE = st.one_of(
    npst.boolean_dtypes(),
    npst.integer_dtypes(endianness="?"),
    npst.unsigned_integer_dtypes(endianness="?"),
    npst.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    npst.complex_number_dtypes(endianness="?", sizes=(64, 128)),
    npst.byte_string_dtypes(min_len=1, max_len=20),
)


@st.composite
def files(draw: st.DrawFn) -> list[tuple[np.dtype[Any], tuple[int, ...], str, int]]:
    count = draw(st.integers(5, 20))
    dtypes = st.one_of(ANY_DTYPE, compounds(ANY_DTYPE), compounds(compounds(ANY_DTYPE)))
    shapes = npst.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=6)
    return [
        (draw(dtypes), draw(shapes), draw(st.sampled_from(LAYOUTS)), draw(st.integers(0, 2**30)))
        for _ in range(count)
    ]


@pytest.mark.semantics("D1", "D3")
@given(files())
@settings(max_examples=8)
def test_arrays_of_any_kind_are_what_np_save_writes(
    tmp_path_factory: pytest.TempPathFactory,
    datasets: list[tuple[np.dtype[Any], tuple[int, ...], str, int]],
) -> None:
    file = tmp_path_factory.mktemp("any") / "f.h5"
    with h5py.File(file, "w") as opened:
        for number, (dtype, shape, layout, seed) in enumerate(datasets):
            write(opened, str(number), fill(dtype, shape, seed), layout)
        expected = {name: expected_bytes(opened[name]) for name in opened}
    with mounted(file) as mount:
        for name, content in expected.items():
            is_right = (mount.path / f"{name}.npy").read_bytes() == content
            assert is_right, datasets[int(name)]


# What programs do


@pytest.mark.semantics("D1")
def test_np_load_reads_and_maps_an_array(sample: Sample) -> None:
    file = sample.path / "large gzip.npy"
    whole = np.load(file)
    mapped = np.load(file, mmap_mode="r")
    assert npy_bytes(whole) == sample.expected["large gzip"]
    for index in (
        np.s_[250:, ::7, -1], np.s_[[3, 299, 0], 5], np.s_[::-1, 0, 0], np.s_[..., 49],
        whole > 3.0, np.s_[299, 39, 49],
    ):  # fmt: skip
        assert np.array_equal(mapped[index], whole[index])


@pytest.mark.parametrize("offset", [0, 1, 127, 128, 129, 4095, 4096, 131072, 239_999, 240_128])
def test_dd_head_and_tail_cut_at_every_boundary(sample: Sample, offset: int) -> None:
    file, expected = sample.path / "large lzf.npy", sample.expected["large lzf"]

    def run(*command: str | Path) -> bytes:
        return subprocess.run(command, capture_output=True, check=True, timeout=240).stdout

    options = ["bs=4099", "iflag=skip_bytes,count_bytes", f"skip={offset}", "count=5000"]
    assert run("dd", f"if={file}", "status=none", *options) == expected[offset : offset + 5000]
    assert run("head", "-c", str(offset), file) == expected[:offset]
    assert run("tail", "-c", str(offset), file) == expected[len(expected) - offset :]
    assert run("tail", "-c", f"+{offset + 1}", file) == expected[offset:]


def test_many_readers_at_once_get_the_right_bytes(sample: Sample) -> None:
    names = sorted(sample.expected)
    wrong: list[str] = []

    def read_some(seed: int) -> None:
        choose = random.Random(seed)
        for _ in range(60):
            name = choose.choice(names)
            expected = sample.expected[name]
            offset, size = choose.randrange(len(expected)), choose.randrange(50_000)
            with (sample.path / f"{name}.npy").open("rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                if os.pread(file.fileno(), size, offset) != expected[offset : offset + size]:
                    wrong.append(name)

    threads = [threading.Thread(target=read_some, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_reading_what_is_right_logs_nothing(sample: Sample) -> None:
    assert sample.log.read_text() == ""


# Costs


def resident_peak_kib(pid: int) -> int:
    """Return the most memory that a process has had resident, in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


@pytest.mark.semantics("D2", "S2")
def test_a_terabyte_costs_what_is_read_of_it(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        huge = opened.create_dataset("huge", (2**18, 2**19), "<f8", chunks=(2**8, 2**8))
        huge[-1, -1] = 42
        shape = huge.shape
    with mounted(tmp_path / "f.h5") as mount:
        before = resident_peak_kib(mount.pid)
        array = np.load(mount.path / "huge.npy", mmap_mode="r")
        assert array.shape == shape
        assert array[-1, -1] == 42
        assert array[2**17, 2**10] == 0
        assert (mount.path / "huge.npy").stat().st_size == prod(shape) * 8 + 128
        assert resident_peak_kib(mount.pid) - before < 128 * 2**10
        del array  # a mapping keeps the mount in use


@pytest.mark.semantics("D2")
def test_memory_is_bounded_however_much_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened.create_dataset("zeros", (2**28,), "u1", chunks=(2**20,))
    with mounted(tmp_path / "f.h5") as mount:
        before = resident_peak_kib(mount.pid)
        with (mount.path / "zeros.npy").open("rb") as file:
            while file.read(2**22):
                pass
        assert resident_peak_kib(mount.pid) - before < 128 * 2**10


# Types, one by one


def create(file: h5py.File, name: str, type_id: Any, shape: tuple[int, ...]) -> Any:
    space = h5s.create_simple(shape) if shape else h5s.create(h5s.SCALAR)
    return h5d.create(file.id, name.encode(), type_id, space)


def check(file: Path, expected: dict[str, np.ndarray[Any, Any]]) -> None:
    """Mount a file and compare its ``.npy`` files with what np.save writes of these arrays."""
    with mounted(file) as mount:
        shown = {str(path.relative_to(mount.path)) for path in mount.path.rglob("*.npy")}
        assert shown == set(expected)
        for name, array in expected.items():
            content = (mount.path / name).read_bytes()
            assert content == npy_bytes(array), name
            assert (mount.path / name).stat().st_size == len(content)
            # Every part on its own too: an element's place must not depend on what is read first.
            with (mount.path / name).open("rb", buffering=0) as opened:
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
                for offset in range(0, len(content), max(1, len(content) // 20)):
                    assert os.pread(opened.fileno(), 33, offset) == content[offset : offset + 33]


def texts(values: Any) -> np.ndarray[Any, Any]:
    """Return strings as one array, as wide as the longest, at least 1."""
    width = max([1, *(len(value) for value in np.ravel(np.array(values, object)).tolist())])
    return np.array(values, f"<U{width}")


@pytest.mark.semantics("D3")
def test_enums_are_integers_and_h5pys_own_are_booleans(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        colours = h5py.enum_dtype({"RED": 0, "GREEN": 300}, basetype=">i2")
        opened.create_dataset("colours", data=[0, 300, 0], dtype=colours)
        opened["flags"] = [True, False]
        own = h5t.enum_create(h5t.STD_I8LE)
        own.enum_insert(b"FALSE", 0)
        own.enum_insert(b"TRUE", 2)
        create(opened, "no boolean", own, (2,)).write(
            h5s.ALL, h5s.ALL, np.array([0, 2], "i1"), mtype=own
        )
    check(
        tmp_path / "f.h5",
        {
            "colours.npy": np.array([0, 300, 0], ">i2"),
            "flags.npy": np.array([True, False]),
            "no boolean.npy": np.array([0, 2], "i1"),
        },
    )


@pytest.mark.semantics("D3")
def test_datetimes_are_those_of_h5pys_opaque_types(tmp_path: Path) -> None:
    times = np.array(["2020-01-02T03:04:05", "NaT"], "M8[s]")
    spans = np.array([1, -5], "m8[ns]")
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["times"] = times.astype(h5py.opaque_dtype(times.dtype))
        opened["spans"] = spans.astype(h5py.opaque_dtype(spans.dtype))
        opened["void"] = np.array([b"\1\0\2", b"\0\0\0"], "V3")
    expected = {
        "times.npy": times, "spans.npy": spans, "void.npy": np.array([b"\1\0\2", b"\0\0\0"], "V3"),
    }  # fmt: skip
    check(tmp_path / "f.h5", expected)


@pytest.mark.semantics("D3")
@pytest.mark.skipif(not hasattr(h5t, "COMPLEX"), reason="this HDF5 has no complex class")
def test_complex_numbers_of_hdf5s_own_class_are_complex(tmp_path: Path) -> None:
    numbers = np.array([1 + 2j, -3j], "<c16")
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        own = h5t.complex_create(h5t.IEEE_F64LE) if hasattr(h5t, "complex_create") else None
        own = own or getattr(h5t, "COMPLEX_IEEE_F64LE", None)
        if own is None:
            pytest.skip("this h5py cannot make HDF5's complex type")
        create(opened, "own", own, (2,)).write(h5s.ALL, h5s.ALL, numbers, mtype=own)
        opened["compound"] = numbers
        assert opened["own"].dtype == numbers.dtype
    check(tmp_path / "f.h5", {"own.npy": numbers, "compound.npy": numbers})


@pytest.mark.semantics("D3")
def test_floats_that_h5py_widens_are_what_h5py_reads(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        small = h5t.IEEE_F16LE.copy()
        small.set_fields(15, 7, 8, 0, 7)
        small.set_ebias(127)  # bfloat16
        values = np.array([1.0, -2.5, 3e38, np.inf], "<f4")
        create(opened, "bfloat16", small, (4,)).write(h5s.ALL, h5s.ALL, values)
        array = opened["bfloat16"][()]
        storage = opened["bfloat16"].id.get_storage_size()
    assert array.nbytes > storage
    check(tmp_path / "f.h5", {"bfloat16.npy": array})


@pytest.mark.semantics("D4")
def test_members_out_of_order_come_in_the_order_of_their_offsets(tmp_path: Path) -> None:
    dtype = np.dtype(
        {"names": ["late", "early"], "formats": ["<i4", "<f8"], "offsets": [12, 0], "itemsize": 20}
    )
    ordered = np.dtype(
        {"names": ["early", "late"], "formats": ["<f8", "<i4"], "offsets": [0, 12], "itemsize": 20}
    )
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        dataset = opened.create_dataset("d", (3,), dtype)
        rows = np.zeros(3, dtype)
        rows["late"], rows["early"] = [1, 2, 3], [0.5, 1.5, 2.5]
        dataset[...] = rows
    expected = np.zeros(3, ordered)
    expected["late"], expected["early"] = [1, 2, 3], [0.5, 1.5, 2.5]
    check(tmp_path / "f.h5", {"d.npy": expected})


@pytest.mark.semantics("D5")
def test_dimensions_of_array_types_trail_those_of_the_dataset(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened.create_dataset("d", (4,), np.dtype(("<i4", (2, 3))))
        opened["d"][...] = numbers = np.arange(24, dtype="<i4").reshape(4, 2, 3)
        nested = h5t.array_create(h5t.array_create(h5t.STD_I16BE, (3,)), (2,))
        values = np.arange(12, dtype=">i2").reshape(2, 2, 3)
        create(opened, "nested", nested, (2,)).write(h5s.ALL, h5s.ALL, values, mtype=nested)
    check(tmp_path / "f.h5", {"d.npy": numbers, "nested.npy": values})


@pytest.mark.semantics("D6")
def test_a_bitfield_is_the_unsigned_integer_of_its_bits(tmp_path: Path) -> None:
    kinds = {
        "b8": (h5t.STD_B8LE, "u1"), "b16": (h5t.STD_B16LE, "<u2"), "b32": (h5t.STD_B32BE, ">u4"),
        "b64": (h5t.STD_B64LE, "<u8"),
    }  # fmt: skip
    expected = {}
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        for name, (type_id, dtype) in kinds.items():
            values = fill(np.dtype(dtype), (5,), 3)
            create(opened, name, type_id, (5,)).write(h5s.ALL, h5s.ALL, values, mtype=type_id)
            expected[f"{name}.npy"] = values
    check(tmp_path / "f.h5", expected)


@pytest.mark.semantics("D7")
def test_a_null_dataspace_is_an_array_of_length_0(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["d"] = h5py.Empty(">f4")
        opened["s"] = h5py.Empty(h5py.string_dtype())
    expected = {"d.npy": np.zeros(0, ">f4"), "s.npy": np.zeros(0, "<U1")}
    check(tmp_path / "f.h5", expected)


STRINGS: dict[str, list[Any]] = {
    "plain": ["a", "", "longest of all", "é€😀"],
    "empty": ["", ""],
    "none": [],
    "many": [str(number) for number in range(10_000)],
    "2d": [["a", "bb"], ["ccc", ""]],
}


@pytest.mark.semantics("D8", "D12", "D14")
def test_variable_length_strings_are_as_wide_as_the_longest(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        for name, values in STRINGS.items():
            shape = np.array(values, object).shape
            opened.create_dataset(name, shape, h5py.string_dtype(), data=values or None)
        opened.create_dataset("scalar", data="only one", dtype=h5py.string_dtype())
        opened.create_dataset("unwritten", (3,), h5py.string_dtype())
        opened.create_dataset("ascii", data=["x", "yy"], dtype=h5py.string_dtype("ascii"))
        opened.create_dataset("latin", data=[b"caf\xe9", b"x"], dtype=h5py.string_dtype())
    expected = {f"{name}.npy": texts(values) for name, values in STRINGS.items()}
    expected |= {
        "scalar.npy": np.array("only one"),
        "unwritten.npy": texts(["", "", ""]),
        "ascii.npy": texts(["x", "yy"]),
        "latin.npy": np.array([b"caf\xe9", b"x"]),
    }
    check(tmp_path / "f.h5", expected)


@pytest.mark.semantics("D9")
def test_references_are_the_paths_of_their_targets(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["g/x"] = np.zeros((6, 8))
        opened["points"] = np.zeros((6, 8))
        objects = opened.create_dataset("objects", (4,), h5py.ref_dtype)
        objects[:3] = [opened["g/x"].ref, opened["g"].ref, opened["/"].ref]
        regions = opened.create_dataset("regions", (4,), h5py.regionref_dtype)
        regions[0] = opened["g/x"].regionref[0:2, 3:5]
        regions[1] = opened["g/x"].regionref[...]
        space = opened["points"].id.get_space()
        space.select_elements(np.array([[1, 2], [5, 7]]))
        regions[2] = h5py.h5r.create(opened["points"].id, b".", h5py.h5r.DATASET_REGION, space)
    zeros = np.zeros((6, 8))
    check(
        tmp_path / "f.h5",
        {
            "g/x.npy": zeros,
            "points.npy": zeros,
            "objects.npy": texts(["/g/x", "/g", "/", ""]),
            "regions.npy": texts(["/g/x[0:2,3:5]", "/g/x[...]", "/points{1,2;5,7}", ""]),
        },
    )


@pytest.mark.semantics("D10")
@pytest.mark.parametrize("count", [0, 1, 5, 9000])
def test_sequences_are_values_and_offsets(tmp_path: Path, count: int) -> None:
    choose = np.random.default_rng(5)
    rows = [np.arange(n, dtype=">i4") for n in choose.integers(0, 6, count)]
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        dataset = opened.create_dataset("d", (count,), h5py.vlen_dtype(np.dtype(">i4")))
        dataset.attrs["units"] = "m"
        for index, row in enumerate(rows):
            if len(row):
                dataset[index] = row
    offsets = np.cumsum([0, *map(len, rows)], dtype="<i8")
    values = np.concatenate([np.zeros(0, ">i4"), *rows]).astype(">i4")
    check(tmp_path / "f.h5", {"d.values.npy": values, "d.offsets.npy": offsets})


@pytest.mark.semantics("D10")
def test_sequences_of_strings_are_values_of_one_width(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        inner = h5t.py_create(h5py.string_dtype(), logical=True)
        create(opened, "d", h5t.vlen_create(inner), (3,))
        rows = [["a", "long one"], [], ["é"]]
        for index, row in enumerate(rows):
            opened["d"][index] = np.array(row, object)
    check(
        tmp_path / "f.h5",
        {
            "d.values.npy": texts(["a", "long one", "é"]),
            "d.offsets.npy": np.array([0, 2, 2, 3], "<i8"),
        },
    )


@pytest.mark.semantics("D11")
def test_a_compound_with_variable_members_is_packed_with_pairs(tmp_path: Path) -> None:
    dtype = np.dtype([("n", "i1"), ("name", h5py.string_dtype()), ("row", h5py.vlen_dtype("<f4"))])
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        rows = np.zeros(2, dtype)
        rows[0] = (1, "first", np.array([1.5], "f4"))
        rows[1] = (2, "é", np.array([2.5, 3.5, 4.5], "f4"))
        opened.create_dataset("d", data=rows, dtype=dtype)
    pair = np.dtype([("length", "<i8"), ("values", "<f4", (3,))])
    expected = np.zeros(2, [("n", "i1"), ("name", "<U5"), ("row", pair)])
    expected[0] = (1, "first", (1, [1.5, 0, 0]))
    expected[1] = (2, "é", (3, [2.5, 3.5, 4.5]))
    check(tmp_path / "f.h5", {"d.npy": expected})


@pytest.mark.semantics("D14")
def test_no_array_of_any_type_needs_pickle(sample: Sample) -> None:
    for name in sample.expected:
        np.load(sample.path / f"{name}.npy", allow_pickle=False)
