"""The thread that looks whether the mounted file has changed, without a mount."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import pytest
from support.waiting import wait_until

from h5fs.daemon import watcher
from h5fs.daemon.watcher import Watcher


class Watched:
    """A tree that counts how often it was looked at, and can be changed."""

    def __init__(self) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self.looks = 0
        self.change_count = 0

    def check(self) -> int:
        self.looks += 1
        return self.change_count

    def forget(self) -> None:
        self.change_count += 1

    def take_names(self) -> set[bytes]:
        return {b"x"}


class Notifier:
    """A kernel that counts how often it was told."""

    def __init__(self) -> None:
        self.forgotten: list[set[bytes]] = []

    def expire(self) -> bool:
        return True

    def forget(self, root_names: Iterable[bytes]) -> None:
        self.forgotten.append(set(root_names))


@pytest.mark.semantics("F1", "H3")
def test_two_looks_are_within_a_second_and_the_kernel_is_told_twice_of_a_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float | None] = []
    wait = threading.Event.wait

    def wait_and_note(event: threading.Event, seconds: float | None = None) -> bool:
        if threading.current_thread().name == "h5fs-watch":
            waits.append(seconds)
        return wait(event, seconds)

    monkeypatch.setattr(threading.Event, "wait", wait_and_note)
    tree, notifier = Watched(), Notifier()
    watching = Watcher(tree)
    watching.start(notifier)
    try:
        wait_until(lambda: tree.looks >= 2)
        assert notifier.forgotten == []
        tree.change_count += 1
        wait_until(lambda: len(notifier.forgotten) >= 2)
        looks = tree.looks
        wait_until(lambda: tree.looks >= looks + 2)
        assert notifier.forgotten == [{b"x"}] * 2
    finally:
        watching.stop()
    assert {seconds for seconds in waits if seconds is not None} == {watcher._SECONDS}
    # The second look, at which the kernel is told for certain, is within a second as well.
    assert 2 * watcher._SECONDS < 1
