"""What is a URL and what is a path, and what of a URL others may see."""

from __future__ import annotations

from pathlib import Path

import pytest

from h5fs.model.location import Url, parse_location


@pytest.mark.semantics("Z40")
@pytest.mark.parametrize(
    "text", ["https://host/a.h5", "HTTP://host:8080/", "s3://bucket", "hdf5://home/x.h5", "x+y://z"]
)
def test_a_scheme_begins_a_url(text: str) -> None:
    assert parse_location(text) == Url(text)


@pytest.mark.semantics("Z40")
@pytest.mark.parametrize(
    "text", ["a.h5", "./https://host/a.h5", "a://"[1:], "https:/host", "1s://h"]
)
def test_everything_else_is_a_path(text: str) -> None:
    assert parse_location(text) == Path(text)


@pytest.mark.semantics("Z40")
@pytest.mark.parametrize(
    "text", ["https://", "s3:///key", "http://a b/", "http://h/\n", "http://["]
)
def test_what_begins_as_a_url_and_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        parse_location(text)


@pytest.mark.semantics("Z41")
def test_others_see_neither_the_query_nor_a_password() -> None:
    url = Url("https://me:secret@host:1/a/b%20c.h5?X-Amz-Signature=secret#secret")
    for text in (str(url), repr(url), f"{url}", url.shown, url.name):
        assert "secret" not in text
    assert url.shown == "https://host:1/a/b%20c.h5"


def test_a_url_that_ends_in_a_slash_is_a_folder() -> None:
    assert [Url(f"s3://b{path}").is_folder for path in ("", "/", "/p/", "/p/f.h5", "/p/?x=/y")] == [
        True, True, True, False, True,
    ]  # fmt: skip
    assert [Url(text).name for text in ("s3://b", "s3://b/p/", "s3://b/p/f.h5?x")] == [
        "b", "p", "f.h5",
    ]  # fmt: skip


def test_a_key_is_shown_as_it_is_but_for_what_may_be_a_signature() -> None:
    url = Url("s3://bucket/a b/run#2 100%é.h5")
    assert url.shown == url.text
    assert url.name == "run#2 100%é.h5"
    assert Url("az://me:secret@b/c.h5?sig=secret").shown == "az://b/c.h5"
    assert Url("s3://b/a\n.h5").shown == "s3://b/a%0A.h5"  # a line of the log stays one line
