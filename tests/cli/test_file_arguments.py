"""``FILE:/GROUP``: what of it is the file, and what the group."""

from __future__ import annotations

from pathlib import Path

import pytest

from h5fs.cli.file_arguments import absolute, split_mounted, split_place
from h5fs.model.location import Url


@pytest.mark.semantics("P1")
def test_a_part_begins_at_the_colon_behind_a_file_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("f.h5", "e.h5", "e.h5:/g", "whole:/x.h5"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    for text, file, part in (
        ("f.h5", "f.h5", b""),
        ("f.h5:/", "f.h5", b""),
        ("f.h5:/a//b/./", "f.h5", b"/a/b"),
        ("f.h5:/a.npy/b", "f.h5", b"/a%2Enpy/b"),
        ("f.h5:/a%2Enpy/%41", "f.h5", b"/a%2Enpy/%2541"),
        ("f.h5:/a:/b", "f.h5", b"/a:/b"),
        ("e.h5:/g", "e.h5:/g", b""),  # a file in a folder of that name
        ("whole:/x.h5", "whole:/x.h5", b""),
        ("whole:/x.h5:/g", "whole:/x.h5", b"/g"),
        ("e.h5:/other", "e.h5", b"/other"),
        ("whole:/new.h5", "whole:/new.h5", b""),
        ("new.h5:/g", "new.h5", b"/g"),
        ("f.h5:g", "f.h5:g", b""),
        ("f.h5://", "f.h5", b""),
        ("f.h5://a/b", "f.h5", b"/a/b"),  # no URL, since there is such a file
    ):
        assert split_mounted(text) == (Path(file), part), text


@pytest.mark.semantics("P1")
def test_a_part_of_a_url_begins_at_the_first_colon_and_slash_behind_its_host() -> None:
    for text, url, part in (
        ("https://h:80/f.h5", "https://h:80/f.h5", b""),
        ("https://h:80/f.h5:/a/b", "https://h:80/f.h5", b"/a/b"),
        ("https://h/f.h5?next=http://x/y", "https://h/f.h5?next=http://x/y", b""),
        ("https://h/f.h5?next=http://x/y:/a", "https://h/f.h5?next=http://x/y", b"/a"),
        ("hdf5://home/me/f.h5:/a", "hdf5://home/me/f.h5", b"/a"),
        ("s3://bucket/folder/", "s3://bucket/folder/", b""),
    ):
        assert split_mounted(text) == (Url(url), part)
        assert split_place(text) == (Url(url), part or b"/")


def test_two_dots_behind_a_symbolic_link_lead_where_the_kernel_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real" / "sub").mkdir(parents=True)
    Path("link").symlink_to("real/sub")
    for file in (Path("x.h5"), Path("real/x.h5")):
        file.touch()
    assert absolute(Path("real/../x.h5")) == tmp_path / "x.h5"
    assert absolute(Path("link/../new.h5")).parent.samefile("real")
    assert absolute(Path("link/../x.h5")).samefile("real/x.h5")
    assert absolute(Url("s3://bucket/a/../b")) == Url("s3://bucket/a/../b")
