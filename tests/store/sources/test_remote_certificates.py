"""https:// with a certificate of the site's own authority."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import object_server

from h5fs.errors import CannotOpenError
from h5fs.store.sources.interface import read_bytes
from h5fs.store.sources.remote_object import RemoteObject

CONTENT = bytes(range(256)) * 5000
Open = Callable[..., RemoteObject]


def write_certificates(folder: Path) -> None:
    """Write an authority's certificate (ca.pem), and one that it has signed, with its key."""
    pytest.importorskip("cryptography")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def begin(name: str, issuer: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        def named(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder().subject_name(named(name)).issuer_name(named(issuer))
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(
            now + datetime.timedelta(days=10)
        )

    authority, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    constraint = x509.BasicConstraints(ca=True, path_length=None)
    top = begin("tests", "tests", authority).add_extension(constraint, critical=True)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = begin("here", "tests", leaf).add_extension(names, critical=False)
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(top.sign(authority, hashes.SHA256()).public_bytes(pem))
    (folder / "leaf.pem").write_bytes(
        signed.sign(authority, hashes.SHA256()).public_bytes(pem)
        + leaf.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )  # fmt: skip


@pytest.fixture
def secure_url(tmp_path: Path) -> Iterator[str]:
    write_certificates(tmp_path)
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "a.h5").write_bytes(CONTENT)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "leaf.pem")
    with object_server._Server(tmp_path / "served") as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{server.server_address[1]}/a.h5"
        server.shutdown()


@pytest.mark.semantics("Z30")
def test_an_authority_of_the_site_is_trusted_where_it_is_named(
    secure_url: str, open_remote: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CannotOpenError, match="certificate is not trusted"):
        open_remote("", url=secure_url)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    source = open_remote("", url=secure_url)
    assert read_bytes(source, 0, len(CONTENT)) == CONTENT
