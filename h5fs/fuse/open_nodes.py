"""Which open files are of which node, so that calls find a file that has lost its name.

The kernel sends ``fstat`` of an open file as a question about its node, without the handle, and
libfuse has no path for a node whose name is gone. A new file's node is known from its first use.
Safe to use from any thread.
"""

from __future__ import annotations

import threading


class OpenNodes:
    """Handles by node. ``_lock`` protects everything."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._node_of: dict[int, int] = {}
        self._handles_of: dict[int, list[int]] = {}
        self._new: set[int] = set()

    def open(self, handle: int, node: int) -> None:
        """Take note of a new handle; ``node`` is 0 for a new file."""
        with self._lock:
            self._node_of[handle] = node
            if node:
                self._handles_of.setdefault(node, []).append(handle)
            else:
                self._new.add(handle)

    def use(self, handle: int, node: int) -> None:
        """Take note of a request about a handle, which tells the node of a new file."""
        if node and self._new:
            with self._lock:
                if handle in self._new:
                    self._new.discard(handle)
                    self._node_of[handle] = node
                    self._handles_of.setdefault(node, []).append(handle)

    def release(self, handle: int) -> None:
        """Forget a handle."""
        with self._lock:
            node = self._node_of.pop(handle, None)
            if node:
                handles = self._handles_of[node]
                handles.remove(handle)
                if not handles:
                    del self._handles_of[node]
            elif node is not None:
                self._new.discard(handle)

    def find(self, node: int) -> int | None:
        """Return the newest handle of a node; None where no handle is known to be of it."""
        with self._lock:
            handles = self._handles_of.get(node)
            return handles[-1] if handles else None
