"""The kernel's first request, INIT, with a flag in the answer that libfuse leaves out.

Until release 3.17 libfuse does not pass FUSE_PARALLEL_DIROPS on, whatever it was asked for. The
kernel then sends one LOOKUP or READDIR of a folder at a time: a lookup that takes long makes all
other lookups in the folder, and its listing, wait.
"""

from __future__ import annotations

import os
import socket
import struct
from ctypes import string_at

from h5fs.fuse.library.request_loop import RequestLoop

_PARALLEL_DIROPS = 1 << 18
# struct fuse_in_header and fuse_init_in, struct fuse_out_header and fuse_init_out (linux/fuse.h).
_REQUEST = struct.Struct("=II 32x IIII")
_ANSWER = struct.Struct("=IiQ IIII")
_INIT = 26
_LARGEST_ANSWER_BYTES = 4096


def answer_first_request(loop: RequestLoop, descriptor: int) -> None:
    """Wait for INIT and answer it. No other thread may read the ``descriptor`` of /dev/fuse yet."""
    kernel = os.dup(descriptor)
    ours, libfuses = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, libfuses:
        try:
            if loop.receive() < _REQUEST.size:
                return  # a signal or the end: the threads, which come next, see that, too
            request = string_at(loop.buffer.mem or 0, _REQUEST.size)
            os.dup2(libfuses.fileno(), descriptor, inheritable=False)
            try:
                loop.process()
            finally:
                os.dup2(kernel, descriptor, inheritable=False)
            os.write(kernel, with_parallel_lookups(request, ours.recv(_LARGEST_ANSWER_BYTES)))
        finally:
            os.close(kernel)


def with_parallel_lookups(request: bytes, answer: bytes) -> bytes:
    """Return an answer to INIT that lets the kernel look up names in parallel, if it can."""
    _, opcode, *_, offered = _REQUEST.unpack_from(request)
    if opcode != _INIT or not offered & _PARALLEL_DIROPS or len(answer) < _ANSWER.size:
        return answer
    *head, flags = _ANSWER.unpack_from(answer)
    if head[1]:  # an error
        return answer
    return _ANSWER.pack(*head, flags | _PARALLEL_DIROPS) + answer[_ANSWER.size :]
