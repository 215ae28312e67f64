"""np.save and its relatives on a mount that writes: the HDF5 file has what h5py would write."""

from __future__ import annotations

import errno
import io
import math
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.lib import format as npy_format
from support.dtypes import SCALARS
from support.mounts import mounted
from support.reference import expected_files, npy_bytes
from support.writing import check_file_opens, make_file, same, unmount, written

NUMBERS = np.arange(24, dtype="<f8").reshape(4, 6)
NESTED = np.dtype(
    [("a", "<i4"), ("in", [("x", "<f8"), ("flag", "?")]), ("grid", "<u2", (2, 3)), ("s", "S5")]
)


def structured(dtype: Any, count: int = 5) -> np.ndarray:
    """Return elements of a structured dtype that all differ."""
    raw = np.arange(count * np.dtype(dtype).itemsize, dtype=np.uint8) % 2
    return raw.view(dtype)


ARRAYS = {
    "int8": np.arange(-3, 4, dtype="i1"),
    "uint64": np.array([0, 2**64 - 1], "<u8"),
    "big-endian": np.arange(6, dtype=">i2").reshape(2, 3),
    "float16": np.array([0.5, np.inf, -0.0, np.nan], "<f2"),
    "big-endian float": np.array([1e300, -2.5], ">f8"),
    "bool": np.array([[True, False], [False, True]]),
    "complex64": np.array([1 + 2j, np.nan * 1j], "<c8"),
    "complex128": np.array([[1 - 2j], [3j]], ">c16"),
    "0-d": np.array(7, "<i8"),
    "0-d bool": np.array(True),
    "0-d text": np.array("größe"),
    "empty": np.zeros((0, 3), "<f4"),
    "empty in the middle": np.zeros((2, 0, 4), "<i2"),
    "empty text": np.zeros((0,), "<U1"),
    "S": np.array([b"abc", b"", b"\xff\x00x"], "S3"),
    "U": np.array(["abc", "", "grün", "\U0001f600!"]),
    "big-endian U": np.array([["x", "yy"], ["zzz", ""]], ">U3"),
    "datetime64": np.array(["2026-01-01T00:00:00.5", "NaT"], "<M8[ms]"),
    "timedelta64": np.array([1, -2], "<m8[s]"),
    "void": np.array([b"ab\0", b"xyz"], "V3"),
    "nested": structured(NESTED),
    "aligned": structured(np.dtype([("a", "i1"), ("b", "<f8")], align=True)),
    "with text": np.array([(1, "eins"), (2, "größer")], [("n", "<i4"), ("t", "<U6")]),
    "with bool and complex": np.array([(True, 1j)], [("b", "?"), ("c", "<c16")]),
    "with dates": np.array([("2020-02-02", 3)], [("d", "<M8[D]"), ("n", "<i8")]),
    "5-d": np.arange(32, dtype="<i4").reshape(2, 2, 2, 2, 2),
    "one": np.zeros((1,), "<f8"),
}


