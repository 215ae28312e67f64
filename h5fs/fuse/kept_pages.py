"""Which pages the kernel may keep of a file when it is opened anew, in a mode that writes.

The kernel has one set of pages for each node (each path that it knows), which every reader of the
node fills. The pages are kept when the file's content is the same, of the same version, as at the
last ``open`` of the node, and nobody could write since then: what a program has written to the
pages need not have become the content. Safe to use from any thread.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum

from h5fs.tree.contents.page_content import PageContent

_MOST_NODES = 100_000


class Pages(Enum):
    """What a file that is opened does with the kernel's pages."""

    KEPT = 1
    DROPPED = 2
    BYPASSED = 3  # since others who have the node open fill them with another content


@dataclass(slots=True)
class _Node:
    """``content``: what the pages show, None when that is not known. ``writers``: how many handles
    may write; ``readers``: which content each handle fills the pages with, as far as that lasts.
    """

    content: PageContent | None = None
    writers: int = 0
    readers: dict[int, Hashable] = field(default_factory=dict)

    def is_read_otherwise(self, content: PageContent | None, *, apart_from: int = -1) -> bool:
        """Whether a handle fills the pages with another content than this; None is a draft."""
        return any(
            handle != apart_from and (content is None or identity != content.identity)
            for handle, identity in self.readers.items()
        )


@dataclass(slots=True)
class _Handle:
    """``node``: 0 while it is not known."""

    node: int
    writes: bool


class KeptPages:
    """What the kernel's pages of each node are. ``_lock`` protects everything."""

    def __init__(self, most_nodes: int = _MOST_NODES) -> None:
        self._most = most_nodes
        self._lock = threading.Lock()
        self._nodes: OrderedDict[int, _Node] = OrderedDict()
        self._handles: dict[int, _Handle] = {}

    def open_to_read(self, handle: int, node: int, content: PageContent) -> Pages:
        """Note that a handle is opened that reads a content and nothing else."""
        with self._lock:
            known = self._at(node)
            if known.is_read_otherwise(content):
                return Pages.BYPASSED
            is_kept = (
                not known.writers
                and known.content == content
                and content.version is not None
                and content.is_followed
            )
            known.content = None if known.writers else content
            known.readers[handle] = content.identity
            self._handles[handle] = _Handle(node, writes=False)
            return Pages.KEPT if is_kept else Pages.DROPPED

    def open_to_write(self, handle: int, node: int, content: PageContent | None) -> Pages:
        """Note that a handle is opened that may write, or reads what others write.

        ``node`` is 0 for a new file, whose node is not known yet. ``content``: what is there now,
        if that is in the HDF5 file.
        """
        with self._lock:
            known = self._nodes.get(node)
            is_read_otherwise = known is not None and known.is_read_otherwise(content)
            self._handles[handle] = _Handle(0, writes=True)
            if node:
                self._learn(handle, node)
            if is_read_otherwise:
                return Pages.BYPASSED
            if node and content is not None and content.lasts:
                self._at(node).readers[handle] = content.identity
            return Pages.DROPPED

    def writes(self, handle: int, node: int) -> bool:
        """Return whether a handle may write; its node is known by now, if not before."""
        with self._lock:
            known = self._handles.get(handle)
            if known is None or not known.writes:
                return False
            if not known.node:
                self._learn(handle, node)
            return True

    def are_mixed(self, handle: int, content: PageContent | None) -> bool:
        """Whether others fill the pages of a handle that may write with another content."""
        with self._lock:
            opened = self._handles.get(handle)
            known = None if opened is None else self._nodes.get(opened.node)
            return known is not None and known.is_read_otherwise(content, apart_from=handle)

    def forget(self, node: int) -> None:
        """Take note that a node's pages may show anything."""
        with self._lock:
            if node in self._nodes:
                self._nodes[node].content = None

    def release(self, handle: int, node: int) -> None:
        """A handle is gone."""
        with self._lock:
            gone = self._handles.get(handle)
            if gone is None:
                return
            if gone.writes and not gone.node:
                self._learn(handle, node)
            del self._handles[handle]
            if not gone.node:
                return
            known = self._at(gone.node)
            known.readers.pop(handle, None)
            if gone.writes:
                known.writers -= 1
                known.content = None

    def _learn(self, handle: int, node: int) -> None:
        """Take note of the node of a handle that may write."""
        opened = self._handles[handle]
        if not node or opened.node:
            return
        opened.node = node
        known = self._at(node)
        known.writers += 1
        known.content = None

    def _at(self, node: int) -> _Node:
        known = self._nodes.get(node)
        if known is None:
            known = self._nodes[node] = _Node()
            self._drop_some()
        self._nodes.move_to_end(node)
        return known

    def _drop_some(self) -> None:
        """Forget the node that was opened longest ago, unless it is open, when there are many."""
        if len(self._nodes) <= self._most:
            return
        node, known = self._nodes.popitem(last=False)
        if known.writers or known.readers:
            self._nodes[node] = known
