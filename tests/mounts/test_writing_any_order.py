"""A file that is open reads as a plain file would after the same calls, whatever their order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy_format
from support.mounts import mounted
from support.reference import npy_bytes
from support.writing import check_file_opens, unmount, written

SMALL = np.arange(400, dtype="<i4").reshape(20, 20)
LARGE = np.arange(2**18 + 1000, dtype="<f8")  # more than goes into a draft
OLD = {
    "contiguous": np.arange(300, dtype="<f8"),
    "chunked": SMALL,
    "text": np.array(["some", "größer", "words"]),
    "large": LARGE[::-1].copy(),
}
Call = Callable[[int], object]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A mount and a plain folder with the same arrays."""
    folder = tmp_path_factory.mktemp("order")
    plain, file = folder / "plain", folder / "f.h5"
    plain.mkdir()
    with h5py.File(file, "w") as opened:
        for name, array in OLD.items():
            if name == "chunked":
                opened.create_dataset(
                    name, data=array, chunks=(7, 9), maxshape=(None, None), compression="gzip"
                )
            else:
                opened[name] = array.astype(object) if name == "text" else array
            np.save(plain / f"{name}.npy", array)
    with mounted(file, options=["--mode", "r+"]) as mount:
        yield mount.path, plain
        assert [line for line in mount.log_lines() if "unexpected" in line] == []
        contents = {path.name: path.read_bytes() for path in mount.path.glob("*.npy")}
        unmount(mount)
    with h5py.File(file) as opened:
        for name, content in contents.items():
            values = opened[name.removesuffix(".npy")]
            array = values.asstr()[()].astype(str) if values.dtype.hasobject else values[()]
            assert npy_bytes(array) == content, name
    check_file_opens(file)


def contents() -> st.SearchStrategy[bytes]:
    """Whole files: arrays of either size, other dtypes, Fortran order, other shapes."""
    return st.sampled_from(
        [
            npy_bytes(array)
            for array in (
                SMALL, SMALL[:3], SMALL.astype(">f4"), np.asfortranarray(SMALL), SMALL[0],
                np.array(["a", "größeres", ""]), LARGE, LARGE[5:], LARGE.astype("<i8"),
                LARGE.reshape(-1, 8), np.float64(3), SMALL[:0],
            )
        ]
    )  # fmt: skip


@st.composite
def calls(draw: st.DrawFn) -> list[tuple[str, tuple[object, ...]]]:
    """Calls on descriptors that lead towards one whole file, by detours."""
    content = draw(contents())
    size = len(content)
    offsets = st.one_of(
        st.sampled_from([0, 6, 10, 60, 127, 128, 129, 136]), st.integers(0, size + 5000),
        st.integers(max(size - 20, 0), size + 20),
    )  # fmt: skip
    steps: list[tuple[str, tuple[object, ...]]] = []
    for _ in range(draw(st.integers(0, 10))):
        kind = draw(
            st.sampled_from(
                ["write", "write", "part", "part", "rest", "truncate", "read", "fsync", "flush",
                 "other", "reopen"]
            )
        )  # fmt: skip
        if kind == "write":
            steps.append((kind, (draw(st.binary(min_size=1, max_size=300)), draw(offsets))))
        elif kind in ("part", "rest"):
            start = min(draw(offsets), size)
            stop = size if kind == "rest" else min(draw(offsets), size)
            start, stop = min(start, stop), max(start, stop)
            steps.append(("write", (content[start:stop], start)))
        elif kind in ("truncate", "read"):
            steps.append((kind, (draw(st.one_of(st.just(0), st.just(size), offsets)),)))
        else:
            steps.append((kind, ()))
    if draw(st.booleans()):
        steps += [("truncate", (size,)), ("write", (content, 0))]
    return steps


class Opened:
    """A file that is open in the mount and in the plain folder."""

    def __init__(self, paths: tuple[Path, Path], flags: int) -> None:
        self._paths = paths
        self.descriptors = [os.open(path, flags | os.O_RDWR, 0o666) for path in paths]
        self._others: list[list[int]] = []

    def do(self, kind: str, arguments: tuple[object, ...]) -> None:
        """Make a call on both, then compare."""
        for descriptor in self.descriptors:
            if kind == "write":
                os.pwrite(descriptor, *arguments)
            elif kind == "truncate":
                os.ftruncate(descriptor, *arguments)
            elif kind in ("fsync", "flush"):
                with suppress(OSError):  # that it is not whole
                    if kind == "fsync":
                        os.fsync(descriptor)
                    else:
                        os.close(os.dup(descriptor))
        if kind == "other":
            self._others.append([os.open(path, os.O_RDWR) for path in self._paths])
        elif kind == "reopen" and self._others:
            first = self.descriptors
            self.descriptors = self._others.pop()
            for descriptor in first:
                with suppress(OSError):
                    os.close(descriptor)

    def check(self, step: object) -> None:
        """Both files have the same size and bytes."""
        ours, expected = (os.pread(d, 2**23, 0) for d in self.descriptors)
        sizes = [os.fstat(descriptor).st_size for descriptor in self.descriptors]
        assert sizes[0] == sizes[1], step
        assert ours == expected, step

    def close(self) -> None:
        for descriptor in [*self.descriptors, *(each for pair in self._others for each in pair)]:
            with suppress(OSError):
                os.close(descriptor)
        self._others = []


