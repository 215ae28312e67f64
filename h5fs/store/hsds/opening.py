"""From a URL and the user's settings to a store, or to a folder of domains."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote

from h5fs.errors import CannotOpenError
from h5fs.model.location import Url
from h5fs.model.settings import StoreOptions
from h5fs.store.hsds.access import find_access
from h5fs.store.hsds.client import Client
from h5fs.store.hsds.folders import DomainFolder
from h5fs.store.hsds.store import HsdsStore
from h5fs.store.hsds.writing.writing_store import WritingHsdsStore


def open_domain(options: StoreOptions) -> HsdsStore:
    """Open the domain that a URL names. Raises ``CannotOpenError``."""
    return _open(options, domain_of(options.url))


def open_folder(options: StoreOptions) -> DomainFolder:
    """Open the folder of domains that a URL names. Raises ``CannotOpenError``."""
    if options.mode.writes:
        raise CannotOpenError(
            f"{options.url}: a folder of domains is read-only; mount one domain of it to write"
        )
    client, bucket = _client_of(options)
    folder = DomainFolder(client, domain_of(options.url), bucket, lambda name: _open(options, name))
    try:
        folder.open()
    except BaseException:
        folder.close()
        raise
    return folder


def domain_of(url: Url | None) -> str:
    """Return the path of a domain: ``hdf5://home/user/a.h5`` is ``/home/user/a.h5``."""
    assert url is not None
    path = url.text.partition("://")[2]
    if "?" in path or "#" in path or "@" in path.partition("/")[0]:
        raise CannotOpenError(f"{url}: hdf5://home/USER/NAME, and nothing behind that")
    return "/" + unquote(path).strip("/")


def _open(options: StoreOptions, domain: str) -> HsdsStore:
    client, bucket = _client_of(options)
    common = (client, domain, bucket, options.external, options.cache_bytes)
    writes = options.mode.writes
    store = WritingHsdsStore(*common, options.new_datasets) if writes else HsdsStore(*common)
    try:
        store.open()
    except BaseException:
        store.close()
        raise
    return store


def _client_of(options: StoreOptions) -> tuple[Client, str]:
    remote = options.remote
    folders = (remote.working_folder or Path.cwd(), Path(os.path.expanduser("~")))
    access = find_access(remote.endpoint_url, os.environ, folders)
    return Client(access, remote.timeout_seconds), access.bucket
