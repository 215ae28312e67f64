"""The answer to the kernel's first request: what libfuse leaves out of it is put in."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from typing import Any

import pytest

from h5fs.fuse.library.first_request import answer_first_request, with_parallel_lookups
from h5fs.fuse.library.request_loop import FuseBuffer

OFFERED = struct.pack("=II32xIIII", 104, 26, 7, 45, 2**17, 2**32 - 1) + bytes(48)
FLAGS_AT = 28


def answer(flags: int = 1, error: int = 0) -> bytes:
    return struct.pack("=IiQIIII", 80, error, 2, 7, 31, 2**17, flags) + bytes(range(48))


class Loop:
    """A loop of libfuse's: answers by writing to the descriptor that it has."""

    def __init__(self, descriptor: int, request: bytes, answers: bytes) -> None:
        self.buffer = FuseBuffer()
        self._memory = ctypes.create_string_buffer(request, max(len(request), 1))
        self._descriptor, self._request, self._answers = descriptor, request, answers

    def receive(self) -> int:
        self.buffer.mem = ctypes.addressof(self._memory)
        return len(self._request)

    def process(self) -> None:
        os.writev(self._descriptor, [self._answers[:16], self._answers[16:]])


@pytest.mark.semantics("W2")
def test_the_kernel_may_look_up_names_in_parallel() -> None:
    kernel, daemon = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with kernel, daemon:
        loop: Any = Loop(daemon.fileno(), OFFERED, answer())
        answer_first_request(loop, daemon.fileno())
        got = kernel.recv(1000)
        assert got == with_parallel_lookups(OFFERED, answer())
        assert int.from_bytes(got[FLAGS_AT : FLAGS_AT + 4], "little") == 1 | 1 << 18
        assert got[:FLAGS_AT] + got[FLAGS_AT + 4 :] == answer()[:FLAGS_AT] + answer()[32:]
        assert not os.get_inheritable(daemon.fileno())
        os.write(daemon.fileno(), b"later")  # the descriptor leads to the kernel again
        assert kernel.recv(1000) == b"later"


@pytest.mark.parametrize(
    ("request_", "answers"),
    [(struct.pack("=II32xIIII", 104, 26, 7, 45, 0, 1) + bytes(48), answer()),
     (OFFERED, answer(error=-71)), (OFFERED, answer()[:24]),
     (OFFERED.replace(b"\x1a", b"\x01"), answer())],
    ids=["not offered", "an error", "another version", "another request"],
)  # fmt: skip
def test_other_answers_stay_as_they_are(request_: bytes, answers: bytes) -> None:
    assert with_parallel_lookups(request_, answers) == answers


def test_no_request_is_no_answer() -> None:
    kernel, daemon = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with kernel, daemon:
        loop: Any = Loop(daemon.fileno(), b"", answer())
        answer_first_request(loop, daemon.fileno())
        kernel.setblocking(False)
        with pytest.raises(BlockingIOError):
            kernel.recv(1000)
