"""What is remembered of what processes have removed."""

from __future__ import annotations

import msgspec
import pytest

from h5fs.model.objects import Link, LinkKind, ObjectInfo, ObjectKind, ObjectRef
from h5fs.projection.names import DentryName, Projection
from h5fs.tree.nodes import Node, NodeKind, make_root
from h5fs.tree.writing.pending.last_removals import LastRemovals, Process, RemovedObject

ROOT = make_root(ObjectInfo(ObjectRef(0, 96, b"/"), ObjectKind.GROUP))


def removed(
    name: bytes, *, address: int = 800, kind: NodeKind = NodeKind.DATATYPE, size: int = 10
) -> RemovedObject:
    info = ObjectInfo(ObjectRef(0, address, b"/" + name), ObjectKind.DATASET)
    link = Link(name, LinkKind.HARD, target=info)
    return RemovedObject(b"", Node(kind, name, info, ROOT, link), False, size)


def process(pid: int) -> Process:
    return pid, b"12345"


def taken(last: LastRemovals, pid: int, name: bytes) -> RemovedObject | None:
    meaning = DentryName(Projection.DATATYPE, name)
    return last.take(process(pid), b"/" + name + b".dtype.json", ROOT, meaning)


def test_each_process_has_its_own_and_takes_it_once() -> None:
    last, mine, yours = LastRemovals(), removed(b"a"), removed(b"a")
    assert last.put(process(1), mine) == last.put(process(2), yours) == []
    assert taken(last, 1, b"b") is None
    assert taken(last, 1, b"a") is mine
    assert taken(last, 1, b"a") is None
    assert last.processes() == [process(2)]
    assert taken(last, 2, b"a") is yours
    assert not last


def test_a_process_of_the_same_number_is_another_one() -> None:
    last = LastRemovals()
    last.put(process(1), removed(b"a"))
    meaning = DentryName(Projection.DATATYPE, b"a")
    assert last.take((1, b"67890"), b"/a.dtype.json", ROOT, meaning) is None
    assert taken(last, 1, b"a") is not None


def test_the_newest_and_as_many_before_it_as_promised_are_there_however_many_follow() -> None:
    last, most = LastRemovals(most_objects=3), 3
    every = [removed(b"%d" % number) for number in range(50)]
    given_back: list[RemovedObject] = []
    counts = []
    for count, each in enumerate(every, 1):
        forgotten = last.put(process(1), each)
        given_back += forgotten
        counts.append(len(forgotten))
        there = last.every()
        assert there[-most - 1 :] == every[max(count - most - 1, 0) : count]
        assert sorted(map(id, given_back + there)) == sorted(map(id, every[:count]))
        assert len(there) <= 2 * most + 1
    assert set(counts) == {0, most + 1}, "they are given back together"
    assert taken(last, 1, b"0") is None
    assert taken(last, 1, b"46") is every[46]


@pytest.mark.semantics("R28")
def test_sixteen_are_there_beside_the_newest() -> None:
    last = LastRemovals()
    for number in range(100):
        last.put(process(1), removed(b"%d" % number))
    assert all(taken(last, 1, b"%d" % number) is not None for number in range(83, 100))


def test_large_objects_are_given_back_before_small_ones() -> None:
    last, small, large = LastRemovals(most_bytes=19), removed(b"x"), removed(b"y", size=1000)
    assert last.put(process(1), small) == last.put(process(1), large) == []
    assert last.put(process(1), removed(b"z")) == [large]
    assert taken(last, 1, b"x") is small


def test_of_one_link_the_object_that_was_removed_last_is_remembered() -> None:
    last, first, second = LastRemovals(), removed(b"a"), removed(b"a", address=1600)
    last.put(process(1), first)
    assert last.put(process(1), second) == [first]
    assert taken(last, 1, b"a") is second


def test_the_process_that_has_removed_nothing_for_longest_is_forgotten() -> None:
    last, first = LastRemovals(most_processes=2), removed(b"a")
    last.put(process(1), first)
    last.put(process(2), removed(b"b"))
    assert last.put(process(3), removed(b"c")) == [first]
    assert last.forget_of([process(2)]) != []
    assert last.processes() == [process(3)]


@pytest.mark.parametrize(
    ("path", "name", "projection"),
    [
        (b"/g/a.dtype.json", b"a", Projection.DATATYPE),
        (b"/b.dtype.json", b"b", Projection.DATATYPE),
        (b"/a.npy", b"a", Projection.ARRAY),
        (b"/a.attrs.json", b"a", Projection.ATTRIBUTES),
    ],
)
def test_another_file_is_not_at_its_place(path: bytes, name: bytes, projection: Projection) -> None:
    assert not removed(b"a").is_at(path, ROOT, DentryName(projection, name))


def test_another_group_at_the_same_path_is_not_its_place() -> None:
    info = msgspec.structs.replace(ROOT.info, ref=ObjectRef(0, 4000, b"/"))
    meaning = DentryName(Projection.DATATYPE, b"a")
    assert removed(b"a").is_at(b"/a.dtype.json", ROOT, meaning)
    assert not removed(b"a").is_at(b"/a.dtype.json", make_root(info), meaning)


def test_either_file_of_a_pair_is_at_its_place() -> None:
    pair = removed(b"v", kind=NodeKind.VALUES)
    for path, projection in (
        (b"/v.values.npy", Projection.VALUES), (b"/v.offsets.npy", Projection.OFFSETS),
    ):  # fmt: skip
        assert pair.is_at(path, ROOT, DentryName(projection, b"v"))
