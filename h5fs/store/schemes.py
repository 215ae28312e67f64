"""Which URLs can be opened, and how: one entry for each scheme.

A store of another kind is one more entry. What an entry opens is imported only when it is opened.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from h5fs.errors import CannotOpenError
from h5fs.model.location import Url
from h5fs.model.settings import Mode, StoreOptions

if TYPE_CHECKING:
    from h5fs.store.interface import Store
    from h5fs.store.workers.starting.worker_starter import WorkerStarter


class Scheme(Struct, frozen=True):
    """How URLs of one scheme are opened.

    ``open_store`` is what ``h5fs.store.open_store`` calls. ``package``: what Python imports for it
    beyond h5fs's own dependencies, which the ``extra`` of h5fs's installs; "" for nothing.
    ``modes``: those that it can be opened in. ``is_object``: what is there is one object, whose
    versions follow one another, as those of a file do. ``is_shared``: others change the data at any
    time, and nobody tells.
    """

    open_store: Callable[[StoreOptions, WorkerStarter | None], Store]
    package: str = ""
    modes: frozenset[Mode] = frozenset({Mode.READ})
    is_object: bool = False
    extra: str = "remote"
    is_shared: bool = False


def _open_object(options: StoreOptions, starter: WorkerStarter | None) -> Store:
    from h5fs.store.worker_stores.remote_store import open_remote_store

    return open_remote_store(options, starter)


_OBJECTS = Scheme(_open_object, package="obstore", is_object=True)


def _open_domain(options: StoreOptions, _starter: WorkerStarter | None) -> Store:
    from h5fs.store.hsds.opening import open_domain

    return open_domain(options)


_DOMAINS = Scheme(
    _open_domain, package="urllib3", modes=frozenset({Mode.READ, Mode.UPDATE}), extra="hsds",
    is_shared=True,
)  # fmt: skip

SCHEMES: Mapping[str, Scheme] = {
    **dict.fromkeys(("https", "http", "s3", "gs", "az"), _OBJECTS),
    "hdf5": _DOMAINS,
}


def is_shared(url: Url | None) -> bool:
    """Whether others change the data at a URL at any time."""
    scheme = SCHEMES.get(url.scheme) if url is not None else None
    return scheme is not None and scheme.is_shared


def find_scheme(url: Url, mode: Mode, schemes: Mapping[str, Scheme] = SCHEMES) -> Scheme:
    """Return how a URL is opened. Raises ``CannotOpenError`` with what the user can do."""
    scheme = schemes.get(url.scheme)
    if scheme is None:
        raise CannotOpenError(f"{url} cannot be opened: {_explain_unknown(url, schemes)}")
    if mode not in scheme.modes:
        modes = sorted(each.value for each in scheme.modes)
        known = (
            "data at {}:// are read-only"
            if modes == ["r"]
            else (f"what is at {{}}:// is opened in the modes {' and '.join(modes)} only")
        )
        raise CannotOpenError(
            f"{url}: {known.format(url.scheme)}, so --mode {mode.value} is refused; leave it out, "
            "or copy the file here and mount the copy"
        )
    if scheme.package and importlib.util.find_spec(scheme.package) is None:
        raise CannotOpenError(
            f"{url} needs the Python package {scheme.package}: pip install 'h5fs[{scheme.extra}]'"
        )
    return scheme


def check_url_options(url: Url, options: StoreOptions) -> None:
    """Raise ``CannotOpenError`` for options that what is at a URL cannot be opened with."""
    if options.is_swmr:
        raise CannotOpenError(
            f"{url}: -o swmr follows a file of this machine while it is written; leave it out (a "
            "new version of the file is shown without it)"
        )
    if options.workers == 0 and find_scheme(url, options.mode).is_object:
        raise CannotOpenError(
            f"{url}: what comes over a network is read by workers, which have none: leave out "
            "-o workers=0"
        )


def _explain_unknown(url: Url, schemes: Mapping[str, Scheme]) -> str:
    if url.scheme == "file":
        return "name a file of this machine by its path, without file://"
    known = ", ".join(f"{name}://" for name in schemes) or "no URL at all"
    return f"no {url.scheme}:// is known (h5fs opens {known})"
