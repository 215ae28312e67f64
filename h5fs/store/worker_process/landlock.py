"""Landlock's three system calls: which files a process may still read. See landlock(7).

What is numbered here is numbered so in the kernel's linux/landlock.h. All functions raise
``OSError``.
"""

from __future__ import annotations

import ctypes
import functools
import os
import stat
import struct
from typing import Any, Final

# The same on all processors but these.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_OTHER_NUMBERS: Final = ("alpha", "mips")

_ASK_FOR_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_NET_BIND_AND_CONNECT_TCP: Final = 0b11
_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS: Final = 0b11

# How many rights over files a version knows, which are bits from 0 on. Version 4 brought TCP.
_RIGHT_COUNTS: Final = {1: 13, 2: 14, 3: 15, 4: 15}
_LAST_RIGHT_COUNT: Final = 16


def abi_version() -> int:
    """Return which version of Landlock the kernel has."""
    if os.uname().machine.startswith(_OTHER_NUMBERS):
        raise OSError(0, "the system calls have other numbers on this processor")
    return _call(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_FOR_VERSION)


def create_ruleset(version: int) -> int:
    """Return the descriptor of rules that forbid all access to files that the kernel can forbid.

    With them, TCP from version 4 on, and signals to others from version 6 on.
    """
    handled = struct.pack(
        "=QQQ",
        (1 << _RIGHT_COUNTS.get(version, _LAST_RIGHT_COUNT)) - 1,
        _NET_BIND_AND_CONNECT_TCP if version >= 4 else 0,
        _SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS if version >= 6 else 0,
    )
    return _call(_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), 0)


def allow_reading(ruleset: int, descriptor: int) -> None:
    """Let an open file be read, or a folder and all below it."""
    is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
    rule = struct.pack("=Qi", _READ_FILE | _READ_DIR if is_folder else _READ_FILE, descriptor)
    _call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)


def restrict_self(ruleset: int) -> None:
    """Let the rules hold for the calling thread, and those that it starts, for good."""
    _call(_RESTRICT_SELF, ruleset, 0)


@functools.cache
def _find_syscall() -> Any:
    """Return the function; looking for it in all libraries that are loaded takes 0.3 ms."""
    found = ctypes.CDLL(None, use_errno=True).syscall
    found.restype = ctypes.c_long
    return found


def _call(number: int, *arguments: Any) -> int:
    result: int = _find_syscall()(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
