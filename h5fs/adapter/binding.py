"""Which FUSE binding runs: the only module that imports one.

mfusepy over libfuse 3, where that is installed; else fusepy, the same interface over libfuse 2.
``H5FS_FUSE=2`` or ``=3`` insists on one, for tests and measurements; ``FUSE_LIBRARY_PATH`` names a
libfuse of one's own, as for the bindings themselves. From a binding h5fs takes the library that it
has loaded and the layouts of libfuse's structures.

Called once, before any thread of libfuse runs.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib
import importlib.metadata
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

CHOICE_VARIABLE = "H5FS_FUSE"
_PATH_VARIABLE = "FUSE_LIBRARY_PATH"


@dataclass(frozen=True, slots=True)
class Binding:
    """A FUSE binding with its libfuse: ``major`` is 2 or 3."""

    package: str
    major: int
    module: Any
    library: Any

    def describe(self) -> str:
        """Return package and library with their versions, for people."""
        package = importlib.metadata.version(self.package)
        return f"{self.package} {package} over libfuse {_version_of(self.library)}"


@dataclass(frozen=True, slots=True)
class _Kind:
    """A libfuse and the package that speaks to it; ``sonames`` newest first."""

    major: int
    package: str
    module: str
    sonames: tuple[str, ...]
    linker_name: str
    what_to_install: str


_KINDS = (
    _Kind(
        3, "mfusepy", "mfusepy", ("libfuse3.so.4", "libfuse3.so.3"), "fuse3",
        "apt-get install fuse3 (and pip install mfusepy where that is missing)",
    ),
    _Kind(
        2, "fusepy", "fuse", ("libfuse.so.2",), "fuse",
        "apt-get install fuse3 and libfuse2 (libfuse2t64 since Debian 13 and Ubuntu 24.04)",
    ),
)  # fmt: skip


def load_binding() -> Binding:
    """Import the binding that fits. Raises ``OSError`` that names what to install."""
    choice = os.environ.get(CHOICE_VARIABLE, "")
    if choice not in ("", "2", "3"):
        raise OSError(f"{CHOICE_VARIABLE}={choice}: must be 2 or 3")
    path = os.environ.get(_PATH_VARIABLE)
    for kind in _KINDS:
        if choice not in ("", str(kind.major)):
            continue
        library = _load_library(kind, path)
        module = None if library is None else _import_over(kind, library)
        if module is not None:
            return Binding(kind.package, kind.major, module, module._libfuse)
    needed = _KINDS[-1] if choice == "2" else _KINDS[0]
    where = f" at {_PATH_VARIABLE}={path}" if path else ""
    raise OSError(f"libfuse {needed.major} cannot be loaded{where}; {needed.what_to_install}")


def what_libfuse_3_takes() -> str:
    """Return what to do to have libfuse 3."""
    return _KINDS[0].what_to_install


def _load_library(kind: _Kind, path: str | None) -> Any:
    """Return the libfuse of a kind, None when there is none.

    By its soname first: ``find_library`` starts ldconfig (6 to 10 ms), and compilers if that fails.
    """
    for name in (path,) if path else kind.sonames:
        library = _try_to_load(name, kind.major)
        if library is not None:
            return library
    found = None if path else ctypes.util.find_library(kind.linker_name)
    return _try_to_load(found, kind.major) if found else None


def _try_to_load(name: str, major: int) -> Any:
    try:
        library = ctypes.CDLL(name)
        version = library.fuse_version()
    except (OSError, AttributeError):
        return None
    # 29 is 2.9, 314 is 3.14.
    return library if str(version).startswith(str(major)) else None


def _import_over(kind: _Kind, library: Any) -> Any:
    """Import a kind's package over this very library; None when it is not installed."""
    with _environment(_PATH_VARIABLE, library._name):
        try:
            return importlib.import_module(kind.module)
        except ModuleNotFoundError:
            return None


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _version_of(library: Any) -> str:
    """Return libfuse's full version: from itself (libfuse 3), or from its file's name."""
    try:
        function = library.fuse_pkgversion
    except AttributeError:
        return _version_in_file_name(library)
    function.restype = ctypes.c_char_p
    return bytes(function()).decode()


def _version_in_file_name(library: Any) -> str:
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
