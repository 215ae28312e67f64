"""One state of an HDF5 file: its tree, from the opening until the file changes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from h5fs.tree.tree import Tree


@dataclass(eq=False, slots=True)
class Version(ABC):
    """A tree over one version of a file. ``stamp`` tells it from others; ``file_count``: how many
    of its files are open."""

    tree: Tree
    stamp: Hashable
    file_count: int = 0
    is_retired: bool = False
    is_closed: bool = False

    @abstractmethod
    def holds(self) -> bool:
        """Whether what the tree has answered just now came from this version alone."""

    def close(self) -> None:
        """Close the tree."""
        self.is_closed = True
        self.tree.close()


@dataclass(eq=False, slots=True)
class OpenFile:
    """An open file: its path, and the version whose tree knows it by ``handle``."""

    path: bytes
    version: Version
    handle: int


class Followed(Protocol):
    """A place at which one file stands after another. Any thread may call.

    ``may_grow``: what was there stays readable, and more comes. ``again_seconds``: after what time
    it is worth trying anew to open what did not open.
    """

    may_grow: bool
    again_seconds: float

    @property
    def name(self) -> str:
        """The place, for messages."""

    def look(self) -> Hashable | None:
        """Return the stamp of what stands there now; None when nothing does. Never waits long."""

    def open(self) -> Version:
        """Open what stands there. Raises ``CannotOpenError``, ``UnreadableError``."""

    def suspect(self) -> bool:
        """Assume that everything has changed; return whether only opening it anew can tell."""

    def interrupt(self) -> None:
        """Let calls that wait for another machine end with an error, now and later."""


def is_at(followed: Followed, version: Version) -> bool:
    """Whether a version is what stands at the place, or nothing stands there any more."""
    found = followed.look()
    return version.holds() if found is None else found == version.stamp
