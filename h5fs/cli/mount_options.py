"""What ``-o`` takes: one row for each option, from which everything else about it is made.

Parsing, ``--help``, the man page, the shells' completion, the table in ADMINISTRATION.md, the
keyword arguments of ``h5fs.mount`` and "did you mean" are made from ``MOUNT_OPTIONS``, or tests
hold them to it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from msgspec import Struct, field, structs

from h5fs.cli.option_values import (
    ALL_VIEWS,
    VIEW_WORDS,
    choice_parser,
    number_parser,
    parse_compression,
    parse_decimal,
    parse_digits,
    parse_disk_cache,
    parse_log_target,
    parse_mode,
    parse_octal,
    parse_seconds,
    parse_seconds_or_0,
    parse_shape,
    parse_size,
    parse_switch,
    parse_text,
    parse_views,
    say_value,
    values_of,
)
from h5fs.errors import UsageError
from h5fs.model.settings import (
    ExternalPolicy,
    Locking,
    LogOptions,
    Mode,
    MountOptions,
    StoreOptions,
)

FUSE = "fuse"
"""The field of libfuse's options, which are passed to libfuse as they are."""


class MountOption(Struct, frozen=True):
    """One option.

    ``field``: the field of ``MountOptions`` that it sets, such as ``store.limits.max_depth``.
    ``value``: how help writes its value; None for a flag. ``parse`` turns the text into the field's
    value, and raises ``ValueError`` with what the text must be; a flag has no ``parse``, and sets
    True. ``choices``: values that a shell can offer. An option without ``help`` is accepted, and
    shown nowhere.
    """

    name: str
    field: str
    help: str = ""
    value: str | None = None
    parse: Callable[[str], object] = str
    choices: tuple[str, ...] = ()

    @property
    def spelling(self) -> str:
        """The option as help shows it: ``cache=SIZE``."""
        return self.name if self.value is None else f"{self.name}={self.value}"

    @property
    def is_own(self) -> bool:
        """Whether the option is h5fs's, not libfuse's."""
        return self.field != FUSE

    @property
    def description(self) -> str:
        """The option's help, with its default where that is a value."""
        usual = say_value(_usual(self.field)) if self.is_own else ""
        return f"{self.help} ({usual})" if usual else self.help


# --- the table

_DURABLE = "durability"  # sets no field: "off" is one more value of store.commit_seconds
_DISK_CACHE = "store.remote.cache_bytes"  # and a folder goes to store.remote.cache_folder

