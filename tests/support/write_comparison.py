"""A mount, and the HDF5 file that it leaves, compared with the plain folder of ``write_model``."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import h5py
import numpy as np

from support.attribute_values import plain_value, same_value
from support.reference import expected_files, npy_bytes
from support.write_values import ARRAY, ATTRIBUTES, SCRATCH, classify, parse_attributes

Operation = tuple[Any, ...]


class ModelError(AssertionError):
    """The mount and the plain folder differ; the message has the operations so far."""


@dataclass
class OpenPair:
    """A file open on both sides. ``seen``: what a reader may see, since it keeps what it opened."""

    mount: int
    plain: int
    writes: bool
    seen: list[bytes] = field(default_factory=list)
    names: int = 0
    """The most hard links that the file has had while it was open."""

    def content(self) -> bytes:
        return os.pread(self.plain, 2**24, 0)

    @property
    def inode(self) -> int:
        return os.fstat(self.plain).st_ino

    @property
    def has_lost_a_name(self) -> bool:
        """Whether a link is gone: the kernel may ask fstat by that name, which is ESTALE."""
        return os.fstat(self.plain).st_nlink < self.names

    @property
    def is_orphan(self) -> bool:
        return os.fstat(self.plain).st_nlink == 0


class Comparison:
    """A folder of a mount and a plain one, and what is known of the files in them."""

    def __init__(self, mount: Path, plain: Path, daemon: int) -> None:
        self.mount, self.plain, self.daemon = mount, plain, daemon
        self.done: list[Operation] = []
        self.handles: dict[int, OpenPair] = {}
        # Files that the HDF5 file does not have: scratch, incomplete, attributes that wait.
        self._staged: set[str] = set()
        # Attributes of datasets under scratch names, by inode.
        self._carried: dict[int, bytes] = {}
        # Of files that are open with text written to them: what was committed before.
        self._dirty: dict[int, bytes] = {}

    def fail(self, message: str) -> NoReturn:
        """Raise with the operations so far."""
        lines = "".join(f"  {each!r},\n" for each in self.done)
        raise ModelError(f"{message}\nafter [\n{lines}]")

    # Comparing.

    def compare_mount(self) -> None:
        """Compare all names, kinds and contents. Raises ``ModelError``."""
        found, wanted = set(self._walk(self.mount)), set(self._walk(self.plain))
        if found != wanted:
            self.fail(f"only in the mount {sorted(found - wanted)}, "
                      f"only in the plain folder {sorted(wanted - found)}")  # fmt: skip
        for path in sorted(wanted):
            left, right = os.lstat(self.mount / path), os.lstat(self.plain / path)
            if stat.S_IFMT(left.st_mode) != stat.S_IFMT(right.st_mode):
                self.fail(f"{path}: mode {left.st_mode:o}, not {right.st_mode:o}")
            if stat.S_ISLNK(left.st_mode):
                self._compare_link(path)
            elif stat.S_ISREG(left.st_mode):
                self._compare_file(path, left, right)

    def _compare_file(self, path: str, left: os.stat_result, right: os.stat_result) -> None:
        data, wanted = self._read_mount(path), self._read(path)
        if path.endswith(ATTRIBUTES) and path not in self._staged:
            if parse_attributes(data) != parse_attributes(wanted):
                self.fail(f"{path} is {data!r}, not {wanted!r}")
            return
        if right.st_ino in self._dirty:
            return
        values = parse_attributes(wanted)
        if values is not None and values == parse_attributes(data):
            return  # attributes under a scratch name, as the mount spells them
        if data != wanted:
            self.fail(f"{path} has {data[:200]!r} ({len(data)}), not {wanted[:200]!r} "
                      f"({len(wanted)})")  # fmt: skip
        if left.st_size != right.st_size:
            self.fail(f"{path}: size {left.st_size}, not {right.st_size}")
        if path not in self._staged and left.st_nlink != right.st_nlink:
            scratch = [p for p in self._paths(right.st_ino) if os.path.basename(p) in SCRATCH]
            if left.st_nlink != right.st_nlink - len(scratch):
                self.fail(f"{path}: link count {left.st_nlink}, not {right.st_nlink}")

    def _read_mount(self, path: str) -> bytes:
        descriptor = os.open(self.mount / path, os.O_RDONLY)
        try:
            return os.pread(descriptor, 2**24, 0)
        finally:
            # A reader of what waits and is not valid is told so too, at close.
            with suppress(OSError) if path in self._staged else nullcontext():
                os.close(descriptor)

    def _compare_link(self, path: str) -> None:
        found = os.path.realpath(self.mount / path)
        exists = os.path.exists(self.mount / path)
        wanted = self._resolve(os.path.relpath(os.readlink(self.plain / path), self.plain))
        if wanted is None:
            if exists:
                self.fail(f"{path} leads to {found}, and should dangle")
        elif found != str(self.mount / wanted):
            self.fail(f"{path} leads to {found}, not {wanted}")

    def _resolve(self, target: str, left: int = 20) -> str | None:
        """Return where an HDF5 path leads: its last name without a suffix is any object's."""
        here = ""
        parts = target.removesuffix(ARRAY).split("/")
        for index, part in enumerate(parts):
            path = os.path.join(here, part)
            if self._is_link(path):
                if not left:
                    return None
                text = os.path.relpath(os.readlink(self.plain / path), self.plain)
                led = self._resolve(text, left - 1)
                if led is None:
                    return None
                path = led
            elif self._is_folder(path):
                pass
            elif (
                index == len(parts) - 1
                and self._is_file(path + ARRAY)
                and (path + ARRAY not in self._staged)
            ):
                return path + ARRAY
            else:
                return None
            if index < len(parts) - 1 and not self._is_folder(path):
                return None
            here = path
        return here

    def compare_hdf5(self, group: h5py.Group) -> None:
        """Compare the group that the folder has become. Raises ``ModelError``."""
        self._compare_group(group, "")

    def _compare_group(self, group: h5py.Group, folder: str) -> None:
        names = os.listdir(self.plain / folder)
        paths = [os.path.join(folder, name) for name in names]
        kept = [path for path in paths if path not in self._staged]
        links = {
            os.path.basename(path).removesuffix(ARRAY)
            for path in kept
            if not path.endswith(ATTRIBUTES)
        }
        if set(group) != links:
            self.fail(f"HDF5 group {folder!r} has {sorted(group)}, not {sorted(links)}")
        self._compare_hdf5_attributes(group, os.path.join(folder, ATTRIBUTES))
        for path in kept:
            name = os.path.basename(path).removesuffix(ARRAY)
            if self._is_link(path):
                link = group.get(name, getlink=True)
                if not isinstance(link, h5py.SoftLink):
                    self.fail(f"HDF5: {path} is {link!r}")
            elif self._is_folder(path):
                self._compare_group(group[name], path)
            elif path.endswith(ARRAY):
                found = npy_bytes(expected_files(group[name])[ARRAY])
                if found != self._read(path):
                    self.fail(f"HDF5: {path} has {found!r}, not {self._read(path)!r}")
                self._compare_hdf5_attributes(group[name], self._attributes_of(path))

    def _compare_hdf5_attributes(self, owner: Any, path: str) -> None:
        has = self._is_file(path) and path not in self._staged
        wanted = parse_attributes(self._read(path)) if has else {}
        assert wanted is not None
        if set(owner.attrs) != set(wanted):
            self.fail(f"HDF5: {path} has {sorted(owner.attrs)}, not {sorted(wanted)}")
        for name, value in wanted.items():
            attribute = h5py.h5a.open(owner.id, name.encode())
            found = plain_value(owner.attrs[name], attribute, owner.file)
            if not same_value(found, value) and not _equal_numbers(found, value):
                self.fail(f"HDF5: {path}: {name} is {found!r}, not {value!r}")

    # The plain folder.

    def _walk(self, root: Path) -> Iterator[str]:
        for folder, folders, files in os.walk(root):
            for name in [*folders, *files]:
                yield os.path.relpath(os.path.join(folder, name), root)

    def _exists(self, path: str) -> bool:
        return os.path.lexists(self.plain / path)

    def _is_file(self, path: str) -> bool:
        return (self.plain / path).is_file() and not self._is_link(path)

    def _is_folder(self, path: str) -> bool:
        return (self.plain / path).is_dir() and not self._is_link(path)

    def _is_link(self, path: str) -> bool:
        return (self.plain / path).is_symlink()

    def _has_parent(self, path: str) -> bool:
        return self._is_folder(os.path.dirname(path)) or not os.path.dirname(path)

    def _is_filled(self, data: bytes) -> bool:
        return classify(data) == "valid" and np.load(io.BytesIO(data)).size > 0

    def _is_open_to_write(self, path: str) -> bool:
        if not self._is_file(path):
            return False
        inode = os.stat(self.plain / path).st_ino
        return any(each.writes and each.inode == inode for each in self.handles.values())

    def _read(self, path: str) -> bytes:
        return (self.plain / path).read_bytes()

    def _put(self, path: str, data: bytes) -> None:
        if not self._is_file(path) or self._read(path) != data:
            (self.plain / path).write_bytes(data)

    def _attributes_of(self, path: str) -> str:
        return path.removesuffix(ARRAY) + ATTRIBUTES

    def _same_file(self, one: str, other: str) -> bool:
        return (
            self._is_file(one)
            and self._is_file(other)
            and (os.path.samefile(self.plain / one, self.plain / other))
        )

    def _paths(self, inode: int) -> list[str]:
        return [p for p in self._walk(self.plain) if os.lstat(self.plain / p).st_ino == inode]

    def _same_paths(self, path: str) -> list[str]:
        """Return the names of the dataset that ``path`` is one of."""
        if not self._is_file(path):
            return []
        inode = os.lstat(self.plain / path).st_ino
        return [p for p in self._paths(inode) if p.endswith(ARRAY) and p not in self._staged]


def _equal_numbers(found: Any, value: Any) -> bool:
    """Whether an integer was kept as the float, or the other way, that the attribute was."""
    try:
        return bool(np.array_equal(np.asarray(found, float), np.asarray(value, float)))
    except (TypeError, ValueError):
        return False
