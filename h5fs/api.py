"""h5fs for Python programs.

    import h5fs, numpy as np
    with h5fs.mount("run42.h5", mode="r+") as path:
        np.save(path / "result.npy", np.arange(3))

or, where no block fits, as in a notebook:

    mount = h5fs.mount("run42.h5")
    np.load(mount.path / "images.npy", mmap_mode="r")
    mount.unmount()

The daemon is a process of its own, as with the command: a process that both serves a mount and
reads from it would wait for itself. The daemon watches the program that asked for the mount, and
ends with it, however the program ends.
"""

from __future__ import annotations

import atexit
import os
import secrets
import signal
import subprocess
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from h5fs.errors import MountError
from h5fs.system.interpreter import isolated_command
from h5fs.system.kernel_mounts import find_mount

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from h5fs.cli.mount_keywords import MountKeywords

_START_SECONDS = 600  # the log of the last mount may have to be brought into the file


class Mount:
    """A mounted HDF5 file, as ``h5fs.mount`` returns it; ``path`` is the mountpoint.

    In a ``with`` statement it gives its path, and ends with the block. Any thread may use it.
    """

    def __init__(self, path: Path, *, is_made: bool, writes: bool, keeps: bool) -> None:
        self.path = path
        self._real_path = Path(os.path.realpath(path))
        self._is_made = is_made
        self._writes = writes
        # Who unmounts has it, so that no thread returns before the mount has ended; a handler of a
        # signal may come to unmount in the thread that does.
        self._lock = threading.RLock()
        self._is_mounted = True
        self._owner_pid = os.getpid()
        if not keeps:
            atexit.register(self._unmount_at_exit)

    def unmount(self) -> None:
        """Unmount; return when everything written is in the HDF5 file and on the disk.

        A mount that is still in use, as by an array of ``np.load(..., mmap_mode="r")``, loses its
        name and ends with the last use; in a mode that writes a warning says so. Does nothing the
        second time. Raises ``MountError`` when something that was written is not in the HDF5 file;
        the message says what and where it was saved.
        """
        self._warn(self._end_once())

    def _end_once(self) -> str:
        """Unmount, unless it is done; return that the mount is in use, if it is and may write."""
        with self._lock:
            said = self._end() if self._is_mounted else ""
        advice = "; close the file, or del the array that is mapped from it"
        return said + advice if said and self._writes else ""

    def _warn(self, said: str) -> None:
        if said:
            warnings.warn(said, RuntimeWarning, stacklevel=3)  # the line that ends the mount

    def _end(self) -> str:
        """Unmount; return what there is to warn of. Raises ``MountError``."""
        command = "umount", "--lazy", "--", os.fspath(self.path)
        try:
            said = _run(*command)
        except BaseException as error:
            if not isinstance(error, MountError) and find_mount(self._real_path) is not None:
                _run(*command)  # Ctrl-C came before the command had begun
            if find_mount(self._real_path) is None:
                self._forget()
            raise  # where it is still mounted, it can be unmounted again
        self._forget()
        return said

    def _forget(self) -> None:
        self._is_mounted = False
        atexit.unregister(self._unmount_at_exit)
        if self._is_made:  # the daemon of a mount that is in use would do so at its end
            with suppress(OSError):
                self.path.rmdir()

    def __enter__(self) -> Path:
        """Return the mountpoint."""
        return self.path

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Unmount. An exception of the block comes through: a ``MountError`` is a warning then."""
        if os.getpid() != self._owner_pid:  # a process that was forked in the block leaves it
            return
        try:
            said = self._end_once()
        except MountError as failed:
            if error is None:
                raise
            said = str(failed)
        self._warn(said)

    def __reduce__(self) -> NoReturn:
        """Refuse to be sent to another process, which would end the mount, too."""
        raise TypeError("a Mount stays in its process: pass mount.path to others")

    def __repr__(self) -> str:
        state = "mounted" if self._is_mounted else "unmounted"
        return f"<h5fs.Mount {os.fspath(self.path)!r}, {state}>"

    def _unmount_at_exit(self) -> None:
        if os.getpid() != self._owner_pid:  # at the end of a process that it has forked
            return
        try:
            self._end_once()  # what this process uses of it ends with the process
        except MountError as error:
            self._warn(str(error))


def mount(
    file: str | os.PathLike[str],
    mountpoint: str | os.PathLike[str] | None = None,
    *,
    mode: str = "r",
    keep: bool = False,
    options: Mapping[str, str | int | float | bool | Sequence[str]] | None = None,
    **keywords: Unpack[MountKeywords],
) -> Mount:
    """Mount an HDF5 file, for the length of a ``with`` block or until ``unmount`` is called.

    ``file``: a path or URL, or ``FILE:/GROUP`` for one group of it. ``mountpoint``: an empty
    folder; one that is missing is made, and removed at the end; without it, a temporary one.
    ``mode``: ``r``, ``r+``, ``a``, ``w`` or ``x``, as in h5py. ``keep``: the mount goes on when
    this program ends; without it, it ends then. ``keywords``: the options of ``-o``
    (``h5fs mount --help``), such as ``cache="1G", xattr=True``; a False option is left out.
    ``options``: the same options as a mapping, for FUSE's own, whose names are no Python keywords.

    At the end of the block, also after an exception, the file is unmounted, and everything written
    is in it and on the disk. Raises ``MountError``, an ``OSError``, with one line that says what to
    do.
    """
    arguments = ["--mode", mode]
    if not keep:
        arguments += ["--owner", str(os.getpid())]
    for name, value in {**(options or {}), **keywords}.items():
        if value is not False:
            text = ",".join(value) if isinstance(value, (list, tuple)) else str(value)
            text = text.replace(",", "\\,")
            arguments += ["-o", name if value is True else f"{name}={text}"]
    if mountpoint is None:
        mountpoint = Path(tempfile.gettempdir(), f"h5fs-{secrets.token_hex(8)}")
    if not os.fspath(mountpoint):  # it would be the working directory
        raise MountError("the mountpoint is an empty name")
    path = Path(os.path.abspath(mountpoint))
    is_made = not path.exists()
    # A file may be named like a command or an option.
    _run("mount", *arguments, "--", os.fsdecode(file), os.fspath(path))
    return Mount(path, is_made=is_made, writes=mode != "r", keeps=keep)


def _run(*words: str) -> str:
    """Run the command; return what it said on stderr. Raises ``MountError`` with that."""
    command = isolated_command("h5fs.cli.main", *words)
    running: subprocess.Popen[str] | None = None
    try:
        with _interrupts_noted():
            # In a session of its own no Ctrl-C reaches it but by this process, which knows what to
            # do next.
            running = subprocess.Popen(
                command, text=True, errors="backslashreplace", start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )  # fmt: skip
        _, said = running.communicate(timeout=_START_SECONDS)
    except subprocess.TimeoutExpired:
        assert running is not None
        running.kill()
        running.communicate()
        raise MountError(
            f"h5fs {words[0]} {words[-1]}: no answer within {_START_SECONDS} s"
        ) from None
    except BaseException:  # Ctrl-C, or what a handler of another signal raises
        if running is not None:
            _end_interrupted(running, words)
        raise
    if running.returncode:
        raise MountError(_without_prefix(said) or f"status {running.returncode}")
    return _without_prefix(said)


@contextmanager
def _interrupts_noted() -> Iterator[None]:
    """Let Ctrl-C wait during the block, in whatever thread it comes: a process that is just being
    made would be nobody's."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is None or threading.current_thread() is not threading.main_thread():
        yield  # its handler is no function of Python's, or does not run in this thread
        return
    has_come = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: has_come.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if has_come.is_set():
        signal.raise_signal(signal.SIGINT)


def _without_prefix(said: str) -> str:
    return "\n".join(line.removeprefix("h5fs: ") for line in said.strip().splitlines())


def _end_interrupted(running: subprocess.Popen[str], words: Sequence[str]) -> None:
    """Leave nothing mounted, and come back when that is so, unless interrupted again."""
    try:
        if words[0] == "mount":
            running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=_START_SECONDS)
        if words[0] == "mount" and not running.returncode:  # it was ready in that moment
            _run("umount", "--lazy", "--", words[-1])
        elif words[0] == "umount" and running.returncode:
            warnings.warn(_without_prefix(said), RuntimeWarning, stacklevel=5)
    finally:
        running.kill()  # does nothing to what has ended
        running.communicate()
