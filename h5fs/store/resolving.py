"""Soft and external links followed by hand, one component at a time.

HDF5 would follow them itself, but would open the files that external links name by its own rules,
and more than once. Here every file goes through the policy and is opened once.
"""

from __future__ import annotations

from typing import Protocol

from h5fs.errors import ForbiddenError, H5fsError, LinkLoopError, NotFoundError, show_path
from h5fs.model.objects import Link, LinkKind, ObjectInfo, ObjectKind, ObjectRef

_MAX_LINKS_FOLLOWED = 40  # as many as Linux follows before it says ELOOP


class LinkSource(Protocol):
    """What the resolver needs of the store."""

    def root(self, file: int = 0) -> ObjectInfo: ...

    def describe_object(self, ref: ObjectRef) -> ObjectInfo: ...

    def get_link(self, group: ObjectRef, name: bytes) -> Link: ...

    def find_external(self, name: bytes, *, linking_file: int) -> int: ...


class Resolver:
    """Follows one link; counts the links on the way, so that circles end.

    With ``leaves_file`` False an external link on the way is a ``ForbiddenError``.
    """

    def __init__(self, source: LinkSource, *, leaves_file: bool = True) -> None:
        self._source = source
        self._leaves_file = leaves_file
        self._followed = 0

    def follow(self, group: ObjectRef, link: Link) -> ObjectInfo:
        """Return the object that a link of ``group`` leads to.

        Raises ``NotFoundError`` (dangling), ``LinkLoopError``, ``ForbiddenError`` (policy, or a
        user-defined link), ``UnreadableError``.
        """
        if link.kind is LinkKind.HARD:
            assert link.target is not None
            return link.target
        self._followed += 1
        if self._followed > _MAX_LINKS_FOLLOWED:
            raise LinkLoopError(f"too many links at {show_path(group.path)}")
        if link.kind is LinkKind.SOFT:
            return self.walk(group, link.soft_target)
        if link.kind is LinkKind.EXTERNAL and self._leaves_file:
            number = self._source.find_external(link.external_file, linking_file=group.file)
            root = self._source.root(number)
            return self.walk(root.ref, link.external_path)
        raise ForbiddenError(f"{link.kind.value} link {show_path(link.name)} may not be followed")

    def walk(self, group: ObjectRef, path: bytes) -> ObjectInfo:
        """Return the object at an HDF5 path, relative to ``group`` or absolute in its file."""
        parent, link = self.find_link(group, path)
        return self._source.describe_object(parent) if link is None else self.follow(parent, link)

    def find_link(self, group: ObjectRef, path: bytes) -> tuple[ObjectRef, Link | None]:
        """Return the group and the link that the last component of a path names, not followed.

        The link is None when the path names the starting group itself. Raises as ``follow`` does.
        """
        here = self._source.root(group.file).ref if path.startswith(b"/") else group
        link: Link | None = None
        for name in path.split(b"/"):
            if name in (b"", b"."):
                continue
            if link is not None:
                target = self.follow(here, link)
                if target.kind is not ObjectKind.GROUP:
                    raise NotFoundError(f"{show_path(target.ref.path)} is not a group")
                here = target.ref
            link = self._source.get_link(here, name)
        return here, link


def is_there(source: LinkSource, path: bytes) -> bool:
    """Whether a path from the root group of a file leads to an object."""
    try:
        Resolver(source).walk(source.root().ref, path)
    except (NotFoundError, LinkLoopError):
        return False
    except H5fsError:
        return True  # opening it will say what is wrong
    return True
