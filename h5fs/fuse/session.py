"""One mount in libfuse's hands, and the threads that answer for it.

libfuse's own loop (``fuse_main``) starts and ends threads as it sees fit, and Python makes and
drops a thread state in each call on a thread that Python did not start (`find` over 100,000 files:
7.3 s against 2.5 s). So Python starts the threads here, and each runs libfuse's loop for one
thread: no state is made in a call, and h5fs decides how many threads there are. The process is not
daemonised here, and keeps its working directory (``fuse_main`` of libfuse 3 would go to ``/``).

The main thread waits, handles the signals, starts further threads when all are busy, and ends all.
"""

from __future__ import annotations

import gc
import queue
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from ctypes import c_int, c_void_p
from enum import Enum
from typing import Any

from h5fs.fuse.library.arguments import Arguments
from h5fs.fuse.library.binding import Binding
from h5fs.fuse.library.current_requests import CurrentRequests
from h5fs.fuse.library.request_loop import Turn
from h5fs.fuse.notifications import Notifier
from h5fs.fuse.receiver import Receiver
from h5fs.system.cores import count_cores

# The kernel wakes idle threads in turn. One thread costs least (daemon CPU for two listings and one
# `find` over 100,000 files: 2.0 s with 1, 2.3 s with 2, 2.9 s with 4, 3.0 s with 10, 4.5 s with
# libfuse's own loop), but with several the workers decompress at the same time, one on each core.
_FEWEST_THREADS = 2
_USUAL_MOST_THREADS = 4
# A read that blocks (a dead network file system, a slow filter) must block no other call: when each
# thread has been in one call for this long, half as many threads more are started. (31 readers
# blocked for 5 s: `ls -l` of the folder took 180 ms.)
_PATIENCE_SECONDS = 0.02
# Where one thread receives, and its call lasts this long, those that wait to receive do so at once:
# a request may have come just after it was looked for.
_SHORT_PATIENCE_SECONDS = 0.003
_MOST_THREADS = 64
# So many threads at most are made up for that wait for a worker. With 8 programs that save, a save
# took 2.33 ms of CPU in the daemon and its workers with no more threads, 2.24 with 2 more, 2.43
# with 6 more and 2.50 with 10 more (medians of 3, on a busy machine).
_MOST_MADE_UP_FOR = 6
# Threads that were started so end when they have not been needed for this long.
_CALM_SECONDS = 5.0

_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_DISMISSAL = signal.SIGRTMIN  # interrupts a thread that waits for a request, and does nothing else
_AGAIN_SECONDS = 0.05
_LONGEST_WAIT_SECONDS = 0.5


class MountRefusedError(Exception):
    """libfuse did not mount; it has written why to stderr."""


class _Event(Enum):
    END = 1  # a signal, or a thread's loop has ended
    ALL_BUSY = 2


