"""Where HDF5 data are: a path of this machine, or a URL."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

_STRICT_SCHEMES = ("https", "http", "hdf5")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class Url(Struct, frozen=True):
    """A URL as the user gave it.

    The query of ``text`` may be a key (a URL that was signed in advance), and so may what stands
    before an ``@``: whatever other people can see (tables of mounts, process lists, logs, messages,
    names of files) has ``shown`` instead, or ``str()``, which is the same.
    """

    text: str

    def __post_init__(self) -> None:
        """Raise ``ValueError`` with what the URL must be."""
        if not _URL.match(self.text):
            raise ValueError("must begin with a scheme and ://")
        # The keys of object stores may have any character.
        is_strict = self.scheme in _STRICT_SCHEMES
        if is_strict and any(c.isspace() or not c.isprintable() for c in self.text):
            raise ValueError("must have no spaces in it: %20 stands for one")
        if not self._host_and_path[0] and self.scheme != "file":
            raise ValueError(f"must name a host or a bucket after {self.scheme}://")

    @property
    def scheme(self) -> str:
        """What stands before ``://``, in small letters."""
        return self.text.partition("://")[0].lower()

    @property
    def shown(self) -> str:
        """The URL without anything that may be a secret."""
        host, path = self._host_and_path
        text = f"{self.scheme}://{host}{path}"
        return "".join(c if c.isprintable() else f"%{ord(c):02X}" for c in text)

    @property
    def is_folder(self) -> bool:
        """Whether the URL names a folder: its path ends in ``/``, or it has none."""
        return self._host_and_path[1][-1:] in ("", "/")

    @property
    def name(self) -> str:
        """The last part of the path, as a file would be called; the host where there is none."""
        host, path = self._host_and_path
        return path.rstrip("/").rpartition("/")[2] or host

    @property
    def _host_and_path(self) -> tuple[str, str]:
        """Host (with port, without user and password) or bucket, and the path.

        A key of an object store may have a ``#`` in it. It may have a ``?``, too, but what follows
        one is more often a signature that somebody took along with the URL.
        """
        if self.scheme not in _STRICT_SCHEMES:
            rest = self.text.partition("://")[2].partition("?")[0]
            host, slash, path = rest.partition("/")
            return host.rpartition("@")[2], slash + path
        try:
            parts = urlsplit(self.text)
        except ValueError:  # a [ without a ]
            return "", ""
        return parts.netloc.rpartition("@")[2], parts.path

    def __str__(self) -> str:
        return self.shown

    def __repr__(self) -> str:
        return f"Url({self.shown!r})"


Location = Path | Url


def parse_location(text: str) -> Location:
    """Return the URL or the path that a text is.

    What begins with a scheme and ``://`` is a URL; ``./`` before it makes a path of it. Raises
    ``ValueError`` with what a URL must be.
    """
    return Url(text) if is_url(text) else Path(text)


def is_url(text: str) -> bool:
    """Whether a text would be taken for a URL, right or wrong."""
    return _URL.match(text) is not None
