"""What a mount in mode r shows when another program changes the file."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t
from support.mounts import Mounted, mounted, run_h5fs
from support.waiting import PATIENCE_SECONDS, wait_until

LENGTH = 600_000  # elements: more than the kernel reads ahead


def write(file: Path, number: int) -> None:
    """Write a file all of whose data are ``number``, and one name that no other version has."""
    with h5py.File(file, "w") as opened:
        opened["g/data"] = np.full(LENGTH, number, "<i4")
        opened["g/chunked"] = np.full((100, 100), number, "<i4")
        opened.create_dataset("g/packed", data=np.full(LENGTH + number, number), compression=1)
        opened[f"only {number}"] = number
        opened["g"].attrs["number"] = number
        opened["g"].attrs["length"] = "x" * number


def replace(file: Path, number: int) -> None:
    new = file.with_suffix(".new")
    write(new, number)
    new.rename(file)


def rewrite(file: Path, number: int) -> None:
    new = file.with_suffix(".new")
    write(new, number)
    with file.open("r+b") as opened:  # as cp does
        opened.truncate()
        opened.write(new.read_bytes())
    new.unlink()


def wait_for(mount: Mounted, number: int) -> None:
    """Wait until a version is shown; older kernels learn of it a moment after the first answer."""
    wait_until((mount.path / f"only {number}.npy").exists)
    if tuple(map(int, os.uname().release.split("-")[0].split(".")[:2])) < (6, 16):
        time.sleep(1)


def shown(mount: Mounted) -> int:
    """Return which version the mount shows; check that it shows nothing of another."""
    names = {path.name for path in mount.path.iterdir()} - {"g"}
    (name,) = names
    number = int(name.removeprefix("only ").removesuffix(".npy"))
    assert (np.load(mount.path / "g/data.npy", mmap_mode="r") == number).all()
    assert (np.load(mount.path / "g/chunked.npy") == number).all()
    packed = np.load(mount.path / "g/packed.npy")
    assert packed.shape == (LENGTH + number,)
    assert (packed == number).all()
    assert f'"number": {number}' in (mount.path / "g/.attrs.json").read_text()
    return number


@pytest.mark.semantics("F1")
@pytest.mark.parametrize("change", [replace, rewrite])
def test_new_content_is_there_within_a_second(
    tmp_path: Path, change: Callable[[Path, int], None]
) -> None:
    file = tmp_path / "f.h5"
    write(file, 1)
    with mounted(file) as mount:
        for number in (1, 2, 3):
            if number > 1:
                assert not (mount.path / f"only {number}.npy").exists()
                change(file, number)
                wait_for(mount, number)
            assert shown(mount) == number
            assert not (mount.path / f"only {number - 1}.npy").exists()


@pytest.mark.semantics("F2")
@pytest.mark.parametrize("is_folder", [False, True])
@pytest.mark.parametrize("change", [replace, rewrite])
def test_an_array_that_has_grown_is_not_cut_to_its_old_size(
    tmp_path: Path, change: Callable[[Path, int], None], is_folder: bool
) -> None:
    """The kernel has the old size when the `open` comes that finds out that the file changed."""
    folder = tmp_path / "folder"
    folder.mkdir()
    file = folder / "f.h5"
    write(file, 1)
    with mounted(folder if is_folder else file) as mount:
        place = mount.path / "f.h5" if is_folder else mount.path
        for number in (1000, 2000, 3000):
            before = os.stat(place / "g/packed.npy").st_size
            change(file, number)

            def is_new(before: int = before) -> bool:
                data = (place / "g/packed.npy").read_bytes()
                lengths = [LENGTH + each for each in (1, 1000, 2000, 3000)]
                (told,) = (each for each in lengths if f"({each},)".encode() in data[:128])
                assert len(data) == 128 + 8 * told
                os.stat(place / "g/packed.npy")
                return len(data) != before

            wait_until(is_new)


@pytest.mark.semantics("F1", "F2")
@pytest.mark.parametrize("folder", ["", "g"])
def test_a_folder_that_is_being_read_tells_nothing_old_of_its_files(
    tmp_path: Path, folder: str
) -> None:
    """Of more datasets than one request tells of; with a listing come sizes (libfuse 3)."""
    file, new = tmp_path / "f.h5", tmp_path / "new.h5"
    names = [f"d{number:04}" for number in range(3000)]
    for path, length in ((file, 3), (new, 1000)):
        with h5py.File(path, "w") as opened:
            for name in names:
                opened[f"{folder}/{name}"] = np.zeros(length)
    with mounted(file) as mount:
        with os.scandir(mount.path / folder) as entries:
            next(entries)
            new.rename(file)
            wait_until(lambda: (mount.path / folder / "d2999.npy").stat().st_size == 8128)
            assert len(list(entries)) == len(names) - 1

        def all_are_new() -> bool:
            sizes = {(mount.path / folder / f"{name}.npy").stat().st_size for name in names}
            return sizes == {8128}

        wait_until(all_are_new)
        for _ in range(3):
            assert all_are_new()


@pytest.mark.semantics("F1")
def test_a_hangup_shows_new_content_at_once(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    write(file, 1)
    with mounted(file) as mount:
        assert shown(mount) == 1
        status = file.stat()
        write(tmp_path / "new.h5", 2)
        # By size and time nothing has changed.
        content = (tmp_path / "new.h5").read_bytes()
        with file.open("r+b") as opened:
            opened.write(content)
            opened.truncate()
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.kill(mount.pid, signal.SIGHUP)
        wait_for(mount, 2)
        assert shown(mount) == 2
        os.kill(mount.pid, 0)


@pytest.mark.semantics("F1")
def test_a_program_in_a_folder_of_the_mount_stays_there(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    write(file, 1)
    with mounted(file) as mount:
        replace_it = f"cp {file} x; true; mv {tmp_path / 'new.h5'} {file}; sleep 1.5; /bin/pwd; ls"
        write(tmp_path / "new.h5", 2)
        done = subprocess.run(
            ["sh", "-c", replace_it], cwd=mount.path / "g", capture_output=True, text=True,
            timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip
        assert done.stdout.split("\n")[0] == str(mount.path / "g")
        assert done.stdout.split("\n")[1:] == ["chunked.npy", "data.npy", "packed.npy", ""]


@pytest.mark.semantics("F2")
def test_an_open_file_goes_on_with_the_replaced_version(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    write(file, 1)
    with mounted(file) as mount:
        with (mount.path / "g/data.npy").open("rb") as opened:
            begin = opened.read(200)
            replace(file, 2)
            wait_for(mount, 2)
            rest = opened.read()
        assert len(begin + rest) == 128 + 4 * LENGTH
        assert set(np.frombuffer((begin + rest)[128:], "<i4").tolist()) == {1}
        assert shown(mount) == 2


@pytest.mark.semantics("F2")
@pytest.mark.parametrize("name", ["data", "packed"])
@pytest.mark.parametrize("is_opened_anew", [False, True])
def test_an_open_file_of_a_rewritten_version_is_stale(
    tmp_path: Path, name: str, is_opened_anew: bool
) -> None:
    file = tmp_path / "f.h5"
    write(file, 1)
    with mounted(file) as mount:
        descriptor = os.open(mount.path / f"g/{name}.npy", os.O_RDONLY)
        try:
            assert os.pread(descriptor, 6, 0) == b"\x93NUMPY"
            if is_opened_anew:
                replace(file, 2)
            else:
                rewrite(file, 2)
            wait_for(mount, 2)
            if is_opened_anew:
                with (mount.path / f"g/{name}.npy").open("rb") as anew:
                    anew.read(10)
                # One kernel inode a path: its pages are the new version's, for both.
                assert os.pread(descriptor, 8, 128)[:4] == b"\2\0\0\0"
            with pytest.raises(OSError) as caught:
                os.pread(descriptor, 100, 4 * LENGTH - 100)
            assert caught.value.errno == errno.ESTALE
        finally:
            os.close(descriptor)
        assert shown(mount) == 2


@pytest.mark.semantics("F2")
def test_an_array_that_is_mapped_again_is_the_new_one(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    write(file, 1)
    with mounted(file) as mount:
        path = mount.path / "g/data.npy"
        array = np.load(path, mmap_mode="r")
        assert array[0] == array[LENGTH - 1] == 1
        replace(file, 2)
        wait_for(mount, 2)
        array = np.load(path, mmap_mode="r")  # the old mapping goes after the new one is made
        assert (array == 2).all()
        del array  # or the mount is in use


_READER = """
import sys
import numpy as np
import errno
path, last = sys.argv[1], int(sys.argv[2])
seen = set()
while last not in seen:
    try:
        with open(path, "rb") as opened:
            data = opened.read()
    except OSError as error:
        assert error.errno in (errno.ESTALE, errno.EIO, errno.ENOENT), error
        continue
    values = set(np.frombuffer(data[128:], "<i4").tolist())
    assert len(values) == 1, values
    if values - seen:
        seen |= values
        print(*values, flush=True)
