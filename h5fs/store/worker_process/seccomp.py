"""Rules about system calls, by the system's libseccomp. See seccomp_rule_add(3).

Only what ``forbidden_calls`` needs. The library is loaded by its name: to look for it as
``ctypes.util.find_library`` does starts two programs.
"""

from __future__ import annotations

import ctypes
import functools
import os
import struct
from typing import Any, Final, NamedTuple

_LIBRARY: Final = "libseccomp.so.2"
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
NOT_EQUAL: Final = 1
MASKED_EQUAL: Final = 7


_INSTRUCTION_BYTES: Final = 8
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2


class Condition(NamedTuple):
    """What an argument of a call must be for a rule to hold.

    ``operation`` NOT_EQUAL: not ``first``. MASKED_EQUAL: ``second``, of the bits in ``first``.
    """

    argument: int
    operation: int
    first: int
    second: int = 0


class _Condition(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operation", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


@functools.cache
def find_library() -> Any:
    """Return the library, loaded. Raises ``OSError``, ``AttributeError`` where it is too old."""
    library = ctypes.CDLL(_LIBRARY)
    library.seccomp_init.argtypes = (ctypes.c_uint32,)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_release.argtypes = (ctypes.c_void_p,)
    library.seccomp_release.restype = None
    library.seccomp_export_bpf.argtypes = (ctypes.c_void_p, ctypes.c_int)
    library.seccomp_load.argtypes = (ctypes.c_void_p,)
    library.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
    library.seccomp_rule_add_array.argtypes = (
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p,
    )  # fmt: skip
    return library


def number_of(call: str) -> int:
    """Return a system call's number; less than 0 when it has none here."""
    number: int = find_library().seccomp_syscall_resolve_name(call.encode())
    return number


class Rules:
    """Which calls are refused; all others are allowed. Does nothing before ``load``."""

    def __init__(self) -> None:
        self._library = find_library()
        self._rules = self._library.seccomp_init(_ALLOW)
        if not self._rules:
            raise OSError(0, "libseccomp makes no rules")

    def refuse(self, number: int, error: int, conditions: tuple[Condition, ...] = ()) -> None:
        """Let a call fail with an errno, where all conditions hold. Raises ``OSError``."""
        array = (_Condition * len(conditions))(*(_Condition(*each) for each in conditions))
        _check(
            self._library.seccomp_rule_add_array(
                self._rules, _ERRNO | error, number, len(conditions), array
            )
        )

    def load(self) -> None:
        """Let the rules hold for this thread, and those that it starts. Raises ``OSError``."""
        _check(self._library.seccomp_load(self._rules))
        self._library.seccomp_release(self._rules)

    def program(self) -> bytes:
        """Return the rules as the kernel takes them. Raises ``OSError``."""
        descriptor = os.memfd_create("h5fs-rules", os.MFD_CLOEXEC)
        with open(descriptor, "r+b") as file:
            _check(self._library.seccomp_export_bpf(self._rules, descriptor))
            self._library.seccomp_release(self._rules)
            return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)


def load_program(program: bytes) -> None:
    """Let a program decide about this process's system calls, for good. Raises ``OSError``."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(program, len(program))
    # The kernel's sock_fprog: a number of instructions, and where they are.
    count = len(program) // _INSTRUCTION_BYTES
    header = ctypes.create_string_buffer(struct.pack("@HP", count, ctypes.addressof(code)))
    arguments = (_SECCOMP_MODE_FILTER, ctypes.addressof(header), 0, 0)
    if libc.prctl(_PR_SET_SECCOMP, *map(ctypes.c_ulong, arguments)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({_PR_SET_SECCOMP}): {os.strerror(number)}")


def _check(result: int) -> None:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
