"""Views in a tree: which there are, by which names, of which size, and what touches what."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.stores import open_store

from h5fs.errors import NotFoundError, ReadOnlyError
from h5fs.model.objects import DatasetInfo
from h5fs.model.settings import Mode, StoreOptions, View, ViewOptions
from h5fs.projection.views.pictures import project_picture, render_picture
from h5fs.tree import Tree, WritableTree

ALL = ViewOptions(frozenset(View))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as f:
        f["numbers"] = np.arange(5000.0)
        f["text"] = ["abc", 'x "y", z', "é"]
        f["cube"] = np.zeros((2, 3, 4))
        f["state"] = np.array([1, 2], "i1").astype(h5py.enum_dtype({"on": 1, "off": 2}, "i1"))
        f.create_dataset("chunked", data=np.arange(600).reshape(100, 6), chunks=(10, 6))
        f["numbers.csv/inner"] = 1
        f["latest"] = h5py.SoftLink("/numbers")
        f["plain.csv"] = np.arange(3)
        f["odd %41\n"] = np.arange(2)
        f["many/sequences"] = np.zeros(1)
        del f["many/sequences"]
        sequences = f.create_dataset("many/sequences", (2,), h5py.vlen_dtype("i4"))
        sequences[0] = [1, 2]
        for index in range(12):  # enough for a scan of the headers
            f[f"many/d{index}"] = np.arange(index)
        f["many/text"] = ["a", "bc"]
        f["many/d3.csv/x"] = 1
    return path


@contextmanager
def opened(file: Path, views: ViewOptions = ALL, **options: Any) -> Iterator[Tree]:
    tree = Tree(open_store(StoreOptions(file, **options)), views=views)
    try:
        yield tree
    finally:
        tree.close()


def names(tree: Any, path: bytes = b"/") -> list[bytes]:
    return [dentry.name for dentry in tree.list_folder(path)]


def read_all(tree: Any, path: bytes) -> bytes:
    handle = tree.open(path, os.O_RDONLY)
    try:
        buffer = memoryview(bytearray(tree.get_status(path).size_bytes + 1))
        return bytes(buffer[: tree.read_into(handle, buffer, 0)])
    finally:
        tree.release(handle)


@pytest.mark.semantics("V1")
def test_views_are_files_beside_arrays_of_two_dimensions_at_most_and_only_where_asked_for(
    file: Path,
) -> None:
    with opened(file, ViewOptions(), workers=0) as tree:
        without = {path: names(tree, path) for path in (b"/", b"/many")}
    with opened(file, workers=0) as tree:
        shown = {path: names(tree, path) for path in (b"/", b"/many")}
    tables = {name for name in shown[b"/"] if name not in without[b"/"]}
    assert tables == {b"text.csv", b"state.csv", b"chunked.csv", b"plain.csv.csv",
                      b"odd %2541%0A.csv", b"chunked.png", b"cube.png",
                      b"numbers.png", b"state.png", b"plain.csv.png", b"odd %2541%0A.png",
                      b"text.txt"}  # fmt: skip
    more = set(shown[b"/many"]) - set(without[b"/many"])
    tables = {b"d%d.csv" % i for i in range(12) if i != 3}
    lines = {b"d%d.png" % i for i in range(1, 12)}  # an empty array has none
    assert more == {b"text.csv", b"text.txt"} | tables | lines
    for path, every in shown.items():
        assert len(set(every)) == len(every)
        assert [name for name in every if name in without[path]] == without[path]


@pytest.mark.semantics("V2")
def test_a_group_that_has_the_name_of_a_view_keeps_it(file: Path) -> None:
    with opened(file, workers=0) as tree:
        assert names(tree, b"/numbers.csv") == [b"inner.csv", b"inner.npy"]
        assert names(tree, b"/many/d3.csv") == [b"x.csv", b"x.npy"]
        assert b"0" in read_all(tree, b"/plain.csv.csv")
        with pytest.raises(NotFoundError):
            tree.get_status(b"/plain.csv")  # HDF5's plain.csv is a dataset: plain.csv.npy
        with pytest.raises(NotFoundError):
            tree.get_status(b"/cube.csv")
        with pytest.raises(NotFoundError):
            tree.get_status(b"/latest.csv")


@pytest.mark.semantics("V3")
@pytest.mark.parametrize("workers", [0, 1])
def test_sizes_are_exact_listed_or_not_and_pieces_are_the_whole(file: Path, workers: int) -> None:
    for folder in (b"/", b"/many/"):
        with opened(file, workers=workers) as listing, opened(file, workers=workers) as asked:
            rows = {d.name: d for d in listing.list_folder(folder[:-1] or b"/")}
            for name in [name for name in rows if name.endswith(b".csv") and name[:-4]]:
                path = folder + name
                status = asked.get_status(path)
                if status.mode & 0o40000:
                    continue
                assert listing.get_status(path) == status
                assert rows[name].inode == status.inode
                whole = read_all(asked, path)
                assert len(whole) == status.size_bytes
                handle = listing.open(path, os.O_RDONLY)
                pieces = [listing.read(handle, 7, at) for at in range(0, min(len(whole), 700), 7)]
                assert b"".join(pieces) == whole[: 7 * len(pieces)]
                middle = len(whole) // 2
                assert listing.read(handle, 100, middle) == whole[middle : middle + 100]
                listing.release(handle)


@pytest.mark.semantics("V3")
def test_reading_a_few_lines_reads_the_elements_of_these_alone(file: Path) -> None:
    with opened(file, workers=0) as tree:
        store: Any = tree._store
        touched: list[tuple[int, int]] = []
        read_into = store.read_into

        def note(ref: Any, dataset: Any, part: Any, offset: int, buffer: memoryview) -> None:
            touched.append((offset, len(buffer)))
            read_into(ref, dataset, part, offset, buffer)

        store.read_into = note
        handle = tree.open(b"/chunked.csv", os.O_RDONLY)
        status = tree.get_status(b"/chunked.csv")
        tree.list_folder(b"/")
        assert touched == []
        line = (status.size_bytes - len(b"0,1,2,3,4,5\n")) // 100
        assert tree.read(handle, line, status.size_bytes - line).endswith(b" 599\n")
        assert touched == [(99 * 48, 48)]


@pytest.mark.semantics("V7")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_shows_every_nth_row_and_column(file: Path, workers: int) -> None:
    with h5py.File(file, "r+") as f:
        values = np.arange(200 * 300, dtype=">i4").reshape(200, 300)
        f.create_dataset("image", data=values, chunks=(50, 40), compression="gzip")
        f["sheet"] = np.arange(20 * 70 * 60, dtype="f4").reshape(4, 5, 70, 60)
    views = ViewOptions(frozenset({View.PICTURE}), picture_size=100)
    for name in ("image", "sheet"):
        with h5py.File(file) as f:
            array = f[name][()]
        picture = project_picture(DatasetInfo(array.shape, array.dtype, 0), 100)
        planes = array.reshape(-1, picture.rows, picture.columns, 1)[list(picture.planes)]
        shown = planes[:, :: picture.step, :: picture.step]
        with opened(file, views, workers=workers) as tree:
            path = f"/{name}.png".encode()
            data = read_all(tree, path)
            size_bytes = tree.get_status(path).size_bytes
            assert data == render_picture(picture, array.dtype, shown.tobytes(), None, size_bytes)
            assert len(data) == size_bytes


@pytest.mark.semantics("V5")
def test_enumerations_and_text_are_as_the_file_has_them(file: Path) -> None:
    with opened(file, workers=0) as tree:
        assert read_all(tree, b"/state.csv").splitlines()[1:] == [b' 0,"on"', b'1,"off"']
        lines = read_all(tree, b"/text.csv").decode().splitlines()
        assert [line.lstrip() for line in lines] == [
            "row,value", '0,"abc"', '1,"x ""y"", z"', '2,"é"'
        ]  # fmt: skip
        assert len({len(line.encode()) for line in lines[1:]}) == 1


@pytest.mark.semantics("V10")
def test_text_is_an_element_a_line_and_one_element_as_it_is(file: Path) -> None:
    with h5py.File(file, "r+") as f:
        f["one"] = 'a "mouse session"\nin two lines \u00b5'
        f["none"] = ""
        f["lines"] = ["a\nb", "", "\u00e9\u00e9\u00e9\u00e9"]
        f["fixed"] = np.array([[b"ab", b"a\0\rd"], [b"\xfcx", b"\xfcbcd"]])
        f["characters"] = np.array([[b"d", b"a", b"y"], [b"1", b"2", b""]])
        f["empty"] = np.zeros((0,), "S3")
        f["to"] = np.array([f["one"].ref], h5py.ref_dtype)
        f.create_dataset("large", (2**26,), "S3", chunks=(1000,))
    texts = {
        "one": 'a "mouse session"\nin two lines \u00b5\n',
        "none": "\n",
        "lines": "a b     \n        \n\u00e9\u00e9\u00e9\u00e9\n",
        "fixed": "ab  \na  d\n\u00fcx \n?bcd\n",
        "characters": "day\n12 \n",
        "empty": "",
        "to": "/one\n",
        "text": 'abc     \nx "y", z\n\u00e9      \n',
    }
    with opened(file, ViewOptions(frozenset({View.TEXT})), workers=0) as tree:
        shown = {name for name in names(tree) if name.endswith(b".txt")}
        assert shown == {name.encode() + b".txt" for name in texts}
        for name, text in texts.items():
            path = f"/{name}.txt".encode()
            assert read_all(tree, path).decode() == text, name
            assert tree.get_status(path).size_bytes == len(text.encode()), name
        handle = tree.open(b"/fixed.txt", os.O_RDONLY)
        whole = texts["fixed"].encode()
        assert [tree.read(handle, 1, at) for at in range(len(whole))] == [
            whole[at : at + 1] for at in range(len(whole))
        ]


@pytest.mark.semantics("V9")
def test_in_modes_that_write_views_are_there_by_name_follow_and_cannot_be_changed(
    file: Path,
) -> None:
    store: Any = open_store(StoreOptions(file, mode=Mode.UPDATE))
    tree = WritableTree(store, views=ALL, leftovers=file.with_name("left"))
    try:
        assert not any(name.endswith(b"chunked.csv") for name in names(tree))
        assert tree.get_status(b"/chunked.csv").mode & 0o777 == 0o444
        for change in (
            lambda: tree.open(b"/chunked.csv", os.O_WRONLY),
            lambda: tree.open(b"/chunked.csv", os.O_RDWR | os.O_TRUNC),
            lambda: tree.unlink(b"/chunked.csv"),
            lambda: tree.rename(b"/chunked.csv", b"/other.csv", 0),
            lambda: tree.rename(b"/many", b"/chunked.csv", 0),
            lambda: tree.make_hard_link(b"/chunked.csv", b"/new.npy"),
        ):
            with pytest.raises(ReadOnlyError):
                change()
        assert b"chunked.npy" in names(tree)
        handle = tree.open(b"/chunked.npy", os.O_RDWR)
        size = tree.get_status(b"/chunked.npy").size_bytes
        tree.write(handle, memoryview((-7).to_bytes(8, "little", signed=True)), size - 8)
        tree.flush(handle, 0)
        tree.release(handle)
        assert read_all(tree, b"/chunked.csv").endswith(b" -7\n")
    finally:
        tree.close()
        store.close()
