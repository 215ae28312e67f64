"""h5fs for Python programs: a mount for as long as a ``with`` block runs.

    import h5fs, numpy as np
    with h5fs.mount("run42.h5", mode="r+") as path:
        np.save(path / "result.npy", np.arange(3))

The daemon is a process of its own, as with the command: a process that both serves a mount and
reads from it would wait for itself.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from h5fs.errors import MountError
from h5fs.interpreter import isolated_command

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from h5fs.cli.mount_options import MountKeywords

_START_SECONDS = 600  # the log of the last mount may have to be brought into the file


@contextmanager
def mount(
    file: str | os.PathLike[str],
    mountpoint: str | os.PathLike[str] | None = None,
    *,
    mode: str = "r",
    options: Mapping[str, str | int | float | bool] | None = None,
    **keywords: Unpack[MountKeywords],
) -> Iterator[Path]:
    """Mount an HDF5 file for the length of a ``with`` block, which gets the mountpoint's path.

    ``mountpoint``: an empty folder; without it a temporary one. ``mode``: ``r``, ``r+``, ``a``,
    ``w`` or ``x``, as in h5py. ``keywords``: the options of ``-o`` (``h5fs mount --help``), such as
    ``cache="1G", xattr=True``; a False option is left out. ``options``: the same options as a
    mapping, for FUSE's own, whose names are no Python keywords.

    At the end of the block, also after an exception, the file is unmounted, and everything written
    is in it and on the disk. Raises ``MountError`` with one line that says what to do. A mount that
    is still in use at the end stays mounted, and is a ``MountError`` too.
    """
    arguments = ["--mode", mode]
    for name, value in {**(options or {}), **keywords}.items():
        if value is not False:
            text = str(value).replace(",", "\\,")
            arguments += ["-o", name if value is True else f"{name}={text}"]
    is_own = mountpoint is None
    path = Path(tempfile.mkdtemp(prefix="h5fs-") if mountpoint is None else mountpoint)
    try:
        # A file may be named like a command or an option.
        _run("mount", *arguments, "--", os.fsdecode(file), os.fspath(path))
        try:
            yield path
        finally:
            _run("umount", "--", os.fspath(path))
    finally:
        if is_own:
            # Only rmdir: what is inside may still be the HDF5 file's, and must not be removed.
            with suppress(OSError):
                path.rmdir()


def _run(*words: str) -> None:
    """Run the command. Raises ``MountError`` with what it said."""
    command = isolated_command("h5fs.cli.main", *words)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="backslashreplace",
            timeout=_START_SECONDS, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise MountError(
            f"h5fs {words[0]} {words[-1]}: no answer within {_START_SECONDS} s"
        ) from None
    if done.returncode:
        raise MountError(done.stderr.strip().removeprefix("h5fs: ") or f"status {done.returncode}")
