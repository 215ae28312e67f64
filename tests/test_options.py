"""The text of ``-o`` to frozen settings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5fs.errors import UsageError
from h5fs.options import ExternalPolicy, Locking, ParsedOptions, parse_options

NOTHING = ParsedOptions(
    external=ExternalPolicy.FOLDER, locking=Locking.DEFAULT, log=None, has_xattrs=False, fuse=()
)


@pytest.mark.semantics("M8")
def test_without_options_everything_is_as_by_default() -> None:
    assert parse_options([]) == NOTHING
    assert parse_options(["", ","]) == NOTHING


@pytest.mark.semantics("L5", "M12")
def test_own_options_take_their_values() -> None:
    parsed = parse_options(["external=all,locking=best-effort", "log=/x/y"])
    assert parsed.external is ExternalPolicy.ALL
    assert parsed.locking is Locking.BEST_EFFORT
    assert parsed.log == "/x/y"


@pytest.mark.semantics("M8")
def test_options_of_fuse_are_passed_on_in_their_order() -> None:
    parsed = parse_options(["allow_other,uid=7", "umask=077,nonempty"])
    assert parsed.fuse == (
        ("allow_other", None), ("uid", "7"), ("umask", "077"), ("nonempty", None),
    )  # fmt: skip


@pytest.mark.semantics("M8")
@pytest.mark.parametrize(
    "option",
    "defaults auto noauto user nouser users nofail _netdev rw x-systemd.automount "
    "x-gvfs-show comment=hello nosuid nodev relatime".split(),
)
def test_options_of_mount_do_nothing(option: str) -> None:
    assert parse_options([option]) == NOTHING
    assert parse_options([f"uid=1,{option},gid=2"]).fuse == (("uid", "1"), ("gid", "2"))


@pytest.mark.semantics("M8")
@given(st.text(st.characters(exclude_characters="\0\\", exclude_categories=["Cs"]), min_size=1))
def test_a_value_holds_commas_behind_a_backslash(value: str) -> None:
    text = "log=" + value.replace(",", "\\,") + ",uid=1"
    parsed = parse_options([text])
    assert parsed.log == value
    assert parsed.fuse == (("uid", "1"),)


@pytest.mark.parametrize("option", ["external=none", "uid=1"])
def test_the_last_of_several_counts(option: str) -> None:
    name = option.partition("=")[0]
    parsed = parse_options([f"{name}=all" if name == "external" else f"{name}=5", option])
    assert parsed == parse_options([option])


@pytest.mark.semantics("M7")
@pytest.mark.parametrize(
    "option",
    [
        "nonsense", "nonsense=1", "external", "external=", "external=some", "locking=maybe",
        "log", "log=", "uid", "umask", "allow_other=1", "nonempty=yes", "default",
        "ro=1", " uid=1", "UID=1",
    ],
)  # fmt: skip
def test_an_option_that_nobody_knows_is_wrong_usage(option: str) -> None:
    with pytest.raises(UsageError, match=option.partition("=")[0].strip()):
        parse_options([option])


@pytest.mark.semantics("M7")
@pytest.mark.parametrize("option", ["uid=", "umask=", "fsname=", "uid=root", "umask=9", "gid=-x"])
def test_a_value_that_an_option_of_fuse_does_not_take_is_wrong_usage(option: str) -> None:
    with pytest.raises(UsageError):
        parse_options([option])


@pytest.mark.semantics("M7")
def test_the_subtype_is_not_for_the_user_since_umount_knows_mounts_by_it() -> None:
    with pytest.raises(UsageError):
        parse_options(["subtype=other"])
