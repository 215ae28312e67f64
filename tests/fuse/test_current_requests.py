"""Times that depend on the answer, and the nodes of a request."""

from __future__ import annotations

import ctypes
import struct
import threading
from types import SimpleNamespace

import pytest
from support.waiting import PATIENCE_SECONDS

from h5fs.fuse.library.current_requests import NO_HANDLE, CurrentRequests
from h5fs.fuse.library.request_loop import FuseBuffer

DAY = 86400.0


def begun() -> tuple[CurrentRequests, SimpleNamespace]:
    """Return requests after ``init``, and libfuse's times."""
    requests, settings = CurrentRequests(), SimpleNamespace(entry_timeout=0.0, attr_timeout=0.0)
    requests.begin(FuseBuffer())
    requests.take_times(settings, (DAY, DAY / 2))
    assert (settings.entry_timeout, settings.attr_timeout) == (0, 0)
    requests.end()
    return requests, settings


def test_the_kernel_keeps_an_answer_unless_one_that_passes_is_given_at_the_same_moment() -> None:
    requests, settings = begun()
    assert (settings.entry_timeout, settings.attr_timeout) == (DAY, DAY / 2)
    passes, may_end = threading.Event(), threading.Event()

    def other() -> None:
        requests.begin(FuseBuffer())
        requests.let_pass()
        passes.set()
        may_end.wait(PATIENCE_SECONDS)
        requests.end()

    thread = threading.Thread(target=other)
    thread.start()
    assert passes.wait(PATIENCE_SECONDS)
    requests.begin(FuseBuffer())
    requests.end()
    assert settings.attr_timeout == 0
    requests.begin(FuseBuffer())
    requests.let_pass()
    requests.let_pass()
    requests.end()
    assert (settings.entry_timeout, settings.attr_timeout) == (0, 0)
    may_end.set()
    thread.join()
    assert (settings.entry_timeout, settings.attr_timeout) == (DAY, DAY / 2)


def test_the_kernel_may_keep_a_status_without_its_entry() -> None:
    requests, settings = begun()
    requests.begin(FuseBuffer())
    requests.let_pass(status=False)
    assert (settings.entry_timeout, settings.attr_timeout) == (0, DAY / 2)
    requests.let_pass()  # as the same request finds out later
    assert (settings.entry_timeout, settings.attr_timeout) == (0, 0)
    requests.end()
    assert (settings.entry_timeout, settings.attr_timeout) == (DAY, DAY / 2)
    requests.begin(FuseBuffer())
    requests.let_pass(status=False)
    requests.end()
    assert (settings.entry_timeout, settings.attr_timeout) == (DAY, DAY / 2)


def test_nodes_are_read_from_the_request() -> None:
    requests, _ = begun()
    # <linux/fuse.h>: length, opcode, unique, node, uid, gid, pid, extensions; FUSE_RENAME2 behind.
    request = struct.pack("=IIQQIIIIQ", 64, 45, 1, 1234, 0, 0, 0, 0, 5678)
    memory = ctypes.create_string_buffer(request)
    requests.begin(FuseBuffer(size=64, mem=ctypes.addressof(memory)))
    assert (requests.node(), requests.other_node()) == (1234, 5678)
    requests.end()
    assert request in memory.raw  # as it came
    assert requests.node() == 0
    requests.begin(FuseBuffer(size=64, flags=2, mem=ctypes.addressof(memory)))  # in a pipe
    assert (requests.node(), requests.other_node()) == (0, 0)


def test_a_request_about_a_status_has_a_handle() -> None:
    """For one without, libfuse would not call anything when the file has lost its name."""
    requests, _ = begun()
    # FUSE_GETATTR and FUSE_SETATTR: flags, padding, handle.
    for operation, has_handle, other in ((3, 1, 0), (4, 64, 8)):
        for flags, handle, expected in (
            (other, 5, (other | has_handle, NO_HANDLE)),
            (other | has_handle, 5, (other | has_handle, 5)),
        ):
            header = struct.pack("=IIQQIIII", 56, operation, 1, 1234, 0, 0, 0, 0)
            memory = ctypes.create_string_buffer(header + struct.pack("=IIQ", flags, 0, handle))
            requests.begin(FuseBuffer(size=56, mem=ctypes.addressof(memory)))
            assert struct.unpack_from("=I4xQ", memory.raw, 40) == expected
            assert memory.raw[:40] == header
            requests.end()


@pytest.mark.parametrize(("operation", "between"), [(9, 8), (6, 0), (35, 16)])
def test_a_name_that_may_be_open_is_forgotten_before_it_is_given_anew(
    operation: int, between: int
) -> None:
    requests, _ = begun()
    data = bytes(between) + b"x.csv\0target\0"
    header = struct.pack("=IIQQIIII", 40 + len(data), operation, 2, 1234, 1, 2, 3, 0)
    memory = ctypes.create_string_buffer(header + data)
    requests.begin(FuseBuffer(size=40 + len(data), mem=ctypes.addressof(memory)))
    assert requests.begin_forgetting() is None
    requests.may_be_open = lambda name: name == b"x.csv"
    forgetting = requests.begin_forgetting()
    assert forgetting is not None
    assert requests.is_forgetting()
    made = ctypes.string_at(forgetting.mem, forgetting.size)
    size, unlink, unique, *others = struct.unpack("=IIQQIIII", made[:40])
    assert (size, unlink, others) == (len(made), 10, [1234, 1, 2, 3, 0])
    assert unique % 2 == 0  # no answer to an interruption
    assert made[40:] == b"x.csv\0"
    requests.end_forgetting()
    assert not requests.is_forgetting()
    requests.end()
