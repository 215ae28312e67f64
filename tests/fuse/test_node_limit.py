"""When the kernel is asked to forget files, and which: the rules alone, without a kernel."""

from __future__ import annotations

import threading

import pytest
from support.waiting import wait_until

from h5fs.fuse import node_limit
from h5fs.fuse.node_limit import NodeLimit, own_memory_bytes

MB = 2**20
MOST_BYTES = 100 * MB
LOOK_EVERY, NEWEST_KEPT = 100, 150


class Kernel:
    """Notes what it is asked for. ``held_bytes``: what the daemon will say that it holds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, can_forget: bool = True) -> None:
        monkeypatch.setattr(node_limit, "_LOOK_EVERY", LOOK_EVERY)
        monkeypatch.setattr(node_limit, "_NEWEST_KEPT", NEWEST_KEPT)
        monkeypatch.setattr(node_limit, "_NODES_AT_ONCE", 64)
        self.held_bytes = 0
        self.asked: list[range] = []
        self.can_forget = can_forget
        self.limit = NodeLimit(self.prune, MOST_BYTES, lambda: self.held_bytes)

    def prune(self, nodes: range) -> bool:
        self.asked.append(nodes)
        return self.can_forget

    def asked_after(self, held_bytes: int, count: int = LOOK_EVERY) -> list[int]:
        """Return the nodes that it is to forget after so many answers, with so much memory held."""
        self.held_bytes = held_bytes
        self.asked.clear()
        self.limit.note(count)
        wait_until(lambda: all(each.name != "h5fs-node-limit" for each in threading.enumerate()))
        return [node for nodes in self.asked for node in nodes]


def test_nothing_is_asked_for_while_little_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    assert kernel.asked_after(MOST_BYTES, 1000) == []
    assert kernel.asked_after(MOST_BYTES + 1, LOOK_EVERY - 1) == []
    assert kernel.asked_after(MOST_BYTES + 1, 1) != []


def test_few_files_are_not_what_takes_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    assert kernel.asked_after(150 * MB, NEWEST_KEPT) == []
    assert kernel.asked_after(150 * MB, LOOK_EVERY) != []


@pytest.mark.semantics("W7")
def test_all_but_the_newest_and_the_root_go_files_before_their_folders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel = Kernel(monkeypatch)
    # After 300 answers the newest node is 301 at most.
    assert kernel.asked_after(MOST_BYTES + 1, 300) == list(range(151, 1, -1))
    assert max(map(len, kernel.asked)) == 64


def test_what_the_kernel_could_not_free_is_not_asked_for_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel = Kernel(monkeypatch)
    assert kernel.asked_after(150 * MB, 300)
    for held in (140 * MB, 150 * MB, 172 * MB):  # 140 MB are left, of something else
        assert kernel.asked_after(held) == []
    assert kernel.asked_after(172 * MB + 1)
    assert kernel.asked_after(90 * MB) == []
    assert kernel.asked_after(121 * MB) == []
    assert kernel.asked_after(123 * MB)


def test_a_kernel_that_cannot_forget_is_asked_once_in_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel = Kernel(monkeypatch, can_forget=False)
    assert len(kernel.asked_after(MOST_BYTES + 1, 1000)) == 64


def test_nothing_is_asked_for_once_the_mount_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    kernel.limit.end()
    assert kernel.asked_after(MOST_BYTES + 1, 1000) == []


def test_what_a_process_holds_is_memory_of_its_own() -> None:
    before = own_memory_bytes()
    held = bytearray(64 * MB)
    assert own_memory_bytes() - before > 60 * MB
    del held