def whole_array(path: Path) -> np.ndarray | None:
    """Return the array of a file that is right, None for any other."""
    try:
        with open(path, "rb") as opened:
            array = npy_format.read_array(opened, allow_pickle=False)
            rest = opened.read()
    except Exception:
        return None
    if rest:
        return None
    if array.dtype.kind == "U":
        try:
            texts = array.tolist()
            if any("\0" in text or text.encode() is None for text in np.ravel(texts).tolist()):
                return None
            return np.array(texts, str)
        except (UnicodeEncodeError, ValueError):
            return None
    return np.ascontiguousarray(array).reshape(array.shape)


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from([*OLD, "new"]), truncates=st.booleans(), steps=calls())
def test_an_open_file_reads_as_a_plain_one(
    folders: tuple[Path, Path],
    name: str,
    truncates: bool,
    steps: list[tuple[str, tuple[object, ...]]],
) -> None:
    paths = (folders[0] / f"{name}.npy", folders[1] / f"{name}.npy")
    before = paths[0].read_bytes() if paths[0].exists() else None
    flags = os.O_CREAT | (os.O_TRUNC if truncates else 0)
    opened = Opened(paths, flags)
    try:
        opened.check("open")
        for step in steps:
            opened.do(*step)
            if step[0] != "write" or len(step[1][0]) < 2**20:  # type: ignore[arg-type]
                opened.check((step[0], step[1][1:]))
        opened.check("end")
    finally:
        opened.close()
    array = whole_array(paths[1])
    if array is not None:
        assert paths[0].read_bytes() == npy_bytes(array)
    elif before is not None:
        # Whatever was committed on the way: an array that is whole.
        assert whole_array(paths[0]) is not None
    if array is None:
        paths[0].unlink()
        content = npy_bytes(OLD.get(name, SMALL))
        for path in paths:
            path.write_bytes(content)
    else:
        paths[1].write_bytes(npy_bytes(array))


def check_calls(
    tmp_path: Path, create: Callable[[h5py.File], object], calls: Callable[[int], object]
) -> None:
    """Make calls on the file of a dataset ``d`` and on a plain one: both must be the same then."""
    file, plain = tmp_path / "f.h5", tmp_path / "plain.npy"
    with h5py.File(file, "w") as opened:
        create(opened)
    with written(file) as mount:
        path = mount.path / "d.npy"
        plain.write_bytes(path.read_bytes())
        for each in (path, plain):
            descriptor = os.open(each, os.O_RDWR)
            try:
                calls(descriptor)
            finally:
                os.close(descriptor)
        assert path.read_bytes() == plain.read_bytes()
    with h5py.File(file) as opened:
        dataset = opened["d"]
        array = dataset.asstr()[()].astype(str) if dataset.dtype.hasobject else dataset[()]
        assert npy_bytes(array) == plain.read_bytes()


def growing(opened: h5py.File) -> None:
    opened.create_dataset(
        "d", data=np.arange(6.0) + 1 / 3, maxshape=(None,), chunks=(4,), fillvalue=-5.0
    )


def test_a_part_of_a_string_can_be_written(tmp_path: Path) -> None:
    def create(opened: h5py.File) -> None:
        opened["d"] = np.array(["abcd", "efgh", "größ"], object)

    def change(descriptor: int) -> None:
        os.pwrite(descriptor, b"X\0\0\0", 128 + 4)
        os.pwrite(descriptor, b"y", 128 + 16 + 12)

    check_calls(tmp_path, create, change)


def test_a_part_of_an_element_can_be_written_while_the_array_grows(tmp_path: Path) -> None:
    def change(descriptor: int) -> None:
        os.pwrite(descriptor, npy_bytes(np.zeros(8))[:128], 0)
        os.pwrite(descriptor, bytes(16), 128 + 48)
        os.pwrite(descriptor, b"\x11\x22", 128 + 8 + 3)

    check_calls(tmp_path, growing, change)


def test_what_grows_by_truncate_is_zeros_whatever_the_fill_value(tmp_path: Path) -> None:
    def change(descriptor: int) -> None:
        os.pwrite(descriptor, npy_bytes(np.zeros(20))[:128], 0)
        os.ftruncate(descriptor, 128 + 160)

    check_calls(tmp_path, growing, change)


def test_a_hole_behind_the_data_is_zeros_whatever_the_fill_value(tmp_path: Path) -> None:
    def change(descriptor: int) -> None:
        os.pwrite(descriptor, npy_bytes(np.zeros(20))[:128], 0)
        os.pwrite(descriptor, np.float64(1).tobytes(), 128 + 152)

    check_calls(tmp_path, growing, change)


def test_what_was_cut_off_comes_back_as_zeros(tmp_path: Path) -> None:
    def change(descriptor: int) -> None:
        os.ftruncate(descriptor, 128 + 12)
        os.ftruncate(descriptor, 128 + 48)

    check_calls(tmp_path, growing, change)


def test_an_array_shrinks_and_grows_again(tmp_path: Path) -> None:
    def change(descriptor: int) -> None:
        for count in (2, 9, 1, 6):
            os.pwrite(descriptor, npy_bytes(np.zeros(count))[:128], 0)
            os.ftruncate(descriptor, 128 + 8 * count)
            os.fsync(descriptor)

    check_calls(tmp_path, growing, change)
