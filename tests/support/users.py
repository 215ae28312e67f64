"""Commands run as another user, and in a mount namespace of their own. Needs root."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

import h5fs

NOBODY = 65534
_AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


def why_not_another_user() -> str | None:
    """Return why tests cannot act as another user here, None when they can."""
    if os.getuid() != 0:
        return "acting as another user needs root"
    if shutil.which("setpriv") is None or shutil.which("unshare") is None:
        return "setpriv and unshare (util-linux) are missing"
    return None


@functools.cache
def python_of_nobody() -> str | None:
    """Return a Python that nobody may run, and that finds h5fs; None when there is none."""
    for python in (sys.executable, "/usr/bin/python3"):
        # Through a shell: setpriv itself runs programs that the other user could not.
        program = "import h5fs.cli.main, h5py, numpy, fuse, email"
        command = [*_AS_NOBODY, "sh", "-c", 'exec "$0" -c "$1"', python, program]
        try:
            done = subprocess.run(
                command, env=environment_of_nobody(), cwd="/", capture_output=True, timeout=240,
                check=False,
            )  # fmt: skip
        except OSError:
            continue
        if done.returncode == 0:
            return python
    return None


def environment_of_nobody(**more: str) -> dict[str, str]:
    """Return an environment in which another user's Python finds h5fs and what it needs."""
    package, libraries = Path(h5fs.__file__).parent.parent, Path(h5py.__file__).parent.parent
    found = {
        "PYTHONPATH": f"{package}:{libraries}:{sysconfig.get_paths()['purelib']}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "LC_ALL": "C.UTF-8",
    }
    return found | more


@contextmanager
def public_folder(place: str = "/tmp") -> Iterator[Path]:
    """A temporary folder that belongs to nobody and that everybody reaches."""
    folder = Path(tempfile.mkdtemp(prefix="h5fs-public-", dir=place))
    try:
        os.chown(folder, NOBODY, NOBODY)
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder)


def run_as_nobody(
    *command: str | Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command as a user without rights."""
    return subprocess.run(
        [*_AS_NOBODY, *map(str, command)], env=environment_of_nobody(**(env or {})), cwd="/",
        capture_output=True, text=True, errors="replace", timeout=240, check=False,
    )  # fmt: skip


def run_h5fs_as_nobody(
    *arguments: str | Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the h5fs command as a user without rights."""
    python = python_of_nobody()
    assert python is not None
    return run_as_nobody(python, "-m", "h5fs", *arguments, env=env)


def run_script_as_nobody(
    script: str, folder: Path, *, before: str = "true", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a shell script as nobody where everybody may use /dev/fuse: in its own namespace.

    In the script ``h5fs`` is the command, and the working directory is ``folder``. ``before`` is a
    command that root runs in that namespace first.
    """
    device = folder / "fuse-device"
    prepare = (
        f"mknod {device} c 10 229 && chmod 666 {device} && mount --bind {device} /dev/fuse && "
        f"{before} && "
        f"exec {shlex.join(_AS_NOBODY)} sh -c {shlex.quote(script)}"
    )
    (folder / "bin").mkdir()
    (folder / "bin/h5fs").write_text(f'#!/bin/sh\nexec {python_of_nobody()} -m h5fs "$@"\n')
    (folder / "bin/h5fs").chmod(0o755)
    found = environment_of_nobody(XDG_RUNTIME_DIR=str(folder), HOME=str(folder), **environment)
    found["PATH"] = f"{folder}/bin:{found['PATH']}"
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", prepare],
        env=found, cwd=folder, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
