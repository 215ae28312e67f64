"""What ``-o`` takes, in words: one table for ``--help``, the man page and the shells' completion.

``options.py`` says what each value means to a program; a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass

from h5fs.options import ExternalPolicy, Locking


@dataclass(frozen=True, slots=True)
class OptionRow:
    """One option: ``value`` is how its value is written in help (None: it takes none).

    ``choices`` are the values that a shell can offer; ``is_own`` tells h5fs's from FUSE's.
    """

    name: str
    value: str | None
    help: str
    choices: tuple[str, ...] = ()
    is_own: bool = True

    @property
    def spelling(self) -> str:
        """The option as help shows it: ``cache=SIZE``."""
        return self.name if self.value is None else f"{self.name}={self.value}"


OPTION_ROWS: tuple[OptionRow, ...] = (
    OptionRow(
        "mode", "MODE", "as --mode, for fstab and mount(8)", ("r", "r+", "a", "w", "x", "w-")
    ),
    OptionRow(
        "external", "none|folder|all",
        "which files outside the HDF5 file may be read through its links: none, those below its "
        "own folder (the default), all",
        tuple(policy.value for policy in ExternalPolicy),
    ),
    OptionRow(
        "locking", "default|true|false|best-effort",
        "lock the HDF5 file as h5py does, insist on it, do not lock it (for file systems without "
        "locks), lock it where the file system can",
        tuple(locking.value for locking in Locking),
    ),
    OptionRow(
        "log", "FILE|syslog",
        "where the log goes in the background; by default a file named after the mountpoint in "
        "~/.local/state/h5fs (/var/log/h5fs for root)",
        ("syslog",),
    ),
    OptionRow("cache", "SIZE", "memory for decoded chunks of all datasets together (256M)"),
    OptionRow(
        "workers", "N",
        "how many processes read through the HDF5 library; by default as many as there are cores, "
        "at least 2; 0 is for debugging: the daemon reads itself",
    ),
    OptionRow(
        "deadline", "SECONDS", "how long the HDF5 library may go without progress on an object (30)"
    ),
    OptionRow("memory", "SIZE", "by how much the memory of a worker may grow (4G)"),
    OptionRow("max_chunk", "SIZE", "the largest chunk that is decoded (512M)"),
    OptionRow("max_depth", "N", "how many groups deep a path may be (1000)"),
    OptionRow("xattr", None, "show attributes, shape, dtype and more as extended attributes too"),
    OptionRow(
        "swmr", None, "read a file that a program writes by HDF5's rules for one writer (SWMR)"
    ),
    OptionRow("noxattr", None, "show none (the default)"),
    OptionRow(
        "commit", "SECONDS",
        "in modes that write: within how many seconds what was closed is safe from a power cut "
        "(5); 0: before close returns",
    ),
    OptionRow(
        "durability", "on|off",
        "off: what was closed is safe from a power cut only when a program calls fsync, and at the "
        "end of the mount",
        ("on", "off"),
    ),
    OptionRow(
        "compression", "none|gzip[:LEVEL]", "how new datasets are compressed (none)",
        ("none", "gzip", "gzip:1", "gzip:4", "gzip:9"),
    ),
    OptionRow("shuffle", None, "shuffle the bytes of new datasets, which compress better then"),
    OptionRow("chunks", "AxB", "the chunk shape of new datasets (contiguous without)"),
    OptionRow(
        "allow_other", None,
        "let other users use the mount, as far as the HDF5 file's permissions allow",
        is_own=False,
    ),
    OptionRow("allow_root", None, "let root use the mount too", is_own=False),
    OptionRow("uid", "N", "show all files as this user's", is_own=False),
    OptionRow("gid", "N", "show all files as this group's", is_own=False),
    OptionRow(
        "umask", "M", "take these permissions (octal) away from all files, and give the rest",
        is_own=False,
    ),
    OptionRow("nonempty", None, "mount on a folder that is not empty", is_own=False),
    OptionRow("fsname", "NAME", "the source that the mount table shows", is_own=False),
    OptionRow(
        "auto_unmount", None, "unmount also when the daemon is killed (libfuse's)", is_own=False
    ),
)  # fmt: skip

OTHER_OPTIONS = (
    "Further options of FUSE (fuse(8): max_read=N, entry_timeout=S, kernel_cache, noatime, ...) go "
    "to FUSE; those of fstab(5) that are for mount(8) alone (defaults, noauto, nofail, user, "
    "_netdev, x-...) do nothing. In a value \\, is a comma."
)
