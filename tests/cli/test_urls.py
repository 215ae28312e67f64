"""URLs where the command line takes a file: which are refused, and what others see of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from h5fs.cli import main
from h5fs.cli.commands import mount
from h5fs.cli.file_arguments import split_place
from h5fs.errors import CannotOpenError, UsageError
from h5fs.model.location import Url
from h5fs.model.settings import Mode, MountOptions, StoreOptions
from h5fs.store.schemes import Scheme, check_url_options, find_scheme


def _never(*_arguments: object) -> None:
    raise AssertionError


@pytest.mark.semantics("Z40")
def test_a_url_reaches_the_mount_as_it_was_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[MountOptions] = []
    monkeypatch.setattr(mount, "mount", given.append)
    text = "https://host//a.h5?key=1"
    assert main.main([text, str(tmp_path)]) == 0
    assert given[0].store.url == Url(text)
    assert not given[0].is_folder
    with pytest.raises(AssertionError):
        _ = given[0].store.file


@pytest.mark.semantics("Z40")
def test_a_url_that_is_none_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for words in (["https://", str(tmp_path)], ["check", "s3:///x"], ["cat", "s3:///x?secret:/y"]):
        assert main.main(words) == 2
        said = capsys.readouterr().err
        assert "must name a host" in said
        assert "secret" not in said


@pytest.mark.semantics("Z40")
@pytest.mark.parametrize("words", [["{}", "{}"], ["tree"], ["cat"], ["check"]])
def test_an_unknown_scheme_is_refused_before_anything_starts(
    words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for text, why in (("gopher://h/x.h5?secret", "no gopher://"), ("file:///x.h5", "by its path")):
        given = [text, str(tmp_path)] if words[0] == "{}" else [*words, text]
        assert main.main(given) == 1
        said = capsys.readouterr().err
        assert why in said
        assert "secret" not in said
        assert said.count("\n") == 1


@pytest.mark.semantics("Z40")
def test_a_mode_that_writes_and_a_missing_package_are_refused() -> None:
    schemes = {
        "r": Scheme(_never),  # type: ignore[arg-type]
        "w": Scheme(_never, modes=frozenset(Mode)),  # type: ignore[arg-type]
        "m": Scheme(_never, "h5fs_no_such_package"),  # type: ignore[arg-type]
    }
    assert find_scheme(Url("r://x"), Mode.READ, schemes) is schemes["r"]
    assert find_scheme(Url("w://x"), Mode.UPDATE, schemes) is schemes["w"]
    for mode in set(Mode) - {Mode.READ}:
        with pytest.raises(CannotOpenError, match="read-only"):
            find_scheme(Url("r://x"), mode, schemes)
    with pytest.raises(CannotOpenError, match=r"pip install 'h5fs\[remote\]'"):
        find_scheme(Url("m://x"), Mode.READ, schemes)


@pytest.mark.semantics("Z40")
def test_options_that_a_url_cannot_have_are_refused() -> None:
    url = Url("https://host/a.h5")
    check_url_options(url, StoreOptions(url))
    with pytest.raises(CannotOpenError, match="-o workers=0"):
        check_url_options(url, StoreOptions(url, workers=0))
    with pytest.raises(CannotOpenError, match="-o swmr"):
        check_url_options(url, StoreOptions(url, is_swmr=True))


@pytest.mark.semantics("Z40")
def test_a_place_in_a_url_begins_behind_its_host() -> None:
    assert split_place("https://h:80/a.h5:/x/y") == (Url("https://h:80/a.h5"), b"/x/y")
    assert split_place("s3://b/a.h5") == (Url("s3://b/a.h5"), b"/")
    with pytest.raises(UsageError):
        split_place("s3://:/x")


@pytest.mark.semantics("Z41")
def test_no_secret_stays_in_the_process_list() -> None:
    program = (
        "import sys; from h5fs.cli.main import main; status = main();"
        "print(open('/proc/self/cmdline', 'rb').read()); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "tree", "gopher://me:secret@h/x.h5?secret=1:/y"],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert "gopher://h/x.h5" in done.stdout
    assert "secret" not in done.stdout + done.stderr
