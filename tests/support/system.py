"""A mount namespace in which h5fs is installed as a system has it: for mount(8), fstab, users.

Needs root. The rest of the machine sees nothing of it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import h5fs

PACKAGE = Path(h5fs.__file__).parent.parent
MOST_SECONDS = 100
_PREPARE = """
set -u
trap 'umount -l mnt 2>/dev/null' EXIT
rm -rf farm; mkdir -p real farm
mount --bind /usr/sbin real && cp -rs "$PWD/real/." farm/ && cp bin/* farm/ || exit 99
mount --bind farm /usr/sbin || exit 99
"""


def why_no_system() -> str | None:
    """Return why there can be no such namespace here, None when there can."""
    if os.getuid() != 0:
        return "needs root"
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        return "unshare and mount (util-linux) are missing"
    if not Path("/sbin").is_symlink() or os.path.realpath("/sbin") != "/usr/sbin":
        return "/sbin is not /usr/sbin here"
    return None


def run_on_system(
    script: str, folder: Path, *commands: str, path: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a shell script in ``folder``, where ``commands`` of h5fs are linked into /sbin.

    Whatever is mounted on ``folder/mnt`` at the end is unmounted. ``PYTHON`` is this Python.
    """
    (folder / "bin").mkdir(exist_ok=True)
    for command in commands:
        module = {"h5fs": "h5fs.cli.main", "mount.h5fs": "h5fs.cli.mount_helper"}[
            command.replace("mount.fuse.h5fs", "mount.h5fs")
        ]
        program = f"import sys; from {module} import main; sys.exit(main())"
        (folder / "bin" / command).write_text(
            f"#!/bin/sh\nPYTHONPATH={shlex.quote(str(PACKAGE))} "
            f'exec {shlex.quote(sys.executable)} -c {shlex.quote(program)} "$@"\n'
        )
        (folder / "bin" / command).chmod(0o755)
    (folder / "bin/keep").touch()
    (folder / "script").write_text(_PREPARE + script)
    environment = {**os.environ, "PYTHON": sys.executable}
    return subprocess.run(
        ["timeout", "-k", "5", str(MOST_SECONDS), "unshare", "--mount", "--propagation", "private",
         "sh", folder / "script"],
        cwd=folder, env=environment | ({"PATH": path} if path else {}), capture_output=True,
        text=True, errors="replace", timeout=MOST_SECONDS + 15, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
