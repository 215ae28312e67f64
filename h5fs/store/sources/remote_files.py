"""The remote objects of one mount: requests in flight, the cache, how to open objects.

May be made before the daemon's fork; the first object must be opened after it, since that starts
the transport's threads.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from typing import Final

from h5fs.errors import CannotOpenError, UnreachableError
from h5fs.model.location import Url
from h5fs.model.settings import RemoteOptions
from h5fs.store.sources.cache_entry import EntryLabel
from h5fs.store.sources.disk_cache import DiskCache, default_cache_folder
from h5fs.store.sources.fetcher import Counts, Fetcher
from h5fs.store.sources.object_head import ObjectHead
from h5fs.store.sources.object_stores import open_transport
from h5fs.store.sources.remote_folder import RemoteFolder, open_folder
from h5fs.store.sources.remote_object import RemoteObject
from h5fs.store.sources.transport import FailureKind, ObjectVersion, RequestError, Transport

HEAD_BYTES: Final = 2**20
"""What the first request asks for: its answer tells size and version, and often has all metadata.
"""

_log = logging.getLogger(__name__)

_MOST_OBJECT_BYTES = 2**46  # more than any object store keeps


class RemoteFiles:
    """Opens remote objects, which share the cache and the limit of requests. For any thread."""

    def __init__(self, options: RemoteOptions) -> None:
        self._options = options
        self.fetcher: Final = Fetcher(options.streams)
        self.cache: Final = DiskCache(
            options.cache_folder or default_cache_folder(), options.cache_bytes
        )

    def open(self, url: Url) -> RemoteObject:
        """Open the version of an object that the server has now. Raises ``CannotOpenError``."""
        shown = url.shown
        began = time.monotonic()
        transport, identity = open_transport(url, self._options)
        counts = Counts()
        head = ObjectHead(transport, counts, size_bytes=HEAD_BYTES)
        try:
            version = head.read(self.fetcher, self._options.timeout_seconds)
        except RequestError as error:
            raise CannotOpenError(_explain_refusal(shown, error)) from None
        except UnreachableError as error:
            raise CannotOpenError(f"{shown}: {error}") from None
        if not version.is_certain:
            by = "size and date" if version.modified is not None else "size"
            _log.warning("%s: the server tells no version (ETag); only its %s count", shown, by)
        try:
            found = self._keep(url.shown, identity, transport, version, counts)
            found.take_head(b"".join(piece.data for piece in head.pieces))
        except OSError as error:
            raise CannotOpenError(
                f"{shown}: {version.size_bytes} bytes cannot be kept in a cache: {error.strerror}"
            ) from None
        seconds = time.monotonic() - began
        _log.info("%s: %d bytes, open in %.2f s", shown, version.size_bytes, seconds)
        return found

    def open_folder(self, url: Url) -> RemoteFolder:
        """Return the folder that a URL names. Raises ``CannotOpenError``; asks for nothing yet."""
        return open_folder(url, self.fetcher, self._options)

    def _keep(
        self,
        shown: str,
        identity: str,
        transport: Transport,
        version: ObjectVersion,
        counts: Counts,
    ) -> RemoteObject:
        if version.size_bytes > _MOST_OBJECT_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        label = EntryLabel(shown, version.size_bytes, f"{version.etag} {version.modified or ''}")
        entry = self.cache.open_entry(identity, label)
        return RemoteObject(
            shown, transport, version, entry, self.cache, self.fetcher,
            self._options.timeout_seconds, counts,
        )  # fmt: skip

    def close(self) -> None:
        """Give up what is in flight; waits for no network. The objects are to be closed before."""
        self.fetcher.close()
        self.cache.close()


def _explain_refusal(shown: str, error: RequestError) -> str:
    if error.kind is FailureKind.GONE:
        advice = "" if shown.startswith("http") else f" (a folder ends in a slash: {shown}/)"
        return f"{shown}: there is no such file on the server{advice}"
    if error.kind is FailureKind.DENIED:
        return (
            f"{shown}: {error.reason}; check the credentials (AWS_PROFILE, "
            "GOOGLE_APPLICATION_CREDENTIALS, AZURE_...), or use -o anon for a public file"
        )
    if error.kind is FailureKind.REPLACED:  # the server has no byte for the range from 0 on
        return f"{shown} is empty, so it is not an HDF5 file"
    return f"{shown}: {error.reason}"
