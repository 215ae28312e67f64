"""Files made to take a mount down, on real mounts: each costs an errno and a log line, no more.

Everything is read by programs that may be given up, so that a mount that hangs fails the test.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.fuzzing import (
    judge_reading,
)
from support.hostile import (
    HEAP_LOOPS,
    NEIGHBOUR,
    add_chunk_bomb,
    add_deep_groups,
    add_doubling_groups,
    add_external_raw,
    add_link_circles,
    add_many_attributes,
    add_never_written,
    add_soft_chain,
    add_virtual,
    add_virtual_chain,
    add_virtual_ring,
    deep_compound_type,
    deep_sequence_type,
    make_traps,
    sequence_type,
    string_type,
    text_type,
    write_looping_heap,
    write_neighbours,
)
from support.mounts import Mounted, end_mount, mounted, run_h5fs
from support.reference import npy_bytes
from support.waiting import PATIENCE_SECONDS
from support.watching import (
    HungError,
    MemoryWatch,
    Process,
    Reading,
    read_everything,
    run_bounded,
)

from h5fs.daemon.registry import find_daemon

DEADLINE_SECONDS = 3
SLACK_SECONDS = PATIENCE_SECONDS / 2  # for a machine that is busy with other work
LARGEST_MEMORY_BYTES = 3 * 2**29
NEIGHBOURS = {"before.npy", "z", "z/after.npy", "z/packed.npy", "z/text.npy", ".attrs.json"}


@contextlib.contextmanager
def survived(
    file: Path, *options: str, largest_bytes: int = LARGEST_MEMORY_BYTES
) -> Iterator[Mounted]:
    """Mount a file. After the block the neighbours are right, the daemon is the same one, and it
    and all that it started have never had more memory than they may."""
    texts = ",".join([f"deadline={DEADLINE_SECONDS}", *options])
    with mounted(file, options=["-o", texts]) as mount:
        daemon = Process.find(mount.pid)
        with MemoryWatch(mount.pid) as memory:
            yield mount
            check_neighbours(mount)
        assert daemon.is_running()
        assert memory.peak_bytes < largest_bytes, f"{memory.peak_bytes >> 20} MiB"


def check_neighbours(mount: Mounted) -> None:
    """Everything else in the file is there, byte for byte."""
    text = np.array(["first", "second"])
    expected = {
        "before.npy": npy_bytes(NEIGHBOUR), "z/after.npy": npy_bytes(NEIGHBOUR),
        "z/packed.npy": npy_bytes(NEIGHBOUR), "z/text.npy": npy_bytes(text),
    }  # fmt: skip
    printed = run_bounded(
        ["sha256sum", *expected], seconds=DEADLINE_SECONDS + SLACK_SECONDS, cwd=mount.path
    )
    sums = {line[66:]: line[:64] for line in printed.splitlines()}
    assert sums == {name: hashlib.sha256(data).hexdigest() for name, data in expected.items()}
    assert '"here"' in run_bounded(["cat", ".attrs.json"], seconds=PATIENCE_SECONDS, cwd=mount.path)


def read_all(mount: Mounted, **bounds: float) -> Reading:
    """Read everything; every answer came in time, and came."""
    bounds = {"seconds": 2 * PATIENCE_SECONDS, **bounds}
    reading = read_everything(mount.path, **bounds)  # type: ignore[arg-type]
    assert list(judge_reading(reading, seconds=DEADLINE_SECONDS + SLACK_SECONDS)) == []
    assert reading.final["listing"] == "ok"
    assert reading.final["lookup"] == "ENOENT"
    return reading


def errno_of(mount: Mounted, name: str, *, offset: int = 0, size: int = 4096) -> str:
    """Return the name of the errno with which a file cannot be read; ``ok`` when it can be."""
    program = (
        "import errno, os, sys\n"
        "try:\n"
        "    descriptor = os.open(sys.argv[1], os.O_RDONLY)\n"
        "    os.pread(descriptor, int(sys.argv[3]), int(sys.argv[2]))\n"
        "    print('ok')\n"
        "except OSError as error: print(errno.errorcode[error.errno])\n"
    )
    command = [sys.executable, "-I", "-S", "-c", program, name, str(offset), str(size)]
    return run_bounded(
        command, seconds=DEADLINE_SECONDS + SLACK_SECONDS, cwd=mount.path
    ).strip()  # fmt: skip


def read_range(mount: Mounted, name: str, offset: int, size: int) -> bytes:
    """Return bytes of a file."""
    program = (
        "import os, sys; descriptor = os.open(sys.argv[1], os.O_RDONLY)\n"
        "print(os.pread(descriptor, int(sys.argv[3]), int(sys.argv[2])).hex())"
    )
    command = [sys.executable, "-I", "-S", "-c", program, name, str(offset), str(size)]
    seconds = DEADLINE_SECONDS + SLACK_SECONDS
    return bytes.fromhex(run_bounded(command, seconds=seconds, cwd=mount.path))


def size_of(mount: Mounted, name: str) -> int:
    """Return what ``stat`` says."""
    return int(run_bounded(["stat", "-c", "%s", name], seconds=PATIENCE_SECONDS, cwd=mount.path))


def quarantined(mount: Mounted) -> list[str]:
    """Return the log's lines about objects that nobody may touch any more."""
    return [line for line in mount.log_lines() if " ERROR quarantined: " in line]


