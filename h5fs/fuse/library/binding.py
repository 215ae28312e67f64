"""Which FUSE binding runs: the only module that imports one.

mfusepy over libfuse 3, where that is installed; else fusepy, the same interface over libfuse 2.
``H5FS_FUSE=2`` or ``=3`` insists on one, for tests and measurements; ``FUSE_LIBRARY_PATH`` names
another libfuse, as for the bindings themselves. From a binding h5fs takes the loaded library and
the layouts of libfuse's structures.

``load_binding`` is called once, before any thread of libfuse runs.
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

from h5fs.fuse.library.libfuse import LIBFUSES, Libfuse

CHOICE_VARIABLE = "H5FS_FUSE"
_PATH_VARIABLE = "FUSE_LIBRARY_PATH"


@dataclass(frozen=True, slots=True)
class Binding:
    """A FUSE binding with its libfuse, of the version ``major``."""

    package: str
    major: int
    module: Any
    library: Any

    def describe(self) -> str:
        """Return package and library with their versions, for people."""
        package = importlib.metadata.version(self.package)
        return f"{self.package} {package} over libfuse {self.libfuse.version(self.library)}"

    @property
    def libfuse(self) -> type[Libfuse]:
        """The class for what this version of libfuse does in its own way."""
        return LIBFUSES[self.major]


def load_binding() -> Binding:
    """Import the binding that fits. Raises ``OSError`` that names what to install."""
    choice = os.environ.get(CHOICE_VARIABLE, "")
    chosen = {major: kind for major, kind in LIBFUSES.items() if choice in ("", str(major))}
    if not chosen:
        known = " or ".join(map(str, sorted(LIBFUSES)))
        raise OSError(f"{CHOICE_VARIABLE}={choice}: must be {known}")
    path = os.environ.get(_PATH_VARIABLE)
    for major, kind in chosen.items():
        library = _load_library(major, kind, path)
        module = None if library is None else _import_over(kind, library)
        if module is not None:
            return Binding(kind.PACKAGE, major, module, module._libfuse)
    major, kind = next(iter(chosen.items()))
    where = f" at {_PATH_VARIABLE}={path}" if path else ""
    raise OSError(f"libfuse {major} cannot be loaded{where}; {kind.WHAT_TO_INSTALL}")


def _load_library(major: int, kind: type[Libfuse], path: str | None) -> Any:
    """Return the library of a libfuse, None when there is none.

    The soname is tried first: ``find_library`` starts ldconfig (6 to 10 ms), and then compilers.
    """
    for name in (path,) if path else kind.SONAMES:
        library = _try_to_load(name, major)
        if library is not None:
            return library
    found = None if path else ctypes.util.find_library(kind.LINKER_NAME)
    return _try_to_load(found, major) if found else None


def _try_to_load(name: str, major: int) -> Any:
    try:
        library = ctypes.CDLL(name)
        version = library.fuse_version()
    except (OSError, AttributeError):
        return None
    # 29 is 2.9, 314 is 3.14.
    return library if str(version).startswith(str(major)) else None


def _import_over(kind: type[Libfuse], library: Any) -> Any:
    """Import the binding for this very library; None when the binding is not installed."""
    with _environment(_PATH_VARIABLE, library._name):
        try:
            return importlib.import_module(kind.MODULE)
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
