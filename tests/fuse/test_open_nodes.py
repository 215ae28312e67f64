"""Which open files are of which node."""

from __future__ import annotations

import stat

import msgspec

from h5fs.fuse.open_nodes import OpenFolderStatuses, OpenNodes
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
