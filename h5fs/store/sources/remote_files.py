"""Everything that is far away, for one mount: requests in flight, the cache, how to open objects.

Made before or after the daemon's fork; the transport's threads begin with the first object, which
has to be opened after it.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from typing import TYPE_CHECKING, Any, Final

from h5fs.errors import CannotOpenError, UnreachableError
from h5fs.model.settings import RemoteOptions
from h5fs.store.sources.addresses import Address, hidden_url
from h5fs.store.sources.cache_entry import EntryLabel
from h5fs.store.sources.disk_cache import DiskCache, default_cache_folder
from h5fs.store.sources.fetching import Counts, Fetcher
from h5fs.store.sources.object_head import ObjectHead
from h5fs.store.sources.remote_object import RemoteObject
from h5fs.store.sources.transport import FailureKind, ObjectVersion, RequestError, Transport

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

HEAD_BYTES: Final = 2**20
"""What the first request asks for: it tells size and version, and often all metadata are there."""

_log = logging.getLogger(__name__)

_MOST_SILENCE_SECONDS = 15.0
_MOST_OBJECT_BYTES = 2**46  # more than any object store keeps
_MISSING = "files on other machines need the obstore package: pip install 'h5fs[remote]'"


class RemoteFiles:
    """Opens remote objects; they share the requests in flight and the cache. For any thread."""

    def __init__(self, options: RemoteOptions) -> None:
        self._options = options
        self.fetcher: Final = Fetcher(options.streams)
        self.cache: Final = DiskCache(
            options.cache_folder or default_cache_folder(), options.cache_bytes
        )

    def open(self, address: Address) -> RemoteObject:
        """Open the version of an object that the server has now. Raises ``CannotOpenError``."""
        shown = hidden_url(address.url)
        began = time.monotonic()
        transport = open_transport(address, self._options)
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
            found = self._keep(address, transport, version, counts)
            found.take_head(b"".join(piece.data for piece in head.pieces))
        except OSError as error:
            raise CannotOpenError(
                f"{shown}: {version.size_bytes} bytes cannot be kept in a cache: {error.strerror}"
            ) from None
        seconds = time.monotonic() - began
        _log.info("%s: %d bytes, open in %.2f s", shown, version.size_bytes, seconds)
        return found

    def _keep(
        self, address: Address, transport: Transport, version: ObjectVersion, counts: Counts
    ) -> RemoteObject:
        if version.size_bytes > _MOST_OBJECT_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        shown = hidden_url(address.url)
        label = EntryLabel(shown, version.size_bytes, f"{version.etag} {version.modified or ''}")
        entry = self.cache.open_entry(address.identity, label)
        return RemoteObject(
            address, transport, version, entry, self.cache, self.fetcher,
            self._options.timeout_seconds, counts,
        )  # fmt: skip

    def close(self) -> None:
        """Give up what is in flight; waits for no network. The objects are to be closed before."""
        self.fetcher.close()
        self.cache.close()


def open_transport(address: Address, options: RemoteOptions) -> Transport:
    """Return what asks for ranges of an object. Raises ``CannotOpenError``."""
    try:
        from obstore import store as stores
    except ImportError:
        raise CannotOpenError(f"{hidden_url(address.url)}: {_MISSING}") from None
    silence_seconds = min(options.timeout_seconds / 4, _MOST_SILENCE_SECONDS)
    client: ClientConfig = {
        "allow_http": True,
        "connect_timeout": "5s",
        "read_timeout": f"{int(silence_seconds * 1000)}ms",
        "timeout": "1day",  # of a whole answer, however long; silence ends it
    }
    retries: RetryConfig = {"max_retries": 0}  # the fetcher tries again
    common: dict[str, Any] = {"client_options": client, "retry_config": retries}
    store: ObjectStore
    if not address.is_bucket:
        return Transport(stores.HTTPStore.from_url(address.url, **common), "", silence_seconds)
    store = stores.S3Store(address.bucket, endpoint=options.endpoint_url, **common)
    return Transport(store, address.key, silence_seconds)


def _explain_refusal(shown: str, error: RequestError) -> str:
    if error.kind is FailureKind.GONE:
        return f"{shown}: there is no such file on the server"
    if error.kind is FailureKind.DENIED:
        return (
            f"{shown}: {error.reason}; check the credentials (AWS_PROFILE, "
            "GOOGLE_APPLICATION_CREDENTIALS, AZURE_...), or use -o anon for a public file"
        )
    if error.kind is FailureKind.REPLACED:  # the server has no byte for the range from 0 on
        return f"{shown} is empty, so it is not an HDF5 file"
    return f"{shown}: {error.reason}"
