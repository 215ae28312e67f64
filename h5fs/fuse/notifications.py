"""Notifications: the kernel is told to forget what it knows, without having asked.

libfuse has functions for this, but each version has others, and none has one for the newest
message. So the messages are written to /dev/fuse as libfuse would write them. Formats:
<linux/fuse.h>, ``fuse_out_header`` with ``enum fuse_notify_code`` for its error, and ``unique`` 0.
"""

from __future__ import annotations

import errno
import os
import struct
from array import array
from collections.abc import Iterable, Sequence

_HEADER = struct.Struct("=IiQ")  # length, code, unique
_INODE = struct.Struct("=Qqq")  # node, offset (below 0: attributes alone), length
_ENTRY = struct.Struct("=QII")  # parent's node, length of the name, flags
_NODES = struct.Struct("=I4xQ")  # how many follow; the rest is spare
_NOTIFY_INVALIDATE_INODE = 2
_NOTIFY_INVALIDATE_ENTRY = 3
_NOTIFY_INCREMENT_EPOCH = 8  # since Linux 6.16
_NOTIFY_PRUNE = 9  # since Linux 6.18
_ROOT = 1


class Notifier:
    """Writes notifications to a mount's /dev/fuse, of which it has the ``descriptor``."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def expire(self) -> bool:
        """Let the kernel ask for every name and status anew; return False if the kernel cannot.

        Waits for nothing, so that a thread may call it while the kernel waits for its answer.
        """
        self._tell(_NOTIFY_INVALIDATE_INODE, _INODE.pack(_ROOT, -1, 0))
        return self._tell(_NOTIFY_INCREMENT_EPOCH, b"")

    def forget(self, root_names: Iterable[bytes]) -> None:
        """Do as ``expire``, with any kernel; never from a thread that answers the kernel.

        ``root_names``: the names in the root that the kernel has asked for, whether they exist or
        not; everything below is forgotten with them. Kernels since 6.16 need no list.
        """
        if self.expire():
            return
        for name in root_names:
            entry = _ENTRY.pack(_ROOT, len(name), 0) + name + b"\0"
            self._tell(_NOTIFY_INVALIDATE_ENTRY, entry)

    def forget_status(self, node: int) -> None:
        """Let the kernel ask for a node's status anew, also where an answer is on its way.

        Waits for nothing, as ``expire``.
        """
        self._tell(_NOTIFY_INVALIDATE_INODE, _INODE.pack(node, -1, 0))

    def prune(self, nodes: Sequence[int]) -> bool:
        """Let the kernel forget those nodes that no program uses; return False if it cannot.

        Never from a thread that answers the kernel.
        """
        return self._tell(_NOTIFY_PRUNE, _NODES.pack(len(nodes), 0) + array("Q", nodes).tobytes())

    def _tell(self, code: int, body: bytes) -> bool:
        """Return whether the kernel knows the message."""
        try:
            os.write(self.descriptor, _HEADER.pack(_HEADER.size + len(body), code, 0) + body)
        except OSError as error:
            # ENOENT: the kernel does not know the name; ENODEV, ENOTCONN: the mount has ended.
            return error.errno != errno.EINVAL
        return True
