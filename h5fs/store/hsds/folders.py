"""Folders of domains: what is in them, and the stores of the domains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from h5fs.errors import CannotOpenError, GoneError, H5fsError, NotFoundError, UnreadableError
from h5fs.model.objects import DomainEntry
from h5fs.store.hsds.answers import DomainAnswer, DomainsAnswer
from h5fs.store.hsds.client import Client
from h5fs.store.hsds.store import HsdsStore

_MOST_BYTES: Final = 64 << 20


class DomainFolder:
    """A folder of domains, by its path. Safe to use from any thread.

    Paths are those below the folder, ``/`` itself; ``open_store`` is given the path of a domain.
    """

    def __init__(
        self, client: Client, folder: str, bucket: str, open_store: Callable[[str], HsdsStore]
    ) -> None:
        self._client = client
        self._folder = folder.rstrip("/")
        self._bucket = {"bucket": bucket} if bucket else {}
        self._open_store = open_store

    def open(self) -> None:
        """Look at the folder. Raises ``CannotOpenError``."""
        try:
            self.list(b"/")
        except (NotFoundError, GoneError):
            raise CannotOpenError(f"{self._client.name} has no folder {self._folder}/") from None
        except H5fsError as error:
            raise CannotOpenError(f"{self._folder}/: {error}") from None

    def list(self, path: bytes) -> tuple[DomainEntry, ...]:
        """Return what is in a folder, sorted by name. Raises ``NotFoundError``."""
        place = self._place(path)
        try:
            answer = self._client.get(
                "/domains", DomainsAnswer,
                {"domain": place + "/", "verbose": "1", **self._bucket}, most_bytes=_MOST_BYTES,
            )  # fmt: skip
        except GoneError:
            raise NotFoundError(f"no folder {place}") from None
        entries = {}
        for domain in answer.domains:
            name = domain.name.rpartition("/")[2].encode("utf-8", "surrogatepass")
            if name in (b"", b".", b"..") or domain.kind not in ("domain", "folder"):
                continue
            entries[name] = _entry(name, domain)
        return tuple(entries[name] for name in sorted(entries))

    def open_store(self, path: bytes) -> HsdsStore:
        """Open a domain. Raises ``CannotOpenError``."""
        return self._open_store(self._place(path))

    def close(self) -> None:
        """Close the connections of the folder's own."""
        self._client.close()

    def _place(self, path: bytes) -> str:
        try:
            return (self._folder + "/" + path.decode().strip("/")).rstrip("/")
        except UnicodeDecodeError:
            raise UnreadableError("a name that is not UTF-8") from None


def _entry(name: bytes, domain: DomainAnswer) -> DomainEntry:
    mtime_ns = int(max(domain.last_modified, 0.0) * 1e9)
    return DomainEntry(name, domain.kind == "folder", mtime_ns)
