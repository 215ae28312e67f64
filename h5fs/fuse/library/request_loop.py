"""libfuse's loop for one thread, one request at a time, so that the thread may end between two.

``fuse_loop`` can only end for all threads at once: told to end, it drops the request that it has
just read from the kernel, and the program would wait for ever. The loop here costs two more calls
for each request.
"""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Callable
from ctypes import byref, c_int, c_int64, c_size_t, c_void_p
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from h5fs.fuse.library.current_requests import CurrentRequests


_READ = 15  # FUSE_READ
_LARGE_BYTES = 2**16  # of a request: only writes are so long


class Turn(Enum):
    """The result of waiting for a request."""

    ANSWERED = 1
    INTERRUPTED = 2  # by a signal to this thread
    ENDED = 3  # the mount has ended, or is to end


class FuseBuffer(ctypes.Structure):
    """``struct fuse_buf``, with room for fields that later versions of libfuse add."""

    _fields_ = (
        ("size", c_size_t), ("flags", c_int), ("mem", c_void_p), ("fd", c_int), ("pos", c_int64),
        ("later", c_size_t * 4),
    )  # fmt: skip
    memory: object = None


class RequestLoop:
    """Takes requests of a session on one thread. ``close`` frees the loop's memory.

    ``requests`` notes each request; None in mode r, where nobody asks for that. There, too, nothing
    else is called: ``on_begin`` when there is a request, ``on_data`` before data are read, or many
    written, and ``on_end`` when the request is answered.
    ``receive``, ``process`` and ``close`` are libfuse 3's; ``libfuse_2`` has others.
    """

    def __init__(self, library: Any, fuse: c_void_p) -> None:
        self.requests: CurrentRequests | None = None
        self.on_begin: Callable[[], None] = lambda: None
        self.on_data: Callable[[], None] = lambda: None
        self.on_end: Callable[[], None] = lambda: None
        self.library = library
        self.session = c_void_p(library.fuse_get_session(fuse))
        self.buffer = FuseBuffer()
        session, buffer = self.session, byref(self.buffer)
        # No methods: they are called for each request.
        self.receive: Callable[[], int] = partial(library.fuse_session_receive_buf, session, buffer)
        """Read a request into the buffer; return its size, or an error's negative errno."""
        self.process: Callable[[], None] = partial(
            library.fuse_session_process_buf, session, buffer
        )
        """Answer the request in the buffer."""

    def turn(self) -> Turn:
        """Wait for a request and answer it."""
        received = self.receive()  # which also tells whether the mount is to end
        if received == -errno.EINTR:
            return Turn.INTERRUPTED
        if received <= 0:
            return Turn.ENDED
        requests = self.requests
        if requests is None:
            self.process()
            return Turn.ANSWERED
        self.on_begin()
        try:
            operation = requests.begin(self.buffer)
            if operation == _READ or self.buffer.size > _LARGE_BYTES:
                self.on_data()
            if operation in requests.NAMING:
                self._forget_the_name(requests)
            self.process()
        finally:
            requests.end()
            self.on_end()
        return Turn.ANSWERED

    def _forget_the_name(self, requests: CurrentRequests) -> None:
        request = requests.begin_forgetting()
        if request is not None:
            self.library.fuse_session_process_buf(self.session, byref(request))
            requests.end_forgetting()

    def close(self) -> None:
        """Free what libfuse has allocated."""
        if self.buffer.mem:
            free = ctypes.CDLL(None).free
            free.argtypes, free.restype = (c_void_p,), None
            free(self.buffer.mem)
            self.buffer.mem = None