def test_every_array_that_is_saved_reads_the_same_at_once_and_in_h5py(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5")
    with written(file) as mount:
        for name, array in ARRAYS.items():
            np.save(mount.path / f"{name}.npy", array)
            shown = npy_bytes(canonical(array))
            assert (mount.path / f"{name}.npy").read_bytes() == shown, name
            assert (mount.path / f"{name}.npy").stat().st_size == len(shown), name
        assert mount.log_lines() == []
    with h5py.File(file) as opened:
        assert set(opened) == set(ARRAYS)
        for name, array in ARRAYS.items():
            shown = expected_files(opened[name])[".npy"]
            if not array.size and array.dtype.kind == "U":
                assert (shown.shape, shown.dtype.kind) == (array.shape, "U")
            elif array.dtype.kind == "U":
                assert shown.tolist() == array.tolist()
            else:
                assert npy_bytes(shown) == npy_bytes(array), name
    check_file_opens(file)


@pytest.mark.semantics("R3")
def test_new_datasets_have_the_types_that_a_careful_user_of_h5py_would_give(
    tmp_path: Path,
) -> None:
    file = make_file(tmp_path / "f.h5")
    with written(file) as mount:
        for name, array in ARRAYS.items():
            np.save(mount.path / f"{name}.npy", array)
    dates = h5py.opaque_dtype(np.dtype("<M8[D]"))
    structures = {
        "with text": np.dtype([("n", "<i4"), ("t", h5py.string_dtype())]),
        "with dates": np.dtype([("d", dates), ("n", "<i8")]),
    }
    with h5py.File(file) as opened, h5py.File(tmp_path / "expected.h5", "w") as expected:
        for name, array in ARRAYS.items():
            dtype = structures.get(name, array.dtype)
            if dtype.kind == "U":
                dtype = h5py.string_dtype()
            elif dtype.kind in "mM":
                dtype = h5py.opaque_dtype(dtype)
            expected.create_dataset(name, array.shape, dtype)
            ours, theirs = opened[name].id, expected[name].id
            assert ours.get_type().equal(theirs.get_type()), name
            kinds = [each.get_space().get_simple_extent_type() for each in (ours, theirs)]
            assert kinds[0] == kinds[1], name
            assert ours.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS, name


@pytest.mark.semantics("R3")
def test_text_is_variable_length_utf8_and_bool_is_the_boolean_of_h5py(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5")
    with written(file) as mount:
        np.save(mount.path / "text.npy", np.array(["a", "größer"]))
        np.save(mount.path / "flags.npy", np.array([True, False]))
    with h5py.File(file) as opened:
        assert h5py.check_string_dtype(opened["text"].dtype) == ("utf-8", None)
        assert opened["text"].asstr()[()].tolist() == ["a", "größer"]
        assert opened["flags"].dtype == bool
        assert h5py.check_enum_dtype(opened["flags"].dtype) is None
        assert opened["flags"].id.get_type().get_class() == h5py.h5t.ENUM


def save_path(path: Path, array: np.ndarray) -> None:
    np.save(path, array)


def save_file(path: Path, array: np.ndarray) -> None:
    with open(path, "wb") as opened:
        np.save(opened, array)


def save_unbuffered(path: Path, array: np.ndarray) -> None:
    with open(path, "wb", buffering=0) as opened:
        np.save(opened, array)


def save_in_small_writes(path: Path, array: np.ndarray) -> None:
    content = npy_bytes(array)
    with open(path, "wb", buffering=0) as opened:
        for start in range(0, len(content), 7):
            opened.write(content[start : start + 7])


def save_backwards(path: Path, array: np.ndarray) -> None:
    content = npy_bytes(array)
    with open(path, "wb", buffering=0) as opened:
        for start in reversed(range(0, len(content), 100)):
            opened.seek(start)
            opened.write(content[start : start + 100])


def save_by_map(path: Path, array: np.ndarray) -> None:
    mapped = npy_format.open_memmap(path, mode="w+", dtype=array.dtype, shape=array.shape)
    mapped[...] = array
    mapped.flush()


def save_to_descriptor(path: Path, array: np.ndarray) -> None:
    # np.save over a file that is there: no O_TRUNC, but a truncate of what is open.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, npy_bytes(array))
    os.fsync(descriptor)
    os.close(descriptor)


WAYS = [
    save_path, save_file, save_unbuffered, save_in_small_writes, save_backwards, save_by_map,
    save_to_descriptor,
]  # fmt: skip


@pytest.mark.semantics("R2")
def test_arrays_come_in_by_every_way_over_nothing_and_over_others(tmp_path: Path) -> None:
    old = {"like": NUMBERS + 100, "other": np.array([b"old", b"x"])}
    file = make_file(tmp_path / "f.h5")
    with h5py.File(file, "a") as opened:
        for way in WAYS:
            for name, values in old.items():
                opened[f"{way.__name__}/{name}"] = values
    with written(file) as mount:
        for way in WAYS:
            for name in ("like", "other", "new"):
                path = mount.path / way.__name__ / f"{name}.npy"
                way(path, NUMBERS)
                assert path.read_bytes() == npy_bytes(NUMBERS), (way, name)
        assert mount.log_lines() == []
    with h5py.File(file) as opened:
        for way in WAYS:
            assert set(opened[way.__name__]) == {"like", "other", "new"}
            for name in ("like", "other", "new"):
                assert same(opened[way.__name__][name][()], NUMBERS), (way, name)


@pytest.mark.parametrize(
    "array",
    [
        NUMBERS[::2, ::-3], NUMBERS.T, np.asfortranarray(NUMBERS), NUMBERS.T[1:, ::2],
        np.asfortranarray(np.arange(24, dtype="<i2").reshape(2, 3, 4)),
        np.broadcast_to(3.5, (2, 3)),
        np.asfortranarray(np.array([["a", "bb"], ["ccc", "d"], ["", "e"]])),
    ],
)  # fmt: skip
def test_arrays_of_any_order_are_stored_as_the_same_array(shared: Path, array: np.ndarray) -> None:
    path = shared / "order.npy"
    np.save(path, array)
    assert np.array_equal(np.load(path), array)
    assert path.read_bytes() == npy_bytes(np.ascontiguousarray(array))


@pytest.mark.semantics("R3")
def test_fortran_order_replaces_and_is_found_by_h5py(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5", d=np.zeros((4, 6)))
    with written(file) as mount:
        np.save(mount.path / "d.npy", np.asfortranarray(NUMBERS))
        np.save(mount.path / "new.npy", NUMBERS.T)
    with h5py.File(file) as opened:
        assert same(opened["d"][()], NUMBERS)
        assert same(opened["new"][()], NUMBERS.T)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A mount for tests of many examples; its file is checked at the end."""
    file = make_file(tmp_path_factory.mktemp("shared") / "f.h5")
    with mounted(file, options=["--mode", "r+"]) as mount:
        yield mount.path
        assert [line for line in mount.log_lines() if "unexpected" in line] == []
        assert not list(mount.path.glob("*.tmp"))
        expected = {path.name: path.read_bytes() for path in mount.path.iterdir()}
        unmount(mount)
        with h5py.File(file) as opened:
            assert {f"{name}.npy" for name in opened} == set(expected)
            for name, dataset in opened.items():
                assert npy_bytes(expected_files(dataset)[".npy"]) == expected[f"{name}.npy"], name


def canonical(array: np.ndarray) -> np.ndarray:
    """Return an array as HDF5 can hold it: text ends at its first null, as wide as its longest."""
    if array.dtype.kind == "U":
        texts = np.array(array.astype(array.dtype.newbyteorder("=")).tolist(), dtype=str)
        return texts.reshape(array.shape)
    return np.ascontiguousarray(array).reshape(array.shape)


def can_be_text(array: np.ndarray) -> bool:
    """Whether all strings are what HDF5 can hold."""
    if array.dtype.kind != "U":
        return True
    try:
        return not any("\0" in text or text.encode() is None for text in array.ravel().tolist())
    except UnicodeEncodeError:
        return False


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Arrays of any scalar type and shape."""
    dtype = draw(SCALARS)
    shape = draw(npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    if dtype.kind != "V":
        return draw(npst.arrays(dtype, shape))
    size = dtype.itemsize * math.prod(shape)
    return np.frombuffer(draw(st.binary(min_size=size, max_size=size)), dtype).reshape(shape)


@pytest.mark.semantics("R2")
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    array=arrays(),
    way=st.sampled_from(WAYS),
    is_new=st.booleans(),
    order=st.sampled_from("CF"),
)
def test_any_array_reads_as_it_was_saved(
    shared: Path, array: np.ndarray, way: Any, is_new: bool, order: str
) -> None:
    path = shared / "any.npy"
    if is_new:
        path.unlink(missing_ok=True)
    array = np.asarray(array, order=order)
    if way is save_by_map and not array.size:
        way = save_path  # nothing to map
    if not can_be_text(array):
        before = path.read_bytes() if path.exists() else None
        with pytest.raises(OSError, match="Invalid argument"):
            save_file(path, array)
        if before is None:
            path.unlink()  # a new one stays, outside of the HDF5 file
        else:
            assert path.read_bytes() == before
        return
    way(path, array)
    assert path.read_bytes() == npy_bytes(canonical(array))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format_is_read(shared: Path, version: tuple[int, int]) -> None:
    content = io.BytesIO()
    npy_format.write_array(content, NUMBERS, version=version)
    (shared / f"version {version[0]}.npy").write_bytes(content.getvalue())
    assert (shared / f"version {version[0]}.npy").read_bytes() == npy_bytes(NUMBERS)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr':'<f8','fortran_order':False,'shape':(3,)}\n",
        "{'shape': (3,), 'descr': '<f8', 'fortran_order': False, }" + " " * 500 + "\n",
        '{"descr": "<f8", "fortran_order": False, "shape": (3,)}',
        "{'descr': '<d', 'fortran_order': False, 'shape': (3,)}\n",
    ],
)
def test_headers_that_other_programs_write_are_read(shared: Path, header: str) -> None:
    values = np.arange(3.0)
    prefix = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    content = prefix + values.tobytes()
    assert same(np.load(io.BytesIO(content)), values)
    (shared / "header.npy").write_bytes(content)
    assert (shared / "header.npy").read_bytes() == npy_bytes(values)


TEXTS = np.array(["abc", "d", "größer"])


@pytest.mark.parametrize("array", [TEXTS, TEXTS.astype(">U6"), np.asfortranarray(NUMBERS)])
def test_what_is_not_stored_as_it_is_written_can_be_mapped_all_the_same(
    shared: Path, array: np.ndarray
) -> None:
    # What was written stays in place as long as a program has it open.
    path = shared / "mapped.npy"
    path.unlink(missing_ok=True)
    is_fortran_order = not array.flags.c_contiguous
    mapped = npy_format.open_memmap(path, "w+", array.dtype, array.shape, is_fortran_order)
    mapped[...] = array
    mapped.flush()
    assert np.array_equal(mapped, array)
    del mapped
    assert np.array_equal(np.load(path), array)


def test_what_a_program_has_open_stays_as_it_wrote_it_until_it_closes_it(shared: Path) -> None:
    header = b"{'descr':'<f8','fortran_order':False,'shape':(2,3)}\n"
    header = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    first, second = np.zeros((2, 3)), NUMBERS[:2, :3]
    descriptor = os.open(shared / "kept.npy", os.O_RDWR | os.O_CREAT)
    try:
        os.write(descriptor, header + first.tobytes())
        os.fsync(descriptor)
        assert os.fstat(descriptor).st_size == len(header) + first.nbytes
        assert os.pread(descriptor, 1000, 0) == header + first.tobytes()
        os.pwrite(descriptor, second.tobytes(), len(header))
    finally:
        os.close(descriptor)
    assert (shared / "kept.npy").read_bytes() == npy_bytes(np.ascontiguousarray(second))


def test_strings_of_bytes_over_text_are_strings_of_bytes(shared: Path) -> None:
    np.save(shared / "over text.npy", TEXTS)
    np.save(shared / "over text.npy", np.array([b"ab", b"c"]))
    assert same(np.load(shared / "over text.npy"), np.array([b"ab", b"c"]))


def test_a_large_array_is_whole(tmp_path: Path) -> None:
    array = np.random.default_rng(1).integers(0, 2**31, (1500, 1300), dtype="<i4")
    file = make_file(tmp_path / "f.h5")
    with written(file) as mount:
        np.save(mount.path / "plain.npy", array)
        assert same(np.load(mount.path / "plain.npy", mmap_mode="r"), array)
        np.save(mount.path / "plain.npy", array.T)
        assert same(np.load(mount.path / "plain.npy"), array.T)
        np.save(mount.path / "fortran.npy", np.asfortranarray(array))
    with h5py.File(file) as opened:
        assert same(opened["plain"][()], array.T)
        assert same(opened["fortran"][()], array)


@pytest.mark.semantics("R12")
@given(
    st.data(),
    npst.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4),
    st.lists(st.integers(0, 3), max_size=6),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sequences_of_anything_go_round(
    shared: Path, data: st.DataObject, shape: tuple[int, ...], lengths: list[int]
) -> None:
    dtype = data.draw(SCALARS.filter(lambda dtype: dtype.kind in "biufcS" and dtype.itemsize > 0))
    offsets = np.cumsum([0, *lengths]).astype("<i8")
    values = data.draw(npst.arrays(dtype, (int(offsets[-1]), *shape[1:])))
    if data.draw(st.booleans()):
        values = np.asfortranarray(values)
    np.save(shared / "seq.values.npy", values)
    np.save(shared / "seq.offsets.npy", offsets)
    try:
        assert (shared / "seq.values.npy").read_bytes() == npy_bytes(np.ascontiguousarray(values))
        assert (shared / "seq.offsets.npy").read_bytes() == npy_bytes(offsets)
    finally:
        (shared / "seq.values.npy").unlink()
        (shared / "seq.offsets.npy").unlink()


def test_sequences_of_arrays_are_what_h5dump_reads(tmp_path: Path) -> None:
    values = np.arange(70_000 * 6, dtype="<u4").reshape(-1, 2, 3)
    offsets = np.array([0, 1, 1, 4, 69_998, 70_000])
    file = make_file(tmp_path / "f.h5")
    with written(file) as mount:
        np.save(mount.path / "s.values.npy", values)
        np.save(mount.path / "s.offsets.npy", offsets)
    command = ["h5dump", "-w", "0", "-y", "-d", "/s", str(file)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "H5T_VLEN { H5T_ARRAY { [2][3] H5T_STD_U32LE }}" in text
    elements = text.partition("DATA {")[2]
    assert [int(number) for number in re.findall(r"\d+", elements)] == values.ravel().tolist()
    assert elements.count("()") <= 1


@pytest.mark.semantics("R12")
def test_sequences_of_text_are_refused_by_name(tmp_path: Path) -> None:
    with written(make_file(tmp_path / "f.h5")) as mount:
        np.save(mount.path / "s.values.npy", TEXTS)
        with pytest.raises(OSError, match=os.strerror(errno.ENOTSUP)):
            np.save(mount.path / "s.offsets.npy", np.array([0, 3]))
        assert any("s.offsets.npy" in line and "text" in line for line in mount.log_lines())
        for part in ("values", "offsets"):
            (mount.path / f"s.{part}.npy").unlink()
