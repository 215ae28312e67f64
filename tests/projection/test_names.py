"""Link names to dentry names: injective, reversible, fit for POSIX."""

from __future__ import annotations

import hashlib
import itertools
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from h5fs.model.settings import View
from h5fs.projection.names import (
    NAME_MAX,
    DentryName,
    Projection,
    decode_name,
    decode_view_name,
    encode_name,
    find_cut_names,
    is_listable,
)

FRAGMENTS = st.one_of(
    st.sampled_from(
        [
            b".npy", b".values", b".offsets", b".values.npy", b".attrs.json", b".dtype.json",
            b"external:", b"external%3A", b":", b"%3A",
            b".", b"..", b"%", b"%2", b"%2E", b"%2e", b"%25", b"%41", b"%0A", b"%FF", b"2E",
            b"~0123456789ab", b"~0123456789AB", b"~", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\n",
            b"\x7f", b"\x01", b" ", b"\\", "é".encode(), "é".encode(), "\x85".encode(),
            "\u2028".encode(), "😀".encode(), b"a", b"A", b"x" * 60, b"x" * 235, b"x" * 250,
            "€".encode() * 80, b"\xfe" * 80, b"%" * 100,
        ]
    ),
    st.binary(min_size=1, max_size=6),
    st.text(max_size=6).map(lambda text: text.encode("utf-8", "replace")),
)  # fmt: skip
ANY_BYTES = st.lists(FRAGMENTS, min_size=1, max_size=6).map(b"".join)
LINK_NAMES = ANY_BYTES.map(lambda name: name.replace(b"/", b"").replace(b"\0", b"")).filter(
    is_listable
)
NO_SLASH_NO_NUL = bytes.maketrans(b"/\0", b"xy")
FILES = list(Projection)
PROJECTIONS = st.sampled_from(FILES)
ALL_VIEWS = list(View)


@pytest.mark.semantics("N3")
@given(st.lists(LINK_NAMES, max_size=8, unique=True))
def test_two_links_never_have_the_same_dentry_whatever_their_kinds(names: list[bytes]) -> None:
    # Dentries are the likeliest link names to be taken for other links' dentries.
    dentries = [encode_name(name, kind) for name in names for kind in FILES]
    all_names = set(names) | {dentry for dentry in dentries if is_listable(dentry)}
    pairs = {(name, kind) for name in all_names for kind in FILES}
    assert len({encode_name(name, kind) for name, kind in pairs}) == len(pairs)


@given(LINK_NAMES, PROJECTIONS)
@example(b"..", Projection.FOLDER)
@example(b"x" * 255, Projection.FOLDER)
@example(b"x" * 251, Projection.ARRAY)
@example(b"x" * 242 + b"~0123456789ab", Projection.FOLDER)
def test_a_dentry_decodes_to_its_link_or_is_cut(name: bytes, kind: Projection) -> None:
    found = decode_name(encode_name(name, kind))
    assert found in (DentryName(kind, name), DentryName(kind, None))


@given(LINK_NAMES, PROJECTIONS)
def test_only_a_name_that_is_too_long_or_looks_cut_is_cut(name: bytes, kind: Projection) -> None:
    found = decode_name(encode_name(name, kind))
    assert found is not None
    if found.link_name is None:
        assert len(name) > 70  # no byte takes more than three, no escape is longer


@given(LINK_NAMES, PROJECTIONS)
def test_a_dentry_is_what_posix_takes(name: bytes, kind: Projection) -> None:
    dentry = encode_name(name, kind)
    assert 1 <= len(dentry) <= NAME_MAX
    assert dentry not in (b".", b"..")
    assert b"/" not in dentry
    assert dentry.endswith(kind.value)
    text = dentry.decode("utf-8")
    assert not [c for c in text if unicodedata.category(c) == "Cc"]


@pytest.mark.semantics("N7")
@given(ANY_BYTES)
@example(b"%41")
@example(b"%2e%2E")
@example(b"x.npy")
@example(b".npy")
def test_a_link_has_one_spelling(dentry: bytes) -> None:
    found = decode_name(dentry)
    if found is not None and found.link_name is not None:
        assert encode_name(found.link_name, found.projection) == dentry


