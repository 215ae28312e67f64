"""What the daemon and its workers say to each other arrives as it was, or is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from strategies.attributes import attribute_sets, datatypes
from support.dtypes import compounds

from h5fs import errors
from h5fs.errors import H5fsError, UnreadableError, UnsupportedTypeError
from h5fs.model.datatypes import BitLayout, ByteOrder, Datatype, EnumType, IntegerType
from h5fs.model.objects import (
    Attribute,
    Chunked,
    Contiguous,
    DatasetInfo,
    Filter,
    Link,
    LinkKind,
    ObjectInfo,
    ObjectKind,
    ObjectRef,
    UnreadableAttribute,
)
from h5fs.store.interface import ArrayPart
from h5fs.store.workers import messages
from h5fs.store.workers.messages import METHOD_NAMES, METHODS

pytestmark = pytest.mark.filterwarnings("ignore:metadata on a dtype:UserWarning")

REF = ObjectRef(7, 2**63, b"/a/\xff")


def there_and_back(method: str, result: Any) -> Any:
    return METHODS[method].decode_result(messages.encode_result(result))


@given(attribute_sets())
def test_attributes_arrive_as_they_were(attributes: tuple[Attribute, ...]) -> None:
    assert there_and_back("read_attributes", attributes) == attributes


@given(datatypes)
def test_datatypes_arrive_as_they_were(datatype: Datatype) -> None:
    assert there_and_back("describe_datatype", datatype) == datatype


DTYPES = st.one_of(npst.scalar_dtypes(), compounds(npst.scalar_dtypes()))


@given(DTYPES, npst.array_shapes(max_dims=3))
def test_dtypes_arrive_as_they_were(dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    for each in (dtype, np.dtype((dtype, shape))):
        info = DatasetInfo(shape, each, 9)
        arrived = there_and_back("describe_dataset", info)
        assert arrived == info
        assert arrived.dtype.itemsize == each.itemsize
        assert arrived.dtype.fields == each.fields


@pytest.mark.parametrize(
    "data", [None, Contiguous(2048), Chunked((3, 4), (Filter(1, (6,)),), b"12345678")]
)
def test_where_elements_lie_arrives(data: Contiguous | Chunked | None) -> None:
    info = DatasetInfo((3, 4), np.dtype("<f8"), 9, data=data)
    assert there_and_back("describe_dataset", info) == info


def test_links_and_paths_arrive() -> None:
    target = ObjectInfo(REF, ObjectKind.DATASET, 3, 2, 1, 1, 1, holds_sequences=True)
    for link in (
        Link(b"a", LinkKind.HARD, target=target),
        Link(b"b\xff", LinkKind.SOFT, soft_target=b"/c"),
        Link(b"d", LinkKind.EXTERNAL, external_file=b"f.h5", external_path=b"/"),
    ):
        arrived = there_and_back("get_link", link)
        assert arrived == link
        assert arrived.target is None or arrived.target.ref.path == REF.path
    assert there_and_back("find_link", (REF, None)) == (REF, None)


def test_arguments_arrive() -> None:
    encoded = messages.encode((REF, ArrayPart.VALUES, 3, 2**40, (2, 3)))
    arguments = METHODS["read_data"].decode_arguments(msgspec.Raw(encoded))
    assert arguments == (REF, ArrayPart.VALUES, 3, 2**40, (2, 3))
    encoded = messages.encode((REF, frozenset({b"\xff", b""})))
    arguments = METHODS["list_links"].decode_arguments(msgspec.Raw(encoded))
    assert arguments == (REF, frozenset({b"\xff", b""}))


def test_several_changes_arrive_each_as_its_method_has_it() -> None:
    attribute = Attribute(b"a", IntegerType(BitLayout(1, ByteOrder.LITTLE, 8), False), (), (b"1",))
    changes = (
        ("create_group", (REF, b"g")),
        ("write_attributes", (REF, (attribute,), (b"gone",))),
        ("write_elements", (REF, 7, b"data", True)),
    )
    encoded = msgspec.Raw(messages.encode(changes))
    assert METHODS[messages.CHANGES].decode_arguments(encoded) == changes


def test_outcomes_of_several_changes_arrive() -> None:
    info = ObjectInfo(REF, ObjectKind.GROUP)
    attribute = Attribute(b"a", IntegerType(BitLayout(1, ByteOrder.LITTLE, 8), False), (), (b"1",))
    given = [
        messages.Outcome("create_group", messages.encode_result(info)),
        messages.Outcome("create_link", messages.encode_result(None)),
        messages.Outcome("write_attributes", messages.encode_result((info, (attribute,)))),
        messages.Outcome("delete_link", refusal=errors.NotFoundError("/d: because")),
        messages.Outcome("write_elements", goes_alone=True),
    ]
    encoded = messages.encode_outcomes(messages.Outcomes(tuple(given)))
    made, nothing, labelled, refused, alone = METHODS[messages.CHANGES].decode_result(encoded).each
    assert made == messages.Outcome("create_group", info)
    assert nothing == messages.Outcome("create_link")
    assert labelled == messages.Outcome("write_attributes", (info, (attribute,)))
    assert isinstance(refused.refusal, errors.NotFoundError)
    assert str(refused.refusal) == "/d: because"
    assert alone == messages.Outcome("write_elements", goes_alone=True)


@pytest.mark.parametrize("outcome", [["none", b"\xc0", None], ["create_group", b"\x05", None],
                                     ["create_group", 5, None], [5, None, None]])  # fmt: skip
def test_outcomes_that_no_method_has_are_refused(outcome: list[Any]) -> None:
    with pytest.raises(UnreadableError):
        METHODS[messages.CHANGES].decode_result(messages.encode([outcome]))


@pytest.mark.parametrize(
    "kind", [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, H5fsError)]
)
def test_errors_arrive_with_their_class_and_text(kind: type[H5fsError]) -> None:
    arrived = messages.decode_failure(messages.encode_failure(kind("/d: because")))
    assert type(arrived) is kind
    assert str(arrived) == "/d: because"


def test_an_error_of_no_class_of_ours_is_unreadable() -> None:
    for name in ("SystemExit", "MountError", "_errno", ""):
        arrived = messages.decode_failure(messages.encode((name, "text")))
        assert type(arrived) is UnreadableError


def test_an_attribute_with_integers_beyond_64_bits_is_left_out_alone() -> None:
    base = IntegerType(BitLayout(16, ByteOrder.LITTLE, 128), signed=False)
    wide = Attribute(b"wide", EnumType(base, ((b"x", 2**100),)), (), (bytes(16),))
    plain = Attribute(b"plain", base, (), (bytes(16),))
    left, other = there_and_back("read_attributes", (wide, plain))
    assert left == UnreadableAttribute(b"wide", "integers beyond 64 bits in its type")
    assert other == plain
    info = ObjectInfo(REF, ObjectKind.DATASET)
    written = (info, (wide, plain))  # what an object has after one of its attributes was written
    assert there_and_back("write_attributes", written) == (info, (left, plain))
    with pytest.raises(UnsupportedTypeError):
        messages.encode_result(EnumType(base, ((b"x", 2**100),)))


@given(st.sampled_from(sorted(METHOD_NAMES)), st.binary(max_size=200))
def test_an_answer_that_is_none_is_an_error_and_nothing_else(method: str, answer: bytes) -> None:
    if METHODS[method].returns_data:
        return
    try:
        METHODS[method].decode_result(answer)
    except UnreadableError:
        return
    value = METHODS[method].decode_result(answer)
    assert messages.encode_result(value) is not None


def test_a_dtype_with_objects_in_it_is_refused_before_any_element() -> None:
    from h5fs.projection.npy import project_array

    document = {"shape": [1], "dtype": "|O", "storage_size_bytes": 0}
    info = METHODS["describe_dataset"].decode_result(msgspec.msgpack.encode(document))
    with pytest.raises(UnsupportedTypeError):
        project_array(info.dtype, info.shape)


@given(st.none() | st.lists(st.integers(0, 2**63)).map(tuple), st.integers(0, 2**63), st.binary())
def test_a_change_and_the_answer_after_it_arrive_in_one_packet(
    changed: tuple[int, ...] | None, stop: int, packet: bytes
) -> None:
    whole = messages.pack_changed(changed, stop, packet)
    assert whole[0] == messages.CHANGED
    assert messages.split_changed(memoryview(whole)[1:]) == (changed, stop, packet)


@given(st.binary(max_size=40))
def test_what_is_no_change_raises_and_does_nothing_else(body: bytes) -> None:
    try:
        changed, stop, packet = messages.split_changed(memoryview(body))
    except (msgspec.MsgspecError, UnreadableError):
        return
    assert (changed is None or isinstance(changed, tuple)) and stop >= 0 and len(packet) < 40
