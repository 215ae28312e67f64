"""Programs that make many small changes, or a large one, and are timed: see ``probes``."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.files import (
    ATTRIBUTES,
    PAGE_ELEMENTS,
    ROW_ELEMENTS,
    ROWS_OF_EACH,
    make_numbers,
    small_name,
)

Work = Callable[[], Any]
Change = Callable[[int], Any]

_HEADER_BYTES = 128


def change_files(kind: str, folder: str, count: int, *, program: int = 0) -> Work:
    """Change files one by one, of a mount or of a real folder. ``program``: of several at once."""
    return _repeat(_FILE_CHANGES[kind](folder, program), count)


def change_with_h5py(kind: str, file: str, count: int) -> Work:
    """Make the same changes in an open HDF5 file, each with a flush."""
    import h5py

    opened = h5py.File(file, "r+")
    change = _H5PY_CHANGES[kind](opened)

    def change_and_flush(number: int) -> None:
        change(number)
        opened.flush()

    return _repeat(change_and_flush, count)


def _repeat(change: Change, count: int) -> Work:
    def work() -> None:
        for number in range(count):
            change(number)

    return work


def _save_file(folder: str, program: int) -> Change:
    return lambda number: np.save(f"{folder}/bare/new-{program}-{number}.npy", make_numbers(number))


def _write_attribute_file(folder: str, _: int) -> Change:
    def write(number: int) -> None:
        with open(f"{folder}/bare/{small_name(number)}.attrs.json", "w") as file:
            json.dump(ATTRIBUTES, file)

    return write


def _make_folder(folder: str, _: int) -> Change:
    return lambda number: os.mkdir(f"{folder}/bare/new-{number}")


def _rename_file(folder: str, _: int) -> Change:
    path = f"{folder}/bare/{{}}.npy"
    return lambda number: os.rename(path.format(small_name(number)), path.format(f"new-{number}"))


def _remove_file(folder: str, _: int) -> Change:
    return lambda number: os.unlink(f"{folder}/bare/{small_name(number)}.npy")


def _write_page(folder: str, _: int) -> Change:
    descriptor = os.open(f"{folder}/pages.npy", os.O_RDWR)
    page = _make_page()
    return lambda number: os.pwrite(descriptor, page, _HEADER_BYTES + number * page.nbytes)


def _write_whole_page(folder: str, _: int) -> Change:
    # As programs write that map the file, or write in blocks. What begins within a page comes as
    # two requests, unless the kernel has that page.
    descriptor = os.open(f"{folder}/pages.npy", os.O_RDWR)
    page = _make_page()
    return lambda number: os.pwrite(descriptor, page, (number + 1) * page.nbytes)


def _append_to_file(folder: str, _: int) -> Change:
    rows = _make_rows()

    def append(_: int) -> None:
        with open(f"{folder}/rows.npy", "r+b") as file:
            np.lib.format.read_magic(file)
            shape, order, dtype = np.lib.format.read_array_header_1_0(file)
            shape = (shape[0] + len(rows), *shape[1:])
            file.seek(0)
            fields = {"descr": dtype.str, "fortran_order": order, "shape": shape}
            np.lib.format.write_array_header_1_0(file, fields)
            file.seek(0, os.SEEK_END)
            file.write(rows.tobytes())

    return append


def _create_dataset(file: Any) -> Change:
    group = file["bare"]
    return lambda number: group.create_dataset(f"new-0-{number}", data=make_numbers(number))


def _set_attributes(file: Any) -> Change:
    group = file["bare"]
    return lambda number: group[small_name(number)].attrs.update(ATTRIBUTES)


def _create_group(file: Any) -> Change:
    group = file["bare"]
    return lambda number: group.create_group(f"new-{number}")


def _move_link(file: Any) -> Change:
    group = file["bare"]
    return lambda number: group.move(small_name(number), f"new-{number}")


def _delete_link(file: Any) -> Change:
    group = file["bare"]
    return lambda number: group.__delitem__(small_name(number))


def _write_slice(file: Any) -> Change:
    pages, page = file["pages"], _make_page()
    return lambda number: pages.__setitem__(number, page)


def _write_two_slices(file: Any) -> Change:
    # What a page of the mounted file is in the dataset: the header is before its first row.
    pages, page = file["pages"], _make_page()
    first = _HEADER_BYTES // page.itemsize

    def write(number: int) -> None:
        pages[number, -first:] = page[:first]
        pages[number + 1, :-first] = page[first:]

    return write


def _append_to_dataset(file: Any) -> Change:
    dataset, rows = file["rows"], _make_rows()

    def append(_: int) -> None:
        start = len(dataset)
        dataset.resize(start + len(rows), 0)
        dataset[start:] = rows

    return append


def _make_page() -> Any:
    return np.arange(PAGE_ELEMENTS, dtype="<i4")


def _make_rows() -> Any:
    return np.arange(ROWS_OF_EACH * ROW_ELEMENTS, dtype="<f8").reshape(-1, ROW_ELEMENTS)


_FILE_CHANGES: dict[str, Callable[[str, int], Change]] = {
    "save": _save_file,
    "attributes": _write_attribute_file,
    "mkdir": _make_folder,
    "rename": _rename_file,
    "unlink": _remove_file,
    "pwrite": _write_page,
    "page": _write_whole_page,
    "append": _append_to_file,
}

_H5PY_CHANGES: dict[str, Callable[[Any], Change]] = {
    "save": _create_dataset,
    "attributes": _set_attributes,
    "mkdir": _create_group,
    "rename": _move_link,
    "unlink": _delete_link,
    "pwrite": _write_slice,
    "page": _write_two_slices,
    "append": _append_to_dataset,
}


def write_tree(program: str, source: str, target: str) -> Work:
    """Copy a folder of arrays with attributes, or an archive of it, to where nothing is yet."""
    if program == "tar":
        os.mkdir(target)
    words = {
        "cp": ["cp", "-r", source, target],
        "rsync": ["rsync", "-a", f"{source}/", target],
        "tar": ["tar", "xf", source, "-C", target],
    }[program]
    return functools.partial(_run, words)


def remove_tree(folder: str) -> Work:
    """``rm -r``."""
    return functools.partial(_run, ["rm", "-r", folder])


def _run(words: list[str]) -> None:
    subprocess.run(words, check=True)


def write_tree_with_h5py(file: str, count: int) -> Work:
    """Make the same datasets with attributes, of arrays in memory, each with a flush."""
    import h5py

    opened = h5py.File(file, "r+")

    def work() -> None:
        group = opened.create_group("tree")
        for number in range(count):
            dataset = group.create_dataset(small_name(number), data=make_numbers(number))
            dataset.attrs.update(ATTRIBUTES)
            opened.flush()

    return work


def remove_tree_with_h5py(file: str, count: int) -> Work:
    """Delete them one by one, each with a flush, and their group."""
    import h5py

    opened = h5py.File(file, "r+")

    def work() -> None:
        for number in range(count):
            del opened["tree"][small_name(number)]
            opened.flush()
        del opened["tree"]
        opened.flush()

    return work


def map_and_write(source: str, target: str, times: int) -> Work:
    """``open_memmap``, an array written to it so many times, and ``flush``."""
    part = np.load(source)

    def work() -> None:
        shape = (times * len(part), *part.shape[1:])
        mapped = np.lib.format.open_memmap(target, "w+", part.dtype, shape)
        for start in range(0, len(mapped), len(part)):
            mapped[start : start + len(part)] = part
        mapped.flush()

    return work


def write_with_h5py(source: str, file: str, times: int) -> Work:
    """The same through h5py, until the disk has it, as ``flush`` of a mapping promises."""
    import h5py

    part = np.load(source)
    opened = h5py.File(file, "w")

    def work() -> None:
        shape = (times * len(part), *part.shape[1:])
        dataset = opened.create_dataset("data", shape, part.dtype)
        for start in range(0, len(dataset), len(part)):
            dataset[start : start + len(part)] = part
        opened.flush()
        os.fsync(opened.id.get_vfd_handle())

    return work


CHANGE_PROBES: dict[str, Callable[..., Work]] = {
    "change_files": change_files,
    "change_with_h5py": change_with_h5py,
    "write_tree": write_tree,
    "remove_tree": remove_tree,
    "write_tree_with_h5py": write_tree_with_h5py,
    "remove_tree_with_h5py": remove_tree_with_h5py,
    "map_and_write": map_and_write,
    "write_with_h5py": write_with_h5py,
}
