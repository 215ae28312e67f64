"""How objects at each kind of server are reached: addresses, regions, credentials, proxies.

Credentials come from where the programs of that server take them from: ``AWS_...`` and ``~/.aws``,
``GOOGLE_APPLICATION_CREDENTIALS``, ``AZURE_...``. None is ever an option, since others can see
those. Proxies (``HTTPS_PROXY``, ``NO_PROXY``) and ``SSL_CERT_FILE`` are the library's own matter.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from h5fs.errors import CannotOpenError
from h5fs.model.location import Url
from h5fs.model.settings import RemoteOptions
from h5fs.store.sources.aws_profile import AwsProfile, read_profile
from h5fs.store.sources.object_names import WEB_SCHEMES, identity_of, split_bucket
from h5fs.store.sources.redirects import has_proxy, only_host, split_user
from h5fs.store.sources.transport import BAD_NAME, Transport

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_MOST_SILENCE_SECONDS = 15.0
_MISSING = "files on other machines need the obstore package: pip install 'h5fs[remote]'"
# Where credentials of machines in a cloud come from.
_METADATA_HOSTS = ("169.254.0.0/16", "fd00:ec2::/32", "127.0.0.1", "localhost")
_AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn", *_METADATA_HOSTS)
_GOOGLE_HOSTS = (".googleapis.com", "metadata.google.internal", "metadata", *_METADATA_HOSTS)
_AZURE_HOSTS = (
    ".windows.net", ".azure.net", ".azure.com", ".microsoftonline.com", ".chinacloudapi.cn",
    *_METADATA_HOSTS,
)  # fmt: skip


def open_transport(url: Url, options: RemoteOptions) -> tuple[Transport, str]:
    """Return what asks for ranges of an object, and a text that is this object's alone.

    Asks for nothing yet. Raises ``CannotOpenError``.
    """
    if url.scheme in WEB_SCHEMES:
        with _explained(url):
            return _open_web(url, _silence_of(options)), identity_of(url, None)
    _, key = split_bucket(url)
    if key != key.strip("/"):  # the library would ask for the key without the slashes
        raise CannotOpenError(f"{url}: {BAD_NAME}")
    store, endpoint = open_bucket(url, options)
    return Transport(store, key, _silence_of(options)), identity_of(url, endpoint)


def open_bucket(url: Url, options: RemoteOptions) -> tuple[ObjectStore, str]:
    """Return the bucket that a URL names, and the server that speaks for it.

    Asks for nothing yet. Raises ``CannotOpenError``.
    """
    with _explained(url):
        opening = {"s3": _open_s3, "gs": _open_gcs, "az": _open_azure}[url.scheme]
        return opening(split_bucket(url)[0], options, _silence_of(options))


def _silence_of(options: RemoteOptions) -> float:
    return min(options.timeout_seconds / 4, _MOST_SILENCE_SECONDS)


@contextmanager
def _explained(url: Url) -> Iterator[None]:
    """Raise ``CannotOpenError`` for errors of the library, whose texts may have secrets in them."""
    try:
        yield
    except CannotOpenError as error:
        raise CannotOpenError(f"{url}: {error}") from None
    except ImportError:
        raise CannotOpenError(f"{url}: {_MISSING}") from None
    except Exception as error:
        raise CannotOpenError(
            f"{url}: the settings for {url.scheme}:// make no sense ({type(error).__name__})"
        ) from None


def _common(silence_seconds: float, *hosts: str) -> dict[str, Any]:
    """Return the settings of every client, which reaches these hosts alone."""
    client: dict[str, Any] = {
        "allow_http": True,
        "connect_timeout": "5s",
        "read_timeout": f"{int(silence_seconds * 1000)}ms",
        "timeout": "1day",  # of a whole answer, however long; silence ends it
    }
    if not has_proxy():
        client |= only_host(*hosts)
    # The fetcher tries again; and only it knows how long.
    return {"client_options": client, "retry_config": {"max_retries": 0}}


def _open_web(url: Url, silence_seconds: float) -> Transport:
    def open_at(text: str) -> ObjectStore:
        from obstore.store import HTTPStore

        settings = _common(silence_seconds, urlsplit(text).hostname or "")
        host, authorization = split_user(text)
        if authorization:  # the library takes none out of a URL
            settings["client_options"]["default_headers"] = {"authorization": authorization}
        return HTTPStore.from_url(host, **settings)

    return Transport(
        open_at(url.text), "", silence_seconds,
        reopen=open_at, url=url.text, is_redirected=has_proxy(),
    )  # fmt: skip


def _open_s3(
    bucket: str, options: RemoteOptions, silence_seconds: float
) -> tuple[ObjectStore, str]:
    from obstore.store import S3Store

    has_variables = "AWS_ACCESS_KEY_ID" in os.environ and options.profile is None
    profile = AwsProfile("") if has_variables else read_profile(options.profile)
    endpoint = (
        options.endpoint_url
        or (options.profile and profile.endpoint_url)
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or profile.endpoint_url
    )
    region = (
        options.region
        or (options.profile and profile.region)
        or os.environ.get("AWS_REGION")
        or os.environ.get("AWS_DEFAULT_REGION")
        or profile.region
        or "us-east-1"
    )
    settings = _common(silence_seconds, urlsplit(endpoint or "").hostname or "", *_AWS_HOSTS)
    settings["region"] = region
    if endpoint:
        settings["endpoint"] = endpoint.rstrip("/")
    if options.is_anonymous:
        settings["skip_signature"] = True
    elif profile.needs_boto3:
        settings["credential_provider"] = _ask_boto3(profile.name)
    elif profile.access_key and profile.secret_key:
        settings |= {
            "access_key_id": profile.access_key, "secret_access_key": profile.secret_key,
        }  # fmt: skip
        if profile.token:
            settings["session_token"] = profile.token
    elif not has_variables and _has_no_credentials():
        raise CannotOpenError(_NO_CREDENTIALS)
    return S3Store(bucket, **settings), endpoint or ""


_NO_CREDENTIALS = (
    "there are no credentials: set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
    "use -o anon for a public file"
)


def _has_no_credentials() -> bool:
    """Whether nobody could give any: the environment forbids to ask the machine's cloud."""
    ways = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI")  # fmt: skip
    is_off = os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"
    return is_off and not any(way in os.environ for way in ways)


