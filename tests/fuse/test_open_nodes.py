"""Which open files are of which node."""

from __future__ import annotations

from h5fs.fuse.open_nodes import OpenNodes


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
