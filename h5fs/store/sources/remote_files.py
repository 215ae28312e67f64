"""Everything that is far away, for one mount: requests in flight, the cache, how to open objects.

Made before or after the daemon's fork; the transport's threads begin with the first object, which
has to be opened after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from h5fs.errors import CannotOpenError
from h5fs.model.settings import RemoteOptions
from h5fs.store.sources.addresses import Address, hidden_url
from h5fs.store.sources.disk_cache import DiskCache, default_cache_folder
from h5fs.store.sources.fetching import Fetcher
from h5fs.store.sources.remote_object import RemoteObject, open_object
from h5fs.store.sources.transport import SILENCE_SECONDS, Transport

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

_MISSING = "files on other machines need the obstore package: pip install 'h5fs[remote]'"


class RemoteFiles:
    """Opens remote objects; they share the requests in flight and the cache. For any thread."""

    def __init__(self, options: RemoteOptions) -> None:
        self._options = options
        self.fetcher: Final = Fetcher(
            streams=options.streams, timeout_seconds=options.timeout_seconds
        )
        self.cache: Final = DiskCache(
            options.cache_folder or default_cache_folder(), options.cache_bytes
        )

    def open(self, address: Address) -> RemoteObject:
        """Open the version of an object that the server has now. Raises ``CannotOpenError``."""
        transport = open_transport(address, self._options)
        return open_object(address, transport, self.fetcher, self.cache, self._options.streams)

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
    client: ClientConfig = {
        "allow_http": True,
        "connect_timeout": "5s",
        "read_timeout": f"{SILENCE_SECONDS:g}s",
        "timeout": "1day",  # of a whole answer, however long; silence ends it
    }
    retries: RetryConfig = {"max_retries": 0}  # the fetcher tries again
    common: dict[str, Any] = {"client_options": client, "retry_config": retries}
    store: ObjectStore
    if not address.is_bucket:
        return Transport(stores.HTTPStore.from_url(address.url, **common), "")
    store = stores.S3Store(address.bucket, endpoint=options.endpoint_url, **common)
    return Transport(store, address.key)
