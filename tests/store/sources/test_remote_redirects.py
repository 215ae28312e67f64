"""Redirects: another host gets the request, and nothing that was meant for the first one."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.object_server import ObjectServer

from h5fs.errors import CannotOpenError
from h5fs.model.location import Url
from h5fs.model.settings import RemoteOptions
from h5fs.store.sources.interface import read_bytes
from h5fs.store.sources.redirects import RedirectError, follow
from h5fs.store.sources.remote_files import RemoteFiles
from h5fs.store.sources.remote_object import RemoteObject

MIB = 2**20
CONTENT = random.Random(5).randbytes(3 * MIB)
Open = Callable[..., RemoteObject]


@pytest.fixture
def other(tmp_path: Path) -> Iterator[ObjectServer]:
    """A server at another host: localhost is not 127.0.0.1 by name."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "a.h5").write_bytes(CONTENT)
    with ObjectServer(tmp_path / "served") as server:
        yield server


def address_of(other: ObjectServer) -> str:
    return f"http://localhost:{other.port}/a.h5"


@pytest.mark.semantics("Z14")
def test_another_host_is_read_and_learns_no_secret(
    open_remote: Open, server: ObjectServer, other: ObjectServer
) -> None:
    server.set(fault=f"redirect:-1:{address_of(other)}?token=FRESH")
    url = f"http://user:PASSWORD@127.0.0.1:{server.port}/a.h5?X-Amz-Signature=SECRET"
    source = open_remote("", url=url)
    assert read_bytes(source, 0, 3 * MIB) == CONTENT
    for request in other.counts()["seen"]:
        assert "SECRET" not in str(request)
        assert "referer" not in request[2]
        assert "authorization" not in request[2]
        assert request[1] == "/a.h5?token=FRESH"
    password = base64.b64encode(b"user:PASSWORD").decode()
    assert all(
        request[2].get("authorization") == f"Basic {password}"
        for request in server.counts()["seen"]
    )


@pytest.mark.semantics("Z14")
def test_where_a_url_leads_is_asked_again_when_access_has_expired(
    open_remote: Open, server: ObjectServer, other: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("h5fs.store.sources.transport._FOLLOWED_FOR_SECONDS", 0.0)
    server.set(fault=f"redirect:-1:{address_of(other)}?token=first")
    source = open_remote("a.h5")
    server.set(fault=f"redirect:-1:{address_of(other)}?token=second")
    other.set(token="second")
    assert read_bytes(source, 0, 3 * MIB) == CONTENT


@pytest.mark.semantics("Z14")
@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://localhost/a.h5", "gopher://x/"])
def test_no_file_of_this_machine_is_read(
    open_remote: Open, server: ObjectServer, target: str
) -> None:
    server.set(fault=f"redirect:-1:{target}")
    with pytest.raises(CannotOpenError, match=r"302|no web server"):
        open_remote("a.h5")
    with pytest.raises(RedirectError, match="from http:// to"):
        follow(f"{server.url}/a.h5", 5.0)


@pytest.mark.semantics("Z14")
def test_redirects_in_circles_end(
    open_remote: Open, server: ObjectServer, other: ObjectServer
) -> None:
    server.set(fault=f"redirect:-1:{address_of(other)}")
    other.set(fault=f"redirect:-1:{server.url}/a.h5")
    with pytest.raises(CannotOpenError, match="circles"):
        open_remote("a.h5")


@pytest.mark.semantics("Z14")
def test_behind_a_proxy_a_url_is_followed_before_anything_is_read(
    open_remote: Open, server: ObjectServer, other: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    server.set(fault=f"redirect:-1:{address_of(other)}")
    source = open_remote("a.h5?sig=SECRET")
    assert read_bytes(source, 0, 3 * MIB) == CONTENT
    assert server.counts()["requests"] == 1
    assert "SECRET" not in str(other.counts()["seen"])


@pytest.mark.semantics("Z14")
def test_an_object_store_sends_nobody_to_another_host(
    server: ObjectServer, other: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ACCESS_KEY_ID": "AK", "SECRET_ACCESS_KEY": "SK",
                        "SESSION_TOKEN": "TOKEN"}.items():  # fmt: skip
        monkeypatch.setenv(f"AWS_{name}", value)
    other_host = f"http://other-host.invalid:{other.port}"
    server.set(fault=f"redirect:-1:{other_host}/bucket/a.h5")
    options = RemoteOptions(
        cache_folder=tmp_path / "c", endpoint_url=server.url, timeout_seconds=1.0
    )
    files = RemoteFiles(options)
    with pytest.raises(CannotOpenError, match="to another host"):
        files.open(Url("s3://bucket/a.h5"))
    files.close()
    assert other.counts()["requests"] == 0


def test_a_proxy_is_used(
    open_remote: Open, server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (server.folder / "a.h5").write_bytes(CONTENT)
    monkeypatch.setenv("HTTP_PROXY", server.url)
    with pytest.raises(CannotOpenError):
        open_remote("", url="http://far-away.invalid/a.h5", timeout_seconds=1.0)
    assert "http://far-away.invalid/a.h5" in {r[1] for r in server.counts()["seen"]}
