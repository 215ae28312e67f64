"""How far the kernel reads ahead in a mount.

Left alone it reads 128 KiB at once, whatever the program asks for, and a connection's opening can
only lower that. 256 MB by `np.load` are then 2,048 requests and 0.27 s; with 2 MiB they are 257 of
1 MiB and 0.16 s (4 MiB: 0.17 s; the same array from ext4: 0.05 s). That is two requests on their
way, so that the one is decoded while the other is copied. Page faults at random places of a map
become faster too, as neighbours come along until the kernel has seen that they are not wanted.

What may be read ahead at most stands in the mount's folder in /sys/class/bdi, where root alone can
write; another user's mount has what the system gives it, or what root says later (README).
"""

from __future__ import annotations

import logging
from ctypes import c_uint32
from pathlib import Path

from h5fs.kernel_mounts import find_mount

READ_AHEAD_BYTES = 2 << 20
_BDI = Path("/sys/class/bdi")
# In `struct fuse_conn_info` of both libfuses.
_MAX_READAHEAD_OFFSET = 16

_log = logging.getLogger(__name__)


def widen_read_ahead(connection: int, mountpoint: Path, wanted_bytes: int | None) -> None:
    """Let the kernel read ahead further, if this process may; for ``init``, with its argument.

    In ``init`` and no later: the kernel takes the smaller of the answer and what the mount's folder
    says then. Without ``wanted_bytes``, what the user has asked for, the mount's default.
    """
    wanted = READ_AHEAD_BYTES if wanted_bytes is None else min(wanted_bytes, 2**32 - 1)
    c_uint32.from_address(connection + _MAX_READAHEAD_OFFSET).value = wanted
    try:
        mount = find_mount(mountpoint)
    except OSError as error:
        _log.debug("the kernel's read-ahead stays as it is: %s", error)
        return
    if mount is None:
        return
    limit = _BDI / mount.device / "read_ahead_kb"
    try:
        if int(limit.read_bytes()) * 1024 < wanted:
            limit.write_bytes(b"%d" % (wanted // 1024))
    except (OSError, ValueError) as error:
        _log.debug("%s: the kernel's read-ahead stays as it is: %s", limit, error)
