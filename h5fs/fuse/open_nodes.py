"""Which open files are of which node, so that calls find a file that has lost its name.

The kernel sends ``fstat`` of an open file as a question about its node, without the handle, and
libfuse has no path for a node whose name is gone. A new file's node is known from its first use.
Safe to use from any thread.
"""

from __future__ import annotations

import threading

import msgspec

from h5fs.tree.status import Status


class OpenNodes:
    """Handles by node. ``_lock`` protects everything."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._node_of: dict[int, int] = {}
        self._handles_of: dict[int, list[int]] = {}
        self._new: set[int] = set()
        self._name_of: dict[int, bytes] = {}
        self._names: dict[bytes, int] = {}  # how many handles

    def open(self, handle: int, node: int, name: bytes = b"") -> None:
        """Take note of a new handle; ``node`` is 0 for a new file."""
        with self._lock:
            self._name_of[handle] = name
            self._names[name] = self._names.get(name, 0) + 1
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
            name = self._name_of.pop(handle, None)
            if name is not None:
                self._names[name] -= 1
                if not self._names[name]:
                    del self._names[name]
            if node:
                handles = self._handles_of[node]
                handles.remove(handle)
                if not handles:
                    del self._handles_of[node]
            elif node is not None:
                self._new.discard(handle)

    def may_be_open(self, name: bytes) -> bool:
        """Whether a file is open that had this name, in any folder, when it was opened."""
        return name in self._names

    def find(self, node: int) -> int | None:
        """Return the newest handle of a node; None where no handle is known to be of it."""
        with self._lock:
            handles = self._handles_of.get(node)
            return handles[-1] if handles else None


class OpenFolderStatuses:
    """What open folders are once they have lost their names, by node."""

    def __init__(self) -> None:
        self._nodes = OpenNodes()
        self._statuses: dict[int, Status] = {}  # by handle

    def open(self, handle: int, node: int, status: Status) -> None:
        """Take note of a folder that is opened, and of its status with its name."""
        self._statuses[handle] = msgspec.structs.replace(status, hard_link_count=0)
        self._nodes.open(handle, node)

    def release(self, handle: int) -> None:
        """Forget a handle."""
        self._nodes.release(handle)
        self._statuses.pop(handle, None)

    def find(self, node: int) -> Status | None:
        """Return the status of a node without a name; None where no open folder is known of it."""
        handle = self._nodes.find(node)
        return None if handle is None else self._statuses.get(handle)
