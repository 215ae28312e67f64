"""Which process called: the one behind the request that is being answered on this thread."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from ctypes import c_int, c_void_p

from h5fs.fuse.library.binding import Binding


def caller_finder(binding: Binding) -> Callable[[], int]:
    """Return a function that returns the calling process's id, 0 when it is not known.

    The function must be called on a thread that is answering a request.
    """
    # A prototype of our own, since the binding declares the library's. It keeps the interpreter's
    # lock, since the function only looks up the thread's own memory.
    get_context = ctypes.PYFUNCTYPE(c_void_p)(("fuse_get_context", binding.library))
    offset = binding.module.fuse_context.pid.offset

    def find() -> int:
        address = get_context()
        return find_process(c_int.from_address(address + offset).value) if address else 0

    return find


def find_process(thread: int) -> int:
    """Return the process that a thread belongs to, since the kernel tells FUSE only the thread.

    Otherwise a program whose threads share a file would look like many programs.
    """
    if thread <= 0:  # a process outside this one's namespace
        return 0
    return thread if _is_first_of_process(thread) else _read_process(thread)


def _is_first_of_process(thread: int) -> bool:
    """Whether a thread is the first one of its process, whose number is the process's."""
    if _TGKILL is None:
        try:
            os.close(os.pidfd_open(thread))
        except OSError:
            return False
        return True
    # Signal 0 is none: the kernel looks whether there is such a thread in such a process, and only
    # then whether a signal may be sent. This takes a third of the time of a descriptor.
    return _TGKILL(thread, thread, 0) == 0 or ctypes.get_errno() != errno.ESRCH


def _find_tgkill() -> Callable[[int, int, int], int] | None:
    """Return tgkill(2), None where the C library has no function for it."""
    function = getattr(ctypes.PyDLL(None, use_errno=True), "tgkill", None)
    if function is not None:
        function.argtypes, function.restype = (c_int, c_int, c_int), c_int
    return function


_TGKILL = _find_tgkill()


def _read_process(thread: int) -> int:
    try:
        with open(f"/proc/{thread}/status", "rb") as status:
            for line in status:
                if line.startswith(b"Tgid:"):
                    return int(line[5:])
    except OSError:
        pass
    return thread
