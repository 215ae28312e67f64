"""Which object a URL names, at ``https://``, ``s3://``, ``gs://`` and ``az://``.

A URL may carry secrets: whatever people can see has ``Url.shown`` instead.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from h5fs.model.location import Url

WEB_SCHEMES: Final = ("https", "http")

# What a pre-signed URL says of who may read and until when, and not of what is read: S3's two
# dialects, GCS's, Azure's, CloudFront's.
_SIGNATURE = re.compile(
    r"x-amz-.*|x-goog-.*|awsaccesskeyid|googleaccessid|signature|expires|policy|key-pair-id"
    r"|sv|ss|srt|sp|se|st|spr|sig|sip|skoid|sktid|skt|ske|sks|skv|token|access_token",
    re.IGNORECASE,
)


def split_bucket(url: Url) -> tuple[str, str]:
    """Return bucket (Azure's container) and key; any character may stand in a key."""
    bucket, _, key = url.text.partition("://")[2].partition("/")
    return bucket, key


def identity_of(url: Url, endpoint: str | None) -> str:
    """Return the same text for the same object, whoever signed the URL and whenever.

    ``endpoint``: the server that speaks for a bucket; None for the usual one.
    """
    if url.scheme not in WEB_SCHEMES:
        bucket, key = split_bucket(url)
        return f"{endpoint or ''} {url.scheme}://{bucket}/{key}"
    parts = urlsplit(url.text)
    query = [
        pair
        for pair in parse_qsl(parts.query, keep_blank_values=True)
        if not _SIGNATURE.fullmatch(pair[0])
    ]
    host = parts.netloc.rpartition("@")[2].lower()
    return urlunsplit((url.scheme, host, parts.path, urlencode(query), ""))
