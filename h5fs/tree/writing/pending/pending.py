"""What is pending: all that a mount that writes knows and the HDF5 file does not have (yet).

Pure: values in, values out, and no store. Not thread-safe: under the tree's lock, but for
``drafts``.
"""

from __future__ import annotations

import itertools
import stat
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import TypeVar

from h5fs.model.file_status import FileStatus
from h5fs.model.objects import ObjectInfo, ObjectRef
from h5fs.tree.nodes import AnyKind, Node, NodeKind, object_inode
from h5fs.tree.status import NANOSECONDS, Dentry
from h5fs.tree.writing.names.scratch_entries import ScratchEntry
from h5fs.tree.writing.pending.by_folder import ByFolder
from h5fs.tree.writing.pending.drafts import Draft
from h5fs.tree.writing.pending.refused_drafts import RefusedDrafts
from h5fs.tree.writing.pending.times import MOST_TIMES, Times
from h5fs.tree.writing.pending.writable_file import WritableFile

Key = TypeVar("Key")
Value = TypeVar("Value")

_FIRST_INODE = 1 << 62  # far from those that are made of addresses in the HDF5 file


class Pending:
    """Files that are staged or being edited, scratch folders and links, whiteouts, times.

    A staged file stands at a path where the HDF5 file has nothing, or nothing that counts. A file
    that is being edited has a node. A whiteout (the word of union file systems) stands for a dentry
    that was unlinked, while the object that it shows stays for another dentry's sake. Times are
    those that programs set, of the last ``most_times`` inode numbers.
    """

    def __init__(self, most_times: int = MOST_TIMES) -> None:
        self._staged: ByFolder[WritableFile] = ByFolder()
        self._copied: set[ObjectRef] = set()  # what ``copy_of`` of staged files may be
        # By kind of node; file and id of the object: an ``ObjectRef`` is hashed in Python.
        self._editing: dict[tuple[AnyKind, int, int], WritableFile] = {}
        self._scratch: ByFolder[ScratchEntry] = ByFolder()
        self._whiteouts: ByFolder[bool] = ByFolder()
        # Files by each HDF5 path that they await: just those in whose ``awaits`` the path is.
        self._awaited: dict[bytes, dict[WritableFile, None]] = {}
        self._times = Times(most_times)
        self.refused = RefusedDrafts()
        """What was written to files of the HDF5 file, and refused."""
        self._inodes = itertools.count(_FIRST_INODE)
        # How to take back what was changed, last one last; None when nobody will ask.
        self._undo: list[Callable[[], object]] | None = None

        # What each call of the kernel asks some times is asked of the mappings themselves: as
        # methods they made an unlink take 10 % more calls of Python, a rename 6 %.
        self.staged: Callable[[bytes], WritableFile | None] = self._staged.get
        """Return the staged file at a path."""
        self.scratch: Callable[[bytes], ScratchEntry | None] = self._scratch.get
        """Return the scratch folder or symbolic link at a path."""
        self.is_whited_out: Callable[[bytes], bool] = self._whiteouts.__contains__
        """Whether a dentry of the HDF5 file's is not shown."""
        self.times_of: Callable[[int], tuple[int, int] | None] = self._times.get
        """Return the times of an inode number that were set last; None where there are none (any
        more)."""
        self.set_times: Callable[[int, int, int], None] = self._times.set
        """Set access and modification time of an inode number; those set longest ago are forgotten
        when there are too many."""
        self.forget_times: Callable[[int], None] = self._times.forget
        """Forget the times of a file that is gone."""

    # Paths.

    def is_outside(self, path: bytes) -> bool:
        """Whether something is at a path that the HDF5 file does not have there."""
        return path in self._staged or path in self._scratch

    def new_inode(self) -> int:
        """Return an inode number for something that the HDF5 file does not have."""
        return next(self._inodes)

    def has_any_in(self, folder: bytes) -> bool:
        """Whether a folder has anything that the HDF5 file does not have."""
        return bool(self._staged.in_folder(folder) or self._scratch.in_folder(folder))

    def in_folder(self, folder: bytes) -> list[Dentry]:
        """Return the dentries of a folder that the HDF5 file does not have."""
        return [
            *(Dentry(name, f.inode, stat.S_IFREG) for name, f in self._staged.in_folder(folder)),
            *(entry.dentry(name) for name, entry in self._scratch.in_folder(folder)),
        ]

    def move(self, old: bytes, new: bytes) -> list[WritableFile]:
        """Let all at ``old`` and below be at ``new`` and below; return the staged files moved."""
        moved = self._move_keys(self._staged, old, new)
        self._move_keys(self._scratch, old, new)
        self._move_keys(self._whiteouts, old, new)
        self.refused.move(old, new)
        below = old + b"/"
        for path, file in moved:
            self._set_path(file, path)
        for file in self._editing.values():
            if file.path == old or file.path.startswith(below):
                self._set_path(file, new + file.path[len(old) :])
        return [file for _, file in moved]

    # Staged files.

    def staged_files(self) -> list[WritableFile]:
        """Return all staged files."""
        return self._staged.snapshot()

    def stage(self, file: WritableFile, path: bytes | None = None) -> WritableFile | None:
        """Let a file be staged at a path: its own, or another one that it has from now on.

        Return the staged file that was there.
        """
        path = file.path if path is None else path
        replaced = self._staged.get(path)
        if replaced is file:
            return None
        if self._staged.get(file.path) is file:
            self._pop(self._staged, file.path)
        file.is_over &= path == file.path
        self._put(self._staged, path, file)
        self._set_path(file, path)
        return replaced

    def unstage(self, path: bytes) -> WritableFile | None:
        """Let no file be staged at a path; return the one that was."""
        return self._pop(self._staged, path)

    def note_copy(self, file: WritableFile, ref: ObjectRef) -> None:
        """Take note that the attributes in a staged file are those of an object, as a link."""
        file.copy_of = ref
        self._copied.add(ref)

    def forget_copies(self, ref: ObjectRef) -> None:
        """An object has lost a link: its number may soon be that of another one."""
        if ref in self._copied:
            self._copied.discard(ref)
            for file in self.staged_files():
                if file.copy_of == ref:
                    file.copy_of = None

    def let_wait(self, file: WritableFile) -> None:
        """Let a file that was being edited be staged: it shows what was written until it can be."""
        self.end_editing(file)
        file.node = file.content = None
        self.stage(file)
        self.remove_whiteout(file.path)
        self.refused.forget(file.path)

    def settle(self, file: WritableFile) -> None:
        """A file is in the HDF5 file now: it is neither staged nor edited.

        No error from here on can take that back, nor what has led to it.
        """
        if self._staged.get(file.path) is file:
            self._pop(self._staged, file.path)
        self.end_editing(file)
        self.stop_awaiting(file)
        self.refused.forget(file.path)
        if self._undo is not None:
            self._undo.clear()

    # Files that are being edited.

    def edited(self, node: Node) -> WritableFile | None:
        """Return the file in which a node is being edited."""
        return self._editing.get(_key_of(node.kind, node.info.ref)) if self._editing else None

    def edited_array(self, ref: ObjectRef) -> WritableFile | None:
        """Return the file in which a dataset's array is being edited."""
        return self._editing.get(_key_of(NodeKind.ARRAY, ref))

    def edited_files(self) -> list[WritableFile]:
        """Return all files that are being edited."""
        return list(self._editing.values())

    def begin_editing(self, node: Node, file: WritableFile) -> None:
        """Let a node be edited in a file."""
        self._put(self._editing, _key_of(node.kind, node.info.ref), file)

    def end_editing(self, file: WritableFile) -> None:
        """Let a file not be the one in which a node is edited."""
        if self._editing:
            for key in [key for key, each in self._editing.items() if each is file]:
                self._pop(self._editing, key)

    def has_edited(self, ref: ObjectRef) -> bool:
        """Whether there is anything that ``move_edited`` could find of an object."""
        return bool(self.refused) or any(
            file.node is not None and file.node.info.ref == ref for file in self._editing.values()
        )

    def move_edited(self, ref: ObjectRef, old: bytes, new: bytes) -> None:
        """Let a file in which something of an object is being edited have another path."""
        self.refused.move(old, new)
        for file in self._editing.values():
            if file.path == old and file.node is not None and file.node.info.ref == ref:
                self._set_path(file, new)

    # Whiteouts.

    def list_whiteouts(self) -> list[bytes]:
        """Return the paths of all whiteouts."""
        return list(self._whiteouts)

    def whiteouts_in(self, folder: bytes) -> set[bytes]:
        """Return the names in a folder that are whited out."""
        return {name for name, _ in self._whiteouts.in_folder(folder)}

    def add_whiteout(self, path: bytes) -> None:
        """Let a dentry of the HDF5 file's not be shown."""
        self._put(self._whiteouts, path, True)

    def remove_whiteout(self, path: bytes) -> bool:
        """Let a dentry be shown again; return whether it was whited out."""
        return self._pop(self._whiteouts, path) is not None

    # Scratch folders, and symbolic links in them.

    def add_scratch(self, path: bytes, entry: ScratchEntry) -> None:
        """Let a scratch folder or symbolic link be at a path."""
        self._put(self._scratch, path, entry)

    def remove_scratch(self, path: bytes) -> None:
        """Let no scratch folder or symbolic link be at a path."""
        self._pop(self._scratch, path)

    def scratch_links(self) -> list[tuple[bytes, bytes]]:
        """Return path and text of each symbolic link that the HDF5 file does not have."""
        return [(path, e.text) for path, e in self._scratch.items() if e.text is not None]

    # Attributes that await what they refer to.

    def await_targets(self, file: WritableFile, targets: Iterable[bytes]) -> None:
        """Note the HDF5 paths that a file waits for, instead of those that it has waited for."""
        self.stop_awaiting(file)
        self._set_awaits(file, frozenset(targets))
        for target in file.awaits:
            self._awaited.setdefault(target, {})[file] = None

    def stop_awaiting(self, file: WritableFile) -> None:
        """Let a file wait for nothing."""
        if not file.awaits:
            return
        for target in file.awaits:
            self._forget_awaited(target, file)
        self._set_awaits(file, frozenset())

    def awaits_any(self) -> bool:
        """Whether any file awaits anything."""
        return bool(self._awaited)

    def arrived(self, path: bytes) -> list[WritableFile]:
        """An HDF5 path, and all below it, is there: return the staged files that await no more."""
        below = path + b"/"  # a group that was moved has brought others along
        complete = []
        for target in [each for each in self._awaited if each == path or each.startswith(below)]:
            for file in list(self._awaited[target]):
                self.await_targets(file, file.awaits - {target})
                if not file.awaits and self._staged.get(file.path) is file:
                    complete.append(file)
        return complete

    # Times.

    @property
    def has_times(self) -> bool:
        """Whether the times of any file were set."""
        return len(self._times) > 0

    def hold_times(self, info: ObjectInfo, of_file: FileStatus) -> None:
        """Let the times of an object's array be what they are, although its header's may change:
        the kernel keeps them, and does not know that attributes change them.
        """
        inode = object_inode(info.ref.id, NodeKind.ARRAY)
        if (info.mtime or info.ctime or info.atime) and self._times.get(inode) is None:
            atime_ns = info.atime * NANOSECONDS or of_file.atime_ns
            self._times.set(inode, atime_ns, info.mtime * NANOSECONDS or of_file.mtime_ns)

    # All of it.

    def drafts(self) -> list[Draft]:
        """Return all drafts with something that the HDF5 file does not have.

        From any thread, without the lock, which a call keeps while it waits for a worker. Copying a
        dict's values is one step for the interpreter; what changes meanwhile is counted as before
        or after.
        """
        files = {id(each): each for each in [*self._staged.snapshot(), *self.edited_files()]}
        return [d for f in files.values() if f.is_dirty and (d := f.draft) is not None]

    @contextmanager
    def restored_on_error(self) -> Iterator[None]:
        """Take back all that changes here within the block if the block raises.

        What has become part of the HDF5 file stays, and so do times, which are set when that has
        happened. Costs what the changes cost, not what is pending. No such block is within another.
        """
        assert self._undo is None
        self._undo = changes = list[Callable[[], object]]()
        try:
            yield
        except BaseException:
            self._undo = None
            for undo in reversed(changes):
                undo()
            raise
        finally:
            self._undo = None

    def _put(self, mapping: MutableMapping[Key, Value], key: Key, value: Value) -> None:
        if self._undo is not None:
            self._undo.append(_taking_back(mapping, key))
        mapping[key] = value

    def _pop(self, mapping: MutableMapping[Key, Value], key: Key) -> Value | None:
        if self._undo is not None:
            self._undo.append(_taking_back(mapping, key))
        return mapping.pop(key, None)

    def _move_keys(
        self, mapping: ByFolder[Value], old: bytes, new: bytes
    ) -> list[tuple[bytes, Value]]:
        if not mapping:
            return []
        values = mapping.at_or_below(old)
        for path, _ in values:
            self._pop(mapping, path)
        moved = [(new + path[len(old) :], value) for path, value in values]
        for path, value in moved:
            self._put(mapping, path, value)
        return moved

    def _set_path(self, file: WritableFile, path: bytes) -> None:
        old = file.path
        if self._undo is not None:
            self._undo.append(lambda: setattr(file, "path", old))
        file.path = path

    def _set_awaits(self, file: WritableFile, targets: frozenset[bytes]) -> None:
        old = file.awaits
        if self._undo is not None and old != targets:
            self._undo.append(lambda: self.await_targets(file, old))
        file.awaits = targets

    def _forget_awaited(self, target: bytes, file: WritableFile) -> None:
        files = self._awaited.get(target, {})
        files.pop(file, None)
        if not files:
            self._awaited.pop(target, None)


def _taking_back(mapping: MutableMapping[Key, Value], key: Key) -> Callable[[], object]:
    """Return what lets a mapping have under a key what it has now."""
    if key in mapping:
        value = mapping[key]
        return lambda: mapping.__setitem__(key, value)
    return lambda: mapping.pop(key, None)


def _key_of(kind: AnyKind, ref: ObjectRef) -> tuple[AnyKind, int, int]:
    return kind, ref.file, ref.id
