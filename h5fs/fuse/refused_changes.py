"""What mode r answers where the kernel does not know that the mount is read-only.

In a mount of h5fs's own the kernel refuses what would write, and asks nobody. Another program that
mounts need not have said ``ro``; libfuse would then answer that the function is not implemented.
"""

from __future__ import annotations

import errno
from typing import Any, Final

_CHANGING: Final = frozenset({
    "chmod", "chown", "create", "fallocate", "link", "mkdir", "mknod", "removexattr", "rename",
    "rmdir", "setxattr", "symlink", "truncate", "unlink", "utimens", "write",
})  # fmt: skip


def refuse_changes(table: Any) -> None:
    """Let the functions of a ``fuse_operations`` that would change something answer ``EROFS``."""
    for name, function_type in table._fields_:
        if name in _CHANGING:
            setattr(table, name, function_type(_refuse))


def _refuse(*_arguments: object) -> int:
    return -errno.EROFS
