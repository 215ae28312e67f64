"""HDF5 work on a simulated disk, cut off everywhere; mutants of what keeps it safe."""

from __future__ import annotations

import collections
import dataclasses
import random
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import hdf5_work
from simulated_disk import CommitMark, History, SimulatedFile

from h5fs.store.log import changing_file, log_reader, log_rest
from h5fs.store.log import format as log_format
from h5fs.store.log.blank_pages import BlankPages
from h5fs.store.log.logged_file import LoggedFile
from h5fs.store.log.recovery import describe_log, recover
from h5fs.store.log.runs import RunIndex

Skipped = tuple[str, set[str], set[str]]
STATES_PER_SESSION = 40


@dataclass
class Tally:
    """What was looked at, and descriptions of what was lost."""

    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    losses: list[str] = field(default_factory=list)

    @property
    def states(self) -> int:
        return self.counts["power cuts"] + self.counts["kills"]


class Session:
    """HDF5 work on the disk of a history, which it goes on with."""

    def __init__(self, history: History, boot: bytes, skipped: Skipped | None) -> None:
        self.history = history
        self.main = SimulatedFile(history, "main", skipped=skipped)
        self.log = SimulatedFile(history, "log", skipped=skipped)
        self.file = LoggedFile(self.main, self.log, boot_id=boot)
        self.file.open()

    def work(self, rng: random.Random, largest: int, tally: Tally) -> None:
        """Change the file and commit, a few times."""
        libver = rng.choice(hdf5_work.LIBVERS)
        opened = hdf5_work.open_hdf5(self.file, libver)
        try:
            for _ in range(rng.randrange(3, 12)):
                for _ in range(rng.randrange(1, 6)):
                    hdf5_work.change(opened, rng, largest)
                if rng.random() < 0.3:
                    opened.flush()
                way = rng.choice(["durable", "durable", "soft", "soft", "checkpoint", "none"])
                if way != "none":
                    opened.flush()
                    self.commit(way, tally)
                    expected = hdf5_work.digest(opened)
                    if hdf5_work.digest_image(self.history.commits[-1].image) != expected:
                        tally.losses.append("a commit is not what HDF5 shows")
        finally:
            opened.close()
        if rng.random() < 0.5:
            self.commit(rng.choice(["durable", "soft", "checkpoint"]), tally)

    def commit(self, way: str, tally: Tally) -> None:
        start, image = len(self.history.calls), self.file.read_at(0, self.file.length)
        if way == "checkpoint":
            self.file.checkpoint()
        else:
            self.file.commit(durable=way == "durable")
        tally.counts[f"{way} commits" if way != "checkpoint" else "checkpoints"] += 1
        stop = len(self.history.calls)
        self.history.commits.append(CommitMark(start, stop, way != "soft", image))


def run_campaign(
    states: int,
    seed: int,
    largest: int,
    show: Callable[[str], None] = lambda text: None,
    skipped: Skipped | None = None,
    *,
    stops_early: bool = False,
) -> Tally:
    """Look at ``states`` states after power cuts and kills; with ``stops_early`` to the first loss.

    One state of each session is where the next one starts, without being recovered first.
    """
    tally = Tally()
    rng = random.Random(seed)
    history = History({"main": b"", "log": b""}, b"")
    boot = 0
    while tally.states < states and not (stops_early and tally.losses):
        if rng.random() < 0.2:
            history = History({"main": b"", "log": b""}, b"")
        try:
            session = Session(history, b"boot %d" % boot, skipped)
            session.work(rng, largest, tally)
        except Exception as error:
            tally.losses.append(f"session of seed {seed}, boot {boot}: {error!r}")
            history = History({"main": b"", "log": b""}, b"")
            continue
        for _ in range(STATES_PER_SESSION):
            show(f"{tally.states} states, {len(tally.losses)} lost")
            cut = history.until(_choose_cut(history, rng))
            if rng.random() < 0.4:
                look_after_damage(cut, boot, rng, tally)
            if rng.random() < 0.3:
                look_after_kill(cut, boot, rng, tally, skipped)
            else:
                look_after_power_cut(cut, boot, rng, tally, skipped)
        if rng.random() < 0.4 and len(history.calls) < 1500:
            history = history.until(_choose_cut(history, rng))  # a kill: the same boot goes on
        else:
            boot += 1
            history = _go_on(history, boot, rng)
    return tally


def _choose_cut(history: History, rng: random.Random) -> int:
    """Return a moment, often one just around a commit."""
    if history.commits and rng.random() < 0.6:
        mark = rng.choice(history.commits)
        stop = mark.stop if mark.stop is not None else mark.start
        return min(len(history.calls), rng.randint(mark.start, stop + 2))
    return rng.randint(0, len(history.calls))