"""


@pytest.mark.semantics("F2")
@pytest.mark.parametrize("change", [replace, rewrite])
def test_no_reader_gets_a_mixture(tmp_path: Path, change: Callable[[Path, int], None]) -> None:
    file = tmp_path / "f.h5"
    write(file, 1)
    with mounted(file) as mount:
        command = [sys.executable, "-c", _READER, str(mount.path / "g/data.npy"), "8"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
            assert reader.stdout is not None
            try:
                assert reader.stdout.readline() == "1\n"
                for number in range(2, 9):
                    change(file, number)
                    assert reader.stdout.readline() == f"{number}\n"
                assert reader.wait(PATIENCE_SECONDS) == 0
            finally:
                reader.kill()


@pytest.mark.semantics("F3")
def test_a_file_that_does_not_open_yet_leaves_the_old_version(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    write(file, 1)
    with mounted(file) as mount:
        assert shown(mount) == 1
        (tmp_path / "bad").write_bytes(file.read_bytes()[:1000])
        (tmp_path / "bad").rename(file)

        def is_refused() -> bool:
            assert shown(mount) == 1
            return "cannot be opened now" in mount.log.read_text()

        wait_until(is_refused)
        replace(file, 2)
        wait_for(mount, 2)
        assert shown(mount) == 2
        file.unlink()
        time.sleep(1.2)
        assert shown(mount) == 2
        write(file, 3)
        wait_for(mount, 3)


@pytest.mark.semantics("F3")
def test_a_half_rewritten_file_is_an_error_until_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    write(file, 1)
    write(tmp_path / "new.h5", 2)
    content = (tmp_path / "new.h5").read_bytes()
    with mounted(file) as mount:
        assert shown(mount) == 1
        with file.open("r+b") as opened:
            opened.truncate()
            opened.write(content[:5000])
            opened.flush()
            wait_until(lambda: _error_of_listing(mount.path) == errno.EIO)
            opened.write(content[5000:])
        wait_until(lambda: _lists(mount.path, "only 2.npy"))
        assert shown(mount) == 2


def _error_of_listing(folder: Path) -> int | None:
    try:
        os.listdir(folder)
    except OSError as error:
        return error.errno
    return None


def _lists(folder: Path, name: str) -> bool:
    try:
        return name in os.listdir(folder)
    except OSError:
        return False


@pytest.mark.semantics("F1", "F2")
def test_a_worker_that_starts_after_a_replacement_reads_the_old_version(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        opened.create_dataset("text", data=["one"] * 100_000, dtype=h5py.string_dtype())
    with mounted(file) as mount, (mount.path / "text.npy").open("rb") as opened:
        opened.read(200)
        new = tmp_path / "new.h5"
        with h5py.File(new, "w") as other:
            other.create_dataset("text", data=["two"] * 100_000, dtype=h5py.string_dtype())
        new.rename(file)
        children = subprocess.run(
            ["pgrep", "-P", str(mount.pid)], capture_output=True, text=True, check=False
        ).stdout.split()
        workers = subprocess.run(
            ["pgrep", "-P", ",".join(children)], capture_output=True, text=True, check=False
        ).stdout.split()
        assert workers
        for pid in workers:
            os.kill(int(pid), signal.SIGKILL)
        rest = opened.read()
        assert set(np.frombuffer(rest, "<U3").tolist()) == {"one"}
        assert len(rest) == 12 * 100_000 + 128 - 200
        wait_until(lambda: _first_text(mount.path) == "two")


def _first_text(folder: Path) -> str:
    try:
        texts = np.load(folder / "text.npy")
    except (OSError, ValueError):  # opened before the change: no worker can read that any more
        return ""
    assert len(set(texts.tolist())) == 1
    return str(texts[0])


_WRITER = """
import sys, time
import h5py
import numpy as np
with h5py.File(sys.argv[1], "w", libver="latest") as opened:
    data = opened.create_dataset("data", (0,), "<i8", maxshape=(None,), chunks=(1000,))
    packed = opened.create_dataset(
        "packed", (0, 3), "<i8", maxshape=(None, 3), chunks=(100, 3), compression=1)
    opened.swmr_mode = True
    print("ready", flush=True)
    for line in sys.stdin:
        count = int(line)
        for dataset, shape in ((data, (count,)), (packed, (count, 3))):
            before = len(dataset)
            dataset.resize(shape)
            new = np.arange(before, count)
            dataset[before:] = new if dataset.ndim == 1 else np.stack([new] * 3, 1)
            dataset.flush()
        print(count, flush=True)