MOUNT_OPTIONS: tuple[MountOption, ...] = (
    MountOption(
        "mode", "store.mode", "as --mode, for fstab and mount(8)", "MODE", parse_mode,
        (*values_of(Mode), "w-"),
    ),
    MountOption(
        "external", "store.external",
        "which files outside the HDF5 file may be read through its external links, external raw "
        "data and virtual datasets: none, those below its own folder, all",
        "none|folder|all", choice_parser(ExternalPolicy), values_of(ExternalPolicy),
    ),
    MountOption(
        "locking", "store.locking",
        "lock the HDF5 file as h5py does, insist on it, do not lock it (for file systems without "
        "locks; one h5fs keeps another out all the same), lock it where the file system can",
        "default|true|false|best-effort", choice_parser(Locking), values_of(Locking),
    ),
    MountOption(
        "log", "log.target",
        "where the log goes in the background; without it to a file named after the mountpoint in "
        "~/.local/state/h5fs (/var/log/h5fs for root)",
        "FILE|syslog", parse_log_target, ("syslog",),
    ),
    MountOption(
        "cache", "store.cache_bytes", "memory for decoded chunks of all datasets together",
        "SIZE", parse_size,
    ),
    MountOption(
        "workers", "store.workers",
        "how many processes read through the HDF5 library; without it as many as there are cores, "
        "at least 2; 0 is for debugging: the daemon reads itself",
        "N", number_parser(most=256),
    ),
    MountOption(
        "deadline", "store.limits.deadline_seconds",
        "how long the HDF5 library may go without progress on an object", "SECONDS", parse_seconds,
    ),
    MountOption(
        "memory", "store.limits.memory_bytes", "by how much the memory of a worker may grow",
        "SIZE", parse_size,
    ),
    MountOption(
        "max_chunk", "store.limits.max_chunk_bytes", "the largest chunk that is decoded",
        "SIZE", parse_size,
    ),
    MountOption(
        "max_depth", "store.limits.max_depth", "how many groups deep a path may be",
        "N", number_parser(least=1),
    ),
    MountOption(
        "xattr", "has_xattrs",
        "show attributes, shape, dtype and more as extended attributes too; a repeated ls -l takes "
        "three times as long with them. noxattr: show none (the default)",
    ),
    MountOption(
        "views", "views.kinds",
        "show files to look at beside the arrays: tables (csv), pictures (png), text (txt), or "
        "all; none without it",
        f"{','.join(VIEW_WORDS)}|all", parse_views, (ALL_VIEWS, *VIEW_WORDS),
    ),
    MountOption(
        "view_size", "views.picture_size", "how many pixels a picture's longest side has at most",
        "PIXELS", number_parser(least=16, most=4096),
    ),
    MountOption(
        "swmr", "store.is_swmr",
        "read a file that a program writes by HDF5's rules for one writer (SWMR)",
    ),
    MountOption(
        "endpoint", "store.remote.endpoint_url",
        "where the data service of an hdf5:// URL is; without it HS_ENDPOINT or ~/.hscfg says so",
        "URL", parse_text,
    ),
    MountOption(
        "commit", "store.commit_seconds",
        "in modes that write: within how many seconds what was closed is safe from a power cut; "
        "0: before close returns",
        "SECONDS", parse_seconds_or_0,
    ),
    MountOption(
        _DURABLE, _DURABLE,
        "off: what was closed is safe from a power cut only when a program calls fsync, and at the "
        "end of the mount",
        "on|off", parse_switch, ("on", "off"),
    ),
    MountOption(
        "compression", "store.new_datasets.gzip_level",
        "how new datasets are compressed; without it not at all",
        "none|gzip[:LEVEL]", parse_compression, ("none", "gzip", "gzip:1", "gzip:4", "gzip:9"),
    ),
    MountOption(
        "shuffle", "store.new_datasets.shuffles",
        "shuffle the bytes of new datasets, which compress better then",
    ),
    MountOption(
        "chunks", "store.new_datasets.chunk_shape",
        "the chunk shape of new datasets; contiguous without it and without compression",
        "AxB", parse_shape,
    ),
    MountOption(
        "endpoint_url", "store.remote.endpoint_url",
        "for URLs: the server that speaks S3's language (or GCS's, Azure's); without it what "
        "AWS_ENDPOINT_URL, ~/.aws or the scheme says",
        "URL", parse_text,
    ),
    MountOption(
        "region", "store.remote.region", "for s3://: the region; without it what AWS_REGION or "
        "~/.aws says",
        "NAME", parse_text,
    ),
    MountOption(
        "profile", "store.remote.profile", "for s3://: which section of ~/.aws has the keys",
        "NAME", parse_text,
    ),
    MountOption(
        "anon", "store.remote.is_anonymous", "for URLs: a public file, to be asked for without keys"
    ),
    MountOption(
        "streams", "store.remote.streams", "for URLs: how many requests may be under way at once",
        "N", number_parser(least=1, most=256),
    ),
    MountOption(
        "timeout", "store.remote.timeout_seconds",
        "for URLs: how long a server that does not answer is asked again, before a read fails",
        "SECONDS", parse_seconds,
    ),
    MountOption(
        "revalidate", "store.remote.revalidate_seconds",
        "for URLs: how often the server is asked whether the file is still the same",
        "SECONDS", parse_seconds,
    ),
    MountOption(
        "disk_cache", _DISK_CACHE,
        "for URLs: how much is kept on this disk of what was fetched, and where; in "
        "~/.cache/h5fs without DIR",
        "SIZE[:DIR]", parse_disk_cache,
    ),
    MountOption(
        "allow_other", FUSE,
        "let other users use the mount, as far as the HDF5 file's permissions allow",
    ),
    MountOption("allow_root", FUSE, "let root use the mount too"),
    MountOption("uid", FUSE, "show all files as this user's", "N", parse_digits),
    MountOption("gid", FUSE, "show all files as this group's", "N", parse_digits),
    MountOption(
        "umask", FUSE, "take these permissions (octal) away from all files, and give the rest",
        "M", parse_octal,
    ),
    MountOption("nonempty", FUSE, "mount on a folder that is not empty"),
    MountOption("fsname", FUSE, "the source that the mount table shows", "NAME", parse_text),
    MountOption("auto_unmount", FUSE, "unmount also when the daemon is killed (libfuse's)"),
    *(
        MountOption(name, FUSE)
        for name in (
            "default_permissions large_read hard_remove auto_cache noauto_cache kernel_cache "
            "direct_io debug suid dev exec noexec atime noatime sync async dirsync big_writes "
            "no_remote_lock intr async_read sync_read splice_read no_splice_read splice_write "
            "no_splice_write splice_move no_splice_move"
        ).split()
    ),
    *(
        MountOption(name, FUSE, "", "N", parse_digits)
        for name in "max_read max_readahead max_write max_background congestion_threshold".split()
    ),
    *(
        MountOption(name, FUSE, "", "S", parse_decimal)
        for name in "entry_timeout attr_timeout negative_timeout ac_attr_timeout".split()
    ),
    *(
        MountOption(name, FUSE, "", "TEXT", parse_text)
        for name in "context fscontext defcontext rootcontext".split()
    ),
)  # fmt: skip

SHOWN_OPTIONS = tuple(option for option in MOUNT_OPTIONS if option.help)

