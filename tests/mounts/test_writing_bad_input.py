"""Input that is wrong: an exact errno from the call that programs check, and nothing changed."""

from __future__ import annotations

import errno
import io
import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.reference import npy_bytes
from support.writing import errno_of, errno_of_writing, make_file, same, written

VALUES = np.arange(6, dtype="<f8")


def npy_of(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    """Return a file of that header, however wrong it is."""
    text = header.encode() + b"\n"
    size = len(text).to_bytes(2 if version[:1] == b"\x01" else 4, "little")
    return b"\x93NUMPY" + version + size + text + data


def header_of(shape: str, descr: str = "'<f8'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


class Trap:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


GOOD = npy_bytes(VALUES)
WRONG = {
    "no npy": b"hello, world\n" * 20,
    "one byte": b"\x93",
    "the magic alone": b"\x93NUMPY",
    "half a header": GOOD[:60],
    "one byte less": GOOD[:-1],
    "half of the data": GOOD[:-24],
    "one byte more": GOOD + b"x",
    "twice": GOOD + GOOD,
    "version 0": b"\x93NUMPY\x00\x00" + GOOD[8:],
    "version 4": b"\x93NUMPY\x04\x00" + GOOD[8:],
    "version 255": b"\x93NUMPY\xff\xff" + GOOD[8:],
    "no dict": npy_of("[1, 2, 3]", bytes(48)),
    "code": npy_of("__import__('os').mkdir('/tmp/h5fs-trap')", bytes(48)),
    "a key less": npy_of("{'descr': '<f8', 'shape': (6,)}", bytes(48)),
    "a key more": npy_of(header_of("(6,)")[:-1] + "'x': 1}", bytes(48)),
    "no dtype": npy_of(header_of("(6,)", "'<q77'"), bytes(48)),
    "a negative shape": npy_of(header_of("(-6,)"), bytes(48)),
    "a shape of floats": npy_of(header_of("(6.0,)"), bytes(48)),
    "2^62 elements": npy_of(header_of("(4611686018427387904,)"), bytes(48)),
    "2^62 elements of one byte": npy_of(header_of("(4611686018427387904,)", "'|u1'"), bytes(48)),
    "a product that overflows": npy_of(header_of("(4294967296, 4294967296)"), bytes(48)),
    "a product that overflows to 0": npy_of(header_of("(4294967296, 4294967296, 0)"), b"x"),
    "a shape of 2^80": npy_of(header_of(f"({2**80},)"), bytes(48)),
    "33 dimensions": npy_of(header_of(str((1,) * 33)), bytes(8)),
    "a long header": npy_of(header_of("(6,)") + " " * 65000, bytes(48))[:-8],
    "a header of 4 GB": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
    "an absurd item": npy_of(header_of("(1,)", "'|S4611686018427387904'"), bytes(48)),
    "a deep dtype": npy_of(header_of("(1,)", "[('a', " * 200 + "'<f8'" + ")]" * 200), bytes(8)),
    "a field twice": npy_of(header_of("(1,)", "[('a', '<f8'), ('a', '<f8')]"), bytes(16)),
    "a surrogate": npy_bytes(np.array(["\ud800"])),
    "beyond Unicode": npy_of(header_of("(1,)", "'<U1'"), b"\xff\xff\xff\x7f"),
    "a null character": npy_bytes(np.array(["a\0b"])),
}  # fmt: skip


def objects(path: Path) -> bytes:
    """Return what np.save makes of an array of objects."""
    content = io.BytesIO()
    array = np.empty(2, object)
    array[:] = [Trap(path), {}]
    np.save(content, array, allow_pickle=True)
    assert b"descr" in content.getvalue()
    return content.getvalue()


@pytest.mark.semantics("R8")
def test_a_wrong_file_is_einval_at_close_and_changes_nothing(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    wrong = {
        **WRONG,
        "objects": objects(trap),
        "objects in a record": npy_of(header_of("(1,)", "[('a', '|O')]"), pickle.dumps(Trap(trap))),
    }
    file = make_file(tmp_path / "f.h5", d=VALUES)
    with written(file) as mount:
        for name, content in wrong.items():
            for place in ("d.npy", "new.npy"):
                known = len(mount.log_lines())
                assert errno_of_writing(mount.path / place, content) == (
                    "close", errno.EINVAL,
                ), name  # fmt: skip
                lines = mount.log_lines()[known:]
                assert any(f"/{place}" in line and "WARNING" in line for line in lines), name
                assert not any("unexpected" in line for line in lines), (name, lines)
            assert (mount.path / "d.npy").read_bytes() == GOOD, name
            (mount.path / "new.npy").unlink(missing_ok=True)
            (mount.path / ".t").write_bytes(content)
            for place in ("d.npy", "new.npy"):
                renaming = errno_of(lambda to=place: (mount.path / ".t").rename(mount.path / to))
                assert renaming == errno.EINVAL, (name, place)
            assert (mount.path / ".t").read_bytes() == content, name
            (mount.path / ".t").unlink()
            assert (mount.path / "d.npy").read_bytes() == GOOD, name
            assert sorted(os.listdir(mount.path)) == ["d.npy"], name
    assert not trap.exists()
    assert not Path("/tmp/h5fs-trap").exists()
    with h5py.File(file) as opened:
        assert set(opened) == {"d"}
        assert same(opened["d"][()], VALUES)


@pytest.mark.semantics("R8")
def test_a_file_that_says_more_than_there_is_costs_no_memory_and_no_disk(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5")
    with written(file, leaves=True) as mount:
        large = npy_of(header_of(f"({2**45},)"), bytes(1000))
        assert errno_of_writing(mount.path / "x.npy", large)[1] == errno.EINVAL
        with open(mount.path / "y.npy", "wb", buffering=0) as opened:
            opened.write(large)
            resident = Path(f"/proc/{mount.pid}/statm").read_text().split()[1]
            assert int(resident) * os.sysconf("SC_PAGESIZE") < 2**30
            opened.truncate(0)
    assert file.stat().st_size < 2**20


@pytest.mark.semantics("R3")
def test_np_save_of_objects_raises_and_leaves_nothing(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5", d=VALUES)
    with written(file, leaves=True) as mount:
        array = np.array([{}, []], object)
        for name in ("d", "new"):
            with pytest.raises(OSError, match="Invalid argument"):
                np.save(mount.path / f"{name}.npy", array)
        assert same(np.load(mount.path / "d.npy"), VALUES)
    with h5py.File(file) as opened:
        assert same(opened["d"][()], VALUES)


def test_fsync_says_that_the_content_is_wrong(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5", d=VALUES)
    with written(file) as mount:
        descriptor = os.open(mount.path / "d.npy", os.O_RDWR | os.O_TRUNC)
        os.write(descriptor, b"no array at all")
        assert errno_of(lambda: os.fsync(descriptor)) == errno.EINVAL
        assert errno_of(lambda: os.close(descriptor)) == errno.EINVAL
        assert (mount.path / "d.npy").read_bytes() == GOOD


@pytest.mark.semantics("R8")
def test_damage_to_the_header_in_place_is_einval_and_undone(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5", d=VALUES)
    with written(file) as mount:
        for offset, data in [(0, b"X"), (6, b"\x09"), (20, b"'<q9'"), (60, b"(7,)"), (8, b"\xff")]:
            with open(mount.path / "d.npy", "r+b", buffering=0) as opened:
                opened.seek(offset)
                opened.write(data)
                assert errno_of(opened.close) == errno.EINVAL, (offset, data)
            assert (mount.path / "d.npy").read_bytes() == GOOD
    with h5py.File(file) as opened:
        assert same(opened["d"][()], VALUES)


def test_another_dtype_of_the_same_size_written_over_the_header_is_taken(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5", d=VALUES)
    with written(file) as mount:
        expected = VALUES.view("<i8")
        with open(mount.path / "d.npy", "r+b", buffering=0) as opened:
            opened.write(npy_bytes(expected)[:128])
        assert same(np.load(mount.path / "d.npy"), expected)
    with h5py.File(file) as opened:
        assert same(opened["d"][()], expected)


def test_dtypes_that_numpy_reads_and_hdf5_cannot_hold_are_refused(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5")
    with written(file) as mount:
        for descr in ("'|V0'", "'|S0'", "'<U0'", "[]"):
            content = npy_of(header_of("(3,)", descr))
            failed = errno_of_writing(mount.path / "x.npy", content)
            assert failed in [("", None), ("close", errno.ENOTSUP)], descr
            (mount.path / "x.npy").unlink(missing_ok=True)
    with h5py.File(file) as opened:
        assert not list(opened)
