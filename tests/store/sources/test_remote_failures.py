"""What a server or the network does wrong: right bytes or an errno, and never wrong bytes."""

from __future__ import annotations

import contextlib
import errno
import logging
import random
import re
import resource
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.object_server import ObjectServer
from support.waiting import PATIENCE_SECONDS

from h5fs.errors import (
    CannotOpenError,
    DeniedError,
    H5fsError,
    NoSpaceError,
    StaleError,
    UnreachableError,
)
from h5fs.store.sources.interface import read_bytes
from h5fs.store.sources.remote_object import RemoteObject

MIB = 2**20
CONTENT = random.Random(2).randbytes(6 * MIB + 777)
AT = 3 * MIB - 100
Open = Callable[..., RemoteObject]


@pytest.fixture
def source(open_remote: Open, server: ObjectServer) -> RemoteObject:
    (server.folder / "a.h5").write_bytes(CONTENT)
    return open_remote("a.h5")


def read(source: RemoteObject) -> bytes:
    return read_bytes(source, AT, 2 * MIB)


RIGHT = CONTENT[AT : AT + 2 * MIB]


@pytest.mark.semantics("Z10")
@pytest.mark.parametrize(
    "fault",
    [
        "status:2:503", "status:2:500", "status:2:429", "status:2:408", "drop:2:300000",
        "drop:2:0", "reset:2:300000", "stall:2:30000", "nothing:1:", "short:2:1000",
        "shifted:2:1000",
    ],
)  # fmt: skip
def test_what_passes_is_tried_again_and_the_bytes_are_right(
    source: RemoteObject, server: ObjectServer, fault: str
) -> None:
    server.set(fault=fault)
    assert read(source) == RIGHT
    assert source.counts.retries >= 1


@pytest.mark.semantics("Z10")
@pytest.mark.parametrize(
    "fault",
    ["status:-1:503", "status:-1:429", "drop:-1:0", "reset:-1:0", "stall:-1:0", "nothing:-1:",
     "short:-1:1000", "shifted:-1:1000", "whole:-1:", "redirect:-1:/elsewhere",
     "redirect:-1:file:///etc/passwd", "status:-1:400"],
)  # fmt: skip
def test_what_does_not_pass_is_eio_in_the_time_allowed(
    open_remote: Open, server: ObjectServer, fault: str
) -> None:
    (server.folder / "a.h5").write_bytes(CONTENT)
    source = open_remote("a.h5", timeout_seconds=1.0)
    server.set(fault=fault)
    began = time.monotonic()
    with pytest.raises(UnreachableError) as caught:
        read(source)
    assert caught.value.errno == errno.EIO
    assert time.monotonic() - began < PATIENCE_SECONDS / 2


@pytest.mark.semantics("Z10")
@pytest.mark.parametrize("fault", ["endless:-1:", "longer:-1:"])
def test_an_answer_without_an_end_costs_neither_memory_nor_time(
    open_remote: Open, server: ObjectServer, fault: str
) -> None:
    (server.folder / "a.h5").write_bytes(CONTENT)
    source = open_remote("a.h5", timeout_seconds=2.0)
    server.set(fault=fault)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    with contextlib.suppress(UnreachableError):
        assert read(source) == RIGHT
    assert time.monotonic() - began < PATIENCE_SECONDS / 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


@pytest.mark.semantics("Z10")
def test_a_part_that_was_begun_ahead_costs_no_second_timeout(
    open_remote: Open, server: ObjectServer
) -> None:
    (server.folder / "a.h5").write_bytes(CONTENT)
    timeout = 10.0
    source = open_remote("a.h5", timeout_seconds=timeout)
    server.set(fault="nothing:-1:")
    source.fetch_ahead([(2 * MIB, 6 * MIB)])
    began = time.monotonic()
    with pytest.raises(UnreachableError):
        read(source)
    assert timeout - 1 < time.monotonic() - began < 2 * timeout


