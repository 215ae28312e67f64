"""How far the kernel reads ahead in a mount.

By default the kernel reads 128 KiB at once, whatever the program asks for, and ``init`` can only
lower that. 256 MB by `np.load` are then 2,048 requests and 0.27 s; with 2 MiB they are 257 requests
of 1 MiB and 0.16 s (4 MiB: 0.17 s; the same array from ext4: 0.05 s). With 2 MiB two requests are
under way, so that one is decoded while the other is copied. Page faults at random places of a map
become faster too: neighbours come along until the kernel has seen that nobody wants them.

The limit is in the mount's folder in /sys/class/bdi, where only root can write. The mount of
another user has the system's default, or what root writes there later (ADMINISTRATION.md). Of a
mount that another program has made, its open /dev/fuse alone is known; whose that is the kernel
tells since May 2025 (6.18 does) in /proc/self/fdinfo.
"""

from __future__ import annotations

import logging
from ctypes import c_uint32
from pathlib import Path

from h5fs.system.kernel_mounts import find_mount

READ_AHEAD_BYTES = 2 << 20
_BDI = Path("/sys/class/bdi")
# In `struct fuse_conn_info` of both libfuses.
_MAX_READAHEAD_OFFSET = 16

_log = logging.getLogger(__name__)


def widen_read_ahead(
    connection: int, mountpoint: Path, wanted_bytes: int | None, device: str | None = None
) -> None:
    """Let the kernel read ahead further, if this process may; for ``init``, with its argument.

    It must be called in ``init``: the kernel takes the smaller of the answer and the number in the
    mount's folder at that moment. ``wanted_bytes``: what the user has asked for; None: h5fs's
    default. ``device``: of a mount that another program has made, where it is known.
    """
    wanted = READ_AHEAD_BYTES if wanted_bytes is None else min(wanted_bytes, 2**32 - 1)
    c_uint32.from_address(connection + _MAX_READAHEAD_OFFSET).value = wanted
    try:
        mount = None if device else find_mount(mountpoint)
    except OSError as error:
        _log.debug("the kernel's read-ahead stays as it is: %s", error)
        return
    device = mount.device if mount is not None else device
    if not device:
        return
    limit = _BDI / device / "read_ahead_kb"
    try:
        if int(limit.read_bytes()) * 1024 < wanted:
            limit.write_bytes(b"%d" % (wanted // 1024))
    except (OSError, ValueError) as error:
        _log.debug("%s: the kernel's read-ahead stays as it is: %s", limit, error)
