"""What only libfuse 2 needs. It is used where libfuse 3 is missing, and for mode r only."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Mapping
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_void_p
from typing import Any, ClassVar

from h5fs.fuse.library.arguments import Arguments, number_of, spell_option
from h5fs.fuse.library.request_loop import FuseBuffer, RequestLoop

# Like libfuse 3's, without the flags.
_FILLER = ctypes.PYFUNCTYPE(c_int, c_void_p, c_char_p, c_void_p, c_int64)


class _RequestLoop(RequestLoop):
    """The loop over a channel, which reads into memory of the caller."""

    def __init__(self, library: Any, fuse: c_void_p) -> None:
        super().__init__(library, fuse)
        self._channel = library.fuse_session_next_chan(self.session, None)
        self._memory = ctypes.create_string_buffer(library.fuse_chan_bufsize(self._channel))
        self._channel_read = c_void_p()
        self.receive, self.process = self._receive, self._process

    def _receive(self) -> int:
        self.buffer.mem = ctypes.addressof(self._memory)
        self.buffer.size, self.buffer.flags = len(self._memory), 0
        self._channel_read.value = self._channel
        return int(
            self.library.fuse_session_receive_buf(
                self.session, byref(self.buffer), byref(self._channel_read)
            )
        )

    def _process(self) -> None:
        self.library.fuse_session_process_buf(self.session, byref(self.buffer), self._channel_read)

    def close(self) -> None:
        self.buffer.mem = None


class Libfuse2:
    """See ``libfuse.Libfuse``.

    It serves mode r only, for two reasons. ``open`` of a file that was just replaced by ``rename``
    is ``ENOENT``, since libfuse's node has lost its path (376 of 2,506 ``json.load`` beside a
    writer); libfuse 3 answers ``ESTALE``, and the kernel looks the name up again. And a program
    that has an array open while it is saved anew gets pages of both contents, once a third program
    has read the array (20 of 20).
    """

    PACKAGE: ClassVar[str] = "fusepy"
    MODULE: ClassVar[str] = "fuse"
    SONAMES: ClassVar[tuple[str, ...]] = ("libfuse.so.2",)
    LINKER_NAME: ClassVar[str] = "fuse"
    WHAT_TO_INSTALL: ClassVar[str] = (
        "apt-get install fuse3 and libfuse2 (libfuse2t64 since Debian 13 and Ubuntu 24.04)"
    )
    PROTOTYPES: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "getattr": (c_char_p, c_void_p),
        "fgetattr": (c_char_p, c_void_p, c_void_p),
        "readdir": (c_char_p, c_void_p, c_void_p, c_int64, c_void_p),
        "init": (c_void_p,),
    }
    METHODS: ClassVar[Mapping[str, str]] = {"fgetattr": "getattr"}
    KEEPS_LISTINGS: ClassVar[bool] = False
    WHY_NOT_WRITE: ClassVar[str | None] = "over libfuse 2 readers get a mixture of old and new data"

    def __init__(self, module: Any, library: Any) -> None:
        self.pointer = c_void_p()
        self._library = library
        self._path_of_libfuse = c_void_p()
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments

    @staticmethod
    def version(library: Any) -> str:
        """Return the version from the library's file name; the library tells two numbers only."""
        number = str(library.fuse_version())
        short = f"{number[0]}.{number[1:]}"
        try:
            with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
                paths = {line.split()[-1] for line in maps if "/libfuse.so" in line}
        except OSError:
            return short
        names = (os.path.basename(os.path.realpath(path)) for path in paths)
        versions = (name.partition(".so.")[2] for name in names)
        return next((version for version in versions if version.startswith(short)), short)

    @staticmethod
    def spell(options: Mapping[str, str | bytes | None], *, lists_statuses: bool) -> Arguments:
        return Arguments(
            tuple(spell_option(name, value) for name, value in options.items()),
            read_ahead_bytes=number_of(options.get("max_readahead")),
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
        for name, status, place, _ in entries:
            if fill(collector, name, status, place):
                break
        return 0

    def mount(self, table: Any, words: list[bytes], mountpoint: bytes) -> bool:
        words = [*words, b"-f", mountpoint]
        argv = (c_char_p * len(words))(*words)
        self.pointer.value = self._library.fuse_setup(
            len(words), argv, byref(table), ctypes.sizeof(table),
            byref(self._path_of_libfuse), byref(c_int()), None,
        )  # fmt: skip
        return self.pointer.value is not None

    def negotiate(self, arguments: Arguments, connection: int, config: int | None) -> None:
        """Do nothing: the options have said everything."""

    def begin(self, arguments: Arguments) -> None:
        """Do nothing: the kernel looks up one name of a folder at a time."""

    def descriptor(self) -> int:
        session = self._library.fuse_get_session(self.pointer)
        channel = self._library.fuse_session_next_chan(session, None)
        return int(self._library.fuse_chan_fd(channel))

    def request_loop(self) -> RequestLoop:
        return _RequestLoop(self._library, self.pointer)

    def unmount(self) -> None:
        self._library.fuse_teardown(self.pointer, self._path_of_libfuse)


# ctypes takes everything that is not declared for an int.
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "fuse_get_session": (c_void_p, (c_void_p,)),
    "fuse_session_next_chan": (c_void_p, (c_void_p, c_void_p)),
    "fuse_chan_fd": (c_int, (c_void_p,)),
    "fuse_chan_bufsize": (c_size_t, (c_void_p,)),
    "fuse_session_receive_buf": (c_int, (c_void_p, POINTER(FuseBuffer), POINTER(c_void_p))),
    "fuse_session_process_buf": (None, (c_void_p, POINTER(FuseBuffer), c_void_p)),
    "fuse_setup": (
        c_void_p,
        (c_int, c_void_p, c_void_p, c_size_t, c_void_p, c_void_p, c_void_p),
    ),
    "fuse_teardown": (None, (c_void_p, c_void_p)),
}
