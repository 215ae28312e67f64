"""Redirects of web servers, which are followed here, so that no secret is sent along.

The transport's library would follow by itself, and tell the next host the whole URL that it came
from, with a signature in it, and S3's session token. So it may reach no other host (``only_host``),
and a URL that leads elsewhere is followed here, hop by hop, with nothing but the range of bytes.
"""

from __future__ import annotations

import base64
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPMessage
from typing import IO, Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

_MOST_HOPS = 5
_NOWHERE = "127.0.0.1:1"
NOWHERE_IN_ERRORS = f"{_NOWHERE},"
"""What the library's errors have in them when it was sent to another host."""


def has_proxy() -> bool:
    """Whether the environment names a proxy: then it is the proxy that reaches other hosts."""
    return any(kind in urllib.request.getproxies() for kind in ("http", "https", "all"))


def only_host(*hosts: str) -> dict[str, Any]:
    """Return the client's settings by which it reaches these hosts (``.x``: all below) alone.

    For all other hosts the settings name a proxy that does not exist.
    """
    return {"proxy_url": f"http://{_NOWHERE}", "proxy_excludes": ",".join(filter(None, hosts))}


class RedirectError(Exception):
    """A redirect that is not followed; the text is for people, and has no secret in it."""


def follow(url: str, seconds: float) -> str:
    """Return the URL that a URL leads to in the end. Raises ``RedirectError``.

    Each hop may take ``seconds``.
    """
    for _ in range(_MOST_HOPS):
        target = _ask(url, seconds)
        if target is None:
            return url
        following = urljoin(url, target)
        before, after = urlsplit(url).scheme, urlsplit(following).scheme
        if after not in ("http", "https") or (before == "https" and after == "http"):
            raise RedirectError(f"the server sends its readers from {before}:// to {after}://")
        url = following
    raise RedirectError("the server sends its readers round in circles")


def split_user(url: str) -> tuple[str, str]:
    """Return a URL without user and password, and the header that says these; "" for none."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    place = urlunsplit((parts.scheme, host, parts.path or "/", parts.query, ""))
    token = base64.b64encode(unquote(user).encode()).decode()
    return place, f"Basic {token}" if at else ""


def _ask(url: str, seconds: float) -> str | None:
    """Return where a URL leads; None for one that leads nowhere else, or that fails."""
    place, authorization = split_user(url)
    request = urllib.request.Request(place, headers={"Range": "bytes=0-0"})
    if authorization:
        request.add_unredirected_header("Authorization", authorization)
    try:
        with urllib.request.build_opener(_Stopping()).open(request, timeout=seconds):
            return None
    except urllib.error.HTTPError as error:
        target = error.headers.get("Location")
        return target if 300 <= error.code < 400 else None
    except (OSError, HTTPException, ValueError):
        return None


class _Stopping(urllib.request.HTTPRedirectHandler):
    """Stops at a redirect instead of following it."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str,
        headers: HTTPMessage, newurl: str,
    ) -> None:  # fmt: skip
        return None
