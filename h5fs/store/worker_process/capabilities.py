"""The capabilities of root, given up for good: see capabilities(7).

A process of root without capabilities is an ordinary user who owns root's files.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable
from typing import Final

_VERSION: Final = 0x20080522  # _LINUX_CAPABILITY_VERSION_3: two words of 32 bits for each set
_DAC_READ_SEARCH: Final = 2  # reads any file
_MOST_CAPABILITIES: Final = 64
_PR_CAPBSET_DROP: Final = 24
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4


def drop_capabilities(needed: Iterable[int]) -> None:
    """Give up all capabilities except those that opening the descriptors ``needed`` again takes.

    The process will open these files by ``/proc/self/fd/N``. Where root reads a file that belongs
    to somebody else, and that others may not read, this takes the right to read any file, which the
    process then keeps. Raises ``OSError``.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then their upper halves
    _ask(libc.capget(header, sets), "capget")
    if not any(sets):
        return
    # No program can give back a capability that is not in the bounding set. A process that may not
    # change the set has no capability that matters here.
    for capability in range(_MOST_CAPABILITIES):
        _prctl(libc, _PR_CAPBSET_DROP, capability)
    _prctl(libc, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    permitted = sets[1]
    for index in (0, 2, 3, 5):
        sets[index] = 0  # the effective set: without effect for now, but not given up
    _ask(libc.capset(header, sets), "capset")
    kept = 0 if all(map(_can_be_opened, needed)) else permitted & 1 << _DAC_READ_SEARCH
    sets = (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)
    _ask(libc.capset(header, sets), "capset")


def _can_be_opened(descriptor: int) -> bool:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return True
    try:
        os.close(os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _prctl(libc: ctypes.CDLL, option: int, value: int) -> None:
    libc.prctl(ctypes.c_int(option), *map(ctypes.c_ulong, (value, 0, 0, 0)))


def _ask(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
