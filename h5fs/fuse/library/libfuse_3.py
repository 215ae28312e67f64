"""What libfuse 3 does in its own way: mounting, functions, what is settled in ``init``."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_void_p
from typing import Any, ClassVar

from h5fs.fuse.library.arguments import Arguments, number_of, spell_option
from h5fs.fuse.library.first_request import answer_first_request
from h5fs.fuse.library.request_loop import FuseBuffer, RequestLoop

# Options that libfuse 3 no longer has, because it always does these.
_GONE = frozenset({"big_writes", "large_read", "nonempty"})
# Options that are members of `struct fuse_config`.
_CONFIG = frozenset({"use_ino", "hard_remove", "direct_io", "intr"})

_PASSES_FLAGS_ON = 317  # as `fuse_version` says it

# FUSE_CAP_READDIRPLUS and FUSE_CAP_READDIRPLUS_AUTO.
_READDIRPLUS = 1 << 13
_READDIRPLUS_AUTO = 1 << 14
_FILL_DIR_PLUS = 2  # FUSE_FILL_DIR_PLUS: here is a status

# The function that takes one dentry. The call keeps the GIL, since releasing it takes as long as
# the call itself; the function waits for no lock that libfuse holds while Python runs.
_FILLER = ctypes.PYFUNCTYPE(c_int, c_void_p, c_char_p, c_void_p, c_int64, c_int)


class _FuseArgs(ctypes.Structure):
    _fields_ = (("argc", c_int), ("argv", POINTER(c_char_p)), ("allocated", c_int))


class Libfuse3:
    """See ``libfuse.Libfuse``."""

    PACKAGE: ClassVar[str] = "mfusepy"
    MODULE: ClassVar[str] = "mfusepy"
    SONAMES: ClassVar[tuple[str, ...]] = ("libfuse3.so.4", "libfuse3.so.3")
    LINKER_NAME: ClassVar[str] = "fuse3"
    WHAT_TO_INSTALL: ClassVar[str] = (
        "apt-get install fuse3 (and pip install mfusepy where that is missing)"
    )
    PROTOTYPES: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "getattr": (c_char_p, c_void_p, c_void_p),
        "readdir": (c_char_p, c_void_p, c_void_p, c_int64, c_void_p, c_int),
        "init": (c_void_p, c_void_p),
    }
    METHODS: ClassVar[Mapping[str, str]] = {}
    KEEPS_LISTINGS: ClassVar[bool] = True
    WHY_NOT_WRITE: ClassVar[str | None] = None

    def __init__(self, module: Any, library: Any) -> None:
        self.pointer = c_void_p()
        self._module = module
        self._library = library
        self._connection_options = c_void_p()
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments

    @staticmethod
    def version(library: Any) -> str:
        function = library.fuse_pkgversion
        function.restype = c_char_p
        return bytes(function()).decode()

    @staticmethod
    def spell(options: Mapping[str, str | bytes | None], *, lists_statuses: bool) -> Arguments:
        return Arguments(
            tuple(
                spell_option(name, value)
                for name, value in options.items()
                if name not in _GONE and name not in _CONFIG
            ),
            config=tuple(name for name in options if name in _CONFIG),
            max_read_bytes=number_of(options.get("max_read")),
            read_ahead_bytes=number_of(options.get("max_readahead")),
            lists_statuses=lists_statuses,
        )

    @staticmethod
    def fill(
        collector: int,
        filler: int,
        entries: Iterable[tuple[bytes, int | None, int, bool]],
        *,
        gives_statuses: bool,
    ) -> int:
        fill = _FILLER(filler)
        plus = _FILL_DIR_PLUS if gives_statuses else 0
        status_count = 0
        for name, status, place, has_status in entries:
            flags = plus if has_status else 0
            if fill(collector, name, status, place, flags):
                break
            if flags:
                status_count += 1
        return status_count

    def mount(self, table: Any, words: list[bytes], mountpoint: bytes) -> bool:
        argv = (c_char_p * (len(words) + 1))(*words, None)
        arguments = _FuseArgs(len(words), argv, 0)
        library = self._library
        self._connection_options.value = library.fuse_parse_conn_info_opts(byref(arguments))
        if self._connection_options.value is not None:
            self.pointer.value = _fuse_new(library)(
                byref(arguments), byref(table), ctypes.sizeof(table), None
            )
        if self.pointer.value is None:
            return False
        if library.fuse_mount(self.pointer, mountpoint):
            library.fuse_destroy(self.pointer)
            return False
        return True

    def negotiate(self, arguments: Arguments, connection: int, config: int | None) -> None:
        if config is None:
            return
        self._library.fuse_apply_conn_info_opts(self._connection_options, connection)
        settings = self._module.fuse_config.from_address(config)
        for name in arguments.config:
            setattr(settings, name, 1)
        info = self._module.fuse_conn_info.from_address(connection)
        if arguments.max_read_bytes is not None:
            info.max_read = arguments.max_read_bytes
        # libfuse 3.17 has these flags in 64 bits as well, and only one of the two may be set.
        suffix = "_ext" if hasattr(info, "want_ext") else ""
        capable, want = getattr(info, f"capable{suffix}"), getattr(info, f"want{suffix}")
        want &= ~(_READDIRPLUS | _READDIRPLUS_AUTO)
        if arguments.lists_statuses:
            want |= capable & _READDIRPLUS
        setattr(info, f"want{suffix}", want)

    def begin(self, arguments: Arguments) -> None:
        # A mount that writes leaves the order of lookups to libfuse.
        if b"ro" in arguments.options and self._library.fuse_version() < _PASSES_FLAGS_ON:
            loop = self.request_loop()
            try:
                answer_first_request(loop, self.descriptor())
            finally:
                loop.close()

    def descriptor(self) -> int:
        session = self._library.fuse_get_session(self.pointer)
        return int(self._library.fuse_session_fd(session))

    def request_loop(self) -> RequestLoop:
        return RequestLoop(self._library, self.pointer)

    def unmount(self) -> None:
        self._library.fuse_unmount(self.pointer)
        self._library.fuse_destroy(self.pointer)


# ctypes takes everything that is not declared for an int.
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "fuse_get_session": (c_void_p, (c_void_p,)),
    "fuse_session_fd": (c_int, (c_void_p,)),
    "fuse_session_receive_buf": (c_int, (c_void_p, POINTER(FuseBuffer))),
    "fuse_session_process_buf": (None, (c_void_p, POINTER(FuseBuffer))),
    "fuse_parse_conn_info_opts": (c_void_p, (c_void_p,)),
    "fuse_apply_conn_info_opts": (None, (c_void_p, c_void_p)),
    "fuse_mount": (c_int, (c_void_p, c_char_p)),
    "fuse_unmount": (None, (c_void_p,)),
    "fuse_destroy": (None, (c_void_p,)),
}


def _fuse_new(library: Any) -> Any:
    """Return ``fuse_new``; in libfuse 3.17 that is a macro, and the function has another name."""
    function = getattr(library, "fuse_new", None) or library.fuse_new_31
    function.restype = c_void_p
    function.argtypes = (c_void_p, c_void_p, c_size_t, c_void_p)
    return function
