"""Answers of the right types that cannot be true are refused; those of true workers never are."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from strategies.attributes import attribute_sets, datatypes

from h5fs.errors import UnreadableError
from h5fs.model.datatypes import ArrayType, BitLayout, ByteOrder, Datatype, IntegerType
from h5fs.model.link_table import ROW, LinkTable
from h5fs.model.objects import (
    Attribute,
    Chunked,
    Contiguous,
    DatasetInfo,
    Link,
    LinkKind,
    ObjectInfo,
    ObjectKind,
    ObjectRef,
    Region,
    Virtual,
    VirtualSource,
)
from h5fs.store.chunks.reader import ChunkReader
from h5fs.store.library_interface import ObjectDetails
from h5fs.store.workers.answer_checks import check
from h5fs.store.workers.messages import Outcome, Outcomes

LIMIT = 2**29
REF = ObjectRef(0, 96, b"/g")
DTYPE = np.dtype("<f8")
INTEGER = IntegerType(BitLayout(4, ByteOrder.LITTLE, 32), signed=True)


def table(**changes: Any) -> LinkTable:
    rows = np.zeros(2, ROW)
    rows["dataset"] = rows["array"] = rows["file_offset"] = -1
    for name in ROW.names or ():
        if name in changes:
            rows[name][0] = changes.pop(name)
    fields = {
        "group": REF, "names": b"ab", "name_stops": np.array([1, 2], "<u8").tobytes(),
        "rows": rows.tobytes(), "datasets": (), "others": {},
    }  # fmt: skip
    return LinkTable(**{**fields, **changes})


def chunked(shape: tuple[int, ...], chunk_shape: tuple[int, ...], fill: int = 8) -> DatasetInfo:
    return DatasetInfo(shape, DTYPE, 0, data=Chunked(chunk_shape, (), bytes(fill)))


def virtual(*runs: int, source: DatasetInfo | None = None) -> DatasetInfo:
    """Ten elements of 8 bytes, in one source of ten."""
    source = source or DatasetInfo((10,), DTYPE, 0, data=Contiguous(0))
    data = Virtual((VirtualSource(REF, source),), np.array(runs, "<i8").tobytes())
    return DatasetInfo((10,), DTYPE, 0, data=data)


def attribute(elements: tuple[Any, ...], kind: Datatype = INTEGER) -> tuple[Attribute, ...]:
    return (Attribute(b"a", kind, (len(elements),), elements),)


LIES: dict[str, tuple[str, Any]] = {
    "a count": ("root", ObjectInfo(REF, ObjectKind.GROUP, hard_link_count=-1)),
    "an address": ("root", ObjectInfo(ObjectRef(0, -1, b"/"), ObjectKind.GROUP)),
    "a place": ("root", ObjectInfo(REF, ObjectKind.DATASET, file_offset=2**63)),
    "a place of data": ("describe_dataset", DatasetInfo((1,), DTYPE, 0, data=Contiguous(-8))),
    "a negative shape": ("describe_dataset", DatasetInfo((2, -1), DTYPE, 0)),
    "a shape of many dimensions": ("describe_dataset", DatasetInfo((1,) * 65, DTYPE, 0)),
    "a number of values": ("describe_dataset", DatasetInfo((1,), DTYPE, 0, value_count=-1)),
    "no sequences": ("describe_dataset", DatasetInfo((1,), DTYPE, 0, sequences_per_element=0)),
    "chunks of nothing": ("describe_dataset", chunked((10,), (0,))),
    "chunks of another rank": ("describe_dataset", chunked((10, 10), (5,))),
    "chunks of a scalar": ("describe_dataset", chunked((), ())),
    "too many chunks": ("describe_dataset", chunked((2**60,), (1,))),
    "too large chunks": ("describe_dataset", chunked((2**60,), (2**59,))),
    "a source that is virtual": ("describe_dataset", virtual(0, 0, 0, source=virtual(0, 0, 0))),
    "a source that cannot be": (
        "describe_dataset", virtual(0, 0, 0, source=chunked((10,), (0,))),
    ),
    "no runs": ("describe_dataset", virtual()),
    "half a run": ("describe_dataset", virtual(0, 0)),
    "a beginning in no run": ("describe_dataset", virtual(8, 0, 0)),
    "runs of nothing": ("describe_dataset", virtual(0, 0, 0, 0, 0, 0)),
    "a run behind the end": ("describe_dataset", virtual(0, 0, 0, 80, 0, 0)),
    "a source that is not there": ("describe_dataset", virtual(0, 1, 0)),
    "a source before all": ("describe_dataset", virtual(0, -1, 0)),
    "a place before the source": ("describe_dataset", virtual(0, 0, -8)),
    "a place behind the source": ("describe_dataset", virtual(0, 0, 8)),
    "a place far behind the source": ("describe_dataset", virtual(0, 0, 2**63 - 8)),
    "a source of nothing": (
        "describe_dataset", virtual(0, 0, 0, source=DatasetInfo(None, DTYPE, 0)),
    ),
    "another fill value": ("describe_dataset", chunked((10,), (5,), fill=7)),
    "another group": ("list_links", table(group=ObjectRef(0, 97, b"/g"))),
    "another path": ("list_links", table(group=ObjectRef(0, 96, b"/h"))),
    "too few rows": ("list_links", table(rows=b"")),
    "names that go back": ("list_links", table(name_stops=np.array([9, 2], "<u8").tobytes())),
    "names beyond the end": ("list_links", table(name_stops=np.array([1, 9], "<u8").tobytes())),
    "half a number": ("list_links", table(name_stops=b"123")),
    "a kind": ("list_links", table(kind=9)),
    "a dataset": ("list_links", table(dataset=0)),
    "a link beyond": ("list_links", table(others={2: Link(b"b", LinkKind.SOFT)})),
    "a link of another name": ("list_links", table(others={1: Link(b"c", LinkKind.SOFT)})),
    "a hard link without a target": ("get_link", Link(b"a", LinkKind.HARD)),
    "a soft link with one": (
        "get_link", Link(b"a", LinkKind.SOFT, target=ObjectInfo(REF, ObjectKind.GROUP)),
    ),
    "elements of another size": ("read_attributes", attribute((b"123",))),
    "elements of another kind": ("read_attributes", attribute((None,))),
    "elements of another number": (
        "read_attributes", (Attribute(b"a", INTEGER, (2,), (b"1234",)),),
    ),
    "an array of another size": (
        "read_attributes", attribute(((b"1234",),), ArrayType(INTEGER, (2,))),
    ),
    "a precision": ("describe_datatype", IntegerType(BitLayout(4, ByteOrder.LITTLE, 2**40), True)),
    "no precision": ("describe_datatype", IntegerType(BitLayout(4, ByteOrder.LITTLE, 0), True)),
    "attributes that are no file": ("look_ahead", (ObjectDetails(b"{}"),)),
    "attributes too large": ("look_ahead", (ObjectDetails(bytes(2**20) + b"}\n"),)),
    "a small array too large": ("look_ahead", (ObjectDetails(data=bytes(2**20)),)),
    "a neighbour's chunks": ("look_ahead", (ObjectDetails(dataset=chunked((10,), (0,))),)),
    "a region": ("reserve_array", Region(1, -4096, 4096)),
}  # fmt: skip


@pytest.mark.semantics("W2")
@pytest.mark.parametrize("what", LIES)
def test_what_cannot_be_is_refused(what: str) -> None:
    _, lie = LIES[what]
    with pytest.raises(ValueError, match=r"cannot (be|reshape)|multiple of element size"):
        check((REF,), lie, LIMIT)


@pytest.mark.parametrize(
    "truth",
    [
        table(),
        table(others={1: Link(b"b", LinkKind.SOFT)}),
        table(names=b"", name_stops=b"", rows=b""),
        chunked((10,), (20,)),
        DatasetInfo(None, DTYPE, 0),
        DatasetInfo((0, 2**40), DTYPE, 0, value_count=0, sequences_per_element=4),
        Link(b"a", LinkKind.HARD, target=ObjectInfo(REF, ObjectKind.GROUP)),
        (ObjectDetails(b"{}\n", DatasetInfo(None, DTYPE, 0), bytes(8)), ObjectDetails()),
        (REF, None),
        None,
        True,
    ],
)
def test_what_can_be_is_believed(truth: Any) -> None:
    check((REF,), truth, LIMIT)


@given(attribute_sets())
def test_attributes_are_believed(attributes: tuple[Attribute, ...]) -> None:
    check((REF,), attributes, LIMIT)


@given(datatypes)
def test_datatypes_are_believed(datatype: Datatype) -> None:
    check((REF,), datatype, LIMIT)


class NoPool:
    """Workers that are not there."""

    count = 1

    def call(self, *_arguments: Any, **_others: Any) -> Any:
        raise UnreadableError("nobody answers")

    def forget_shared_buffer(self, _shared_buffer: Any) -> None:
        """Nobody has mapped it."""


def test_an_array_that_is_described_in_two_ways_is_an_error() -> None:
    reader = ChunkReader(NoPool(), 2**20)  # type: ignore[arg-type]
    try:
        for shape, offset, reason in (((10,), 0, "nobody answers"), ((1000,), 4000, "two ways")):
            info = chunked(shape, (10,))
            assert isinstance(info.data, Chunked)
            with pytest.raises(UnreadableError, match=reason):
                reader.read_into(REF, info, info.data, offset, memoryview(bytearray(80)))
    finally:
        reader.close()


def test_answers_to_several_changes_are_those_to_these_changes_and_each_is_checked() -> None:
    info = ObjectInfo(REF, ObjectKind.GROUP)
    changes = (("create_group", (REF, b"g")), ("delete_link", (REF, b"d")))
    true = (Outcome("create_group", info), Outcome("delete_link", refusal=UnreadableError("no")))
    check(changes, Outcomes(true), LIMIT)
    check(changes, Outcomes((Outcome("create_group", goes_alone=True), true[1])), LIMIT)
    bad = msgspec.structs.replace(info, attribute_count=-1)
    for each in (true[:1], true[::-1], (*true, true[0]), (Outcome("create_group", bad), true[1])):
        with pytest.raises(ValueError, match="cannot be"):
            check(changes, Outcomes(each), LIMIT)
