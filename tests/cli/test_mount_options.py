"""The text of ``-o`` to frozen settings."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from support.pages import ADMINISTRATION

from h5fs.cli.mount_keywords import MountKeywords
from h5fs.cli.mount_options import (
    MOUNT_OPTIONS,
    OTHER_OPTIONS,
    SHOWN_OPTIONS,
    MountOption,
    ParsedOptions,
    is_known,
    parse_options,
)
from h5fs.errors import UsageError
from h5fs.model.settings import (
    ExternalPolicy,
    Limits,
    Locking,
    LogOptions,
    MountOptions,
    NewDatasets,
    StoreOptions,
    View,
)

USUAL = MountOptions(Path("/mnt"), StoreOptions(Path("/f.h5")), LogOptions())
NOTHING = ParsedOptions()


def apply(*texts: str) -> MountOptions:
    return parse_options(texts).apply(USUAL)


@pytest.mark.semantics("M8")
def test_without_options_everything_is_as_by_default() -> None:
    assert parse_options([]) == NOTHING
    assert parse_options(["", ","]) == NOTHING


@pytest.mark.semantics("L5", "M12")
def test_own_options_take_their_values() -> None:
    settings = apply("external=all,locking=best-effort", "log=/x/y", "cache=1M,workers=0")
    assert settings == structs.replace(
        USUAL,
        store=structs.replace(
            USUAL.store, external=ExternalPolicy.ALL, locking=Locking.BEST_EFFORT,
            cache_bytes=2**20, workers=0,
        ),
        log=LogOptions("/x/y"),
    )  # fmt: skip


@pytest.mark.semantics("M8")
def test_options_of_nested_settings_leave_their_neighbours() -> None:
    store = apply("memory=1G,max_depth=7,deadline=0.5,max_chunk=64k", "shuffle,chunks=3x4").store
    assert store.limits == Limits(0.5, 2**30, 2**16, 7)
    assert store.new_datasets == NewDatasets(None, True, (3, 4))
    assert apply("compression=gzip").store.new_datasets == NewDatasets(4)


@pytest.mark.semantics("M8")
@pytest.mark.parametrize(
    ("text", "seconds"),
    [("commit=0", 0), ("commit=0.5", 0.5), ("durability=off", None),
     ("durability=off,commit=3", None), ("commit=3,durability=off", None), ("durability=on", 5)],
)  # fmt: skip
def test_durability_off_means_no_commit_by_the_clock(text: str, seconds: float | None) -> None:
    assert apply(text).store.commit_seconds == seconds


@pytest.mark.semantics("M8")
def test_the_mode_of_fstab_is_that_of_the_mount_and_of_its_store() -> None:
    assert [apply("mode=w-").mode.value, apply("mode=r+").store.mode.value] == ["x", "r+"]


def test_without_options_the_settings_stay() -> None:
    assert apply() == USUAL


def test_a_flag_can_be_taken_back() -> None:
    assert apply("xattr").has_xattrs and not apply("xattr,noxattr").has_xattrs


@pytest.mark.semantics("M8")
def test_options_of_fuse_are_passed_on_in_their_order() -> None:
    parsed = parse_options(["allow_other,uid=7", "umask=077,nonempty"])
    assert list(parsed.fuse.items()) == [
        ("allow_other", None), ("uid", "7"), ("umask", "077"), ("nonempty", None),
    ]  # fmt: skip
    assert parsed.apply(USUAL).fuse == tuple(parsed.fuse.items())


@pytest.mark.semantics("M8")
@pytest.mark.parametrize(
    "option",
    "defaults auto noauto user nouser users nofail _netdev x-systemd.automount "
    "x-gvfs-show comment=hello nosuid nodev relatime".split(),
)
def test_options_of_mount_do_nothing(option: str) -> None:
    assert parse_options([option]) == NOTHING
    assert parse_options([f"uid=1,{option},gid=2"]).fuse == {"uid": "1", "gid": "2"}


@pytest.mark.semantics("M8")
@given(st.text(st.characters(exclude_characters="\0\\", exclude_categories=["Cs"]), min_size=1))
def test_a_value_holds_commas_behind_a_backslash(value: str) -> None:
    place = f"/{value}/x"
    parsed = parse_options(["log=" + place.replace(",", "\\,") + ",uid=1"])
    assert parsed.values == {"log.target": os.path.abspath(place)}
    assert parsed.fuse == {"uid": "1"}


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
def test_views_are_a_list_and_a_wrong_one_is_told_with_all_names() -> None:
    kinds = parse_options(["views=csv,txt,allow_other", "views=txt,png"]).values["views.kinds"]
    assert kinds == {View.TEXT, View.PICTURE}
    assert parse_options(["views=csv,all,xattr"]).values == {
        "views.kinds": frozenset(View), "has_xattrs": True
    }  # fmt: skip
    for option, close in (("views=csv,pgn", "png"), ("views=CSV", "csv"), ("views=tx,csv", "txt")):
        with pytest.raises(UsageError, match=rf"did you mean {close}\? \(csv, png, txt, or all\)"):
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


# --- the table


@pytest.mark.semantics("M22")
def test_each_option_of_the_table_is_known_and_takes_the_values_that_shells_offer() -> None:
    assert len({option.name for option in MOUNT_OPTIONS}) == len(MOUNT_OPTIONS)
    for option in MOUNT_OPTIONS:
        assert is_known(option.name)
        assert option.value is not None or not option.choices
        for choice in option.choices:
            apply(f"{option.name}={choice}")


@pytest.mark.semantics("M22")
def test_the_usual_values_that_help_shows_are_taken_and_change_nothing() -> None:
    shown = 0
    for option in SHOWN_OPTIONS:
        added = option.description.removeprefix(option.help).strip()
        if usual := re.fullmatch(r"\((\S+)\)", added):
            assert apply(f"{option.name}={usual[1]}") == USUAL
            shown += 1
    assert shown == 14


@pytest.mark.semantics("C6")
def test_the_keywords_of_mount_are_the_options_of_the_table() -> None:
    hints = get_type_hints(MountKeywords)
    # The mode is a keyword of its own.
    assert list(hints) == [option.name for option in SHOWN_OPTIONS if option.name != "mode"]
    for option in SHOWN_OPTIONS:
        hint = hints.get(option.name)
        assert (hint is bool) == (option.value is None)
        if get_origin(hint) is Literal:
            assert get_args(hint) == option.choices


def row_of_the_page(option: MountOption) -> str:
    spelling = option.spelling.replace("|", "\\|")
    return f"| `-o {spelling}` | {option.description} |"


@pytest.mark.semantics("M22")
def test_the_table_of_administration_is_this_one() -> None:
    text = ADMINISTRATION.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `-o ")]
    assert rows == [row_of_the_page(option) for option in SHOWN_OPTIONS]
    assert OTHER_OPTIONS in text
