"""A mount's life: checks, daemon, readiness, end.

``mount`` checks what can be checked, forks, and returns when the mount answers. The HDF5 file is
opened in the daemon only: HDF5's locks do not survive a fork.
"""

from __future__ import annotations

import logging
import os
import resource
import select
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NoReturn

from h5fs.errors import MountError
from h5fs.logs import start_logging
from h5fs.mount_table import find_daemon, find_mount, registered
from h5fs.options import ExternalPolicy, Mode, MountOptions
from h5fs.status_document import make_document, now_seconds
from h5fs.status_socket import answering
from h5fs.store.process.nursery import Nursery
from h5fs.trees import opened_to_mount
from h5fs.watcher import Watcher

_log = logging.getLogger(__name__)

_READY = b"ready"
_PREFIX_VARIABLES = ("HDF5_EXT_PREFIX", "HDF5_VDS_PREFIX", "HDF5_EXTFILE_PREFIX")
# What to do about what fusermount3 says.
_ADVICE = (
    ("user_allow_other", "; ask the administrator for that line, or mount without it"),
    (
        "Operation not permitted",
        "; a container must be started with --device /dev/fuse --cap-add SYS_ADMIN",
    ),
)
_UNMOUNT_PATIENCE_SECONDS = 600  # everything is committed before


def mount(options: MountOptions) -> None:
    """Mount an HDF5 file; return once the mount answers, or in the foreground once it has ended.

    Raises ``MountError``; nothing is left mounted then.
    """
    check_mount(options)
    if options.foreground:
        _serve(options, on_ready=lambda: None)
        return
    reader, writer = os.pipe()
    # What was written and not flushed would be written twice.
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _run_daemon(options, writer)
    os.close(writer)
    with open(reader, "rb") as messages:
        message = messages.read()
    if message == _READY:
        _check_answer(options.mountpoint)
        return
    os.waitpid(pid, 0)
    raise MountError(
        message.decode("utf-8", "replace")
        or f"the daemon died while it opened {options.store.file}; try --foreground --debug"
    )


def unmount(mountpoint: Path) -> None:
    """Unmount, and wait until the daemon is gone. Raises ``MountError``."""
    place = Path(os.path.realpath(mountpoint))
    found = find_mount(place)
    if found is None:
        raise MountError(
            f"nothing is mounted at {mountpoint}; findmnt -t fuse.h5fs lists what is mounted where"
        )
    if not found.is_h5fs:
        raise MountError(f"{mountpoint} is not an h5fs mount but {found.type}; use umount")
    pid = find_daemon(place)
    daemon = _open_process(pid) if pid is not None else None
    _detach(place)
    if daemon is None:
        return
    try:
        ended, _, _ = select.select([daemon], [], [], _UNMOUNT_PATIENCE_SECONDS)
    finally:
        os.close(daemon)
    if not ended:
        raise MountError(
            f"{mountpoint} is unmounted, but its daemon (pid {pid}) still runs after "
            f"{_UNMOUNT_PATIENCE_SECONDS} s; its log may say why"
        )


def check_mount(options: MountOptions) -> None:
    """Raise ``MountError`` for what can be seen to prevent the mount before anything starts."""
    if os.path.isdir(options.store.file) and os.path.isfile(options.mountpoint):
        raise MountError(
            f"the HDF5 file comes first, then the folder: h5fs {options.mountpoint} "
            f"{options.store.file}"
        )
    _check_file(options.store.file, options.mode)
    _check_mountpoint(options)
    if not os.path.exists("/dev/fuse"):
        raise MountError(
            "/dev/fuse is missing: load the kernel module (modprobe fuse), or start the container "
            "with --device /dev/fuse --cap-add SYS_ADMIN"
        )
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise MountError("no permission to use /dev/fuse: ask the administrator for access to it")
    if os.getuid() != 0 and _find_fusermount() is None:
        raise MountError("fusermount3 is missing: install fuse3 (apt-get install fuse3)")


