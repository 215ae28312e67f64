"""A path walked as the kernel does it, over a ``Tree`` that is not mounted."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from h5fs.errors import H5fsError, LinkLoopError
from h5fs.tree import Tree
from h5fs.tree.dentries import row_of
from h5fs.tree.status import Dentry

LINKS_FOLLOWED = 40  # MAXSYMLINKS of Linux


def resolve(tree: Tree, path: bytes) -> bytes:
    """Return the path of what ``path`` leads to, without symbolic links. Raises as ``Tree``."""
    left = LINKS_FOLLOWED
    done: list[bytes] = []
    todo = [name for name in path.split(b"/") if name]
    while todo:
        name = todo.pop(0)
        if name == b".":
            continue
        if name == b"..":
            done = done[:-1]
            continue
        here = b"/" + b"/".join([*done, name])
        if stat.S_ISLNK(tree.get_status(here).mode):
            left -= 1
            if left < 0:
                raise LinkLoopError(os.fsdecode(path))
            todo = [part for part in tree.read_link(here).split(b"/") if part] + todo
        else:
            done.append(name)
    return b"/" + b"/".join(done)


def walk(tree: Tree, *, at_most: int) -> Iterator[bytes]:
    """Yield the path of every dentry, as ``find`` does. Fails beyond ``at_most`` of them."""
    pending, seen = [b""], 0
    while pending:
        folder = pending.pop()
        try:
            dentries = list(tree.list_folder(folder or b"/"))
        except H5fsError:
            continue
        for dentry in dentries:
            path = folder + b"/" + dentry.name
            seen += 1
            assert seen <= at_most, "the walk does not end"
            yield path
            if stat.S_ISDIR(dentry.mode):
                pending.append(path)


def check_listing(tree: Tree, folder: bytes) -> int:
    """Compare what a listing says of its dentries with their statuses; return how many it knows."""
    dentries = tree.list_folder(folder)
    known = 0
    for dentry, row in zip(dentries, dentries.rows, strict=True):
        path = folder.rstrip(b"/") + b"/" + dentry.name
        has_status = bool(row["has_status"])
        known += has_status
        try:
            status = tree.get_status(path)
        except H5fsError:
            assert not has_status, path
            continue
        assert (dentry.inode, dentry.mode) == (status.inode, stat.S_IFMT(status.mode)), path
        if has_status:
            assert row.item() == row_of(Dentry(dentry.name, 0, 0, status)), path
    return known