@pytest.mark.semantics("Z11")
@pytest.mark.parametrize("status", [401, 403])
def test_refused_access_is_eacces_at_once(
    source: RemoteObject, server: ObjectServer, status: int
) -> None:
    server.set(fault=f"status:-1:{status}")
    with pytest.raises(DeniedError) as caught:
        read(source)
    assert caught.value.errno == errno.EACCES
    assert source.counts.retries == 0


@pytest.mark.semantics("Z11")
@pytest.mark.parametrize(
    "fault, words",
    [
        ("status:-1:404", "there is no such file on the server"),
        ("status:-1:410", "there is no such file on the server"),
        ("status:-1:403", "check the credentials"),
        ("whole:-1:", "no ranges of bytes"),
        ("total:-1:9223372036854775808", "cannot be kept in a cache"),
        ("total:-1:9223372036854775807", "cannot be kept in a cache"),
        ("total:-1:99999999999999999999", "makes no sense"),
        ("chunked:-1:", "makes no sense"),
        ("status:-1:503", "the server says 503"),
        ("nothing:-1:", "does not answer"),
    ],
)
def test_what_cannot_be_opened_says_why(
    open_remote: Open, server: ObjectServer, fault: str, words: str
) -> None:
    (server.folder / "a.h5").write_bytes(CONTENT)
    server.set(fault=fault)
    with pytest.raises(CannotOpenError, match=re.escape(words)) as caught:
        open_remote("a.h5?X-Amz-Signature=SECRET", timeout_seconds=2.0)
    assert "SECRET" not in str(caught.value)
    assert f"{server.url}/a.h5:" in str(caught.value)


def test_an_empty_object_is_refused(open_remote: Open, server: ObjectServer) -> None:
    (server.folder / "a.h5").write_bytes(b"")
    with pytest.raises(CannotOpenError, match="is empty"):
        open_remote("a.h5")


@pytest.mark.semantics("Z11")
def test_a_server_that_is_not_there_is_named(open_remote: Open, server: ObjectServer) -> None:
    with pytest.raises(CannotOpenError, match="nobody answers at the server's port"):
        open_remote("../", timeout_seconds=1.0, url="http://127.0.0.1:9/a.h5")


