"""Which thread receives, without a mount."""

from __future__ import annotations

import threading
from collections.abc import Callable

from support.waiting import PATIENCE_SECONDS, wait_until

from h5fs.fuse.receiver import Receiver


class _Other:
    """A thread that asks to receive, and does as it is told then."""

    def __init__(self, receiver: Receiver, timeout_seconds: float | None = None) -> None:
        self.receives: bool | None = None
        self._told = threading.Event()
        self._do: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, args=(receiver, timeout_seconds))
        self._thread.start()

    def _run(self, receiver: Receiver, timeout_seconds: float | None) -> None:
        self.receives = receiver.take(timeout_seconds)
        self._told.wait(PATIENCE_SECONDS)
        self._do()

    def end(self, do: Callable[[], None] = lambda: None) -> None:
        self._do = do
        self._told.set()
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()


def test_another_thread_receives_when_the_one_that_does_gives_it_away() -> None:
    receiver = Receiver()
    assert receiver.take() and receiver.is_this_thread()
    other = _Other(receiver)
    wait_until(receiver.is_awaited)
    assert other.receives is None
    receiver.give()
    wait_until(lambda: other.receives is True)
    assert not receiver.is_this_thread() and not receiver.is_awaited()
    other.end(receiver.give)
    assert receiver.take(0)


def test_a_thread_that_does_not_receive_gives_nothing_away() -> None:
    receiver = Receiver()
    other = _Other(receiver)
    wait_until(lambda: other.receives is True)
    receiver.give()
    assert not receiver.take(0)
    other.end()


def test_a_thread_waits_no_longer_than_it_says() -> None:
    receiver = Receiver()
    receiver.take()
    other = _Other(receiver, 0.01)
    wait_until(lambda: other.receives is False)
    assert not receiver.is_awaited() and receiver.is_this_thread()
    other.end()


def test_while_the_role_is_shared_all_threads_receive() -> None:
    receiver = Receiver()
    receiver.take()
    others = [_Other(receiver) for _ in range(3)]
    wait_until(receiver.is_awaited)
    receiver.share()
    wait_until(lambda: all(other.receives for other in others))
    assert receiver.is_this_thread()
    receiver.is_shared = False
    assert not receiver.is_this_thread()  # the next one to ask for it does
    assert receiver.take(0)
    for other in others:
        other.end()