def _go_on(history: History, boot: int, rng: random.Random) -> History:
    """Return what the next session starts with: the disk after a power cut, not yet recovered."""
    cut = history.until(_choose_cut(history, rng))
    files = cut.after_power_cut(rng)
    fresh = History(files, b"")
    try:
        file = LoggedFile(
            SimulatedFile(fresh, "main"), SimulatedFile(fresh, "log"), boot_id=b"boot %d" % boot
        )
        file.open()
        fresh.image = file.read_at(0, file.length)
    except Exception:
        return History({"main": b"", "log": b""}, b"")  # counted where states are looked at
    return fresh


def look_after_kill(
    cut: History, boot: int, rng: random.Random, tally: Tally, skipped: Skipped | None
) -> None:
    """See what a new process finds, and then what a power cut leaves of what it did."""
    tally.counts["kills"] += 1
    image = _recover(cut, boot, tally, "kill", cut.allowed_after_kill(), skipped)
    if image is None or rng.random() < 0.5:
        return
    # Recovery returned: what it found is durable now, and was not before its commit was.
    before = len(cut.calls)
    again = History(cut.base, cut.image, list(cut.calls), list(cut.commits))
    disk = [SimulatedFile(again, name, skipped=skipped) for name in ("main", "log")]
    recover(disk[0], disk[1], b"boot %d" % boot)
    again.commits.append(CommitMark(before, len(again.calls), True, image))
    cut = again.until(rng.randint(before, len(again.calls)))
    look_after_power_cut(cut, boot, rng, tally, skipped)


def look_after_power_cut(
    cut: History, boot: int, rng: random.Random, tally: Tally, skipped: Skipped | None
) -> None:
    """See what another kernel finds on the disk, also when its recovery is cut off."""
    tally.counts["power cuts"] += 1
    allowed = cut.allowed_after_power_cut()
    after = History(cut.after_power_cut(rng), b"")
    image = _recover(after, boot + 1, tally, "power cut", allowed, skipped)
    if image is None or rng.random() < 0.6:
        return
    tally.counts["power cuts in recovery"] += 1
    disk = [SimulatedFile(after, name, skipped=skipped) for name in ("main", "log")]
    recover(disk[0], disk[1], b"boot %d" % (boot + 1))
    middle = after.until(rng.randint(0, len(after.calls)))
    twice = History(middle.after_power_cut(rng), b"")
    _recover(twice, boot + 2, tally, "power cut in recovery", [image], skipped)


def look_after_damage(cut: History, boot: int, rng: random.Random, tally: Tally) -> None:
    """Flip a bit of the log of a killed process: all commits stay, or it is said that some went.

    Of a log that was begun under the same kernel, as that of each mount that writes is.
    """
    files = cut.cached()
    if cut.base["log"] or not files["log"]:
        return
    tally.counts["flipped bits"] += 1
    heads = [found.start() for found in re.finditer(b"PAGE|DONE", files["log"])] or [0]
    end = len(files["log"])
    place = rng.choice(
        [
            rng.randrange(end),
            end - rng.randint(1, 60),
            rng.choice(heads) + rng.randrange(24),
            rng.choice(heads[-3:]) + 4,  # how many pages follow
        ]
    )
    damaged = bytearray(files["log"])
    damaged[min(max(0, place), end - 1)] ^= 1 << rng.randrange(8)
    images = []
    for log in (files["log"], bytes(damaged)):
        copy = History({"main": files["main"], "log": log}, b"")
        disk = [SimulatedFile(copy, name) for name in ("main", "log")]
        found = describe_log(disk[0], disk[1], b"boot %d" % boot)
        if found.mismatch or found.rest.is_damage:
            return
        recover(disk[0], disk[1], b"boot %d" % boot)
        images.append(disk[0].content)
    if images[0] != images[1]:
        tally.losses.append(f"a flipped bit at {place} of {len(damaged)} loses commits in silence")


def _recover(
    history: History,
    boot: int,
    tally: Tally,
    what: str,
    allowed: list[bytes],
    skipped: Skipped | None,
) -> bytes | None:
    """Open and recover a copy; return the file's bytes if they are among ``allowed``."""
    copy = History(history.base, b"", list(history.calls))
    disk = [SimulatedFile(copy, name, skipped=skipped) for name in ("main", "log")]
    try:
        file = LoggedFile(disk[0], disk[1], boot_id=b"boot %d" % boot)
        file.open()
        if file.rest.is_damage:
            tally.losses.append(f"{what}: called damage")
            return None
        seen = file.read_at(0, file.length)
        recover(disk[0], disk[1], b"boot %d" % boot)
    except Exception as error:
        tally.losses.append(f"{what}: {error!r}")
        return None
    image = bytes(disk[0].content)
    if seen != image or disk[1].content:
        tally.losses.append(f"{what}: recovery is not what was seen before it")
    elif image not in allowed:
        tally.losses.append(f"{what}: {len(image)} bytes that are no commit that may be there")
    else:
        return image
    return None


# What the log's safety rests on, left out one at a time.

Mutant = Callable[[], AbstractContextManager[Skipped | None]]


