"""What libfuse does not tell of the request that a thread answers, in a mount that writes.

libfuse's functions take paths, and have one time for all answers that the kernel may keep. Here are
the kernel's number of the file that a request is about (its *node*), and times that depend on the
answer: the times are 0 while an answer is given that may not be kept. (Answers that other threads
give in that moment are not kept either.) Safe to use from any thread.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from ctypes import c_uint32, c_uint64
from typing import Any, Final

from h5fs.fuse.library.request_loop import FuseBuffer

_IS_DESCRIPTOR = 2  # FUSE_BUF_IS_FD: a large write, which is still in a pipe
# From `struct fuse_in_header`; `fuse_rename_in` and `fuse_link_in`, behind it, begin with a node.
_OPERATION, _NODE, _BODY = 4, 16, 40

# Where a request says that it has a handle: `fuse_getattr_in` and `fuse_setattr_in` both begin with
# flags, and have the handle 8 bytes behind. FUSE_GETATTR and FUSE_SETATTR, and their flag for it.
_HAS_HANDLE = {3: 1 << 0, 4: 1 << 6}
_HANDLE = _BODY + 8
NO_HANDLE = 2**64 - 1  # stands for the handle of a file that the kernel tells the node of alone

# FUSE_SYMLINK, FUSE_MKDIR, FUSE_CREATE, and where the name is: at once, or behind `fuse_mkdir_in`,
# or behind `fuse_create_in`.
_NAME = {6: _BODY, 9: _BODY + 8, 35: _BODY + 16}
_UNLINK = 10
_UNIQUE = 8
_NOT_ASKED = 2**62  # no request of the kernel ever has this number


class _Thread(threading.local):
    header = 0  # where the request is; 0 when that is not known
    is_forgetting = False
    entry_passes = False
    status_passes = False


class CurrentRequests:
    """The request of each thread: the loop calls ``begin`` and ``end``, the functions that answer
    in between call the others.

    ``_lock`` protects ``_passing_entries`` and ``_passing_statuses``, the numbers of answers under
    way of which the kernel may not keep that a name leads to a file, or the file's status; and the
    times that follow from them.
    """

    NAMING: Final = frozenset(_NAME)
    """The operations that give a name to something new."""

    def __init__(self) -> None:
        self._thread = _Thread()
        self._lock = threading.Lock()
        self._passing_entries = 0
        self._passing_statuses = 0
        self._settings: Any = None
        self._seconds = (0.0, 0.0)
        self.may_be_open: Callable[[bytes], bool] = lambda _name: False
        """Tells whether a file of that name may be open, in any folder."""

    def take_times(self, settings: Any, seconds: tuple[float, float]) -> None:
        """Take over the times in libfuse's ``fuse_config``: of entries, and of statuses.

        libfuse looks them up after each call of a function. Until this request, which is ``init``,
        is answered they are 0: so if some libfuse copies them then, nothing is kept, which is safe.
        """
        self._settings, self._seconds = settings, seconds
        self.let_pass()

    def begin(self, buffer: FuseBuffer) -> int:
        """A thread begins with a request; return which operation it asks for, 0 if unknown."""
        self._thread.header = header = 0 if buffer.flags & _IS_DESCRIPTOR else buffer.mem or 0
        if not header:
            return 0
        operation = c_uint32.from_address(header + _OPERATION).value
        has_handle = _HAS_HANDLE.get(operation)
        if has_handle is not None:
            _give_handle(header, has_handle)
        return operation

    def begin_forgetting(self) -> FuseBuffer | None:
        """Return a request that libfuse is to answer before the thread's own one, if any; of one of
        ``NAMING``.

        libfuse knows files by their paths. Where one has lost its name to no `unlink` (a view, when
        its array goes), but is open, what gets that name next would be the same node; and the
        kernel refuses all that is asked about a node that becomes a folder, or a link (``EIO``).
        So libfuse is asked to unlink the name, by a request that the kernel has not made, and does
        not take the answer of. The function that it calls then asks ``is_forgetting``.
        """
        header = self._thread.header
        place = _NAME[c_uint32.from_address(header + _OPERATION).value]
        name = ctypes.string_at(header + place)
        if not self.may_be_open(name):
            return None
        memory = ctypes.create_string_buffer(ctypes.string_at(header, _BODY) + name)
        at, size = ctypes.addressof(memory), ctypes.sizeof(memory)
        c_uint32.from_address(at).value = size
        c_uint32.from_address(at + _OPERATION).value = _UNLINK
        c_uint64.from_address(at + _UNIQUE).value = _NOT_ASKED
        buffer = FuseBuffer(size=size, mem=at)
        buffer.memory = memory  # as long as the buffer
        self._thread.is_forgetting = True
        return buffer

    def is_forgetting(self) -> bool:
        """Whether the thread answers a request of ``begin_forgetting``."""
        return self._thread.is_forgetting

    def end_forgetting(self) -> None:
        """It is answered; the thread's own request is next."""
        self._thread.is_forgetting = False

    def let_pass(self, *, status: bool = True) -> None:
        """See to it that the kernel does not keep the answer to this thread's request: the entry
        and, if ``status``, the status."""
        thread, settings = self._thread, self._settings
        if settings is None:
            return
        with self._lock:
            if not thread.entry_passes:
                thread.entry_passes = True
                self._passing_entries += 1
                settings.entry_timeout = 0.0
            if status and not thread.status_passes:
                thread.status_passes = True
                self._passing_statuses += 1
                settings.attr_timeout = 0.0

    def end(self) -> None:
        """A thread's request is answered."""
        thread = self._thread
        thread.header = 0
        if not thread.entry_passes:
            return
        thread.entry_passes = False
        with self._lock:
            self._passing_entries -= 1
            if not self._passing_entries:
                self._settings.entry_timeout = self._seconds[0]
            if thread.status_passes:
                thread.status_passes = False
                self._passing_statuses -= 1
                if not self._passing_statuses:
                    self._settings.attr_timeout = self._seconds[1]

    def node(self) -> int:
        """Return the node of the request's file or, where the request names an entry, of the
        entry's folder; 0 when the node is not known.
        """
        header = self._thread.header
        return c_uint64.from_address(header + _NODE).value if header else 0

    def other_node(self) -> int:
        """Return the second node of a request: of the folder that a rename leads to, of the file
        that gets another hard link. 0 when it is not known.
        """
        header = self._thread.header
        return c_uint64.from_address(header + _BODY).value if header else 0


def _give_handle(header: int, has_handle: int) -> None:
    """Let a request about a file's status have a handle.

    Where there is none, libfuse answers for a file without a name by itself: by an error.
    """
    flags = c_uint32.from_address(header + _BODY)
    if not flags.value & has_handle:
        flags.value |= has_handle
        c_uint64.from_address(header + _HANDLE).value = NO_HANDLE
