"""What happens to memory that a worker frees: it is kept, since it is soon wanted again.

glibc gives large pieces back to the system at once, and each page of a new piece is a page fault,
which takes 1 to 3 us on a virtual machine. Of a million texts of variable length that was a seventh
of a worker's time (28,000 page faults; now 10,000).

Source: mallopt(3).
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Final

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

KEPT_BYTES: Final = 2**27
"""A worker keeps no more than this of what it has freed."""

# The first is for pieces that numpy makes of half a million texts; glibc before 2.35 takes no more
# than the second.
_LARGEST_PIECE_BYTES: Final = (2**26, 2**25)


def keep_freed_memory() -> None:
    """Let this process, and those that are forked from it, keep memory that they free."""
    with suppress(AttributeError):  # another C library has no such choice
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        any(mallopt(_M_MMAP_THRESHOLD, size) for size in _LARGEST_PIECE_BYTES)
