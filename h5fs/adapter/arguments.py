"""A mount's options, in the spelling of each libfuse. Pure."""

from __future__ import annotations

import os
from dataclasses import dataclass

from h5fs.options import MountOptions

# Nothing changes in mode r, so that the kernel may keep what it was told for a day; if the file is
# replaced after all, the kernel is told to forget (`notifications`). Pages stay by `keep_cache`.
_READING: dict[str, str | None] = {
    "ro": None,
    "use_ino": None,
    "entry_timeout": "86400",
    "attr_timeout": "86400",
    "negative_timeout": "86400",
}
# A folder of files, or a file that is being written: half of the second in which a change is to be
# seen, the tree takes the other half.
_READING_WHAT_CHANGES: dict[str, str | None] = {
    **_READING,
    "entry_timeout": "0.5",
    "attr_timeout": "0.5",
    "negative_timeout": "0.5",
}
# In a write mode a name may be gone and a size be another with each call, also by another hard link
# or when a new dataset takes its place at close.
_WRITING: dict[str, str | None] = {
    "use_ino": None,
    # Without it libfuse renames a file that is open when it is unlinked or replaced: a replacement
    # would be two steps, and the first would leave no dataset.
    "hard_remove": None,
    # O_TRUNC comes with `open`, so that an open that fails truncates nothing.
    "atomic_o_trunc": None,
    # The kernel checks the mode bits: the tree knows no users.
    "default_permissions": None,
    "entry_timeout": "0",
    "attr_timeout": "0",
    "negative_timeout": "0",
}

# libfuse 3 does these always, and knows them no more.
_GONE_IN_3 = frozenset({"big_writes", "large_read", "nonempty"})
# In libfuse 3 these are members of `struct fuse_config`.
_CONFIG_IN_3 = frozenset({"use_ino", "hard_remove", "direct_io", "intr"})


@dataclass(frozen=True, slots=True)
class Arguments:
    """What libfuse reads as ``-o`` options, and what libfuse 3 wants to be set in ``init``.

    That is members of ``fuse_config`` (to 1), the largest read if there is a limit, which it must
    be told twice, how far to read ahead if the user says so, and whether a listing comes with what
    is known of the files' statuses.
    """

    options: tuple[bytes, ...]
    config: tuple[str, ...] = ()
    max_read_bytes: int | None = None
    read_ahead_bytes: int | None = None
    lists_statuses: bool = False

    def option_list(self) -> bytes:
        """Return one ``-o`` text."""
        return b",".join(self.options)


def fuse_arguments(options: MountOptions, major: int = 2) -> Arguments:
    """Return the options of the mode, then what the user gave, for libfuse 2 or 3."""
    arguments: dict[str, str | bytes | None] = {
        **_of_mode(options),
        "fsname": os.fsencode(options.store.file),
        "subtype": "h5fs",
        **dict(options.fuse),
    }
    if "allow_other" in arguments or "allow_root" in arguments:
        # Else other users could read what the HDF5 file's mode denies them.
        arguments["default_permissions"] = None
    limit, given = arguments.get("max_read"), arguments.get("max_readahead")
    read_ahead = None if given is None else int(given)
    if major == 2:
        spelt = tuple(_spell(name, value) for name, value in arguments.items())
        return Arguments(spelt, read_ahead_bytes=read_ahead)
    return Arguments(
        tuple(
            _spell(name, value)
            for name, value in arguments.items()
            if name not in _GONE_IN_3 and name not in _CONFIG_IN_3
        ),
        config=tuple(name for name in arguments if name in _CONFIG_IN_3),
        max_read_bytes=None if limit is None else int(limit),
        read_ahead_bytes=read_ahead,
        # Always, not when the kernel thinks fit (READDIRPLUS_AUTO): `find` reads all of a folder
        # before it looks at the first file. Not where statuses are good for a moment alone.
        lists_statuses=_of_mode(options) is _READING,
    )


def _of_mode(options: MountOptions) -> dict[str, str | None]:
    if options.mode.writes:
        return _WRITING
    return _READING_WHAT_CHANGES if options.is_folder or options.store.is_swmr else _READING


def _spell(name: str, value: str | bytes | None) -> bytes:
    if value is None:
        return name.encode()
    # A comma would end the option.
    escaped = os.fsencode(value).replace(b"\\", b"\\\\").replace(b",", b"\\,")
    return name.encode() + b"=" + escaped
