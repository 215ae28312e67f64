"""Several names of arrays, some temporary, played on a tree without a mount, and a small model.

``NamesModel`` has each array as POSIX has a file: one content, several names, handles. Where h5fs
promises something else, the sentence of SEMANTICS.md is named. An operation is a tuple of plain
values, so that a list of them can be printed, made shorter and run again; one that makes no sense
where it stands is passed over. ``names_playing`` makes and runs such lists.
"""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from h5fs.errors import H5fsError
from h5fs.tree import WritableTree
from support.reference import npy_bytes
from support.trees import kill_worker, names, read
from support.write_values import classify

Operation = tuple[Any, ...]

VISIBLE = ("d.npy", "e.npy", "k.npy")
SCRATCH = ("d.npy~", ".d.npy.Ab3dEf", ".t")
CONTENTS = (
    npy_bytes(np.arange(12.0)), npy_bytes(np.arange(12.0) + 1), npy_bytes(np.arange(20.0) + 2),
    npy_bytes(np.arange(12.0).reshape(3, 4) + 3), npy_bytes(np.arange(5, dtype=">i2")),
    npy_bytes(np.float32(7)), b"no array, and many bytes of it", b"",
)  # fmt: skip
_EITHER = -1  # success or an error


class NamesError(AssertionError):
    """The tree and the model differ."""


@dataclass(eq=False)
class Array:
    """What several names lead to: a dataset, or bytes under a temporary name (``is_bytes``).

    ``attributes`` are the dataset's. ``past``: what readers may still have.
    """

    content: bytes
    is_bytes: bool = False
    attributes: dict[str, Any] = field(default_factory=dict)
    past: list[bytes] = field(default_factory=list)

    def become(self, content: bytes) -> None:
        """Have another content from now on."""
        if content != self.content:
            self.past.append(self.content)
        self.content = content


@dataclass(eq=False)
class Editing:
    """What a file is while it is open to write: one for the names of the HDF5 file, one for each
    temporary name. ``draft``: what was written and not committed; ``is_loose``: it goes on from a
    content that has changed since, so that the last `close` may bring either."""

    array: Array
    path: str
    draft: bytes | None = None
    is_loose: bool = False
    is_gone: bool = False


@dataclass(eq=False)
class Handle:
    """An open file. ``seen``: how much of the array's past it has seen."""

    number: int
    editing: Editing | None
    array: Array
    appends: bool
    begun: int