@pytest.mark.semantics("Z12")
def test_an_outage_is_one_line_in_the_log_and_its_end_another(
    source: RemoteObject, server: ObjectServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    server.set(fault="status:-1:400")
    for at in range(2, 6):
        with pytest.raises(UnreachableError):
            read_bytes(source, at * MIB, 10)
    server.reset()
    for at in range(2, 6):
        assert read_bytes(source, at * MIB, 10) == CONTENT[at * MIB : at * MIB + 10]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert "the server says 400" in lines[0]
    assert "can be read again" in lines[1]


@pytest.mark.semantics("Z12")
@pytest.mark.parametrize("fault", ["status:-1:503", "status:-1:403", "status:-1:400"])
def test_the_log_has_no_line_for_each_read(
    open_remote: Open, server: ObjectServer, fault: str
) -> None:
    (server.folder / "a.h5").write_bytes(CONTENT)
    source = open_remote("a.h5", timeout_seconds=1.0)
    server.set(fault=fault)
    with pytest.raises(H5fsError) as caught:
        read(source)
    assert not caught.value.is_news


@pytest.mark.semantics("Z10")
def test_the_second_question_of_the_kernel_costs_no_second_timeout(
    open_remote: Open, server: ObjectServer
) -> None:
    (server.folder / "a.h5").write_bytes(CONTENT)
    source = open_remote("a.h5", timeout_seconds=1.0)
    server.set(fault="status:-1:503")
    asked = 1
    for _ in range(10):  # a process that was held up for seconds asks again, and rightly
        with pytest.raises(UnreachableError):
            read(source)
        before = server.counts()["requests"]
        with pytest.raises(UnreachableError):
            read(source)
        asked = server.counts()["requests"] - before
        if not asked:
            break
    assert asked == 0
    server.reset()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(UnreachableError):
            assert read(source) == RIGHT
            return
        time.sleep(0.1)
    pytest.fail("the server is back, and reads still fail")


@pytest.mark.semantics("Z12")
def test_what_is_in_the_cache_is_read_while_the_network_is_away(
    source: RemoteObject, server: ObjectServer
) -> None:
    assert read(source) == RIGHT
    server.set(fault="nothing:-1:")

    def hang() -> None:
        with pytest.raises(H5fsError):
            source.ensure([(0, 9**9)])

    hanging = threading.Thread(target=hang)
    hanging.start()
    while not source.counts.in_flight:
        time.sleep(0.01)
    assert read(source) == RIGHT
    assert hanging.is_alive()
    server.reset()
    source.close()
    hanging.join(PATIENCE_SECONDS)
    assert not hanging.is_alive()


@pytest.mark.semantics("Z13")
def test_the_end_of_a_mount_waits_for_no_network(
    source: RemoteObject, open_remote: Open, server: ObjectServer
) -> None:
    slow = open_remote("a.h5", timeout_seconds=10 * PATIENCE_SECONDS)
    server.set(fault="nothing:-1:")
    errors: list[H5fsError] = []

    def wait_for_it() -> None:
        with pytest.raises(UnreachableError) as caught:
            read(slow)
        errors.append(caught.value)

    hanging = threading.Thread(target=wait_for_it)
    hanging.start()
    while not slow.counts.in_flight:
        time.sleep(0.01)
    slow.close()
    hanging.join(PATIENCE_SECONDS)
    assert not hanging.is_alive()
    assert "the mount is ending" in str(errors[0])


PROGRAM = """
    import sys, threading
    from pathlib import Path
    from h5fs.model.location import Url
    from h5fs.model.settings import RemoteOptions
    from h5fs.store.sources.interface import read_bytes
    from h5fs.store.sources.remote_files import RemoteFiles

    files = RemoteFiles(RemoteOptions(cache_folder=Path(sys.argv[2]), timeout_seconds=600))
    found = files.open(Url(sys.argv[1]))
    print("open", flush=True)
    sys.stdin.readline()
    threading.Thread(target=found.ensure, args=([(0, 9**9)],), daemon=True).start()
    while not found.counts.in_flight:
        pass
    found.close()
    files.close()
    print("closed", flush=True)
"""


@pytest.mark.semantics("Z13")
def test_a_process_ends_at_once_while_requests_hang(
    server: ObjectServer, source: RemoteObject, tmp_path: Path
) -> None:
    arguments = [sys.executable, "-c", textwrap.dedent(PROGRAM), f"{server.url}/a.h5"]
    with subprocess.Popen(
        [*arguments, str(tmp_path / "other")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "open\n"
            server.set(fault="nothing:-1:")
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.wait(PATIENCE_SECONDS) == 0
            assert process.stdout.read() == "closed\n"
        finally:
            process.kill()


def test_a_full_disk_is_enospc_and_not_eio(
    source: RemoteObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(source._entry, "put", fail)
    with pytest.raises(NoSpaceError, match="make room"):
        read(source)
    monkeypatch.undo()
    assert read(source) == RIGHT


@pytest.mark.semantics("Z3")
@pytest.mark.parametrize("status", [404, 410])
def test_a_removed_object_is_there_as_far_as_it_was_read(
    source: RemoteObject, server: ObjectServer, status: int
) -> None:
    assert read(source) == RIGHT
    server.set(fault=f"status:-1:{status}")
    with pytest.raises(StaleError) as caught:
        read_bytes(source, 5 * MIB, 10)
    assert caught.value.errno == errno.ESTALE
    assert read(source) == RIGHT


@pytest.fixture
def other_server(tmp_path: Path) -> Iterator[ObjectServer]:
    (tmp_path / "served").mkdir()
    with ObjectServer(tmp_path / "served") as server:
        yield server