def skip_fsync(file: str, within: set[str], without: set[str]) -> Mutant:
    """Leave out the fsyncs of a file that are made within some functions and not in others."""

    @contextmanager
    def mutant() -> Iterator[Skipped | None]:
        yield file, within, without

    return mutant


def replace_attribute(owner: Any, name: str, make: Callable[[Any], Any]) -> Mutant:
    """Have something else in the place of a function or value of the shipped code."""

    @contextmanager
    def mutant() -> Iterator[Skipped | None]:
        kept = getattr(owner, name)
        setattr(owner, name, make(kept))
        try:
            yield None
        finally:
            setattr(owner, name, kept)

    return mutant


def _floor_of_last_length(note_commit: Any) -> Any:
    def note(self: Any, *, durable: bool) -> None:
        note_commit(self, durable=durable)
        self._floor = self.length

    return note


def _shrink_without_zeros(shrink: Any) -> Any:
    def shrink_only(self: Any, length: int) -> None:
        page = length // self._page_bytes
        known = page in self._layers.changed
        shrink(self, length)
        if not known:
            self._layers.changed.pop(page, None)

    return shrink_only


def _count_all(_: Any) -> Any:
    return lambda commits, boot: len(commits)


def _alarm_at_commits(survey: Any) -> Any:
    def alarm(*arguments: Any, **more: Any) -> Any:
        rest = survey(*arguments, **more)
        return dataclasses.replace(rest, is_damage=rest.is_damage or rest.commits > 0)

    return alarm


def _alarm_at_bytes(survey: Any) -> Any:
    def alarm(*arguments: Any, **more: Any) -> Any:
        rest = survey(*arguments, **more)
        return dataclasses.replace(rest, is_damage=rest.size_bytes > 0)

    return alarm


def _trust_main(open_file: Any) -> Any:
    def trust(self: Any) -> None:
        open_file(self)
        self._is_main_on_disk = True

    return trust


def _soft_checkpoint(commit: Any) -> Any:
    def commit_softly(self: Any, *, durable: bool) -> None:
        commit(self, durable=False)

    return commit_softly


MUTANTS: dict[str, Mutant] = {
    "no fsync of the main file before a durable commit frame": skip_fsync(
        "main", {"_commit"}, set()
    ),
    "no fsync of the log after a durable commit frame": skip_fsync(
        "log", {"sync", "commit"}, {"_begin_on_disk"}
    ),
    "no fsync of the header before the main file is extended": skip_fsync(
        "log", {"_begin_on_disk"}, set()
    ),
    "no fsync of the main file in a checkpoint": skip_fsync("main", {"checkpoint"}, {"_commit"}),
    "no fsync of the emptied log": skip_fsync("log", {"empty"}, set()),
    "a checksum that always matches": replace_attribute(
        log_format, "checksum", lambda _: lambda data, start: 0
    ),
    "a checksum of heads, not of pages": replace_attribute(
        log_format, "checksum", lambda crc: lambda d, start: crc(d, start) if len(d) < 64 else start
    ),
    "soft commits count whatever the boot": replace_attribute(
        log_reader, "_count_commits", _count_all
    ),
    "a checkpoint of what is not durable": replace_attribute(
        LoggedFile, "commit", _soft_checkpoint
    ),
    "what follows the chain is not looked at": replace_attribute(
        log_reader, "survey_rest", lambda _: lambda log, start, *_, **__: log_rest.LogRest(start)
    ),
    "any whole commit behind a broken place is damage": replace_attribute(
        log_reader, "survey_rest", _alarm_at_commits
    ),
    "any rest is damage": replace_attribute(log_reader, "survey_rest", _alarm_at_bytes),
    "a log that does not say under which kernel it was begun": replace_attribute(
        log_format, "make_salt", lambda _: lambda boot: bytes(16)
    ),
    "a floor that forgets the last durable commit": replace_attribute(
        LoggedFile, "_note_commit", _floor_of_last_length
    ),
    "pages that were filled stay blank after a durable commit": replace_attribute(
        BlankPages, "note_durable_commit", lambda _: lambda self: None
    ),
    "pages that went through the log stay blank": replace_attribute(
        BlankPages, "end", lambda _: lambda self, first, stop: None
    ),
    "direct writes below pages that the log will replay": replace_attribute(
        RunIndex,
        "overlap",
        lambda overlap: (
            lambda self, start, stop: (
                []
                if sys._getframe(1).f_code.co_name == "_write_pages"
                else overlap(self, start, stop)
            )
        ),
    ),
    "the main file is not known to be changed after a kill": replace_attribute(
        LoggedFile, "open", _trust_main
    ),
    "no zeros where the file grows again": replace_attribute(
        changing_file.ChangingFile,
        "_grow",
        lambda _: lambda self, length: setattr(self, "length", length),
    ),
    "no zeros in the last page": replace_attribute(
        changing_file.ChangingFile, "_shrink", _shrink_without_zeros
    ),
}