class Session:
    """A mount and its threads, for as long as ``serve`` runs.

    ``requests`` notes which request each thread answers; None where nobody asks for that.
    ``count_waiting`` tells how many calls wait for a worker, so that their threads do nothing.
    """

    def __init__(
        self, binding: Binding, arguments: Arguments, mountpoint: bytes,
        requests: CurrentRequests | None = None, count_waiting: Callable[[], int] = lambda: 0,
    ) -> None:  # fmt: skip
        self._library = _declare(binding.library)
        self._libfuse = binding.libfuse(binding.module, binding.library)
        self._arguments = arguments
        self._mountpoint = mountpoint
        self._requests = requests
        self._count_waiting = count_waiting
        # In mode r all threads receive: libfuse's loop is in C, and needs Python's lock only once.
        self._receiver = None if requests is None else Receiver()
        self._module: Any = binding.module
        self._notifier: Notifier | None = None
        # `put` may be called by a signal handler at any moment: no other queue allows that.
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        # A signal to a thread that is gone would be a crash: a thread that ends takes itself off
        # the list under this lock, and signals are sent under it.
        self._roster = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._relief: list[threading.Thread] = []  # threads that end when they are not needed
        self._usual_count = min(max(count_cores(), _FEWEST_THREADS), _USUAL_MOST_THREADS)
        self._is_calm = False
        self._ending = threading.Event()
        self._relieved_at = 0.0
        self._ended: list[threading.Thread] = []
        self._may_begin = threading.Event()
        self._may_go = threading.Event()
        # One entry for each thread that answers nothing. list.pop and list.append are atomic.
        self._idle: list[None] = []
        self._finished_calls = 0  # compared, not added up: a lost increment does no harm
        self._is_watched = False  # so that a busy mount wakes the main thread seldom

    def serve(
        self,
        table: Any,
        on_hangup: Callable[[], None] | None = None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        """Mount, with the functions of a ``fuse_operations``; answer until the mount ends.

        A signal or an unmount from outside ends the mount. SIGHUP calls ``on_hangup``; without one
        SIGHUP ends the mount, too. ``on_end``: called when the mount ends; calls may still be under
        way then, but no program waits for them. Main thread only. Raises ``MountRefusedError``.
        """
        calls: dict[int, Callable[[], None]] = {
            **dict.fromkeys(_ENDING_SIGNALS, self.end),
            signal.SIGHUP: on_hangup or self.end,
            _DISMISSAL: lambda: None,
        }
        with _signals_to(calls):
            words = [b"h5fs", b"-o", self._arguments.option_list()]
            if not self._libfuse.mount(table, words, self._mountpoint):
                raise MountRefusedError
            try:
                # The mount counts as ready with the first answer: the threads must be there before.
                # What there is by now stays, so that no search for garbage goes through it.
                gc.freeze()
                self._start_threads(self._usual_count, self._work)
                try:
                    self._libfuse.begin(self._arguments)
                finally:
                    self._may_begin.set()
                while self._next_event() is not _Event.END:
                    self._relieve()
            finally:
                on_end()
                self._end_threads()
                self._libfuse.unmount()

    def end(self) -> None:
        """Let the mount end; from any thread, or a signal handler."""
        self._events.put(_Event.END)

    def _next_event(self) -> _Event:
        # A signal that arrives just before the wait begins does not end the wait, and its handler
        # runs only after the wait: so the wait has a limit.
        while True:
            try:
                return self._events.get(timeout=_LONGEST_WAIT_SECONDS)
            except queue.Empty:
                self._dismiss_relief()

    def let_another_receive(self) -> None:
        """Let another thread take requests, if any are there; for a call that is going to wait."""
        receiver = self._receiver
        if receiver is not None:
            receiver.is_shared = False
            if receiver.is_this_thread() and self._is_request_there():
                receiver.give()

    def _share_requests(self) -> None:
        """Let all threads take requests, if any are there: a call that copies much begins."""
        if self._receiver and not self._receiver.is_shared and self._is_request_there():
            self._receiver.share()

    def _is_request_there(self) -> bool:
        requests = select.poll()  # one cannot be used by two threads
        requests.register(self._libfuse.descriptor(), select.POLLIN)
        return bool(requests.poll(0))

    def notifier(self) -> Notifier:
        """Return a notifier, which can be used as long as the mount lasts."""
        if self._notifier is None:
            self._notifier = Notifier(self._libfuse.descriptor())
        return self._notifier

    def forget_status(self, node: int) -> None:
        """Let the kernel ask for a node's status anew, as ``Notifier.forget_status``; 0 is none."""
        if node:
            (self._notifier or self.notifier()).forget_status(node)

    def init(self, connection: int, config: int | None) -> None:
        """Negotiate with the kernel; to be called by ``init``, with its arguments."""
        self._libfuse.negotiate(self._arguments, connection, config)
        if self._requests is not None and config is not None:
            settings = self._module.fuse_config.from_address(config)
            self._requests.take_times(settings, self._arguments.lasting_seconds)

    def counted(self, function: Callable[..., int]) -> Callable[..., int]:
        """Return a function that also counts a thread as busy, and tells when none is idle."""
        if self._requests is not None:
            return function  # the loop counts, with the time in which libfuse's own locks block

        def call(*arguments: Any) -> int:
            if not self._idle:  # a call that came on none of these threads
                return function(*arguments)
            self._begin_answer()
            try:
                return function(*arguments)
            finally:
                self._end_answer()

        return call

    def _begin_answer(self) -> None:
        self._idle.pop()
        self._tell_if_all_busy()

    def _end_answer(self) -> None:
        self._idle.append(None)
        self._finished_calls += 1

    def _relieve(self) -> None:
        """Watch while all threads are busy, and start more if none of them finishes a call."""
        self._is_calm = False
        while True:
            self._relieved_at = time.monotonic()
            before = self._finished_calls
            is_awaited = self._receiver is not None and self._receiver.is_awaited()
            patience = _SHORT_PATIENCE_SECONDS if is_awaited else _PATIENCE_SECONDS
            try:
                event = self._events.get(timeout=patience)
            except queue.Empty:
                pass
            else:
                if event is _Event.END:
                    self._events.put(event)
                    return
            if self._idle:
                self._is_watched = False
                if self._idle:
                    return
                self._is_watched = True
                continue
            if self._finished_calls == before and self._receiver is not None:
                self._receiver.share()
            if is_awaited:
                continue
            # Threads in calls that wait for a worker are no help: the usual ones are others.
            waiting = min(self._count_waiting(), _MOST_MADE_UP_FOR)
            missing = self._usual_count - (len(self._threads) - waiting)
            if self._finished_calls == before:
                missing = max(missing, len(self._threads) // 2, 1)
            if missing > 0:
                self._start_threads(missing, self._work_while_needed)

    def _dismiss_relief(self) -> None:
        """End the threads that were started in a busy time, some time after it."""
        if not self._relief or time.monotonic() - self._relieved_at < _CALM_SECONDS:
            return
        self._is_calm = True
        with self._roster:
            for thread in self._relief:
                if thread.ident is not None:
                    signal.pthread_kill(thread.ident, _DISMISSAL)

    def _start_threads(self, count: int, work: Callable[[], None]) -> None:
        for _ in range(min(count, _MOST_THREADS - len(self._threads))):
            thread = threading.Thread(target=work, name="h5fs-fuse", daemon=True)
            # Before the start, since the thread's first call may be one that blocks.
            self._enter(thread, is_relief=work == self._work_while_needed)
            try:
                thread.start()
            except RuntimeError as error:  # the system allows no more
                self._leave(thread)
                if not self._threads:
                    raise MountRefusedError(f"no thread can be started: {error}") from None
                return

    def _enter(self, thread: threading.Thread, *, is_relief: bool) -> None:
        with self._roster:
            self._threads.append(thread)
            if is_relief:
                self._relief.append(thread)
        self._idle.append(None)

    def _leave(self, thread: threading.Thread) -> None:
        with self._roster:
            self._threads.remove(thread)
            if thread in self._relief:
                self._relief.remove(thread)
            with suppress(IndexError):
                self._idle.pop()
        self._tell_if_all_busy()

    def _may_leave(self) -> bool:
        """Whether enough other threads wait for requests: the usual ones may all be blocked."""
        is_awaited = self._receiver is not None and self._receiver.is_awaited()
        return self._is_calm and (is_awaited or len(self._idle) > self._usual_count)

    def _tell_if_all_busy(self) -> None:
        if not self._idle and not self._is_watched:
            self._is_watched = True
            self._events.put(_Event.ALL_BUSY)

    def _work(self) -> None:
        self._may_begin.wait()
        if self._requests is None:
            self._library.fuse_loop(self._libfuse.pointer)
        else:
            self._turn(is_relief=False)
        self._wait_for_the_end()

    def _work_while_needed(self) -> None:
        try:
            if not self._turn(is_relief=True):
                self._leave(threading.current_thread())
                return
        except BaseException:  # a thread that is gone must not be counted, nor be sent a signal
            self._leave(threading.current_thread())
            raise
        self._wait_for_the_end()

    def _turn(self, *, is_relief: bool) -> bool:
        """Answer requests; return True when the mount ends, False when the thread may end, as one
        that ``is_relief`` may."""
        loop = self._libfuse.request_loop()
        loop.requests, receiver = self._requests, self._receiver
        loop.on_begin, loop.on_data = self._begin_answer, self._share_requests
        loop.on_end, patience = self._end_answer, _CALM_SECONDS if is_relief else None
        try:
            while not self._ending.is_set():
                if receiver is not None and not self._receive(receiver, patience):
                    return False
                if self._ending.is_set() or loop.turn() is Turn.ENDED:
                    self._ending.set()  # who waits to receive need not ask the kernel
                elif is_relief and self._may_leave():
                    return False
            return True
        finally:
            if receiver is not None:
                receiver.give()
            loop.close()

    def _receive(self, receiver: Receiver, patience_seconds: float | None) -> bool:
        """Wait, as a thread that is not idle, until this thread receives; False if that lasts."""
        if receiver.is_this_thread():
            return True
        with suppress(IndexError):
            self._idle.pop()
        self._tell_if_all_busy()
        receives = receiver.take(patience_seconds)
        self._idle.append(None)
        return receives

    def _wait_for_the_end(self) -> None:
        self._ended.append(threading.current_thread())
        self._events.put(_Event.END)
        # A signal to a thread that is gone would be a crash.
        self._may_go.wait()

    def _end_threads(self) -> None:
        """Get each thread out of its ``read`` of /dev/fuse, after the request that it is answering.

        This is repeated: a signal may come just before the read, and a loop that ends takes away
        libfuse's mark that all loops shall end.
        """
        self._is_calm = False
        self._ending.set()
        while len(self._ended) < len(self._threads):
            self._library.fuse_exit(self._libfuse.pointer)
            with self._roster:
                for thread in self._threads:
                    if thread not in self._ended and thread.ident is not None:
                        signal.pthread_kill(thread.ident, signal.SIGTERM)
            try:
                self._events.get(timeout=_AGAIN_SECONDS)
            except queue.Empty:
                continue
        self._may_go.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def _signals_to(calls: Mapping[int, Callable[[], None]]) -> Iterator[None]:
    """Let signals call functions."""
    before = {}
    for number, call in calls.items():
        if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue  # nohup
        before[number] = signal.signal(number, lambda *_, call=call: call())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _declare(library: Any) -> Any:
    """Declare the functions that are called here: ctypes takes the rest for functions of ints."""
    library.fuse_loop.restype, library.fuse_loop.argtypes = c_int, (c_void_p,)
    library.fuse_exit.restype, library.fuse_exit.argtypes = None, (c_void_p,)
    return library
