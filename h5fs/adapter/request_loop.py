"""libfuse's loop for one thread, one request at a time, so that the thread may end between two.

``fuse_loop`` ends for all threads at once: told to end, it drops what it has just read from the
kernel, and whoever has asked would wait for ever. This one costs two more calls for each request.
"""

from __future__ import annotations

import ctypes
import errno
from ctypes import POINTER, byref, c_int, c_int64, c_size_t, c_void_p
from enum import Enum
from typing import Any


class Turn(Enum):
    """What has come of waiting for a request."""

    ANSWERED = 1
    INTERRUPTED = 2  # by a signal to this thread
    ENDED = 3  # the mount has ended, or is to end


class _FuseBuffer(ctypes.Structure):
    """``struct fuse_buf``, with room for what later versions of libfuse have behind it."""

    _fields_ = (
        ("size", c_size_t), ("flags", c_int), ("mem", c_void_p), ("fd", c_int), ("pos", c_int64),
        ("later", c_size_t * 4),
    )  # fmt: skip


class RequestLoop:
    """Takes requests of a session on one thread. ``close`` gives its memory back."""

    def __init__(self, library: Any, major: int, fuse: c_void_p) -> None:
        self._library = library
        self._session = c_void_p(library.fuse_get_session(fuse))
        self._channel: c_void_p | None = None
        self._memory: Any = None
        self._buffer = _FuseBuffer()
        if major == 2:
            self._channel = c_void_p(library.fuse_session_next_chan(self._session, None))
            self._memory = ctypes.create_string_buffer(library.fuse_chan_bufsize(self._channel))

    def turn(self) -> Turn:
        """Wait for a request and answer it."""
        if self._library.fuse_session_exited(self._session):
            return Turn.ENDED
        buffer = self._buffer
        if self._channel is None:
            received = self._library.fuse_session_receive_buf(self._session, byref(buffer))
        else:
            buffer.mem = ctypes.addressof(self._memory)
            buffer.size, buffer.flags = len(self._memory), 0
            channel = c_void_p(self._channel.value)
            received = self._library.fuse_session_receive_buf(
                self._session, byref(buffer), byref(channel)
            )
        if received == -errno.EINTR:
            return Turn.INTERRUPTED
        if received <= 0:
            return Turn.ENDED
        if self._channel is None:
            self._library.fuse_session_process_buf(self._session, byref(buffer))
        else:
            self._library.fuse_session_process_buf(self._session, byref(buffer), channel)
        return Turn.ANSWERED

    def close(self) -> None:
        """Free what libfuse 3 has allocated."""
        if self._channel is None and self._buffer.mem:
            free = ctypes.CDLL(None).free
            free.argtypes, free.restype = (c_void_p,), None
            free(self._buffer.mem)
            self._buffer.mem = None


def functions(major: int) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Return what ctypes must know of the functions that are called here."""
    buffer = POINTER(_FuseBuffer)
    if major == 2:
        return {
            "fuse_session_exited": (c_int, (c_void_p,)),
            "fuse_chan_bufsize": (c_size_t, (c_void_p,)),
            "fuse_session_receive_buf": (c_int, (c_void_p, buffer, POINTER(c_void_p))),
            "fuse_session_process_buf": (None, (c_void_p, buffer, c_void_p)),
        }
    return {
        "fuse_session_exited": (c_int, (c_void_p,)),
        "fuse_session_receive_buf": (c_int, (c_void_p, buffer)),
        "fuse_session_process_buf": (None, (c_void_p, buffer)),
    }