OTHER_OPTIONS = (
    "Further options of FUSE (fuse(8): max_read=N, entry_timeout=S, kernel_cache, noatime, ...) go "
    "to FUSE; those of fstab(5) that are for mount(8) alone (defaults, noauto, nofail, user, "
    "_netdev, x-...) do nothing. In a value \\, is a comma."
)

# Options of mount(8) and fstab(5) that are not for the file system, and options that ask for what a
# mount does anyway. "rw" is what mount(8) passes by default.
_IGNORED = frozenset(
    "defaults rw auto noauto user nouser users owner group nofail _netdev relatime norelatime "
    "strictatime nostrictatime lazytime nolazytime nosuid nodev ro".split()
)
_IGNORED_PREFIXES = ("x-", "comment=")
_BY_NAME = {option.name: option for option in MOUNT_OPTIONS}


# --- from text to settings


class ParsedOptions(Struct, frozen=True):
    """Parsed ``-o`` texts: ``values`` for fields of ``MountOptions``, and FUSE's own options.

    ``access``: "ro" or "rw", where one was given.
    """

    values: dict[str, object] = field(default_factory=dict)
    fuse: dict[str, str | None] = field(default_factory=dict)
    access: str = ""

    def apply(self, settings: MountOptions) -> MountOptions:
        """Return the settings changed as the texts say."""
        for path, value in self.values.items():
            settings = _replace(settings, path.split("."), value)
        return structs.replace(settings, fuse=tuple(self.fuse.items()))


def parse_options(texts: Iterable[str]) -> ParsedOptions:
    """Sort ``opt,opt=value`` texts into h5fs's and FUSE's; of equal options the last one counts.

    ``\\,`` stands for a comma within a value. Raises ``UsageError`` for an option that nobody knows
    or a value that the option does not take.
    """
    values: dict[str, object] = {}
    fuse: dict[str, str | None] = {}
    access = ""
    for text in (text for some in texts for text in split_options(some)):
        name, equals, value = text.partition("=")
        if text in ("ro", "rw"):
            access = text
        if _is_ignored(text):
            continue
        option = _BY_NAME.get(name)
        if text == "noxattr":
            values["has_xattrs"] = False
        elif option is None or (option.value is None and equals):
            raise UsageError(_explain_unknown(text))
        elif option.is_own:
            values[option.field] = _parse_value(option, value)
        else:
            fuse[name] = str(_parse_value(option, value)) if option.value is not None else None
    if values.pop(_DURABLE, True) is False:
        values["store.commit_seconds"] = None
    if isinstance(cache := values.get(_DISK_CACHE), tuple):
        values[_DISK_CACHE], values["store.remote.cache_folder"] = cache
    return ParsedOptions(values, fuse, access)


def _parse_value(option: MountOption, text: str) -> object:
    if option.value is None:
        return True
    if not text and option.is_own:
        raise UsageError(f"-o {option.name} needs a value: {option.name}=...")
    try:
        return option.parse(text)
    except ValueError as error:
        raise UsageError(f"-o {option.name}={text}: {error}") from None


def _explain_unknown(text: str) -> str:
    name = text.partition("=")[0]
    if name == "remount":
        return "-o remount: h5fs cannot do that; unmount, and mount anew"
    if is_known(name):
        return f"-o {text}: {name} takes no value"
    close = difflib.get_close_matches(name, _BY_NAME, n=1)
    meant = f"; did you mean {close[0]}?" if close else ""
    comma = " (a comma ends an option: chunks=10x20)" if name.isdecimal() else ""
    return f"unknown option -o {text}{meant}{comma} (see h5fs mount --help)"


def is_known(text: str) -> bool:
    """Whether there is an option of that name, whatever its value."""
    name = text.partition("=")[0]
    return name in _BY_NAME or name in ("noxattr", "remount") or _is_ignored(text)


def _is_ignored(text: str) -> bool:
    return text in _IGNORED or text.startswith(_IGNORED_PREFIXES)


def split_options(text: str) -> list[str]:
    """Split at commas that no backslash precedes."""
    options: list[str] = []
    for option in text.replace("\\,", "\0").split(","):
        # A list of views has commas, too: views=csv,png. A word that is no option is meant for it.
        is_word = "=" not in option and not is_known(option)
        if option and is_word and options and options[-1].startswith("views="):
            options[-1] += f",{option}"
        elif option:
            options.append(option.replace("\0", ","))
    return options


def _replace(settings: Any, path: list[str], value: object) -> Any:
    """Return nested settings with another value in one field."""
    first, *rest = path
    if rest:
        value = _replace(getattr(settings, first), rest, value)
    return structs.replace(settings, **{first: value})


# --- defaults

_USUAL = MountOptions(Path("/"), StoreOptions(Path("/")), LogOptions())


def _usual(path: str) -> object:
    value: object = _USUAL
    for name in path.split("."):
        value = getattr(value, name, None)
    return value