@pytest.mark.semantics("N8")
@given(st.lists(FRAGMENTS | st.sampled_from([b"%00", b"%2F", b"%2E"]), max_size=4).map(b"".join))
@example(b"a%00b")
@example(b"%2E")
def test_no_dentry_stands_for_a_name_that_hdf5_cannot_have(stem: bytes) -> None:
    for kind in FILES:
        found = decode_name(stem + kind.value)
        assert found is None or found.link_name is None or is_listable(found.link_name)


@pytest.mark.semantics("N3", "N7")
def test_all_names_of_two_bytes_have_dentries_of_their_own_that_lead_back() -> None:
    taken: dict[bytes, tuple[bytes, Projection]] = {}
    for pair in itertools.product(range(256), repeat=2):
        name = bytes(pair)
        if not is_listable(name):
            continue
        for kind in FILES:
            dentry = encode_name(name, kind)
            assert taken.setdefault(dentry, (name, kind)) == (name, kind)
            assert decode_name(dentry) == DentryName(kind, name)


EDGES = [
    b"", b".npy", b".values", b".values.npy", b".attrs.json", b"~0123456789ab", b"%2E", b"%", b"%2",
    "é".encode(), "€".encode(), b"\xff", "😀".encode(), b"\n", b"x", b".",
]  # fmt: skip


@pytest.mark.semantics("N3", "N6")
@pytest.mark.parametrize("body", [b"x", b"%", b"\xff", "é".encode(), "€".encode(), b"%41", b"."])
def test_names_of_every_length_have_dentries_of_their_own(body: bytes) -> None:
    lengths = (*range(70, 92), *range(118, 130), *range(222, 262))  # where they begin to be cut
    names = {(body * length)[:length] + tail for length in lengths for tail in EDGES}
    taken: dict[bytes, tuple[bytes, Projection]] = {}
    for name, kind in itertools.product(names, FILES):
        dentry = encode_name(name, kind)
        assert taken.setdefault(dentry, (name, kind)) == (name, kind)
        assert len(dentry) <= NAME_MAX
        dentry.decode()
        found = decode_name(dentry)
        assert found is not None
        assert found.projection is kind
        if found.link_name is None:
            assert find_cut_names([name])[dentry] == name
        else:
            assert found.link_name == name


@pytest.mark.semantics("N7")
def test_an_escape_that_is_not_needed_finds_nothing() -> None:
    assert decode_name(b"%41") is None
    assert decode_name(b"x%2E") is None
    assert decode_name(b"x%2Enpy.npy") is None
    assert decode_name(b"A") == DentryName(Projection.FOLDER, b"A")


@pytest.mark.semantics("N4")
@given(
    st.text(
        st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/%."),
        min_size=1,
        max_size=55,
    ),
    PROJECTIONS,
)
@example("café", Projection.ARRAY)
@example("café", Projection.ARRAY)
def test_printable_names_stay_as_they_are(text: str, kind: Projection) -> None:
    assert encode_name(text.encode(), kind) == text.encode() + kind.value


@pytest.mark.semantics("N4")
@pytest.mark.parametrize(
    ("link_name", "dentry"),
    [
        (b"a\nb", b"a%0Ab"),
        (b"\xff", b"%FF"),
        (b"caf\xe9", b"caf%E9"),
        ("\x85".encode(), b"%C2%85"),
        (b"\x7f", b"%7F"),
        (b"100%", b"100%"),
        (b"100%25", b"100%2525"),
        (b"%41", b"%2541"),
        (b"%4g", b"%4g"),
        (b"a b", b"a b"),
        (b"A\\b", b"A\\b"),
    ],
)
def test_what_a_name_cannot_carry_is_percent_encoded(link_name: bytes, dentry: bytes) -> None:
    assert encode_name(link_name, Projection.FOLDER) == dentry


