"""A prefix of an object store as a folder: what is in it, page by page, with sizes and dates.

A listing tells all that is shown of a file, so that no object is asked about by itself. Web servers
have no listing that could be relied on.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from h5fs.errors import CannotOpenError, DeniedError, NotFoundError, UnreachableError
from h5fs.model.location import Url
from h5fs.model.settings import RemoteOptions
from h5fs.store.sources.fetcher import Fetcher
from h5fs.store.sources.object_names import WEB_SCHEMES, split_bucket
from h5fs.store.sources.object_stores import open_bucket
from h5fs.store.sources.transport import (
    FailureKind,
    ObjectVersion,
    RequestError,
    explain,
    version_of,
)

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_log = logging.getLogger(__name__)

_SILENCE_SECONDS = 60.0  # a listing of many pages
_LONGEST_NAME = 255


@dataclass(frozen=True, slots=True)
class RemoteEntry:
    """A name in a folder: an object, or a folder, whose ``version`` is None."""

    name: str
    version: ObjectVersion | None


class RemoteFolder:
    """A prefix of a bucket. Any thread may list."""

    def __init__(
        self, store: ObjectStore, shown: str, prefix: str, fetcher: Fetcher, options: RemoteOptions
    ) -> None:
        self.shown: Final = shown
        self._store = store
        self._prefix = prefix.strip("/")
        self._fetcher = fetcher
        self._options = options
        self._passed_over: set[str] = set()

    def entries(self, below: str = "") -> list[RemoteEntry]:
        """Return what is in the folder, or in one below it (``a/b``), in order of names.

        Raises ``NotFoundError``: there is nothing of that prefix; ``DeniedError``,
        ``UnreachableError``.
        """
        prefix = "/".join(filter(None, (self._prefix, below)))
        try:
            found = self._fetcher.ask(lambda: self._ask(prefix), self._options.timeout_seconds)
        except RequestError as error:
            text = f"{self.shown}{below}: {error.reason}"
            if error.kind is FailureKind.GONE:
                raise NotFoundError(f"{self.shown}: there is no such bucket") from None
            if error.kind is FailureKind.DENIED:
                raise DeniedError(f"{text}; have the credentials expired?") from None
            raise UnreachableError(text) from None
        start = len(prefix) + 1 if prefix else 0
        folders = {path[start:]: RemoteEntry(path[start:], None) for path in found[0]}
        # An object with the name of a folder cannot be shown beside that folder.
        files = {
            meta["path"][start:]: RemoteEntry(meta["path"][start:], version_of(meta))
            for meta in found[1]
        }
        both = files | folders
        names = sorted(name for name in both if self._is_usable(name))
        if prefix and not names and not found[1]:
            raise NotFoundError(f"{self.shown}{below}: there is nothing of that name")
        return [both[name] for name in names]

    def _is_usable(self, name: str) -> bool:
        """Whether a file can have the name, which is empty for an object that marks the folder."""
        is_usable = name not in ("", ".", "..") and len(name.encode()) <= _LONGEST_NAME
        if not is_usable and name and name not in self._passed_over:
            self._passed_over.add(name)
            _log.warning("%s: %s is left out: no file can have that name", self.shown, name[:300])
        return is_usable

    async def _ask(self, prefix: str) -> tuple[list[str], list[Any]]:
        import obstore

        try:
            answer = await asyncio.wait_for(
                obstore.list_with_delimiter_async(self._store, prefix or None), _SILENCE_SECONDS
            )
        except (TimeoutError, asyncio.TimeoutError):
            raise RequestError(FailureKind.AGAIN, "the server does not answer") from None
        except Exception as error:
            raise explain(error) from None
        return list(answer["common_prefixes"]), list(answer["objects"])


def open_folder(url: Url, fetcher: Fetcher, options: RemoteOptions) -> RemoteFolder:
    """Return the folder of a URL; asks for nothing yet. Raises ``CannotOpenError``."""
    if url.scheme in WEB_SCHEMES:
        raise CannotOpenError(f"{url}: a web server does not tell what is in a folder: name a file")
    _, prefix = split_bucket(url)
    store, _ = open_bucket(url, options)
    return RemoteFolder(store, url.shown, prefix, fetcher, options)
