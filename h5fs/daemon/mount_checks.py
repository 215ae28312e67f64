"""Checks before anything starts; what would prevent the mount is one line that says what to do."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from h5fs.errors import CannotOpenError, MountError
from h5fs.model.location import Url
from h5fs.model.settings import Mode, MountOptions, StoreOptions
from h5fs.store.schemes import check_url_options, find_scheme
from h5fs.store.sources.local_file import make_unnamed, temporary_folder
from h5fs.system.kernel_mounts import MountEntry, find_mount

_FUSE_DEVICE = os.makedev(10, 229)  # Linux, Documentation/admin-guide/devices.txt


def check_mount(options: MountOptions) -> None:
    """Raise ``MountError`` for whatever is seen to prevent the mount before anything starts."""
    if options.store.url is not None:
        _check_url(options.store.url, options.store)
    else:
        if os.path.isdir(options.store.file) and os.path.isfile(options.mountpoint):
            raise MountError(
                f"the HDF5 file comes first, then the folder: h5fs {options.mountpoint} "
                f"{options.store.file}"
            )
        _check_file(options.store.file, options.mode, is_part=bool(options.part))
    if options.part and options.is_folder:
        raise MountError(f"{options.store.location} is a folder; only of a file a part is mounted")
    check_mountpoint(options)
    if options.mode.writes:
        _check_drafts_folder()
    if options.descriptor is None:
        _check_device()


def _check_device() -> None:
    if not os.path.exists("/dev/fuse"):
        raise MountError(
            "/dev/fuse is missing: load the kernel module (modprobe fuse), or start the container "
            "with --device /dev/fuse --cap-add SYS_ADMIN"
        )
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise MountError("no permission to use /dev/fuse: ask the administrator for access to it")
    if os.getuid() != 0 and find_fusermount() is None:
        raise MountError("fusermount3 is missing: install fuse3 (apt-get install fuse3)")


def _check_url(url: Url, options: StoreOptions) -> None:
    try:
        find_scheme(url, options.mode)
        check_url_options(url, options)
    except CannotOpenError as error:
        raise MountError(str(error)) from None


def _check_drafts_folder() -> None:
    """Refuse a mode that writes where no draft can be made: each ``write`` would fail later."""
    try:
        with make_unnamed():
            return
    except OSError as error:
        raise MountError(
            f"{temporary_folder()}: {error.strerror}; what is written is kept there until it is "
            "whole: set TMPDIR to a folder that can be written, with room"
        ) from None


def _check_file(file: Path, file_mode: Mode, *, is_part: bool) -> None:
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        if is_part:
            raise MountError(f"{file}: no such file") from None
        if file_mode in (Mode.READ, Mode.UPDATE):
            whole, _, inside = str(file).partition(":")
            hint = "--mode a, w or x would make it"
            if os.path.isfile(whole):
                hint = f"a group of it is {whole}:/{inside}"
            raise MountError(f"{file}: no such file ({hint})") from None
        if not file.parent.is_dir():
            raise MountError(
                f"{file.parent}: no such folder; make it: mkdir -p {file.parent}"
            ) from None
        if not os.access(file.parent, os.W_OK):
            raise MountError(f"{file}: {_explain_no_writing(file.parent)}") from None
        return
    except OSError as error:
        raise MountError(_explain_no_file(file, error)) from None
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
        raise MountError(f"{file}: {_explain_no_writing(file)}; --mode r only reads")


def _explain_no_file(path: Path, error: OSError) -> str:
    """Return why a path leads to no file."""
    for parent in path.parents:
        if isinstance(error, NotADirectoryError) and parent.is_file():
            return f"{parent} is a file (a group of it is {parent}:/{path.relative_to(parent)})"
    return f"{path}: {error.strerror}"


def _explain_no_writing(path: Path) -> str:
    """Return why a file, or a folder, cannot be written."""
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return "the file system is read-only"
    return f"no permission to write to {'that folder' if path.is_dir() else 'it'}"


def _check_folder(folder: Path, mode: Mode) -> None:
    if mode.writes:
        raise MountError(
            f"{folder} is a folder, which can be mounted with --mode r only; to write, mount one "
            "HDF5 file of it"
        )
    if not os.access(folder, os.R_OK | os.X_OK):
        raise MountError(f"{folder}: no permission to list it")


@contextmanager
def claimed_mountpoint(options: MountOptions) -> Iterator[Callable[[], None]]:
    """Keep every other h5fs from mounting at the same mountpoint until the yielded call is made.

    Raises ``MountError`` when another h5fs is mounting there, or has done so since the checks.
    """
    with ExitStack() as claim:
        is_taken = False
        with suppress(OSError):  # the folder cannot be opened to read, or there are no locks
            folder = os.open(options.mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            claim.callback(os.close, folder)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                is_taken = True
        if is_taken:
            raise MountError(f"another h5fs is being mounted at {options.mountpoint} just now")
        check_mountpoint(options)
        yield claim.close


def _check_apart(options: MountOptions) -> None:
    """Refuse a folder that would be mounted within itself: the daemon would wait for itself."""
    folder = Path(os.path.realpath(options.store.file))
    mountpoint = options.mountpoint
    if folder == mountpoint or folder in mountpoint.parents:
        raise MountError(f"{mountpoint} is in {folder} itself; name a mountpoint outside of it")
    if mountpoint in folder.parents:
        raise MountError(f"{folder} is in {mountpoint}, and the mount would hide it")


def check_mountpoint(options: MountOptions) -> None:
    """Raise ``MountError`` for what keeps a folder from being a mountpoint."""
    mountpoint = options.mountpoint
    if options.descriptor is not None:
        _check_descriptor(options.descriptor)
        return
    if options.is_folder and options.store.url is None:
        _check_apart(options)
    found = find_mount(mountpoint)
    if found is not None and found.is_h5fs:
        raise _mounted_already(found)
    try:
        with os.scandir(mountpoint) as entries:
            is_empty = next(entries, None) is None
    except FileNotFoundError:
        raise MountError(f"{mountpoint}: no such folder; make it: mkdir -p {mountpoint}") from None
    except NotADirectoryError:
        raise MountError(f"{mountpoint} is not a folder; name an empty one") from None
    except OSError as error:
        raise MountError(f"{mountpoint}: {error.strerror}") from None
    if not is_empty and (found := find_mount(mountpoint)) is not None and found.is_h5fs:
        raise _mounted_already(found)  # since it was looked at just now
    if not is_empty and ("nonempty", None) not in options.fuse:
        raise MountError(
            f"{mountpoint} is not empty, and a mount would hide what is in it; name an empty "
            "folder, or use -o nonempty"
        )
    # The daemon would wait for itself when it makes the redo log there, or writes its messages.
    is_local = options.store.url is None
    file = os.path.realpath(options.store.file) if is_local else None
    for path in (file, options.log.target):
        if path is not None and Path(path).is_relative_to(mountpoint):
            raise MountError(f"{mountpoint} holds {path}, which a mount there would hide")
    if not os.access(mountpoint, os.W_OK) and os.getuid() != 0:
        raise MountError(f"{mountpoint}: no permission to mount there; name a folder of your own")


def _check_descriptor(number: int) -> None:
    """Refuse a descriptor that is none of /dev/fuse; keep a good one from other programs."""
    try:
        device = os.fstat(number).st_rdev
        if device == _FUSE_DEVICE:
            os.set_inheritable(number, False)  # the mount ends when nobody has it open any more
            return
    except OSError:
        pass
    raise MountError(
        f"/dev/fd/{number} is no open /dev/fuse; as a mountpoint, it is one of a program that has "
        "mounted, as apptainer --fusemount does: name a folder"
    )


def _mounted_already(found: MountEntry) -> MountError:
    return MountError(
        f"{found.mountpoint} is mounted already ({found.source}); "
        f"unmount it first: h5fs umount {found.mountpoint}"
    )


def find_fusermount() -> str | None:
    """Return the path of the program that mounts for users; None where there is none."""
    return shutil.which("fusermount3") or shutil.which("fusermount")
