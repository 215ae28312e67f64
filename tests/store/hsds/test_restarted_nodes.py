"""Nodes that are killed and started again, while a domain is mounted: the mounts go on."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from support.hsds_service import Service, running_service, why_missing
from support.mounts import Mounted, mounted, needs_libfuse_3
from support.waiting import PATIENCE_SECONDS

from h5fs.store.hsds.data_nodes import home_of

pytestmark = pytest.mark.skipif(bool(why_missing()), reason=why_missing() or "it is there")

DOMAIN = "/home/user/d.h5"
COUNT = 12
SECONDS = 15  # for what a service of three processes does in no time: the machine may be crowded


def make_domain(service: Service) -> str:
    """Make the domain; return the node that its root group and the domain itself are at home on.

    Without that node nothing works. Where it is two nodes, the domain is made anew.
    """
    while True:
        root = service.ask("PUT", "/", DOMAIN)["root"]
        homes = {home_of(each, 2) for each in (root, service.access.bucket + DOMAIN)}
        if len(homes) == 1:
            return f"dn_{homes.pop() + 1}"
        query = {"domain": DOMAIN, "bucket": service.access.bucket}
        service.client.change("DELETE", "/", query)


@contextmanager
def mounted_twice(options: list[str]) -> Iterator[tuple[Mounted, Mounted]]:
    """Mount the domain with mode r+, and with mode r."""
    url: Any = "hdf5:/" + DOMAIN  # a Path would make one slash of two
    writing = mounted(url, options=["--mode", "r+", *options])
    reading = mounted(url, options=options)
    with writing as writer, reading as reader:
        yield writer, reader


def fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def error_of(do: Callable[[], object]) -> int | None:
    """Return the errno with which something fails, in time; None when it does not."""
    began = time.monotonic()
    try:
        do()
    except OSError as error:
        return error.errno
    finally:
        # Two requests, each of which may take as long as it may; on a busy machine.
        assert time.monotonic() - began < 4 * SECONDS + PATIENCE_SECONDS
    return None


def read(mount: Mounted, number: int) -> None:
    """Read an array; the kernel must have no pages of it."""
    path = mount.path / f"{number}.npy"
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    assert (np.load(path) == number).all()


def until_done(do: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while True:
        problem = error_of(do)
        if problem is None:
            return
        assert problem == errno.EIO
        assert time.monotonic() < deadline
        time.sleep(0.2)


@needs_libfuse_3
@pytest.mark.semantics("G7", "G16", "G18", "G19")
@pytest.mark.parametrize("killed", ["one", "sn_1", "all"])
def test_a_mount_goes_on_when_nodes_were_killed_and_are_there_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    with running_service(tmp_path / "c", is_quick=False) as service:
        for key, value in service.environment.items():
            monkeypatch.setenv(key, value)
        monkeypatch.chdir(tmp_path)
        needed = make_domain(service)
        one = next(name for name in ("dn_1", "dn_2") if name != needed)
        names = {"one": (one,), "sn_1": ("sn_1",), "all": ()}[killed]
        timeout = ["-o", f"timeout={SECONDS}"]
        with mounted_twice(timeout) as (writer, reader):
            for number in range(COUNT):
                np.save(writer.path / f"{number}.npy", np.full(1000, number))
            fsync(writer.path / "0.npy")
            until_done(lambda: read(reader, 0))
            service.kill(*names)
            problems = [error_of(lambda n=n: read(reader, n)) for n in range(COUNT)]  # type: ignore[misc]
            assert set(problems) <= {None, errno.EIO}
            assert errno.EIO in problems
            assert (None in problems) == (killed == "one")
            service.start_again(*names)
            for mount in (reader, writer):
                for number in range(COUNT):
                    until_done(lambda m=mount, n=number: read(m, n))  # type: ignore[misc]
            until_done(lambda: np.save(writer.path / "new.npy", np.arange(5)))
            until_done(lambda: fsync(writer.path / "new.npy"))
            assert np.load(reader.path / "new.npy").tolist() == list(range(5))
            for mount in (reader, writer):
                log = mount.log.read_text()
                lost, back = "does not answer" if killed == "one" else "is lost", "is back"
                if mount is reader:
                    assert lost in log
                    assert back in log
                assert "Traceback" not in log


@needs_libfuse_3
@pytest.mark.semantics("G16")
def test_an_fsync_after_a_restart_that_nobody_has_noticed_is_an_error_once_for_each_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(opened: BinaryIO) -> None:
        opened.seek(128)
        opened.write(np.ones(1000).tobytes())
        opened.flush()

    with running_service(tmp_path / "c", is_quick=False) as service:
        for key, value in service.environment.items():
            monkeypatch.setenv(key, value)
        monkeypatch.chdir(tmp_path)
        make_domain(service)
        with mounted_twice(["-o", "timeout=20"]) as (mount, _):
            paths = [mount.path / f"{name}.npy" for name in "abc"]
            for path in paths:
                np.save(path, np.zeros(1000))
            assert error_of(lambda: fsync(paths[0])) is None
            with paths[0].open("r+b") as one, paths[1].open("r+b") as two:
                write(one)
                write(two)
                service.kill("dn_1", "dn_2")
                service.start_again("dn_1", "dn_2")
                assert [error_of(lambda f=f: os.fsync(f)) for f in (one, two)] == [errno.EIO] * 2
                with paths[2].open("r+b") as late:
                    write(late)
                    assert error_of(lambda: os.fsync(late.fileno())) is None
                for each in (one, two):
                    write(each)
                    assert error_of(lambda f=each: os.fsync(f)) is None
            service.kill()
            service.start_again()
            until_done(lambda: np.load(paths[0]))
            with paths[0].open("r+b") as opened:  # nothing was to be flushed, so nothing is lost
                write(opened)
                assert error_of(lambda: os.fsync(opened.fileno())) is None
            for path in paths:
                until_done(lambda path=path: fsync(path))  # it is there
                assert (np.load(path) == 1).all()
