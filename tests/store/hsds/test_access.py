"""Where the service is and who asks: options, then the environment, then `.hscfg`."""

from __future__ import annotations

from pathlib import Path

import pytest

from h5fs.errors import CannotOpenError
from h5fs.store.hsds.access import Access, find_access


def write_settings(folder: Path, **values: str) -> Path:
    folder.mkdir(exist_ok=True)
    lines = [f"{key} = {value}" for key, value in values.items()]
    (folder / ".hscfg").write_text("\n".join(["# HDF Cloud configuration file", *lines, ""]))
    return folder


@pytest.mark.semantics("G2")
def test_what_the_environment_says_stands_above_the_file_and_the_option_above_both(
    tmp_path: Path,
) -> None:
    here = write_settings(
        tmp_path / "here", hs_endpoint="http://file:5101", hs_username="me", hs_password="a=b"
    )
    home = write_settings(tmp_path / "home", hs_endpoint="http://home", hs_username="other")
    assert find_access(None, {}, (here, home)) == Access("http://file:5101", "me", "a=b")
    assert find_access(None, {}, (tmp_path, home)).username == "other"
    environ = {"HS_ENDPOINT": "https://there", "HS_API_KEY": "key"}
    found = find_access(None, environ, (here, home))
    assert (found.endpoint, found.username, found.api_key) == ("https://there", "me", "key")
    assert find_access("http+unix://%2Fs", environ, (here,)).socket_path == "/s"


@pytest.mark.semantics("G2")
def test_no_secret_is_in_what_is_shown() -> None:
    access = Access("http://x", "me", "pass word", "the key")
    assert "pass word" not in repr(access)
    assert "the key" not in repr(access)


@pytest.mark.parametrize(
    "endpoint", ["", "ftp://x", "http://", "x", "http://me:secret@x", "http://[x", "http://x:99999"]
)
def test_what_is_no_endpoint_is_refused_and_a_password_in_it_is_not_shown(endpoint: str) -> None:
    with pytest.raises(CannotOpenError) as raised:
        find_access(endpoint, {}, ())
    assert "secret" not in str(raised.value)
