"""Scale-offset filters that do not give back all that they take: nothing is lost behind them."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5z
from support.reference import npy_bytes
from support.trees import read, save, writable_tree

from h5fs.errors import InvalidArrayError

Array = np.ndarray[Any, Any]

_SMALL = np.arange(10) % 8
_BYTES = (np.arange(10) % 7 + 1).astype("u1")
_FLOATS = np.arange(10) / 7 + 1


def _with(array: Array, place: int, value: float) -> Array:
    changed = array.copy()
    changed[place] = value
    return changed


# What the dataset has, how it is made, what its filter does not hold.
KINDS: dict[str, tuple[Array, dict[str, Any], Array]] = {
    "far apart": (_SMALL, {"scaleoffset": 4}, np.arange(10) * 1000),
    "the code of the fill value": (_SMALL, {"scaleoffset": 4, "fillvalue": -1},
                                   _with(_SMALL, 1, 15)),
    "one in the last chunk": (_BYTES, {"scaleoffset": 3, "compression": "gzip"},
                              _with(_BYTES, 9, 200)),
    "big-endian": (_SMALL.astype(">i4"), {"scaleoffset": 4}, _with(_SMALL.astype(">i4"), 3, -99)),
    "not a number": (_FLOATS, {"scaleoffset": 2, "fillvalue": np.nan}, _with(_FLOATS, 2, np.nan)),
    # h5py cannot read what the filter makes of that one.
    "begins with NaN": (_FLOATS.astype("f4"), {"scaleoffset": 2},
                        _with(_FLOATS.astype("f4"), 4, np.nan)),
    "digits beside large numbers": (_FLOATS.astype("f4"), {"scaleoffset": 4},
                                    _with(_FLOATS.astype("f4"), 2, -1e5)),
}  # fmt: skip


def make(file: Path, kind: str) -> None:
    data, how, _ = KINDS[kind]
    with h5py.File(file, "w") as opened:
        made = opened.create_dataset("d", data=data, chunks=(4,), maxshape=(None,), **how)
        made.attrs["a"] = 1


def has_scale_offset(file: Path) -> bool:
    with h5py.File(file) as opened:
        creation = opened["d"].id.get_create_plist()
        codes = [creation.get_filter(index)[0] for index in range(creation.get_nfilters())]
        assert opened["d"].attrs["a"] == 1
        assert opened["d"].maxshape == (None,)
        assert (h5z.FILTER_DEFLATE in codes) is (opened["d"].compression == "gzip")
        return h5z.FILTER_SCALEOFFSET in codes


def shown_by_h5py(file: Path) -> Array:
    with h5py.File(file) as opened:
        values: Array = opened["d"][()]
        return values


def check_alike(file: Path, expected: Array) -> None:
    found, digits = shown_by_h5py(file), 0.01 if expected.dtype.kind == "f" else 0
    assert found.dtype == expected.dtype
    assert np.allclose(found, expected, rtol=0, atol=digits), found


@pytest.mark.semantics("R4")
@pytest.mark.parametrize("is_read", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_an_array_that_the_filter_does_not_hold_is_stored_without_it(
    tmp_path: Path, kind: str, is_read: bool, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "f.h5"
    make(file, kind)
    data, _, beyond = KINDS[kind]
    with writable_tree(file) as tree:
        save(tree, b"/d.npy", npy_bytes(data[::-1].copy()))
    check_alike(file, data[::-1])
    assert has_scale_offset(file)
    with writable_tree(file) as tree:
        reader = tree.open(b"/d.npy", os.O_RDONLY, 1) if is_read else None
        save(tree, b"/d.npy", npy_bytes(beyond))
        assert read(tree, b"/d.npy") == npy_bytes(beyond)
        if reader is not None:
            tree.release(reader)
    assert npy_bytes(shown_by_h5py(file)) == npy_bytes(beyond)
    assert not has_scale_offset(file)
    assert [record.getMessage() for record in caplog.records] == [
        "/d: the lossy filter is left out, which cannot hold the array that was written"
    ]


@pytest.mark.semantics("R6")
@pytest.mark.parametrize("kind", KINDS)
def test_elements_that_the_filter_does_not_hold_are_not_written_in_place(
    tmp_path: Path, kind: str
) -> None:
    file = tmp_path / "f.h5"
    make(file, kind)
    data, _, beyond = KINDS[kind]
    start = len(npy_bytes(data)) - data.nbytes
    with writable_tree(file) as tree:
        before = read(tree, b"/d.npy")
        handle = tree.open(b"/d.npy", os.O_RDWR, 1)
        with pytest.raises(InvalidArrayError, match="/d: its lossy filter cannot hold"):
            tree.write(handle, memoryview(beyond.tobytes()), start)
        assert read(tree, b"/d.npy") == before
        tree.write(handle, memoryview(data[::-1].tobytes()), start)
        tree.flush(handle, 1)
        tree.release(handle)
    check_alike(file, data[::-1])
    assert has_scale_offset(file)


@pytest.mark.semantics("R6")
def test_what_a_chunk_keeps_is_not_changed_by_what_is_written_beside_it(tmp_path: Path) -> None:
    file, data = tmp_path / "f.h5", np.arange(24).reshape(4, 6) % 8
    with h5py.File(file, "w") as opened:
        opened.create_dataset("d", data=data, chunks=(2, 4), scaleoffset=4)
    expected = data.copy()
    with writable_tree(file) as tree:
        start = len(npy_bytes(data)) - data.nbytes
        handle = tree.open(b"/d.npy", os.O_RDWR, 1)
        with pytest.raises(InvalidArrayError):  # holds 1000 alone, not beside 1
            tree.write(handle, memoryview(np.array([1000]).tobytes()), start)
        # Chunks that get other numbers as a whole, a part of them at a time in one write.
        expected.flat[:12] += 1000
        tree.write(handle, memoryview(expected.tobytes())[: 12 * 8], start)
        expected.flat[13:16] = 7, 6, 5
        tree.write(handle, memoryview(expected.tobytes())[13 * 8 : 16 * 8], start + 13 * 8)
        tree.flush(handle, 1)
        tree.release(handle)
        assert read(tree, b"/d.npy") == npy_bytes(expected)
    with h5py.File(file) as opened:
        assert (opened["d"][()] == expected).all()


@pytest.mark.semantics("R4")
def test_infinity_is_kept(tmp_path: Path) -> None:
    file, array = tmp_path / "f.h5", _FLOATS.copy()
    array[[1, 4]] = np.inf, -np.inf
    with h5py.File(file, "w") as opened:
        opened.create_dataset("d", data=_FLOATS, chunks=(4,), scaleoffset=2)
    with writable_tree(file) as tree:
        save(tree, b"/d.npy", npy_bytes(array))
    found, is_finite = shown_by_h5py(file), np.isfinite(array)
    assert (found[~is_finite] == array[~is_finite]).all()
    assert np.abs(found[is_finite] - array[is_finite]).max() < 0.01


@pytest.mark.semantics("R6")
def test_a_chunk_that_cannot_be_read_is_written_as_a_whole(tmp_path: Path) -> None:
    file, data = tmp_path / "f.h5", _with(_FLOATS, 0, np.nan).astype("f4")
    with h5py.File(file, "w") as opened:
        opened.create_dataset("d", data=data, chunks=(4,), scaleoffset=2)
    with h5py.File(file) as opened, pytest.raises(OSError, match="filter returned failure"):
        opened["d"][:4]
    data[:4] = 1, 2, 3, 4
    with writable_tree(file) as tree:
        start = len(npy_bytes(data)) - data.nbytes
        handle = tree.open(b"/d.npy", os.O_RDWR, 1)
        tree.write(handle, memoryview(data.tobytes())[: 4 * 4], start)
        tree.release(handle)
    assert np.abs(shown_by_h5py(file) - data).max() < 0.01


@pytest.mark.semantics("R7")
@pytest.mark.parametrize("value", [5, 1000])
def test_rows_are_appended_behind_the_filter_where_it_holds_them(
    tmp_path: Path, value: int
) -> None:
    file = tmp_path / "f.h5"
    make(file, "far apart")
    longer = np.concatenate([_SMALL, np.full(7, value)])
    with h5py.File(file) as opened:
        address = h5py.h5o.get_info(opened["d"].id).addr
    with writable_tree(file) as tree:
        handle, content = tree.open(b"/d.npy", os.O_RDWR, 1), npy_bytes(longer)
        tree.write(handle, memoryview(content)[:128], 0)
        tree.write(handle, memoryview(content)[-7 * 8 :], len(content) - 7 * 8)
        tree.flush(handle, 1)
        tree.release(handle)
        assert read(tree, b"/d.npy") == content
    with h5py.File(file) as opened:
        assert (opened["d"][()] == longer).all()
        assert (h5py.h5o.get_info(opened["d"].id).addr == address) is (value == 5)
    assert has_scale_offset(file) is (value == 5)


@pytest.mark.semantics("R4")
@pytest.mark.parametrize("is_fortran_order", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_written_over_such_a_dataset_is_read_again(
    tmp_path: Path, seed: int, is_fortran_order: bool
) -> None:
    random, file = np.random.default_rng(seed), tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        for number in range(12):
            dtype = np.dtype(random.choice(["i1", "u2", "i4", ">i8", "u8"]))
            bits = int(random.integers(1, 7))
            fill = int(random.integers(0, 100)) if number % 2 else None
            opened.create_dataset(
                str(number), (7, 9), dtype, chunks=(3, 4), scaleoffset=bits, fillvalue=fill
            )
        arrays = {
            # About half of them do not fit.
            name: random.integers(0, 2 ** min(made.scaleoffset + number % 2, 7), (7, 9)).astype(
                made.dtype, order="F" if is_fortran_order else "C"
            )
            for number, (name, made) in enumerate(opened.items())
        }
    with writable_tree(file) as tree:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array)
            save(tree, f"/{name}.npy".encode(), content.getvalue())
    with h5py.File(file) as opened:
        for name, array in arrays.items():
            assert (opened[name][()] == array).all(), name


@pytest.mark.semantics("R6")
@pytest.mark.parametrize("seed", range(3))
def test_parts_of_arrays_of_three_dimensions_are_written_or_refused(
    tmp_path: Path, seed: int
) -> None:
    random, file = np.random.default_rng(seed), tmp_path / "f.h5"
    expected = random.integers(0, 10, (5, 7, 6)).astype("<i2")
    with h5py.File(file, "w") as opened:
        opened.create_dataset("d", data=expected, chunks=(2, 3, 4), scaleoffset=4)
    flat, refused = expected.reshape(-1), 0
    with writable_tree(file) as tree:
        head = len(npy_bytes(expected)) - expected.nbytes
        handle = tree.open(b"/d.npy", os.O_RDWR, 1)
        for _ in range(60):
            start, stop = sorted(random.choice(flat.size + 1, 2, replace=False))
            part = random.integers(0, random.choice([10, 12, 16, 40]), stop - start).astype("<i2")
            try:
                tree.write(handle, memoryview(part.tobytes()), head + 2 * int(start))
            except InvalidArrayError:
                refused += 1
            else:
                flat[start:stop] = part
            assert read(tree, b"/d.npy") == npy_bytes(expected)
        tree.release(handle)
    assert 5 < refused < 55
    assert (shown_by_h5py(file) == expected).all()


hdf5plugin = pytest.importorskip("hdf5plugin")

_PLANE = (np.arange(64).reshape(8, 8) / 7 + 1).astype("f4")
LOSSY = {
    "zfp, accuracy": (_PLANE, hdf5plugin.Zfp(accuracy=0.01)),
    "zfp, rate": (_PLANE.astype("f8"), hdf5plugin.Zfp(rate=12)),
    "zfp, reversible": (_PLANE, hdf5plugin.Zfp(reversible=True)),
    "zfp of integers": (np.arange(64).reshape(8, 8), hdf5plugin.Zfp(rate=8)),
    "sz": (_PLANE, hdf5plugin.SZ(absolute=0.001)),
}


def _unlike(data: Array) -> list[Array]:
    """Return arrays that such a filter does not give back: not finite, or not as they were."""
    if data.dtype.kind == "i":
        return [np.random.default_rng(0).integers(0, 2**40, data.shape)]
    return [_with(data.reshape(-1), 9, value).reshape(data.shape) for value in (np.nan, np.inf)]


def _lossy_filter(file: Path) -> list[int]:
    with h5py.File(file) as opened:
        creation = opened["d"].id.get_create_plist()
        return [creation.get_filter(index)[0] for index in range(creation.get_nfilters())]


@pytest.mark.semantics("R4")
@pytest.mark.parametrize("kind", LOSSY)
def test_a_lossy_filter_is_left_out_where_it_makes_something_else_of_an_array(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    file, (data, how) = tmp_path / "f.h5", LOSSY[kind]
    for beyond in _unlike(data):
        caplog.clear()
        with h5py.File(file, "w") as opened:
            opened.create_dataset("d", data=data, chunks=(4, 4), **how)
            stored = opened["d"][()]
        codes = _lossy_filter(file)
        with writable_tree(file) as tree:
            save(tree, b"/d.npy", npy_bytes(stored[::-1].copy()))
        assert _lossy_filter(file) == codes or data.dtype.kind == "i"
        with writable_tree(file) as tree:
            save(tree, b"/d.npy", npy_bytes(beyond))
            shown = read(tree, b"/d.npy")
        found = shown_by_h5py(file)
        assert shown == npy_bytes(found)
        if _lossy_filter(file) == codes:
            assert kind in ("zfp, reversible", "sz")
            assert np.allclose(found, beyond, rtol=0, atol=0.002, equal_nan=True)
        else:
            assert found.tobytes() == beyond.tobytes()
            assert "lossy filter is left out" in caplog.text


@pytest.mark.semantics("R6")
@pytest.mark.parametrize("kind", ["zfp, accuracy", "zfp, rate", "zfp of integers"])
def test_nothing_is_written_in_place_of_which_a_lossy_filter_makes_something_else(
    tmp_path: Path, kind: str
) -> None:
    file, (data, how) = tmp_path / "f.h5", LOSSY[kind]
    with h5py.File(file, "w") as opened:
        opened.create_dataset("d", data=data, chunks=(4, 4), **how)
    start = len(npy_bytes(data)) - data.nbytes
    for beyond in _unlike(data):
        with writable_tree(file) as tree:
            before = read(tree, b"/d.npy")
            handle = tree.open(b"/d.npy", os.O_RDWR, 1)
            with pytest.raises(InvalidArrayError, match="/d: its lossy filter cannot hold"):
                tree.write(handle, memoryview(beyond.tobytes()), start)
            assert read(tree, b"/d.npy") == before
            tree.release(handle)