def _check_file(file: Path, file_mode: Mode) -> None:
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        if file_mode in (Mode.READ, Mode.UPDATE):
            whole = Path(str(file).partition(":")[0])
            hint = "--mode a, w or x would make it"
            if os.path.isfile(whole):
                hint = f"a mount shows all of a file: name {whole}"
            raise MountError(f"{file}: no such file ({hint})") from None
        if not file.parent.is_dir():
            raise MountError(
                f"{file.parent}: no such folder; make it: mkdir -p {file.parent}"
            ) from None
        if not os.access(file.parent, os.W_OK):
            raise MountError(f"{file.parent}: no permission to make a file there") from None
        return
    except OSError as error:
        raise MountError(f"{file}: {error.strerror}") from None
    if stat.S_ISDIR(mode):
        _check_folder(file, file_mode)
        return
    if not stat.S_ISREG(mode):
        raise MountError(f"{file} is not a regular file; name an HDF5 file")
    if file_mode is Mode.EXCLUSIVE:
        raise MountError(f"{file} exists, and --mode x makes a new file; use a, r+ or w")
    if not os.access(file, os.R_OK):
        raise MountError(f"{file}: no permission to read it")
    if file_mode.writes and not os.access(file, os.W_OK):
        raise MountError(f"{file}: no permission to write to it; --mode r only reads")


def _check_folder(folder: Path, mode: Mode) -> None:
    if mode.writes:
        raise MountError(
            f"{folder} is a folder, which can be mounted with --mode r only; to write, mount one "
            "HDF5 file of it"
        )
    if not os.access(folder, os.R_OK | os.X_OK):
        raise MountError(f"{folder}: no permission to list it")


def _check_apart(options: MountOptions) -> None:
    """Refuse a folder that would be mounted within itself: the daemon would wait for itself."""
    folder = Path(os.path.realpath(options.store.file))
    mountpoint = options.mountpoint
    if folder == mountpoint or folder in mountpoint.parents:
        raise MountError(f"{mountpoint} is in {folder} itself; name a mountpoint outside of it")
    if mountpoint in folder.parents:
        raise MountError(f"{folder} is in {mountpoint}, and the mount would hide it")


def _check_mountpoint(options: MountOptions) -> None:
    mountpoint = options.mountpoint
    if options.is_folder:
        _check_apart(options)
    found = find_mount(mountpoint)
    if found is not None and found.is_h5fs:
        raise MountError(
            f"{mountpoint} is mounted already ({found.source}); "
            f"unmount it first: h5fs umount {mountpoint}"
        )
    try:
        with os.scandir(mountpoint) as entries:
            is_empty = next(entries, None) is None
    except FileNotFoundError:
        raise MountError(f"{mountpoint}: no such folder; make it: mkdir {mountpoint}") from None
    except NotADirectoryError:
        raise MountError(f"{mountpoint} is not a folder; name an empty one") from None
    except OSError as error:
        raise MountError(f"{mountpoint}: {error.strerror}") from None
    if not is_empty and ("nonempty", None) not in options.fuse:
        raise MountError(
            f"{mountpoint} is not empty, and a mount would hide what is in it; name an empty "
            "folder, or use -o nonempty"
        )
    # The daemon would wait for itself when it makes the log beside the file, or writes its own.
    for path in (os.path.realpath(options.store.file), options.log.target):
        if path is not None and Path(path).is_relative_to(mountpoint):
            raise MountError(f"{mountpoint} holds {path}, which a mount there would hide")
    if not os.access(mountpoint, os.W_OK) and os.getuid() != 0:
        raise MountError(f"{mountpoint}: no permission to mount there; name a folder of your own")


def _run_daemon(options: MountOptions, writer: int) -> NoReturn:
    """Be the daemon: everything that goes wrong before the mount answers goes to ``writer``."""
    status = 1
    try:
        os.setsid()
        with open(os.devnull, "r+b") as null, tempfile.TemporaryFile() as complaints:
            os.dup2(null.fileno(), 0)
            os.dup2(null.fileno(), 1)
            os.dup2(complaints.fileno(), 2)
            status = _serve_in_background(options, writer, complaints)
    except BaseException:
        _log.exception("the daemon ends")
    finally:
        logging.shutdown()
        os._exit(status)


def _serve_in_background(options: MountOptions, writer: int, complaints: BinaryIO) -> int:
    ready = threading.Event()
    stderr_after: int | None = None

    def on_ready() -> None:
        ready.set()
        # From here on what libfuse or the C library complain about belongs in the log.
        os.dup2(stderr_after if stderr_after is not None else 0, 2)
        os.write(writer, _READY)
        os.close(writer)

    try:
        stderr_after = start_logging(options)
        _serve(options, on_ready)
    except BaseException as error:
        if logging.getLogger().handlers:
            _log.error("%s", error)
        if not ready.is_set():
            os.write(writer, _explain(error, complaints))
        return 1
    return 0


