"""Where a data service is, and who asks it: from options, the environment and ``.hscfg``.

As in the service's own tools, the environment counts more than the file, and ``./.hscfg`` more than
``~/.hscfg``. Secrets stay in here: no message, log line or ``repr`` has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from h5fs.errors import CannotOpenError

_KEYS: Final = ("hs_endpoint", "hs_username", "hs_password", "hs_api_key", "hs_bucket")
_MOST_FILE_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Access:
    """``endpoint`` is ``http://HOST[:PORT]``, ``https://...`` or ``http+unix://%2Fpath``."""

    endpoint: str
    username: str = ""
    password: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)
    bucket: str = ""

    @property
    def socket_path(self) -> str | None:
        """The path of a Unix socket; None for a host."""
        parts = urlsplit(self.endpoint)
        return unquote(parts.netloc) if parts.scheme == "http+unix" else None

    @property
    def who(self) -> str:
        """The user, for messages."""
        return self.username or ("the owner of the API key" if self.api_key else "nobody")


def find_access(
    endpoint: str | None, environ: Mapping[str, str], folders: tuple[Path, ...]
) -> Access:
    """Return how to reach the service.

    Parameters: ``endpoint`` is the user's option, or None; ``folders`` are those in which a
    ``.hscfg`` is looked for; the first one counts. Raises ``CannotOpenError``.
    """
    found = _read_settings(folders)
    for key in _KEYS:
        found[key] = environ.get(key.upper(), found.get(key, ""))
    access = Access(
        (endpoint or found["hs_endpoint"]).rstrip("/"), found["hs_username"],
        found["hs_password"], found["hs_api_key"], found["hs_bucket"],
    )  # fmt: skip
    if not access.endpoint:
        raise CannotOpenError(
            "no data service is named: -o endpoint=http://HOST:PORT, or HS_ENDPOINT, or a line "
            "hs_endpoint = ... in ~/.hscfg (hsconfigure writes one)"
        )
    _check_endpoint(access.endpoint)
    return access


def _check_endpoint(endpoint: str) -> None:
    if "@" in endpoint:
        raise CannotOpenError(
            "an endpoint with a user name in it, which others could see: use HS_USERNAME and "
            "HS_PASSWORD, or ~/.hscfg"
        )
    try:
        parts = urlsplit(endpoint)
        is_known = parts.scheme == "http+unix" or (
            parts.scheme in ("http", "https") and parts.port != 0
        )
    except ValueError:
        is_known = False
    if not is_known or not parts.netloc:
        raise CannotOpenError(
            f"{endpoint!r:.200} is no endpoint: http://HOST:PORT, https://HOST, or for a socket "
            "http+unix://%2Fpath%2Fof%2Fthe%2Fsocket"
        )


def _read_settings(folders: tuple[Path, ...]) -> dict[str, str]:
    for folder in folders:
        file = folder / ".hscfg"
        try:
            with file.open(encoding="utf-8", errors="replace") as opened:
                lines = opened.read(_MOST_FILE_BYTES).splitlines()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise CannotOpenError(f"{file}: {error.strerror}") from None
        pairs = (line.partition("=") for line in map(str.strip, lines) if not line.startswith("#"))
        return {key.strip(): value.strip() for key, equals, value in pairs if equals}
    return {}