"""


@pytest.mark.semantics("F4")
def test_a_dataset_that_grows_is_followed(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(file)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def grow(count: int) -> None:
        writer.stdin.write(f"{count}\n")
        writer.stdin.flush()
        assert writer.stdout.readline().strip() == str(count)

    try:
        assert writer.stdout.readline().strip() == "ready"
        (tmp_path / "mnt").mkdir()
        refused = run_h5fs(file, tmp_path / "mnt")
        assert refused.returncode == 1
        assert "-o swmr" in refused.stderr
        grow(1500)
        with mounted(file, options=["-o", "swmr"]) as mount:
            path = mount.path / "data.npy"
            assert np.array_equal(np.load(path), np.arange(1500))
            with path.open("rb") as opened:
                opened.read()
                for count in (1600, 5000, 60_000):
                    grow(count)
                    wait_until(lambda count=count: path.stat().st_size == 128 + 8 * count)
                    assert np.array_equal(np.load(path), np.arange(count))
                    assert np.array_equal(np.load(path, mmap_mode="r"), np.arange(count))
                    packed = np.load(mount.path / "packed.npy")
                    assert np.array_equal(packed[:, 2], np.arange(count))
                    last = subprocess.run(
                        ["tail", "-c", "16", str(path)], capture_output=True, check=True
                    ).stdout
                    assert np.frombuffer(last, "<i8").tolist() == [count - 2, count - 1]
                    more = opened.read()
                    assert np.frombuffer(more, "<i8")[-1] == count - 1
            with path.open("rb") as opened:
                mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
                grow(70_000)
                assert len(mapped) == 128 + 8 * 60_000
                assert np.frombuffer(mapped, "<i8", offset=128)[-1] == 59_999
                mapped.close()
    finally:
        writer.stdin.close()
        writer.wait(PATIENCE_SECONDS)


@pytest.mark.semantics("F4")
def test_swmr_reads_a_file_that_nobody_writes(tmp_path: Path) -> None:
    for libver in ("earliest", "latest"):
        with h5py.File(tmp_path / "f.h5", "w", libver=libver) as opened:
            opened["d"] = np.arange(10)
        with mounted(tmp_path / "f.h5", options=["-o", "swmr"]) as mount:
            assert np.array_equal(np.load(mount.path / "d.npy"), np.arange(10))


@pytest.mark.semantics("L7", "F2")
def test_a_virtual_dataset_of_which_there_are_more_sources_is_shown_as_it_is(
    tmp_path: Path,
) -> None:
    """Its columns come from files that are numbered: the kernel has to learn its new size, too."""

    def write_source(number: int) -> None:
        with h5py.File(tmp_path / f"s{number}.h5", "w") as opened:
            opened["d"] = 1000 * np.arange(4)[:, None] + np.arange(3 * number, 3 * number + 3)

    write_source(0)
    creation = h5p.create(h5p.DATASET_CREATE)
    joined = h5s.create_simple((4, 3), (4, h5s.UNLIMITED))
    joined.select_hyperslab((0, 0), (1, h5s.UNLIMITED), (4, 3), (4, 3))
    creation.set_virtual(joined, b"s%b.h5", b"d", h5s.create_simple((4, 3)))
    with h5py.File(tmp_path / "f.h5", "w", libver="latest") as opened:
        space = h5s.create_simple((4, 0), (4, h5s.UNLIMITED))
        h5d.create(opened.id, b"v", h5t.STD_I64LE, space, creation)
    whole = 1000 * np.arange(4)[:, None] + np.arange(6)
    with mounted(tmp_path / "f.h5") as mount:
        assert np.array_equal(np.load(mount.path / "v.npy"), whole[:, :3])
        write_source(1)
        with (mount.path / "v.npy").open("rb", buffering=0) as held:
            os.posix_fadvise(held.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            with pytest.raises(OSError) as refused:
                held.read()
            assert refused.value.errno == errno.ESTALE
        assert np.array_equal(np.load(mount.path / "v.npy"), whole)


@pytest.mark.semantics("M11")
def test_copying_the_mounted_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    write(file, 1)
    with mounted(file, options=["-v"]) as mount:
        assert shown(mount) == 1
        shutil.copy2(file, tmp_path / "copy.h5")
        os.chmod(file, 0o600)
        time.sleep(1)
        assert shown(mount) == 1
        assert "changed" not in mount.log.read_text()