def is_named(mount: Mounted, name: str) -> bool:
    """Whether a line of the log names an object."""
    return any(name in line for line in mount.log_lines())


# Virtual datasets


@pytest.mark.semantics("L6", "E3")
def test_a_virtual_dataset_among_its_own_sources_is_eacces(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        write_neighbours(opened)
        add_virtual_ring(opened, "itself")
        add_virtual_ring(opened, "one", "other")
        add_virtual(opened, "to ring", ".", "one")
        add_virtual(opened, "far", "g.h5", "far")
    with h5py.File(tmp_path / "g.h5", "w") as opened:
        add_virtual(opened, "far", "f.h5", "far")
    with survived(tmp_path / "f.h5") as mount:
        reading = read_all(mount)
        for name in ("itself", "one", "other", "to ring", "far"):
            assert reading.errno_of(f"{name}.npy", "open") == "EACCES", name
            assert is_named(mount, f"/{name}")
        assert len(reading.problems) == 5
        assert quarantined(mount) == []


@pytest.mark.semantics("L6", "D1")
@pytest.mark.parametrize("length", [10, 40, 3000])
def test_a_chain_of_virtual_datasets_is_right_or_eacces(tmp_path: Path, length: int) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        write_neighbours(opened)
        add_virtual_chain(opened, "chain", length)
    expected = npy_bytes(np.arange(6, dtype="<i4"))
    with survived(tmp_path / "f.h5") as mount:
        assert read_range(mount, f"chain{length - 1}.npy", 0, 4096) == expected
        first = errno_of(mount, "chain0.npy")
        if first == "ok":
            assert read_range(mount, "chain0.npy", 0, 4096) == expected
        else:
            assert first == "EACCES"
            assert is_named(mount, "/chain0")
        assert (first == "ok") == (length == 10)


# Groups and links


@pytest.mark.semantics("W5", "E3", "E4")
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_groups_twenty_thousand_deep_end_at_a_depth(tmp_path: Path, libver: str) -> None:
    with h5py.File(tmp_path / "f.h5", "w", libver=libver) as opened:
        write_neighbours(opened)
        add_deep_groups(opened, b"deep", 20_000)
    with survived(tmp_path / "f.h5", "max_depth=200") as mount:
        reading = read_all(mount)
        assert reading.ended
        assert 190 <= reading.deepest <= 210
        assert len(reading.problems) == 1
        assert reading.problems[0][2] in ("EIO", "ELOOP", "ENAMETOOLONG")
        assert is_named(mount, "/deep/deep")
        assert errno_of(mount, "deep/deep/nothing") == "ENOENT"


@pytest.mark.semantics("E4")
def test_a_walk_of_very_deep_groups_ends(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w", libver="latest") as opened:
        write_neighbours(opened)
        add_deep_groups(opened, b"d", 20_000)
    with survived(tmp_path / "f.h5") as mount:
        reading = read_all(mount)
        assert reading.ended
        assert 990 <= reading.deepest <= 1010
        listed = run_bounded(
            ["ls", "-lR"], seconds=2 * PATIENCE_SECONDS, must_succeed=False, cwd=mount.path
        )
        assert listed.count("\n./d") > 900


@pytest.mark.semantics("L1", "L3", "L4", "E4")
def test_links_in_circles_cost_nothing(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        write_neighbours(opened)
        add_link_circles(opened)
    with survived(tmp_path / "f.h5") as mount:
        reading = read_all(mount)
        assert reading.ended
        assert reading.counts["entries"] < 100
        assert {code for _, _, code in reading.problems} <= {"ELOOP", "ENOENT"}
        for name in ("soft", "soft too", "through itself"):
            assert reading.errno_of(f"circle/{name}", "stat link") == "ELOOP"
        assert run_bounded(["find", ".", "-name", "up"], seconds=PATIENCE_SECONDS, cwd=mount.path)


@pytest.mark.semantics("L1", "E4")
def test_a_chain_of_hundreds_of_soft_links_is_eloop(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        write_neighbours(opened)
        add_soft_chain(opened, "soft", 500)
    with survived(tmp_path / "f.h5") as mount:
        assert errno_of(mount, "soft0") == "ELOOP"
        assert errno_of(mount, "soft500.npy") == "ok"
        reading = read_all(mount)
        assert reading.ended
        assert {code for _, _, code in reading.problems} <= {"ELOOP", "ENOENT"}


@pytest.mark.semantics("E4")
def test_groups_with_more_paths_than_can_be_walked_answer_each(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        write_neighbours(opened)
        add_doubling_groups(opened, "double", 64)
    with survived(tmp_path / "f.h5") as mount:
        reading = read_all(mount, most_entries=3000)
        assert not reading.ended
        assert reading.problems == []


# Chunks


@pytest.mark.semantics("W5", "D13", "E3")
def test_a_chunk_beyond_the_limit_is_eio_and_never_inflated(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        write_neighbours(opened)
        add_chunk_bomb(opened, "bomb", 2**30)
    assert (tmp_path / "f.h5").stat().st_size < 2 * 2**20
    with survived(tmp_path / "f.h5", largest_bytes=2**29) as mount:
        assert errno_of(mount, "bomb.npy", offset=2**29, size=1) == "EIO"
        assert errno_of(mount, "bomb.npy", offset=128, size=1) == "EIO"
        assert is_named(mount, "/bomb")
        assert quarantined(mount) == []


@pytest.mark.semantics("W5", "D1", "D13")
def test_the_largest_chunk_is_an_option(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        write_neighbours(opened)
        add_chunk_bomb(opened, "chunk", 8 * 2**20)
    with survived(tmp_path / "f.h5", "max_chunk=4M") as mount:
        assert errno_of(mount, "chunk.npy", offset=4 * 2**20) == "EIO"
        assert is_named(mount, "/chunk")
    with survived(tmp_path / "f.h5", "max_chunk=8M") as mount:
        assert read_range(mount, "chunk.npy", 4 * 2**20, 4096) == bytes(4096)


@pytest.mark.semantics("D13", "E3")
def test_a_chunk_that_inflates_far_beyond_its_size_is_eio(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        write_neighbours(opened)
        add_chunk_bomb(opened, "bomb", 4096, inflated_bytes=2**30)
    with survived(tmp_path / "f.h5", "memory=512M") as mount:
        assert size_of(mount, "bomb.npy") == 128 + 4096
        assert errno_of(mount, "bomb.npy") == "EIO"
        assert is_named(mount, "/bomb")


# Sizes


@pytest.mark.semantics("S2", "D2", "D1")
@pytest.mark.parametrize("chunks", [None, (2**20,)])
def test_two_to_the_62_elements_are_zeros_wherever_they_are_read(
    tmp_path: Path, chunks: tuple[int, ...] | None
) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        write_neighbours(opened)
        add_never_written(opened, "huge", (2**62,), chunks=chunks)
    with survived(tmp_path / "f.h5") as mount:
        assert size_of(mount, "huge.npy") == 2**62 + 128
        for offset in (128, 2**40 + 1, 2**61 + 77, 2**62 + 128 - 4096):
            assert read_range(mount, "huge.npy", offset, 4096) == bytes(4096)
        assert read_all(mount).problems == []
        assert not is_named(mount, "/huge")


@pytest.mark.semantics("S7")
def test_two_to_the_62_integers_are_eoverflow(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        write_neighbours(opened)
        add_never_written(opened, "huge", (2**62,), type_id=h5py.h5t.STD_I32LE, chunks=(1024,))
    with survived(tmp_path / "f.h5") as mount:
        assert errno_of(mount, "huge.npy") == "EOVERFLOW"
        assert {code for _, _, code in read_all(mount).problems} == {"EOVERFLOW"}


@pytest.mark.semantics("D1", "D2")
@pytest.mark.parametrize(
    ("shape", "chunks"),
    [((2**40, 2**20), (1, 1)), ((2**30, 2**30), (2**9, 2**9)), ((4,) * 31, (1,) * 31)],
)
def test_a_huge_grid_of_chunks_that_are_not_there_is_zeros(
    tmp_path: Path, shape: tuple[int, ...], chunks: tuple[int, ...]
) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        write_neighbours(opened)
        add_never_written(opened, "sparse", shape, chunks=chunks)
    # The library spends some kilobytes, and time, on each chunk that a read touches, there or not.
    with survived(tmp_path / "f.h5", "deadline=60", largest_bytes=3 * 2**30) as mount:
        size = size_of(mount, "sparse.npy")
        for offset in (192, size // 2 + 1, size - 4096):
            assert read_range(mount, "sparse.npy", offset, 4096) == bytes(4096)
        assert errno_of(mount, "sparse.npy", offset=size // 3, size=2**17) == "ok"


@pytest.mark.semantics("D12", "D13")
@pytest.mark.parametrize("chunks", [None, (1024,)])
@pytest.mark.parametrize(
    ("type_id", "suffixes"),
    [(text_type, [".npy"]), (sequence_type, [".values.npy", ".offsets.npy"])],
)
def test_a_scan_of_a_trillion_elements_is_given_up(
    tmp_path: Path,
    chunks: tuple[int, ...] | None,
    type_id: Callable[[], h5py.h5t.TypeID],
    suffixes: list[str],
) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        write_neighbours(opened)
        add_never_written(opened, "endless", (2**40,), type_id=type_id(), chunks=chunks)
    with survived(tmp_path / "f.h5") as mount:
        read_all(mount, seconds=PATIENCE_SECONDS)
        for suffix in suffixes:
            answer = errno_of(mount, f"endless{suffix}")
            assert answer in ("EIO", "ok")  # who need not scan what is not there can tell
            assert answer == "ok" or is_named(mount, "/endless")
        assert len(quarantined(mount)) <= 1


@pytest.mark.semantics("W5", "D13", "E3")
def test_an_element_of_two_gigabytes_is_zeros_or_eio(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        write_neighbours(opened)
        add_never_written(opened, "element", (4,), type_id=string_type(2**31 - 1))
    with survived(tmp_path / "f.h5", "memory=1G") as mount:
        answer = errno_of(mount, "element.npy", offset=2**31)
        if answer == "ok":
            assert read_range(mount, "element.npy", 2**31, 4096) == bytes(4096)
        else:
            assert answer == "EIO"
            assert is_named(mount, "/element")


@pytest.mark.semantics("D13", "E3")
@pytest.mark.parametrize(("make", "depth"), [(deep_compound_type, 500), (deep_sequence_type, 2500)])
def test_types_within_types_are_refused_or_read(
    tmp_path: Path, make: Callable[[int], h5py.h5t.TypeID], depth: int
) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        write_neighbours(opened)
        add_never_written(opened, "nested", (4,), type_id=make(depth))
        made = make(depth)
        made.commit(opened.id, b"committed")
        opened["with attribute"] = NEIGHBOUR
        space = h5py.h5s.create(h5py.h5s.SCALAR)
        if make is deep_compound_type:  # of the other kind an attribute has no place for so much
            h5py.h5a.create(opened["with attribute"].id, b"nested", made, space)
    # The dataset and the committed type may be looked at by two workers, each with its own limit.
    largest_bytes = 2 * 2**30 + LARGEST_MEMORY_BYTES // 4
    with survived(tmp_path / "f.h5", "memory=1G", largest_bytes=largest_bytes) as mount:
        reading = read_all(mount)
        assert {code for _, _, code in reading.problems} <= {"EIO", "ENOTSUP"}
        assert all("nested" in where or "committed" in where or "attribute" in where
                   for _, where, _ in reading.problems)  # fmt: skip
        assert errno_of(mount, "with attribute.npy") == "ok"


# Attributes


@pytest.mark.semantics("S8", "A3")
@pytest.mark.parametrize("options", [(), ("xattr",)])
def test_two_hundred_thousand_attributes_are_all_there_or_eio(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    # A million take 25 s to make; HDF5 stores these the same way.
    with h5py.File(tmp_path / "f.h5", "w", libver="latest") as opened:
        write_neighbours(opened)
        add_many_attributes(opened, "many", 200_000)
    with survived(tmp_path / "f.h5", *options) as mount:
        reading = read_all(mount)
        assert {code for _, _, code in reading.problems} <= {"EIO", "E2BIG", "ERANGE"}
        answer = errno_of(mount, "many.attrs.json")
        if answer == "ok":
            text = run_bounded(["cat", "many.attrs.json"], seconds=PATIENCE_SECONDS, cwd=mount.path)
            assert text.count(": 0,") >= 199_999
        else:
            assert answer == "EIO"
            assert is_named(mount, "/many")
        # Attributes that take too long to read may cost their object, and no other.
        assert errno_of(mount, "many.npy") in ("ok", answer)


# Heaps


@pytest.mark.semantics("W2", "D13", "E3")
@pytest.mark.parametrize("change", HEAP_LOOPS)
@pytest.mark.parametrize("is_attribute", [False, True])
def test_a_heap_that_loops_is_eio_at_the_deadline_and_at_once_from_then_on(
    tmp_path: Path, change: Callable[[bytearray], None], is_attribute: bool
) -> None:
    write_looping_heap(tmp_path / "f.h5", change, is_attribute=is_attribute)
    check_that_h5py_hangs(tmp_path / "f.h5", is_attribute=is_attribute)
    with survived(tmp_path / "f.h5") as mount:
        looping = "loop.attrs.json" if is_attribute else "loop.npy"
        for _ in range(3):
            assert errno_of(mount, looping) == "EIO"
            reading = read_all(mount)
            assert {where for _, where, _ in reading.problems} <= {looping, "loop.npy"}
            assert len(quarantined(mount)) == 1  # it has hung one worker, once
        assert "/loop" in quarantined(mount)[0]
        assert "no answer within" in quarantined(mount)[0]


def check_that_h5py_hangs(file: Path, *, is_attribute: bool) -> None:
    """The recipe is one: plain h5py does not come back from reading ``/loop``."""
    what = ".attrs['text']" if is_attribute else "[()]"
    program = f"import h5py, sys; h5py.File(sys.argv[1])['loop']{what}"
    with pytest.raises(HungError):
        run_bounded([sys.executable, "-c", program, str(file)], seconds=2)


@pytest.mark.semantics("W1", "E3")
def test_a_mount_answers_others_while_one_object_hangs(tmp_path: Path) -> None:
    write_looping_heap(tmp_path / "f.h5", HEAP_LOOPS[0])
    # The neighbours are looked at twice before the deadline, on a busy machine too.
    with survived(tmp_path / "f.h5", "workers=2,deadline=12") as mount:
        # The kernel lets one program at a time look for a name in a folder.
        run_bounded(
            ["ls", "-lR", "z", "before.npy", ".attrs.json"],
            seconds=PATIENCE_SECONDS,
            cwd=mount.path,
        )
        hanging = subprocess.Popen(
            ["cat", "loop.npy"], cwd=mount.path, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        reads = 0
        while hanging.poll() is None:
            check_neighbours(mount)
            reads += 1
            assert reads < 10_000
        assert reads >= 2
        assert os.strerror(errno.EIO).encode() in hanging.communicate(timeout=PATIENCE_SECONDS)[1]


# Outside of the file


@pytest.mark.semantics("L5", "E3")
@pytest.mark.parametrize("policy", ["folder", "none", "all"])
def test_external_links_into_traps_dangle(tmp_path: Path, policy: str) -> None:
    traps = make_traps(tmp_path)
    with h5py.File(tmp_path / "inside/f.h5", "w") as opened:
        write_neighbours(opened)
        for name, file in traps.items():
            opened[f"link {name}"] = h5py.ExternalLink(file, "/d")
        opened["link ring"] = h5py.ExternalLink("ring", "/d")
    allowed = {"link door", "link through a door"} if policy == "all" else set()
    with survived(tmp_path / "inside/f.h5", f"external={policy}") as mount:
        reading = read_all(mount)
        assert reading.ended
        dangling = {where for what, where, code in reading.problems if code == "ENOENT"}
        assert dangling == {f"link {name}" for name in [*traps, "ring"]} - allowed
        assert len(dangling) == len(reading.problems)
        for name in dangling:
            assert is_named(mount, name), name


@pytest.mark.semantics("L5", "E4")
def test_external_links_in_a_circle_of_files_end(tmp_path: Path) -> None:
    for name, other in (("f", "g"), ("g", "h"), ("h", "f")):
        with h5py.File(tmp_path / f"{name}.h5", "w") as opened:
            write_neighbours(opened)
            opened["next"] = h5py.ExternalLink(f"{other}.h5", "/")
            opened["loop"] = h5py.ExternalLink(f"{other}.h5", "/loop")
            opened["deeper"] = h5py.ExternalLink(f"{other}.h5", "/next/next/next/next")
    with survived(tmp_path / "f.h5") as mount:
        reading = read_all(mount)
        assert reading.ended
        assert {code for _, _, code in reading.problems} <= {"ELOOP", "ENOENT"}


@pytest.mark.semantics("L6", "S8", "E3")
@pytest.mark.parametrize("policy", ["folder", "none", "all"])
@pytest.mark.parametrize("is_virtual", [False, True])
def test_data_in_traps_is_eacces(tmp_path: Path, policy: str, is_virtual: bool) -> None:
    traps = make_traps(tmp_path)
    with h5py.File(tmp_path / "inside/f.h5", "w") as opened:
        write_neighbours(opened)
        for name, file in traps.items():
            if is_virtual:
                add_virtual(opened, name, file, "d")
            else:
                add_external_raw(opened, name, file)
    # With ``all`` regular files anywhere may be read; as HDF5 files most are none.
    may_be_read = {"passwd", "passwd by steps", "environment", "memory", "door", "through a door"}
    with survived(tmp_path / "inside/f.h5", f"external={policy}") as mount:
        reading = read_all(mount)
        for name in traps:
            answer = errno_of(mount, f"{name}.npy")
            if policy == "all" and name in may_be_read:
                assert answer in ("ok", "EIO", "EACCES"), name
            else:
                assert answer == "EACCES", name
                assert is_named(mount, f"/{name}")
                assert size_of(mount, f"{name}.npy") == 0
        assert reading.ended
        assert quarantined(mount) == []


@pytest.mark.semantics("L6")
@pytest.mark.parametrize("kind", ["raw", "virtual", "link"])
def test_data_that_is_in_the_mount_itself_does_not_block_it(tmp_path: Path, kind: str) -> None:
    # Its folder is below the file's own, so that the policy alone would let the daemon ask itself.
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        write_neighbours(opened)
        if kind == "raw":
            add_external_raw(opened, "mirror", "mnt/before.npy")
        elif kind == "virtual":
            add_virtual(opened, "mirror", "mnt/before.npy", "d")
        else:
            opened["mirror"] = h5py.ExternalLink("mnt/before.npy", "/d")
    log = tmp_path / "log"
    done = run_h5fs(
        tmp_path / "f.h5", mountpoint, "-o", f"log={log},deadline={DEADLINE_SECONDS}"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with ended_at_last(mountpoint, log) as mount:
        reading = read_all(mount)
        assert reading.ended
        assert {code for _, _, code in reading.problems} <= {"EIO", "EACCES", "ENOENT"}
        check_neighbours(mount)
        assert Process.find(mount.pid).is_running()


@contextlib.contextmanager
def ended_at_last(mountpoint: Path, log: Path) -> Iterator[Mounted]:
    """Yield a mount that was made elsewhere; it is taken down whatever happens."""
    try:
        daemon = find_daemon(mountpoint)
        assert daemon is not None
        yield Mounted(mountpoint, log, daemon.pid)
    finally:
        end_mount(mountpoint)


# Real ones


@pytest.mark.semantics("W2", "E3", "D13")
def test_a_file_that_crashes_hdf5_on_a_walk_is_walked_to_its_end(corpus: Path) -> None:
    file = corpus / "HDFGroup__cve_hdf5/cvefiles/cve-2024-32609.h5"
    with mounted(file, options=["-o", f"deadline={DEADLINE_SECONDS}"]) as mount:
        daemon = Process.find(mount.pid)
        reading = read_everything(mount.path)
        assert list(judge_reading(reading, seconds=DEADLINE_SECONDS + SLACK_SECONDS)) == []
        assert reading.ended
        assert daemon.is_running()
        assert all("/int" in line for line in quarantined(mount))
