"""Addresses of files that are not on this machine: ``https://``, ``s3://``, ``gs://``, ``az://``.

An address may carry secrets: a password, or the signature of a pre-signed URL. ``hidden_url`` is
for everything that a person or another program gets to see.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from h5fs.errors import UsageError

_SCHEMES = ("https", "http", "s3", "gs", "az")
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
# What a pre-signed URL says of who may read and until when, and not of what is read: S3's two
# dialects, GCS's, Azure's, CloudFront's.
_SIGNATURE = re.compile(
    r"x-amz-.*|x-goog-.*|awsaccesskeyid|googleaccessid|signature|expires|policy|key-pair-id"
    r"|sv|ss|srt|sp|se|st|spr|sig|sip|skoid|sktid|skt|ske|sks|skv|token|access_token",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Address:
    """``http`` and ``https`` have a whole ``url``, other schemes a ``bucket`` and a ``key`` too."""

    scheme: str
    url: str
    bucket: str = ""
    key: str = ""

    @property
    def is_bucket(self) -> bool:
        """Whether the file is an object in a bucket (or container), and not at a web server."""
        return self.scheme not in ("http", "https")

    @property
    def identity(self) -> str:
        """The same text for the same file, whoever signed the address and whenever."""
        if self.is_bucket:
            return self.url
        parts = urlsplit(self.url)
        query = [
            pair
            for pair in parse_qsl(parts.query, keep_blank_values=True)
            if not _SIGNATURE.fullmatch(pair[0])
        ]
        host = parts.netloc.rpartition("@")[2].lower()
        return urlunsplit((self.scheme, host, parts.path, urlencode(query), ""))


def is_address(text: str) -> bool:
    """Whether a text is an address, and not a path."""
    return _ADDRESS.match(text) is not None


def parse_address(text: str) -> Address:
    """Return the address that a text spells. Raises ``UsageError``."""
    shown = hidden_url(text)
    scheme = text.partition("://")[0].lower()
    if scheme not in _SCHEMES:
        known = ", ".join(f"{each}://" for each in _SCHEMES if each != "http")
        raise UsageError(f"{shown}: h5fs reads from {known} and from this machine")
    if re.search(r"[\x00-\x1f\x7f]" if scheme[0] != "h" else r"[\x00-\x20\x7f]", text):
        raise UsageError(f"{shown!r}: a space or control character; write it as %20")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise UsageError(f"{shown}: {error}") from None
    if not parts.netloc or not parts.hostname:
        what = "host" if scheme in ("http", "https") else "bucket"
        raise UsageError(f"{shown}: names no {what}")
    url = urlunsplit((scheme, parts.netloc, parts.path, parts.query, ""))
    if scheme in ("http", "https"):
        return Address(scheme, url)
    # A key may have a question mark in it, and a percent sign is one.
    key = text.partition("://")[2].partition("/")[2]
    return Address(scheme, f"{scheme}://{parts.netloc}/{key}", parts.netloc, key)


def hidden_url(text: str) -> str:
    """Return an address as people may see it: no password, and no value in the query."""
    if not is_address(text):
        return text
    scheme, _, rest = text.partition("://")
    rest = rest.partition("#")[0]
    place, question, _ = rest.partition("?")
    host, slash, path = place.partition("/")
    if scheme.lower() not in ("http", "https"):
        return f"{scheme}://{host.rpartition('@')[2]}{slash}{rest.partition('/')[2]}"
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}{'?...' if question else ''}"


def name_of(address: Address) -> str:
    """Return the last part of the path, as a file would be called."""
    path = address.key if address.is_bucket else unquote(urlsplit(address.url).path)
    return path.rstrip("/").rpartition("/")[2] or address.bucket or "data"
