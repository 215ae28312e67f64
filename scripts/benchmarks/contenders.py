"""What is measured: h5fs as it is here, over one FUSE library or another, and peers of it."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from support.mounts import MountFailedError, mounted

from benchmarks.processes import TOKEN_NAME, find_token_processes, sweep
from h5fs.system.kernel_mounts import find_mount

PEER_START_SECONDS = 120
PEER_END_SECONDS = 10
_LIBRARIES = {"2": "libfuse.so.2", "3": "libfuse3.so"}


class SkippedError(Exception):
    """A row cannot be measured with this contender; the message says why."""


class FailedError(Exception):
    """A measurement went wrong; the message says how."""


@dataclass(frozen=True)
class Served:
    """A mount: where its datasets are, and which processes serve it."""

    path: Path
    pattern: str
    find_pids: Callable[[], set[int]]

    def find(self, dataset: str) -> str:
        """Return the path of a dataset's file."""
        return str(self.path / self.pattern.format(dataset=dataset))

    def find_folder(self, group: str) -> str:
        """Return the path of a group's folder."""
        return os.path.dirname(self.find(f"{group}/dataset"))


class Contender(Protocol):
    """Something that mounts HDF5 files."""

    @property
    def name(self) -> str:
        """What the table calls it."""

    @property
    def is_h5fs(self) -> bool:
        """Whether it has h5fs's options."""

    def mount(
        self, file: Path, options: str = "", words: tuple[str, ...] = ()
    ) -> contextlib.AbstractContextManager[Served]:
        """Mount a file, whose content is in the page cache, with ``-o`` options of h5fs.

        ``words``: further arguments of its command line.
        """


@dataclass(frozen=True)
class H5fs:
    """The h5fs of this clone. ``fuse``: 2 or 3, the libfuse to use; None for what it chooses."""

    fuse: str | None = None
    arguments: tuple[str, ...] = ()
    is_h5fs: bool = field(default=True, init=False)

    @property
    def name(self) -> str:
        """``h5fs``, with its libfuse when that was chosen."""
        return f"h5fs (libfuse {self.fuse})" if self.fuse else "h5fs"

    @contextlib.contextmanager
    def mount(self, file: Path, options: str = "", words: tuple[str, ...] = ()) -> Iterator[Served]:
        """Raises ``SkippedError`` when this h5fs lacks an option or the library."""
        read_through(file)
        arguments = [*self.arguments, *words, *(["-o", options] if options else [])]
        with contextlib.ExitStack() as stack:
            try:
                with _environment("H5FS_FUSE", self.fuse):
                    mount = stack.enter_context(mounted(file, options=arguments))
            except MountFailedError as error:
                if _is_lacking(str(error), options):
                    raise SkippedError(str(error)) from None
                raise FailedError(f"not mounted: {error}") from None
            if self.fuse not in (None, library_of(mount.pid)):
                raise SkippedError(
                    f"asked for libfuse {self.fuse}, the daemon runs on {library_of(mount.pid)}"
                )
            yield Served(mount.path, "{dataset}.npy", lambda: {mount.pid})


@dataclass(frozen=True)
class Peer:
    """Another program. ``command`` mounts, in the foreground or not; both fields are templates."""

    name: str
    command: str
    pattern: str
    token: str
    is_h5fs: bool = field(default=False, init=False)

    @contextlib.contextmanager
    def mount(self, file: Path, options: str = "", words: tuple[str, ...] = ()) -> Iterator[Served]:
        """Options of h5fs mean nothing here."""
        read_through(file)
        with tempfile.TemporaryDirectory(prefix="peer-") as folder:
            mountpoint = Path(folder, "mnt").resolve()
            mountpoint.mkdir()
            token = f"{self.token}/{os.path.basename(folder)}"
            try:
                self._start(file, mountpoint, token)
                yield Served(mountpoint, self.pattern, lambda: find_token_processes(token))
            finally:
                sweep(token, Path(folder).resolve(), patience_seconds=PEER_END_SECONDS)

    def _start(self, file: Path, mountpoint: Path, token: str) -> None:
        words = [
            word.format(file=file, mountpoint=mountpoint) for word in shlex.split(self.command)
        ]
        environment = {**os.environ, TOKEN_NAME: token}
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                words, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
            deadline = time.monotonic() + PEER_START_SECONDS
            while find_mount(mountpoint) is None:
                if process.poll() or time.monotonic() > deadline:
                    said.seek(0)
                    last = said.read().decode("utf-8", "replace").strip().splitlines()[-1:]
                    raise FailedError(f"{self.name} has not mounted: {' '.join(last)}")
                time.sleep(0.02)
        os.stat(mountpoint)


def _is_lacking(message: str, options: str) -> bool:
    """Whether a mount was refused for want of libfuse, or of an option that the row needs."""
    found = re.search(r"unknown option -o ([^ ]+)", message)
    if found:
        return found[1] in options.split(",")
    return re.search("libfuse|fusepy|H5FS_FUSE", message) is not None


def read_through(file: Path) -> None:
    """Bring a file, or a folder of files, into the page cache (the data only of a file)."""
    if file.is_dir():
        for entry in os.scandir(file):
            entry.stat()
        return
    with file.open("rb", buffering=0) as opened:
        buffer = bytearray(2**20)
        while opened.readinto(buffer):
            pass


def library_of(pid: int) -> str:
    """Return the libfuse, 2 or 3, that a daemon has loaded; none when it is not known."""
    with contextlib.suppress(OSError):
        maps = Path(f"/proc/{pid}/maps").read_text()
        for version, library in _LIBRARIES.items():
            if library in maps:
                return version
    return "none that is known"


@contextlib.contextmanager
def _environment(name: str, value: str | None) -> Iterator[None]:
    """Set a variable for the processes that the block starts; None leaves it as it is."""
    before = os.environ.get(name)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
