"""The same operations on a mount that writes and on a plain folder: what must be the same, is.

The plain folder (ext4) is the model. An operation is a tuple of plain values, so that a sequence
can be printed and run again. ``WriteModel.run`` does one on both sides. Where the mount is
another by design, ``_refusal`` says which errno it gives instead and why, and the ``_after_*``
methods change the plain folder by what the mount does beyond POSIX. Committed arrays are kept in
the plain folder as the mount shows them: in C order, text as wide as its longest string.
"""

from __future__ import annotations

import errno
import io
import os
import select
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from support.reference import npy_bytes
from support.watching import find_workers
from support.write_comparison import OpenPair, Operation
from support.write_effects import Effects
from support.write_values import (
    ARRAY,
    ATTRIBUTES,
    SCRATCH,
    STRUCTURED,
    classify,
    copy_in_order,
    make_array,
    parse_attributes,
)


@dataclass(frozen=True)
class _Refusal:
    """What the mount answers where a plain folder would do it."""

    errnos: tuple[int, ...]
    reason: str


class WriteModel(Effects):
    """One sequence of operations on a folder of a mount and on a plain one."""

    # Running.

    def run(self, operation: Operation) -> None:
        """Do one operation on both sides. Raises ``ModelError`` when they answer otherwise."""
        name, *arguments = operation
        if not self._may_run(name, *arguments):
            return
        self.done.append(operation)
        refusal = self._refusal(name, *arguments)
        act: Callable[..., Any] = getattr(self, f"_do_{name}")
        answer = _answer(lambda: act(self.mount, *arguments))
        if refusal is not None:
            if answer not in refusal.errnos:
                self.fail(f"{_said(answer)}, by design {refusal.errnos[0]} "
                          f"({errno.errorcode[refusal.errnos[0]]}: {refusal.reason})")  # fmt: skip
            getattr(self, f"_refused_{name}", lambda *_: None)(*arguments)
        else:
            before = getattr(self, f"_before_{name}", lambda *_: None)(*arguments)
            wanted = _answer(lambda: act(self.plain, *arguments))
            if answer != wanted:
                self.fail(f"the mount says {_said(answer)}, the plain folder {_said(wanted)}")
            if answer == 0:
                getattr(self, f"_after_{name}", lambda *_: None)(before, *arguments)
        self._note_seen()
        self._settle_empty_attributes()

    def close_handles(self) -> None:
        """Close what is open, as an operation each."""
        for slot in sorted(self.handles):
            self.run(("hclose", slot))

    # Operations. Each is done on the mount and on the plain folder alike, below ``root``.

    def _do_save(self, root: Path, path: str, array: list[Any], order: str) -> None:
        made = make_array(array[0], tuple(array[1]), array[2])
        if made.dtype.names is not None:
            order = "C"  # np.save writes garbage for the padding otherwise
        with open(root / path, "wb") as file:
            np.save(file, copy_in_order(made, order), allow_pickle=False)

    def _do_write(self, root: Path, path: str, text: bytes) -> None:
        descriptor = os.open(root / path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            if text:
                os.write(descriptor, text)
        finally:
            os.close(descriptor)

    def _do_patch(self, root: Path, path: str, place: float, seed: int) -> None:
        descriptor = os.open(root / path, os.O_RDWR)
        try:
            self._patch(descriptor, descriptor, place, seed)
        finally:
            os.close(descriptor)

    def _do_append(self, root: Path, path: str, rows: int, seed: int) -> None:
        descriptor = os.open(root / path, os.O_RDWR)
        try:
            data = os.pread(descriptor, 2**24, 0)
            array = np.load(io.BytesIO(data), allow_pickle=False)
            longer_array = np.zeros((len(array) + rows, *array.shape[1:]), array.dtype)
            for field in array.dtype.names or (...,):  # concatenate() would drop the padding
                longer_array[: len(array)][field] = array[field]
            longer = npy_bytes(longer_array)
            os.pwrite(descriptor, longer[len(data) :], len(data))
            os.pwrite(descriptor, longer[:128], 0)
        finally:
            os.close(descriptor)

    def _do_truncate(self, root: Path, path: str, size: int) -> None:
        os.truncate(root / path, size)

    def _do_touch(self, root: Path, path: str) -> None:
        os.close(os.open(root / path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o644))
        os.utime(root / path)

    def _do_utime(self, root: Path, path: str, mtime_ns: int) -> None:
        os.utime(root / path, ns=(mtime_ns, mtime_ns))
        assert os.stat(root / path).st_mtime_ns == mtime_ns, "utime did not last"

    def _do_mkdir(self, root: Path, path: str) -> None:
        os.mkdir(root / path)

    def _do_rmdir(self, root: Path, path: str) -> None:
        os.rmdir(root / path)

    def _do_unlink(self, root: Path, path: str) -> None:
        os.unlink(root / path)

    def _do_rename(self, root: Path, old: str, new: str) -> None:
        os.rename(root / old, root / new)

    def _do_link(self, root: Path, old: str, new: str) -> None:
        os.link(root / old, root / new)

    def _do_symlink(self, root: Path, target: str, path: str) -> None:
        # A soft link holds an absolute path, whatever the text: it does not move with its folder.
        folder = os.path.dirname(path)
        text = os.path.relpath(target, folder or ".")
        os.symlink(text if root == self.mount else self.plain / target, root / path)

    def _do_open(self, root: Path, slot: int, path: str, writes: bool) -> None:
        opened = os.open(root / path, os.O_RDWR if writes else os.O_RDONLY)
        if root == self.mount:
            self.handles[slot] = OpenPair(opened, -1, writes)
        else:
            self.handles[slot].plain = opened

    def _do_hwrite(self, root: Path, slot: int, place: float, seed: int) -> None:
        handle = self.handles[slot]
        self._patch(handle.mount if root == self.mount else handle.plain, handle.plain, place, seed)

    def _do_hread(self, root: Path, slot: int) -> None:
        if root != self.mount:
            return
        handle = self.handles[slot]
        data = os.pread(handle.mount, 2**24, 0)
        allowed = [handle.content()] if handle.writes else [*handle.seen, handle.content()]
        if data not in allowed:
            self.fail(f"handle {slot} reads {data[:160]!r} ({len(data)} bytes), not {allowed!r}")
        if not handle.has_lost_a_name and handle.writes:
            sizes = os.fstat(handle.mount).st_size, os.fstat(handle.plain).st_size
            if sizes[0] != sizes[1]:
                self.fail(f"fstat of handle {slot}: {sizes[0]} bytes, not {sizes[1]}")

    def _do_hclose(self, root: Path, slot: int) -> None:
        handle = self.handles[slot]
        if root == self.mount:
            os.close(handle.mount)
        else:
            handle_inode = handle.inode
            paths = [path for path in self._paths(handle_inode) if path.endswith(ARRAY)]
            writes = handle.writes
            os.close(handle.plain)
            del self.handles[slot]
            if writes and paths and paths[0] not in self._staged:
                self._commit(paths[0])

    def _do_die(self, root: Path) -> None:
        # A worker that is asked nothing: whoever asks next must not notice.
        if root == self.mount:
            for worker in find_workers(self.daemon):
                handle = os.pidfd_open(worker)
                os.kill(worker, signal.SIGKILL)
                select.select([handle], [], [], 20)
                os.close(handle)

    def _patch(self, descriptor: int, plain: int, place: float, seed: int) -> None:
        """Write some whole elements within an array's data."""
        data = os.pread(plain, 2**24, 0)
        if classify(data) != "valid":
            data = os.pread(descriptor, 2**24, 0)
        array = np.load(io.BytesIO(data), allow_pickle=False)
        header, item = len(data) - array.nbytes, array.dtype.itemsize
        start = int(place * array.size)
        count = min(array.size - start, 1 + seed % 5)
        name = next((n for n, d in STRUCTURED.items() if d == array.dtype), array.dtype.str)
        elements = make_array(name, (count,), seed).tobytes()
        os.pwrite(descriptor, elements, header + start * item)

    # What may be asked at all: the rest has no answer that both sides could share.

    def _may_run(self, name: str, *arguments: Any) -> bool:
        paths = [each for each in arguments if isinstance(each, str)]
        if name in ("hwrite", "hread", "hclose"):
            handle = self.handles.get(arguments[0])
            if handle is None or (name == "hwrite" and not handle.writes):
                return False
            return name != "hwrite" or self._is_filled(handle.content())
        if name == "open":
            slot, path, _ = arguments
            return (
                slot not in self.handles
                and self._is_file(path)
                and path.endswith(ARRAY)
                and (path not in self._staged)
            )
        if name in ("save", "write", "truncate", "append", "patch", "touch"):
            path = paths[0]
            if self._is_link(path):
                return False
            if name in ("append", "patch") or (name == "truncate" and path.endswith(ARRAY)):
                if not self._is_file(path) or not self._is_filled(self._read(path)):
                    return False
                if name == "append" and np.load(self.plain / path).ndim == 0:
                    return False
            if name == "truncate":
                # Cut after its header, a file waits for data that may still be mapped.
                data = self._read(path)[: arguments[1]] if path.endswith(ARRAY) else b""
                if not path.endswith(ARRAY) or classify(data) == "header":
                    return False
            # A draft is its file's, whoever writes it: a close that is refused would take another
            # handle's changes along.
            return not (name in ("write", "truncate") and self._is_open_to_write(path))
        if name in ("mkdir", "symlink"):
            # A file that is not complete has no link yet, and the folder gets the name.
            return paths[-1] + ARRAY not in self._staged
        if name == "link":
            # One to a scratch name is for the rename that follows (`ln -f`), and not a second name.
            return os.path.basename(paths[1]) not in SCRATCH
        if name == "rename":
            old, new = paths
            if self._is_link(old) and new.endswith((ARRAY, ATTRIBUTES)):
                return False  # it is another link then, whose text has that ending
            return new + ARRAY not in self._staged and not (
                self._is_link(old) and self._is_link(new)
            )
        return True

    # Where the mount refuses by design.

    def _refusal(self, name: str, *arguments: Any) -> _Refusal | None:
        paths = [each for each in arguments if isinstance(each, str)]
        if paths and name != "open" and not self._has_parent(paths[-1]):
            return None
        check = getattr(self, f"_refusal_of_{name}", None)
        return check(*arguments) if check is not None else None

    def _refusal_of_save(self, path: str, _array: Any, _order: str) -> _Refusal | None:
        return self._refusal_of_new(path)

    def _refusal_of_write(self, path: str, text: bytes) -> _Refusal | None:
        if self._is_folder(path):
            return None
        refusal = self._refusal_of_new(path)
        if refusal is not None:
            return refusal
        if path.endswith(ARRAY):
            kind = classify(text)
            is_new = not self._exists(path) or path in self._staged
            if kind == "valid" or (kind == "empty" and is_new) or kind == "header":
                return None
            return _Refusal((errno.EINVAL,), "no whole .npy file at close")
        if path.endswith(ATTRIBUTES) and parse_attributes(text) is None:
            is_new = not self._exists(path) or path in self._staged
            return (
                None
                if not text and is_new
                else (_Refusal((errno.EINVAL,), "no JSON object at close"))
            )
        return None

    def _refusal_of_truncate(self, path: str, size: int) -> _Refusal | None:
        if not self._is_file(path) or size == len(self._read(path)):
            return None
        return _Refusal((errno.EINVAL,), "no whole .npy file at close")

    def _refusal_of_touch(self, path: str) -> _Refusal | None:
        refusal = self._refusal_of_new(path)
        if refusal is not None or self._is_folder(path):
            return refusal
        data = self._read(path) if self._exists(path) else b""
        if not data:
            return None  # nothing in it yet
        if path.endswith(ATTRIBUTES) and parse_attributes(data) is None:
            return _Refusal((errno.EINVAL,), "what waits is no JSON object")
        if path.endswith(ARRAY) and classify(data) in ("partial", "invalid"):
            return _Refusal((errno.EINVAL,), "what waits is no whole .npy file")
        return None

    def _refusal_of_new(self, path: str) -> _Refusal | None:
        """Refuse a dataset where the link has another object."""
        stem = path.removesuffix(ARRAY)
        if stem != path and not self._exists(path) and os.path.lexists(self.plain / stem):
            return _Refusal((errno.EEXIST,), "the HDF5 file has another object of that name")
        return None

    def _refusal_of_mkdir(self, path: str) -> _Refusal | None:
        if not os.path.lexists(self.plain / path) and self._exists(path + ARRAY):
            return _Refusal((errno.EEXIST,), "the HDF5 file has a dataset of that name")
        return None

    def _refusal_of_symlink(self, _target: str, path: str) -> _Refusal | None:
        return self._refusal_of_mkdir(path)

    def _refusal_of_link(self, old: str, new: str) -> _Refusal | None:
        if not self._is_file(old) or os.path.lexists(self.plain / new):
            return None
        if old in self._staged or not old.endswith(ARRAY):
            return _Refusal((errno.EPERM,), "not a dataset of the HDF5 file")
        if not new.endswith(ARRAY):
            return _Refusal((errno.EINVAL,), "a dataset's name ends in .npy")
        if os.path.lexists(self.plain / new.removesuffix(ARRAY)):
            return _Refusal((errno.EEXIST,), "the HDF5 file has another object of that name")
        return None

    def _refusal_of_rename(self, old: str, new: str) -> _Refusal | None:
        if not os.path.lexists(self.plain / old) or old == new:
            return None
        if self._is_folder(old) or self._is_folder(new) or self._is_link(old):
            return self._refusal_of_moved_link(old, new)
        if self._same_file(old, new):
            return None
        kind = next((s for s in (ARRAY, ATTRIBUTES) if new.endswith(s)), "")
        is_scratch = os.path.basename(new) in SCRATCH
        if old in self._staged:
            if not kind and not is_scratch:
                return _Refusal((errno.EINVAL,), "no file can have this name")
            if kind == ARRAY and classify(self._read(old)) != "valid":
                return _Refusal((errno.EINVAL, errno.EEXIST), "no whole .npy file")
            if kind == ATTRIBUTES and parse_attributes(self._read(old)) is None:
                return _Refusal((errno.EINVAL,), "no JSON object")
            return self._refusal_of_new(new)
        if is_scratch:
            return None
        if kind != (ARRAY if old.endswith(ARRAY) else ATTRIBUTES):
            return _Refusal((errno.EINVAL,), "a dataset's name ends in .npy, attributes' in theirs")
        return self._refusal_of_new(new)

    def _refusal_of_moved_link(self, old: str, new: str) -> _Refusal | None:
        if self._is_folder(old) != self._is_folder(new) and os.path.lexists(self.plain / new):
            return None  # the kernel's to refuse
        if self._is_file(old):
            return None
        if new == old or new.startswith(old + "/"):
            return None
        if new.endswith((ARRAY, ATTRIBUTES)):
            return _Refusal((errno.EINVAL,), "no name of a folder")
        if not os.path.lexists(self.plain / new) and self._exists(new + ARRAY):
            return _Refusal((errno.EEXIST,), "the HDF5 file has a dataset of that name")
        return None


def _answer(act: Callable[[], Any]) -> int:
    """Return 0, or the errno."""
    try:
        act()
    except OSError as error:
        return error.errno or -1
    return 0


def _said(answer: int) -> str:
    return errno.errorcode.get(answer, str(answer)) if answer else "success"
