"""Do as Apptainer's ``--fusemount`` does: mount first, then start the FUSE program.

    python launching.py FOLDER PROGRAM... -- COMMAND...

In a mount namespace of its own (``unshare --mount``), as what the namespace was made for: opens
/dev/fuse, mounts it at FOLDER with the few options that Apptainer gives, starts PROGRAM with
``/dev/fd/3`` and ``-f`` as its last words, runs COMMAND, sends SIGTERM to the program, and waits
for it. ``daemon`` as the first word of PROGRAM: without ``-f``, as ``container-daemon:``; the
program must then have returned before COMMAND runs, and gets no signal. Prints the exit statuses.
Source: apptainer 1.4, internal/pkg/runtime/engine/apptainer (container_linux.go, process_linux.go).
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from typing import Final

_NOSUID_NODEV: Final = 2 | 4
_SECONDS: Final = 60


def main() -> int:
    folder, *words = sys.argv[1:]
    program, command = words[: words.index("--")], words[words.index("--") + 1 :]
    is_daemon = program[0] == "daemon"
    program = program[is_daemon:]
    device = os.open("/dev/fuse", os.O_RDWR)
    mount(folder, device)
    os.dup2(device, 3)  # inheritable
    if device != 3:
        os.close(device)
    last = ["/dev/fd/3"] if is_daemon else ["/dev/fd/3", "-f"]
    with subprocess.Popen([*program, *last], pass_fds=[3]) as running:
        os.close(3)
        if is_daemon:
            running.wait(_SECONDS)
        statuses = [subprocess.run(command, timeout=_SECONDS, check=False).returncode]
        if not is_daemon:
            running.send_signal(signal.SIGTERM)
        statuses.append(running.wait(_SECONDS))
    print(*statuses)
    return 0


def mount(folder: str, device: int) -> None:
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"fuse", folder.encode(), b"fuse", _NOSUID_NODEV, options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, f"mount: {os.strerror(number)}")


if __name__ == "__main__":
    sys.exit(main())
