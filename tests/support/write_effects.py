"""What a mount does to other files than the one it was asked to: its differences from POSIX.

Attributes belong to datasets, and go where those go; what is not whole is not in the HDF5 file.
"""

from __future__ import annotations

import io
import os
from contextlib import suppress
from typing import Any

import numpy as np

from support.write_comparison import Comparison
from support.write_values import ARRAY, ATTRIBUTES, SCRATCH, canonical, classify, parse_attributes


class Effects(Comparison):
    """The plain folder is changed as the mount is, where an operation does more than POSIX says.

    ``_before_NAME`` looks, ``_after_NAME`` acts when the operation went well, ``_refused_NAME``
    when the mount refused it by design.
    """

    # What a refused operation leaves behind.

    def _refused_write(self, path: str, text: bytes) -> None:
        """A new file waits as it was written; one that was there stays as it was."""
        if self._refusal_of_new(path) is None and (not self._exists(path) or path in self._staged):
            self._put(path, text)
            self._staged.add(path)

    def _refused_touch(self, path: str) -> None:
        if not self._exists(path):
            self._refused_write(path, b"")

    # What the mount does beyond POSIX, done to the plain folder.

    def _after_save(self, _before: Any, path: str, _array: Any, _order: str) -> None:
        self._written(path)

    def _after_write(self, _before: Any, path: str, _text: bytes) -> None:
        self._written(path)

    def _after_patch(self, _before: Any, path: str, _place: float, _seed: int) -> None:
        self._written(path)

    def _after_append(self, _before: Any, path: str, _rows: int, _seed: int) -> None:
        self._written(path)

    def _after_touch(self, _before: Any, path: str) -> None:
        if not self._read(path):
            self._staged.add(path)

    def _after_hwrite(self, _before: Any, slot: int, _place: float, _seed: int) -> None:
        handle = self.handles[slot]
        if np.load(io.BytesIO(handle.content())).dtype.kind == "U" and not handle.is_orphan:
            self._dirty.setdefault(handle.inode, handle.seen[-1] if handle.seen else b"")

    def _after_open(self, _before: Any, slot: int, path: str, _writes: bool) -> None:
        handle = self.handles[slot]
        handle.seen.append(self._dirty.get(handle.inode, handle.content()))

    def _before_unlink(self, path: str) -> tuple[bool, list[str]]:
        is_staged = path in self._staged
        same: list[str] = []
        if path.endswith(ATTRIBUTES) and not is_staged and self._is_file(path):
            owner = path.removesuffix(ATTRIBUTES) + ARRAY
            same = [p for p in self._same_paths(owner) if p != owner]
        return is_staged, same

    def _after_unlink(self, before: tuple[bool, list[str]], path: str) -> None:
        is_staged, same = before
        self._staged.discard(path)
        if is_staged:
            return
        for owner in same:  # the object's attributes, whatever name they are deleted through
            self._remove_attributes(owner)
        if path.endswith(ARRAY):
            self._remove_attributes(path)

    def _before_rename(self, old: str, new: str) -> dict[str, Any]:
        return {
            "staged": old in self._staged,
            "replaced": self._is_file(new) and new not in self._staged,
            "same": self._same_file(old, new),
            "names": self._same_paths(new) if new.endswith(ARRAY) else [],
            "folder": self._is_folder(old),
            "link": self._is_link(old),
            "inode": os.lstat(self.plain / old).st_ino if self._exists(old) else 0,
        }

    def _after_rename(self, before: dict[str, Any], old: str, new: str) -> None:
        if before["same"] or old == new:
            return
        if before["link"]:
            self._staged.discard(new)
            return
        if before["folder"]:
            self._staged = {
                new + each[len(old) :] if each.startswith(old + "/") else each
                for each in self._staged
            }
            return
        was_staged = before["staged"]
        self._staged.discard(old)
        if os.path.basename(new) in SCRATCH:
            self._staged.add(new)
            if not was_staged and old.endswith(ARRAY):
                self._carried[before["inode"]] = self._take_attributes(old)
            if not was_staged and old.endswith(ATTRIBUTES):
                self._spread_attributes(old, None)
            return
        self._staged.discard(new)
        if new.endswith(ATTRIBUTES):
            if not was_staged:
                self._spread_attributes(old, None)
            self._written(new)
            return
        if was_staged and before["inode"] in self._carried:
            self._give_attributes(new, self._carried.pop(before["inode"]), before["replaced"])
        elif not was_staged:
            self._give_attributes(new, self._take_attributes(old), before["replaced"])
        else:
            # New content through one of several hard links: the others show it too.
            for name in before["names"]:
                if name != new:
                    os.unlink(self.plain / name)
                    os.link(self.plain / new, self.plain / name)
        self._written(new)

    def _after_link(self, _before: Any, old: str, new: str) -> None:
        waiting = self._attributes_of(new)
        if waiting in self._staged:
            if parse_attributes(self._read(waiting)) is not None:
                self._staged.discard(waiting)
                self._spread_attributes(waiting, self._read(waiting))
            return
        if self._exists(self._attributes_of(old)) and self._attributes_of(old) not in self._staged:
            self._put(waiting, self._read(self._attributes_of(old)))

    def _written(self, path: str) -> None:
        """A file was closed: it is in the HDF5 file when it is whole."""
        if os.path.basename(path) in SCRATCH:
            self._staged.add(path)
        elif path.endswith(ARRAY):
            if classify(self._read(path)) != "valid":
                self._staged.add(path)
                return
            self._staged.discard(path)
            self._commit(path)
            waiting = self._attributes_of(path)
            if waiting in self._staged and parse_attributes(self._read(waiting)) is not None:
                self._staged.discard(waiting)
                self._spread_attributes(waiting, self._read(waiting))
        else:
            owner = path.removesuffix(ATTRIBUTES) + ARRAY
            has_owner = os.path.basename(path) == ATTRIBUTES or (
                self._exists(owner) and owner not in self._staged
            )
            if not has_owner or parse_attributes(self._read(path)) is None:
                self._staged.add(path)
                return
            self._staged.discard(path)
            self._spread_attributes(path, self._read(path))

    def _commit(self, path: str) -> None:
        data = self._read(path)
        self._dirty.pop(os.stat(self.plain / path).st_ino, None)
        self._put(path, canonical(data))

    def _take_attributes(self, path: str) -> bytes:
        """Remove and return the attributes that go with a dataset, empty for none."""
        attributes = self._attributes_of(path)
        if not self._exists(attributes) or attributes in self._staged:
            return b""
        data = self._read(attributes)
        os.unlink(self.plain / attributes)
        return data

    def _give_attributes(self, path: str, data: bytes, replaced: bool) -> None:
        attributes = self._attributes_of(path)
        if replaced:
            self._remove_attributes(path)
        if attributes in self._staged:
            return  # they wait for whatever gets the name
        if data:
            self._put(attributes, data)

    def _remove_attributes(self, path: str) -> None:
        attributes = self._attributes_of(path)
        if attributes not in self._staged:
            with suppress(FileNotFoundError):
                os.unlink(self.plain / attributes)

    def _spread_attributes(self, path: str, data: bytes | None) -> None:
        """Show an object's attributes beside each of its hard links."""
        owner = path.removesuffix(ATTRIBUTES) + ARRAY
        for name in self._same_paths(owner):
            if name == owner:
                continue
            if data is None:
                self._remove_attributes(name)
            elif self._attributes_of(name) not in self._staged:
                self._put(self._attributes_of(name), data)

    def _settle_empty_attributes(self) -> None:
        """An object without attributes has no attribute file."""
        for path in list(self._walk(self.plain)):
            is_committed = path.endswith(ATTRIBUTES) and path not in self._staged
            if is_committed and self._is_file(path) and not parse_attributes(self._read(path)):
                os.unlink(self.plain / path)

    def _note_seen(self) -> None:
        for handle in self.handles.values():
            data = handle.content()
            handle.names = max(handle.names, os.fstat(handle.plain).st_nlink)
            if not handle.seen or handle.seen[-1] != data:
                handle.seen.append(data)
