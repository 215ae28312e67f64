"""A mount's options for libfuse; ``libfuse_2`` and ``libfuse_3`` spell them. Pure."""

from __future__ import annotations

import os
from dataclasses import dataclass

from h5fs.model.settings import KERNEL_SECONDS, MountOptions
from h5fs.store.schemes import is_shared

_TIMES = ("entry_timeout", "attr_timeout", "negative_timeout")
# Nothing changes in mode r, so the kernel may keep names and statuses for a day; if the file is
# replaced after all, the kernel is told to forget (`notifications`). Pages stay by `keep_cache`.
_LASTING_SECONDS = "86400"
_READING: dict[str, str | None] = {
    "ro": None,
    "use_ino": None,
    **dict.fromkeys(_TIMES, _LASTING_SECONDS),
}
# A folder of files, or a file that is being written: a change is to be seen within a second. The
# kernel may take half of it; the tree takes the other half.
_READING_WHAT_CHANGES = {**_READING, **dict.fromkeys(_TIMES, "0.5")}
# What others change unnoticed: the kernel keeps answers for this part of a second, the tree for the
# rest of it.
_READING_WHAT_IS_SHARED = {**_READING, **dict.fromkeys(_TIMES, str(KERNEL_SECONDS))}
# In a write mode names and sizes may change by calls that name another file. So the times are 0
# here, and `current_requests` allows the kernel to keep the answers that last.
_WRITING: dict[str, str | None] = {
    "use_ino": None,
    # Without this libfuse renames an open file that is unlinked or replaced: a replacement would be
    # two steps, and after the first there would be no dataset.
    "hard_remove": None,
    # O_TRUNC comes with `open`, so that an open that fails truncates nothing.
    "atomic_o_trunc": None,
    # The kernel checks the mode bits: the tree knows no users.
    "default_permissions": None,
    **dict.fromkeys(_TIMES, "0"),
}


@dataclass(frozen=True, slots=True)
class Arguments:
    """What libfuse reads as ``-o`` options, and what libfuse 3 wants to be set in ``init``.

    In ``init`` these are set: members of ``fuse_config`` (to 1); the largest read, if there is a
    limit, which libfuse 3 also needs as an option; how far to read ahead, if the user says so; and
    whether a listing comes with what is known of the files' statuses. ``lasting_seconds``: see the
    function of that name.
    """

    options: tuple[bytes, ...]
    config: tuple[str, ...] = ()
    max_read_bytes: int | None = None
    read_ahead_bytes: int | None = None
    lists_statuses: bool = False
    lasting_seconds: tuple[float, float] = (0.0, 0.0)

    def option_list(self) -> bytes:
        """Return one ``-o`` text."""
        return b",".join(self.options)


def collect_options(options: MountOptions) -> dict[str, str | bytes | None]:
    """Return the options of the mode, then what the user gave; None for a flag's value."""
    collected: dict[str, str | bytes | None] = {
        **_of_mode(options),
        "fsname": os.fsencode(options.source),
        "subtype": "h5fs",
        **dict(options.fuse),
    }
    if "allow_other" in collected or "allow_root" in collected:
        # Without this other users could read what the HDF5 file's mode denies them.
        collected["default_permissions"] = None
    return collected


def lasting_seconds(options: MountOptions) -> tuple[float, float]:
    """Return how long the kernel may keep an entry, and a status, that cannot change unnoticed.

    This is for modes that write; in mode r an option gives one time for all answers.
    """
    if is_shared(options.store.url):  # nobody tells what others change there
        return 0.0, 0.0
    given = dict(options.fuse)
    entry, status = (
        float(os.fsdecode(given.get(name) or _LASTING_SECONDS)) if options.mode.writes else 0.0
        for name in ("entry_timeout", "attr_timeout")
    )
    return entry, status


def lists_statuses(options: MountOptions) -> bool:
    """Whether a listing comes with what is known of the files' statuses (libfuse 3 only).

    With every listing, not only when the kernel thinks fit (READDIRPLUS_AUTO): `find` reads all of
    a folder before it looks at the first file. Statuses that are valid for a moment only are not
    worth it, except where each file would be a request to a service.
    """
    if options.mode.writes:
        return not is_shared(options.store.url)
    return _of_mode(options) in (_READING, _READING_WHAT_IS_SHARED)


def _of_mode(options: MountOptions) -> dict[str, str | None]:
    if options.mode.writes:
        return _WRITING
    if is_shared(options.store.url):
        return _READING_WHAT_IS_SHARED
    return _READING_WHAT_CHANGES if options.is_folder or options.store.is_swmr else _READING


def spell_option(name: str, value: str | bytes | None) -> bytes:
    """Return ``name`` or ``name=value``, as one item of a ``-o`` text."""
    if value is None:
        return name.encode()
    # A comma would end the option.
    escaped = os.fsencode(value).replace(b"\\", b"\\\\").replace(b",", b"\\,")
    return name.encode() + b"=" + escaped


def number_of(value: str | bytes | None) -> int | None:
    """Return the number that an option was given."""
    return None if value is None else int(value)