def _explain(error: BaseException, complaints: BinaryIO) -> bytes:
    """Return one line for the person who waits, with what libfuse wrote about it."""
    complaints.seek(0)
    said = " ".join(complaints.read().decode("utf-8", "replace").split())
    if not isinstance(error, MountError):
        said = " ".join(traceback.format_exception_only(error)).strip()
        return f"unexpected: {said} (please report this)".encode()
    advice = next((then for word, then in _ADVICE if word in said), "")
    return f"{error}: {said}{advice}".encode() if said else str(error).encode()


def _serve(options: MountOptions, on_ready: Callable[[], None]) -> None:
    """Open the file and answer the kernel until the mount ends. Raises ``MountError``."""
    if options.foreground:
        start_logging(options)
    # HDF5 also looks for the sources of virtual datasets in the working directory: let that be the
    # one place where it looks anyway. The open file keeps its file system busy as it is.
    real = os.path.realpath(options.store.file)
    os.chdir(real if options.is_folder else os.path.dirname(real))
    if options.store.external is not ExternalPolicy.ALL:
        for variable in _PREFIX_VARIABLES:  # further places where HDF5 would look
            os.environ.pop(variable, None)
    _allow_descriptors()
    nursery = Nursery()
    if options.store.workers != 0:
        nursery.start()  # first of all: it imports the HDF5 library while this process goes on
    try:
        _serve_with(nursery, options, on_ready)
    finally:
        nursery.close()


def _serve_with(
    nursery: Nursery, options: MountOptions, on_ready: Callable[[], None]
) -> None:
    try:
        from h5fs import adapter  # libfuse is looked for at the import
    except OSError as error:
        raise MountError(str(error)) from None
    adapter.check_mode(options.mode)  # before a mode that makes or empties the file has done so
    from h5fs.tree import FolderTree, RenewedTree

    with opened_to_mount(options, nursery) as tree:
        watcher = Watcher(tree) if isinstance(tree, (RenewedTree, FolderTree)) else None

        def start(notifier: adapter.Notifier) -> None:
            if watcher is not None:
                watcher.start(notifier)
            on_ready()

        meter, started = adapter.CallMeter(), now_seconds()

        def describe() -> bytes:
            return make_document(options, started, tree.statistics(), meter.statistics())

        # In the foreground SIGHUP says that the terminal is gone.
        renews = watcher is not None and not options.foreground
        try:
            with registered(options.mountpoint, options.store.file) as sockets:
                if not sockets:
                    _log.warning(
                        "no folder for a record in $XDG_RUNTIME_DIR, /run/user or /tmp: "
                        "h5fs umount will not wait for this daemon, nor h5fs status know it"
                    )
                with ExitStack() as answered:
                    for socket in sockets:
                        answered.enter_context(answering(socket, describe))
                    adapter.serve(
                        tree, options, start, watcher.renew if watcher and renews else None, meter
                    )
                tree.close()
        finally:
            if watcher is not None:
                watcher.stop()


def _allow_descriptors() -> None:
    """Allow as many open files as may be: the cache of decoded chunks has one for each block."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _check_answer(mountpoint: Path) -> None:
    try:
        os.stat(mountpoint)
    except OSError as error:
        subprocess.run(_unmount_command(mountpoint, lazy=True), check=False, capture_output=True)
        raise MountError(
            f"{mountpoint} is mounted but does not answer: {error.strerror}"
        ) from None


def _detach(mountpoint: Path) -> None:
    done = subprocess.run(
        _unmount_command(mountpoint), check=False, capture_output=True, text=True
    )
    if done.returncode:
        reason = " ".join(done.stderr.split())
        raise MountError(
            f"cannot unmount {mountpoint}: {reason}; close the programs that use it "
            f"(fuser -vm {mountpoint} lists them)"
        )


def _unmount_command(mountpoint: Path, *, lazy: bool = False) -> list[str]:
    fusermount = _find_fusermount()
    if fusermount is not None:
        return [fusermount, "-uz" if lazy else "-u", str(mountpoint)]
    return ["umount", *(["-l"] if lazy else []), str(mountpoint)]


def _find_fusermount() -> str | None:
    return shutil.which("fusermount3") or shutil.which("fusermount")


def _open_process(pid: int) -> int | None:
    """Return a descriptor that becomes readable when the process ends; None when it has."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None