class NamesModel:
    """One sequence of operations on a tree, and what it has to be like after each."""

    def __init__(self, tree: WritableTree) -> None:
        self.tree = tree
        self.files: dict[str, Array] = {}
        self.editings: list[Editing] = []
        self.handles: dict[int, Handle] = {}
        self.answers: dict[tuple[str, str], int] = {}

    # Running.

    def run(self, operation: Operation) -> bool:
        """Do one operation and compare everything; return False if it makes no sense here."""
        name, *arguments = operation
        wanted = getattr(self, f"_{name}")(*arguments)
        if wanted is None:
            return False
        act, expected, then = wanted
        try:
            value, answer = act(), 0
        except H5fsError as error:
            value, answer = None, error.errno
        said = errno.errorcode.get(answer, "success")
        self.answers[name, said] = self.answers.get((name, said), 0) + 1
        if expected not in (answer, _EITHER):
            raise NamesError(f"{operation}: {said}, not {errno.errorcode.get(expected, 'success')}")
        if not answer:
            then(value)
        self.compare()
        return True

    # Operations: return what to do, the errno, and what the model does then.

    def _open(self, slot: int, path: str, flags: int) -> Any:
        if slot in self.handles:
            return None
        array = self.files.get(path)
        creates = bool(flags & os.O_CREAT)
        expected = 0
        if array is None and not creates:
            expected = errno.ENOENT
        if array is not None and creates and flags & os.O_EXCL:
            expected = errno.EEXIST

        def act() -> int:
            call = self.tree.create if creates else self.tree.open
            return call(b"/" + path.encode(), flags, slot + 2)

        def then(handle: int) -> None:
            found = self.files.get(path)
            writes = flags & os.O_ACCMODE != os.O_RDONLY
            if found is None:
                found = self.files[path] = Array(b"", is_bytes=True)
            editing = self._editing(found, path) if writes else None
            if flags & os.O_TRUNC and editing is not None:
                self._draft(editing, b"")
            self.handles[slot] = Handle(
                handle, editing, found, bool(flags & os.O_APPEND), len(found.past)
            )

        return act, expected, then

    def _write(self, slot: int, choice: int, share: int) -> Any:
        """Write a whole content, or a part of it at its place."""
        handle, data = self.handles.get(slot), CONTENTS[choice]
        if handle is None or handle.editing is None or not data:
            return None
        editing, length = handle.editing, len(data)
        start, stop = ((0, length), (length // 2, length), (length - 4, length), (0, length // 2))[
            share % 4
        ]
        part = data[start:stop]

        def act() -> None:
            self.tree.write(handle.number, memoryview(part), start)

        def then(_: Any) -> None:
            now = self._shown_to(editing)
            at = len(now) if handle.appends else start
            new = now[:at].ljust(at, b"\0") + part + now[at + len(part) :]
            self._change(editing, new)

        return act, 0, then

    def _cut(self, slot: int, size: int) -> Any:
        handle = self.handles.get(slot)
        if handle is None or handle.editing is None:
            return None
        editing = handle.editing

        def then(_: Any) -> None:
            now = self._shown_to(editing)
            if len(now) != size:
                self._draft(editing, now[:size].ljust(size, b"\0"))

        return lambda: self.tree.truncate(None, size, handle.number), 0, then

    def _flush(self, slot: int) -> Any:
        """Close a duplicate of the descriptor."""
        handle = self.handles.get(slot)
        if handle is None:
            return None
        expected = self._error_of_close(handle)
        return (
            lambda: self.tree.flush(handle.number, slot + 2), expected,
            lambda _: self._commit(handle.editing),
        )  # fmt: skip

    def _fsync(self, slot: int) -> Any:
        handle = self.handles.get(slot)
        if handle is None or (self._error_of_close(handle) and handle.editing is not None):
            return None
        return lambda: self.tree.fsync(handle.number), 0, lambda _: self._commit(handle.editing)

    def _close(self, slot: int) -> Any:
        handle = self.handles.get(slot)
        if handle is None:
            return None
        expected = self._error_of_close(handle)

        def act() -> None:
            try:
                self.tree.flush(handle.number, slot + 2)
            finally:
                self.tree.release(handle.number)
                del self.handles[slot]
                self._after_close(handle, expected)

        return act, expected, lambda _: None

    def _kill(self) -> Any:
        return lambda: kill_worker(self.tree), 0, lambda _: None

    def _link(self, old: str, new: str) -> Any:
        array = self.files.get(old)
        expected = 0
        if array is None:
            expected = errno.ENOENT
        elif array.is_bytes or old in SCRATCH:
            expected = errno.EPERM
        elif new in self.files:
            expected = errno.EEXIST
        if expected and old != new and array is None:
            return None

        def then(_: Any) -> None:
            assert array is not None
            self.files[new] = array

        call = self.tree.make_hard_link
        return lambda: call(b"/" + old.encode(), b"/" + new.encode()), expected, then

    def _unlink(self, path: str) -> Any:
        def then(_: Any) -> None:
            del self.files[path]
            self._end_editing_at(path)

        expected = 0 if path in self.files else errno.ENOENT
        return lambda: self.tree.unlink(b"/" + path.encode()), expected, then

    def _rename(self, old: str, new: str) -> Any:
        array, target = self.files.get(old), self.files.get(new)
        if array is None:
            return None
        expected = 0
        if array.is_bytes and old != new and new in VISIBLE:
            data = self._bytes_of(old, array)
            if classify(data) != "valid":
                expected = errno.EINVAL
        elif array is not target and old in SCRATCH and new in VISIBLE:
            data = self._bytes_of(old, array)  # R17, with the errors of `close`
            if classify(data) != "valid":
                expected = errno.EINVAL

        def then(_: Any) -> None:
            if array is target:
                return
            self._renamed(old, new, array, target)

        return lambda: self.tree.rename(b"/" + old.encode(), b"/" + new.encode()), expected, then

    # What the model does.

    def _renamed(self, old: str, new: str, array: Array, target: Array | None) -> None:
        commits = array.is_bytes and new in VISIBLE
        moving = [e for e in self.editings if e.path == old and e.array is array]
        self._end_editing_at(new)
        del self.files[old]
        if old in SCRATCH and new in VISIBLE and not array.is_bytes:
            for each in moving:
                if each.draft is not None:
                    new_content, each.draft = each.draft, None
                    self._become(array, new_content, each)
        if commits:
            array.become(self._bytes_of(old, array))
            array.is_bytes = False
            for each in moving:
                each.draft = None
            if target is not None and not target.is_bytes:
                array.attributes = dict(target.attributes)  # R17: it keeps its attributes
                for name in VISIBLE:  # R4: and all its names but temporary ones
                    if self.files.get(name) is target:
                        self.files[name] = array
        self.files[new] = array
        for each in moving:
            each.path = new

    def _editing(self, array: Array, path: str) -> Editing:
        for each in self.editings:
            same = each.path == path if path in SCRATCH else each.path not in SCRATCH
            if each.array is array and same and not each.is_gone:
                return each
        self.editings.append(Editing(array, path))
        return self.editings[-1]

    def _shown_to(self, editing: Editing) -> bytes:
        return editing.array.content if editing.draft is None else editing.draft

    def _bytes_of(self, path: str, array: Array) -> bytes:
        for each in self.editings:
            if each.array is array and each.path == path and each.draft is not None:
                return each.draft
        return array.content

    def _change(self, editing: Editing, new: bytes) -> None:
        array = editing.array
        is_inside = len(new) == len(array.content) and new[:128] == array.content[:128]
        if editing.draft is None and is_inside and not array.is_bytes:
            self._become(array, new)  # R6
        elif new != self._shown_to(editing) or editing.draft is not None:
            self._draft(editing, new)

    def _become(self, array: Array, new: bytes, by: Editing | None = None) -> None:
        for each in self.editings:
            if each.array is array and each is not by and each.draft is not None:
                each.is_loose = True
        array.become(new)

    def _draft(self, editing: Editing, new: bytes) -> None:
        if editing.array.is_bytes:
            editing.array.become(new)
        else:
            editing.draft = new
            if not new:
                editing.is_loose = False

    def _names(self, array: Array) -> list[str]:
        return [name for name, each in self.files.items() if each is array]

    def _error_of_close(self, handle: Handle) -> int:
        editing = handle.editing
        if editing is None:
            return 0
        array, names = handle.array, self._names(handle.array)
        if array.is_bytes:
            if not names or names[0] in SCRATCH or not array.content:
                return 0
            return 0 if classify(array.content) in ("valid", "header") else errno.EINVAL
        if editing.draft is None:
            return 0
        if editing.is_gone and not names:
            return _EITHER  # that its last name is gone, too, is not always known
        if not editing.is_gone and editing.path in SCRATCH and len(names) == 1:
            return 0  # R17: it may have any content on its way
        if classify(editing.draft) == "header":
            return 0
        return 0 if classify(editing.draft) == "valid" else errno.EINVAL

    def _commit(self, editing: Editing | None) -> None:
        if editing is None:
            return
        array = editing.array
        names = self._names(array)
        if array.is_bytes:
            if names and names[0] in VISIBLE and classify(array.content) == "valid":
                array.is_bytes = False
            return
        if editing.draft is None or classify(editing.draft) != "valid" or not names:
            return
        if not editing.is_gone and editing.path in SCRATCH and len(names) == 1:
            return
        new, editing.draft = editing.draft, None
        if editing.is_loose:
            new, editing.is_loose = read(self.tree, b"/" + names[0].encode()), False
        self._become(array, new, editing)

    def _after_close(self, handle: Handle, expected: int) -> None:
        editing = handle.editing
        if editing is None:
            return
        if not expected:
            self._commit(editing)
        if any(each.editing is editing for each in self.handles.values()):
            return
        if editing.path in SCRATCH and any(
            each.editing is None and each.array is editing.array for each in self.handles.values()
        ):
            return  # R8: who reads by a temporary name may have the last descriptor
        is_own = editing.path in SCRATCH and len(self._names(editing.array)) == 1
        if editing.draft is not None and not (is_own and not editing.is_gone):
            if classify(editing.draft) == "header" and not editing.is_gone:
                return  # R9: it waits for the rest
            editing.draft = None  # R8
        if editing.draft is None:
            self.editings.remove(editing)

    def _end_editing_at(self, path: str) -> None:
        for each in self.editings:
            if each.path == path and not each.is_gone:
                each.is_gone = True
        open_ones = {id(each.editing) for each in self.handles.values()}
        self.editings = [e for e in self.editings if not e.is_gone or id(e) in open_ones]

    # Comparing.

    def compare(self) -> None:
        """Compare names, sizes, link counts and contents. Raises ``NamesError``."""
        listed = {name.decode() for name in names(self.tree)}
        attributes = {n for n in listed if n.endswith(".attrs.json")}
        if listed - attributes != set(self.files):
            raise NamesError(f"names {sorted(listed - attributes)}, not {sorted(self.files)}")
        for name, array in self.files.items():
            self._compare_name(name, array)
        for slot, handle in self.handles.items():
            self._compare_handle(slot, handle)
        wanted = {
            name.removesuffix(".npy") + ".attrs.json"
            for name, array in self.files.items()
            if name in VISIBLE and array.attributes and not array.is_bytes
        }
        if attributes != wanted:
            raise NamesError(f"attributes {sorted(attributes)}, not {sorted(wanted)}")
        for name in wanted:
            values = json.loads(read(self.tree, b"/" + name.encode()))
            if values != self.files[name.removesuffix(".attrs.json") + ".npy"].attributes:
                raise NamesError(f"{name} is {values}")

    def _compare_name(self, name: str, array: Array) -> None:
        path = b"/" + name.encode()
        drafts = [e for e in self.editings if e.array is array and e.draft is not None]
        contents = {array.content, *(e.draft for e in drafts if e.draft is not None)}
        try:
            data = read(self.tree, path)
        except H5fsError as error:
            raise NamesError(f"{name} cannot be read: {error!r}") from None
        if data not in contents and not any(e.is_loose for e in drafts):
            raise NamesError(f"{name} is {data[:200]!r} ({len(data)} bytes), not {contents}")
        status = self.tree.get_status(path)
        if status.size_bytes not in {len(each) for each in contents}:
            raise NamesError(f"{name} has {status.size_bytes} bytes")
        count = len(self._names(array))
        if status.hard_link_count != count:
            raise NamesError(f"{name}: link count {status.hard_link_count}, not {count}")
        inode = {self.tree.get_status(b"/" + n.encode()).inode for n in self._names(array)}
        if len(inode) > 1:
            raise NamesError(f"{name}: inode numbers {inode}")

    def _compare_handle(self, slot: int, handle: Handle) -> None:
        try:
            status = self.tree.get_status_of_handle(handle.number, has_name=False)
            data = self.tree.read(handle.number, 2**16, 0)
        except H5fsError as error:
            raise NamesError(f"handle {slot} cannot be read: {error!r}") from None
        array, editing = handle.array, handle.editing
        if editing is None:  # R10, R2
            drafts = {e.draft for e in self.editings if e.array is array and e.draft is not None}
            allowed = {*array.past[handle.begun :], array.content, *drafts}
            if data not in allowed:
                raise NamesError(f"reader {slot} has {data[:200]!r}")
            return
        wanted = self._shown_to(editing)
        if data != wanted and not editing.is_loose:
            raise NamesError(f"writer {slot} has {data[:200]!r} ({len(data)}), not {wanted!r}")
        if status.size_bytes != len(data):
            raise NamesError(f"writer {slot}: fstat says {status.size_bytes}, not {len(data)}")
