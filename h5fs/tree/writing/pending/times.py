"""Times that programs set, or that a change has set: HDF5 keeps none, or just its own.

Not thread-safe: under the tree's lock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

MOST_TIMES = 100_000
"""Of so many files the times are kept, those last set; 20 MB."""


class Times:
    """Access and modification time in nanoseconds by inode number, of the last ``most`` files."""

    def __init__(self, most: int = MOST_TIMES) -> None:
        self._most = most
        self._times: OrderedDict[int, tuple[int, int]] = OrderedDict()
        self.get: Callable[[int], tuple[int, int] | None] = self._times.get
        """Return the times that were set last; None where there are none (any more)."""

    def __len__(self) -> int:
        return len(self._times)

    def set(self, inode: int, atime_ns: int, mtime_ns: int) -> None:
        """Set both; those set longest ago are forgotten when there are too many."""
        self._times.pop(inode, None)
        self._times[inode] = (atime_ns, mtime_ns)
        if len(self._times) > self._most:
            self._times.popitem(last=False)

    def forget(self, inode: int) -> None:
        """Forget a file that is gone."""
        self._times.pop(inode, None)
