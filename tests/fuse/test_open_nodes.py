"""Which open files are of which node."""

from __future__ import annotations

import stat
from types import SimpleNamespace
from typing import Any, NoReturn

import msgspec
import pytest

from h5fs.errors import NotFoundError, show_path
from h5fs.fuse.open_nodes import OpenFolderStatuses, OpenNodes
from h5fs.fuse.writing_operations import WritingOperations
from h5fs.tree.status import Status


def test_a_node_has_its_newest_handle_until_that_is_released() -> None:
    nodes = OpenNodes()
    nodes.open(1, 7)
    nodes.open(2, 7)
    nodes.open(3, 8)
    assert [nodes.find(node) for node in (7, 8, 9)] == [2, 3, None]
    nodes.release(2)
    assert nodes.find(7) == 1
    nodes.release(1)
    nodes.release(1)
    assert nodes.find(7) is None


def test_a_name_may_be_open_until_the_last_handle_that_was_opened_by_it_is_released() -> None:
    nodes = OpenNodes()
    nodes.open(1, 7, b"x.csv")
    nodes.open(2, 8, b"x.csv")
    nodes.open(3, 9, b"y.csv")
    for handle, is_open in ((3, True), (1, True), (2, False), (2, False)):
        nodes.release(handle)
        assert nodes.may_be_open(b"x.csv") is is_open
        assert not nodes.may_be_open(b"y.csv")


def test_a_new_files_node_is_known_from_its_first_use() -> None:
    nodes = OpenNodes()
    nodes.open(1, 0)
    nodes.open(2, 0)
    nodes.use(1, 0)  # a request that is still in a pipe
    assert nodes.find(0) is None
    nodes.use(1, 7)
    nodes.use(1, 8)  # it stays that
    nodes.use(3, 9)
    assert [nodes.find(node) for node in (7, 8, 9)] == [1, None, None]
    nodes.release(2)
    nodes.release(1)
    nodes.use(1, 7)
    nodes.use(2, 9)
    assert [nodes.find(node) for node in (7, 9)] == [None, None]


def test_an_open_folder_that_has_lost_its_name_has_a_status() -> None:
    folders = OpenFolderStatuses()
    status = Status(5, stat.S_IFDIR | 0o755, 2, 1, 1, 0, 0, 0, 0, 0)
    folders.open(1, 7, status)
    folders.open(2, 7, status)
    for handle in (1, 2):
        assert folders.find(7) == msgspec.structs.replace(status, hard_link_count=0)
        assert folders.find(8) is None
        folders.release(handle)
    assert folders.find(7) is None


@pytest.mark.parametrize(
    ("name", "is_found"),
    [("x.npy", False), ("x.csv", True), ("x.attrs.json", True), ("x.values.npy", True)],
)
def test_a_node_without_its_name_is_an_open_file_only_where_no_entry_of_it_is_kept(
    name: str, is_found: bool
) -> None:
    """The kernel may keep an array's name that another name's `unlink` has taken away."""
    operations: Any = object.__new__(WritingOperations)
    operations._requests = SimpleNamespace(node=lambda: 7)
    operations._nodes = OpenNodes()
    operations._nodes.open(1, 7, name.encode())
    operations._tree = SimpleNamespace(
        get_lasting_status=raise_not_found,
        get_lasting_status_of_handle=lambda handle, *, has_name: ((handle, has_name), False),
    )
    path = b"/g/" + name.encode()
    if is_found:
        assert operations._lasting_status(path, is_of_node=True) == ((1, False), False)
    else:
        with pytest.raises(NotFoundError):
            operations._lasting_status(path, is_of_node=True)
    with pytest.raises(NotFoundError):  # a name is looked for
        operations._lasting_status(path, is_of_node=False)


def raise_not_found(path: bytes) -> NoReturn:
    raise NotFoundError(show_path(path))