def _ask_boto3(profile: str) -> Callable[[], Any]:
    try:
        import boto3
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        raise CannotOpenError(
            f"the profile {profile} takes its credentials from a login, a role or a program: "
            "pip install boto3"
        ) from None
    try:
        provider: Callable[[], Any] = Boto3CredentialProvider(boto3.Session(profile_name=profile))
    except Exception as error:
        raise CannotOpenError(
            f"the profile {profile} gives no credentials ({type(error).__name__}); log in: "
            f"aws sso login --profile {profile}"
        ) from None
    return provider


def _open_gcs(
    bucket: str, options: RemoteOptions, silence_seconds: float
) -> tuple[ObjectStore, str]:
    from obstore.store import GCSStore

    endpoint = options.endpoint_url or ""
    settings = _common(silence_seconds, urlsplit(endpoint).hostname or "", *_GOOGLE_HOSTS)
    if endpoint:
        settings["base_url"] = endpoint.rstrip("/")
    if options.is_anonymous:
        settings["skip_signature"] = True
    return GCSStore(bucket, **settings), endpoint


def _open_azure(
    container: str, options: RemoteOptions, silence_seconds: float
) -> tuple[ObjectStore, str]:
    from obstore.store import AzureStore

    endpoint = options.endpoint_url or os.environ.get("AZURE_STORAGE_ENDPOINT", "")
    others = (endpoint, os.environ.get("IDENTITY_ENDPOINT", ""))
    hosts = [urlsplit(other).hostname or "" for other in others]
    settings = _common(silence_seconds, *hosts, *_AZURE_HOSTS)
    if endpoint:
        settings["endpoint"] = endpoint.rstrip("/")
    if options.is_anonymous:
        settings["skip_signature"] = True
    account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", "")
    return AzureStore(container, **settings), f"{endpoint} {account}"
