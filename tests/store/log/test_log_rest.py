"""What follows the end of a log's chain: told from what a crash leaves, and said."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from simulated_disk import History, SimulatedFile

from h5fs.errors import LogMismatchError
from h5fs.store.log import format as log_format
from h5fs.store.log.format import CommitHead
from h5fs.store.log.logged_file import LoggedFile
from h5fs.store.log.recovery import describe_log

PAGE = 4096
BOOT, OTHER = b"the boot", b"another boot"


class Disk:
    """A main file and a log in memory."""

    def __init__(self, content: bytes = b"content" * 5000) -> None:
        history = History({"main": content, "log": b""}, content)
        self.main, self.log = SimulatedFile(history, "main"), SimulatedFile(history, "log")

    def write(self, values: str, boot: bytes = BOOT) -> list[int]:
        """Commit once for each letter, upper case durably; return where each commit ends."""
        file = LoggedFile(self.main, self.log, boot_id=boot)
        file.open()
        ends = []
        for value in values:
            for page in (0, 2, 3):
                file.seek(page * PAGE + 100)
                file.write(value.encode() * PAGE)
            file.commit(durable=value.isupper())
            ends.append(len(self.log.content))
        return ends

    def describe(self, boot: bytes = BOOT) -> tuple[int, int, bool]:
        found = describe_log(self.main, self.log, boot)
        return found.commits, found.rest.commits, found.rest.is_damage


@pytest.mark.semantics("U8")
@pytest.mark.parametrize("boot", [BOOT, OTHER])
def test_a_damaged_frame_before_whole_ones_is_damage_and_they_are_counted(boot: bytes) -> None:
    disk = Disk()
    ends = disk.write("ABCDE")
    assert disk.describe(boot) == (5, 0, False)
    disk.log.content[ends[1] + 500] ^= 1
    # The third commit's own frame is whole, too, but not its pages.
    assert disk.describe(boot) == (2, 3, True)


@pytest.mark.semantics("U8")
def test_every_flipped_bit_of_a_log_is_noticed_or_loses_nothing() -> None:
    """Of a log of this boot, wherever the bit is: the header, a head, a page, a checksum."""
    chance = random.Random(1)
    disk = Disk()
    ends = disk.write("AbCd")
    kept = bytes(disk.log.content)
    for place in [*range(48), *range(ends[0], ends[0] + 24), *range(len(kept) - 60, len(kept)),
                  *(chance.randrange(len(kept)) for _ in range(300))]:  # fmt: skip
        disk.log.content[:] = kept
        disk.log.content[place] ^= 1 << chance.randrange(8)
        found = describe_log(disk.main, disk.log, BOOT)
        assert found.mismatch or found.rest.is_damage or found.commits == 4, place


@pytest.mark.semantics("U8")
@pytest.mark.parametrize("boot", [BOOT, OTHER])
def test_a_log_that_ends_anywhere_is_what_a_crash_leaves(boot: bytes) -> None:
    disk = Disk()
    disk.write("ABc")
    kept = bytes(disk.log.content)
    for size in [*range(0, len(kept), 97), len(kept) - 1]:
        disk.log.content[:] = kept[:size]
        assert disk.describe(boot)[1:] == (0, False), size


@pytest.mark.semantics("U8")
def test_what_no_fsync_waited_for_may_be_torn_by_a_power_cut() -> None:
    disk = Disk()
    ends = disk.write("ABcdE")
    disk.log.content[ends[1] + 500] ^= 1  # E, durable, was under way
    assert disk.describe(OTHER) == (2, 3, False)
    assert disk.describe(BOOT) == (2, 3, True)  # without a power cut nothing is torn there
    disk.log.content[:] = disk.log.content[: ends[3]]
    assert disk.describe(OTHER) == (2, 2, False)


@pytest.mark.semantics("U8")
def test_zeros_at_the_end_are_damage_where_no_power_was_cut() -> None:
    disk = Disk()
    ends = disk.write("AB")
    disk.log.content[ends[0] :] = bytes(ends[1] - ends[0])
    assert disk.describe(BOOT) == (1, 0, True)
    assert disk.describe(OTHER) == (1, 0, False)


def test_the_words_of_a_frame_in_the_data_are_not_taken_for_one() -> None:
    disk = Disk()
    file = LoggedFile(disk.main, disk.log, boot_id=OTHER)
    file.open()
    file.write(b"DONEPAGE" * 3000)
    file.commit(durable=True)
    disk.log.content[6000] ^= 1
    assert disk.describe(BOOT) == (0, 1, False)


@pytest.mark.semantics("U5")
@pytest.mark.parametrize("what", ["length", "main bytes", "page", "page size", "base length"])
def test_crafted_numbers_are_a_mismatch_that_says_what_to_do(what: str) -> None:
    disk = Disk()
    disk.write("A")
    page_bytes = 2**31 if what == "page size" else PAGE
    base = 2**64 - 1 if what == "base length" else len(disk.main.content)
    first_page = bytes(disk.main.content[:PAGE])
    header = log_format.Header(PAGE, bytes(16), base, first_page)
    data, chain = log_format.pack_header(header)
    if what == "page size":
        data = data[:12] + page_bytes.to_bytes(4, "little") + data[16:]
    number = 2**63 if what == "page" else 0
    pages, chain = log_format.pack_page_head(number, bytes(PAGE), PAGE, chain)
    length = 2**63 if what == "length" else PAGE
    main_bytes = 2**64 - 1 if what == "main bytes" else 0
    digest = log_format.digest_boot_id(BOOT)
    commit, _ = log_format.pack_commit(CommitHead(1, True, length, digest, main_bytes), chain)
    disk.log.content[:] = data + pages + bytes(PAGE) + commit
    found = describe_log(disk.main, disk.log, BOOT)
    assert "move the log away" in found.mismatch
    with pytest.raises(LogMismatchError):
        LoggedFile(disk.main, disk.log, boot_id=BOOT).open()


def test_a_length_that_the_file_system_does_not_have_is_a_line(tmp_path: Path) -> None:
    from h5fs.errors import CannotOpenError
    from h5fs.model.settings import Locking, Mode
    from h5fs.store.log.file_and_log import open_logged

    disk = Disk()
    first_page = bytes(disk.main.content[:PAGE])
    data, chain = log_format.pack_header(log_format.Header(PAGE, bytes(16), 0, first_page))
    commit, _ = log_format.pack_commit(CommitHead(1, True, 2**63 - 1, bytes(16), 0), chain)
    (tmp_path / "f.h5").write_bytes(disk.main.content)
    (tmp_path / "f.h5.h5fs-log").write_bytes(data + commit)
    with pytest.raises(CannotOpenError, match=r"File too large|space|Invalid"):
        open_logged(tmp_path / "f.h5", Mode.UPDATE, Locking.DEFAULT, BOOT, checks=False)
    assert (tmp_path / "f.h5").read_bytes() == disk.main.content