@pytest.mark.semantics("N1", "N5")
@pytest.mark.parametrize(
    ("link_name", "kind", "dentry"),
    [
        (b"..", Projection.FOLDER, b"%2E%2E"),
        (b"..", Projection.ARRAY, b"...npy"),
        (b"...", Projection.FOLDER, b"..."),
        (b"x.npy", Projection.FOLDER, b"x%2Enpy"),
        (b"x.y.npy", Projection.FOLDER, b"x.y%2Enpy"),
        (b".npy", Projection.FOLDER, b"%2Enpy"),
        (b"x.attrs.json", Projection.FOLDER, b"x.attrs%2Ejson"),
        (b"x.dtype.json", Projection.FOLDER, b"x.dtype%2Ejson"),
        (b"x.values", Projection.ARRAY, b"x%2Evalues.npy"),
        (b"x.offsets", Projection.ARRAY, b"x%2Eoffsets.npy"),
        (b"x.values", Projection.FOLDER, b"x.values"),
        (b"x", Projection.VALUES, b"x.values.npy"),
        (b"x.npy", Projection.ARRAY, b"x.npy.npy"),
        (b"x", Projection.ARRAY, b"x.npy"),
        (b"x", Projection.DATATYPE, b"x.dtype.json"),
        (b"x", Projection.ATTRIBUTES, b"x.attrs.json"),
        (b"x", Projection.FOLDER, b"x"),
        (b"external:x", Projection.FOLDER, b"external%3Ax"),
        (b"external%3Ax", Projection.FOLDER, b"external%253Ax"),
        (b"external:x", Projection.ARRAY, b"external%3Ax.npy"),
        (b"external:", Projection.DATATYPE, b"external%3A.dtype.json"),
        (b"an external:x", Projection.FOLDER, b"an external:x"),
    ],
)
def test_a_suffix_tells_the_kind_and_a_name_cannot_pretend(
    link_name: bytes, kind: Projection, dentry: bytes
) -> None:
    assert encode_name(link_name, kind) == dentry


@pytest.mark.semantics("N6")
@given(
    st.binary(min_size=256, max_size=600).map(lambda b: b.translate(NO_SLASH_NO_NUL)), PROJECTIONS
)
def test_a_long_name_is_cut_and_ends_in_its_hash(name: bytes, kind: Projection) -> None:
    dentry = encode_name(name, kind)
    tail = b"~" + hashlib.sha256(name).hexdigest()[:12].encode() + kind.value
    assert dentry.endswith(tail)
    # No more is cut than must be: at most a character or an escape beyond.
    assert NAME_MAX - 5 <= len(dentry) <= NAME_MAX


@pytest.mark.semantics("N6")
@pytest.mark.parametrize("kind", Projection)
def test_a_name_is_cut_from_256_bytes_on(kind: Projection) -> None:
    room = NAME_MAX - len(kind.value)
    assert encode_name(b"x" * room, kind) == b"x" * room + kind.value
    assert b"~" in encode_name(b"x" * (room + 1), kind)


@given(st.lists(st.binary(max_size=3), min_size=2, max_size=9, unique=True), PROJECTIONS)
def test_long_names_that_differ_in_their_tails_have_different_dentries(
    tails: list[bytes], kind: Projection
) -> None:
    names = [b"x" * 300 + tail for tail in tails]
    assert len({encode_name(name, kind) for name in names}) == len(names)


@pytest.mark.semantics("N8")
@pytest.mark.parametrize("name", [b"", b".", b"a/b", b"a\0b"])
def test_a_name_that_hdf5_cannot_reach_is_not_listable(name: bytes) -> None:
    assert not is_listable(name)


@pytest.mark.semantics("V2")
@given(st.lists(LINK_NAMES, max_size=8, unique=True))
def test_no_two_views_of_a_group_have_the_same_name_and_none_that_of_a_file(
    names: list[bytes],
) -> None:
    files = {
        encode_name(name, kind) for name in names for kind in FILES if kind is not Projection.FOLDER
    }
    views = [encode_name(name, kind) for name in names for kind in ALL_VIEWS]
    assert len(set(views)) == len(views)
    assert not files & set(views)


@pytest.mark.semantics("V2")
@given(LINK_NAMES, st.sampled_from(ALL_VIEWS))
def test_the_name_of_a_view_leads_back_to_its_dataset(name: bytes, kind: View) -> None:
    dentry = encode_name(name, kind)
    assert 0 < len(dentry) <= NAME_MAX
    found = decode_view_name(dentry, ALL_VIEWS)
    assert found is not None and found[0] is kind
    assert found[1] == name or (found[1] is None and find_cut_names([name])[dentry] == name)
    others = [other for other in ALL_VIEWS if other is not kind]
    assert decode_view_name(dentry, others) is None
