"""What ``~/.aws/config`` and ``~/.aws/credentials`` say, which the transport's library never reads.

Environment variables go before a profile, as with Amazon's own programs, and a profile that the
user has named goes before both.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from h5fs.errors import CannotOpenError


@dataclass(frozen=True, slots=True)
class AwsProfile:
    """A profile; None for what it does not set.

    ``needs_boto3``: its credentials come from a login, a role or a program, which boto3 knows.
    """

    name: str
    access_key: str | None = None
    secret_key: str | None = None
    token: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    needs_boto3: bool = False


_BY_LOGIN = ("sso_session", "sso_start_url", "role_arn", "credential_process", "source_profile")


def read_profile(asked: str | None, environment: Mapping[str, str] = os.environ) -> AwsProfile:
    """Return the profile of that name, or else the one that the environment names.

    Raises ``CannotOpenError``: there is none of that name, or the files make no sense.
    """
    named = asked or environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE")
    name = named or "default"
    config = _read(environment.get("AWS_CONFIG_FILE") or "~/.aws/config")
    secrets = _read(environment.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials")
    section = name if name == "default" and "default" in config else f"profile {name}"
    found = dict(config[section]) if section in config else {}
    found |= dict(secrets[name]) if name in secrets else {}
    if not found and named:
        raise CannotOpenError(f"there is no profile {name} in ~/.aws (AWS_PROFILE, -o profile=)")
    services = f"services {found.get('services', '')}"
    if "endpoint_url" not in found and services in config:
        found["endpoint_url"] = _nested(config[services].get("s3", "")).get("endpoint_url", "")
    has_keys = "aws_access_key_id" in found and "aws_secret_access_key" in found
    return AwsProfile(
        name,
        found.get("aws_access_key_id") if has_keys else None,
        found.get("aws_secret_access_key") if has_keys else None,
        found.get("aws_session_token") if has_keys else None,
        found.get("region") or None,
        found.get("endpoint_url") or None,
        needs_boto3=not has_keys and any(key in found for key in _BY_LOGIN),
    )


def _read(path: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(default_section="")
    file = Path(path).expanduser()
    try:
        parser.read_string(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no file of settings"
        raise CannotOpenError(f"{file}: {reason}") from None
    return parser


def _nested(text: str) -> dict[str, str]:
    """Return the settings that stand indented below a setting without a value."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}
