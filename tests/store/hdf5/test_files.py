"""Which files are opened, and which are not: policy, locks, what cannot be opened."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t
from support.stores import open_store

from h5fs.errors import CannotOpenError, ForbiddenError, H5fsError, NotFoundError
from h5fs.model.objects import Link, ObjectInfo
from h5fs.model.settings import ExternalPolicy, Locking, StoreOptions
from h5fs.store import open_store as store_with_own_starter
from h5fs.store.file_checks import check_openable
from h5fs.store.interface import ArrayPart, Store

NUMBERS = np.arange(10, dtype="<i8")
FORBIDDEN = -1  # the fill value of virtual datasets, where no source is found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder of HDF5 files, and one file outside of it."""
    (tmp_path / "inside").mkdir()
    (tmp_path / "outside").mkdir()
    for file in ("outside/secret.h5", "inside/near.h5", "inside/deep.h5"):
        with h5py.File(tmp_path / file, "w") as opened:
            opened["d"] = NUMBERS
    (tmp_path / "outside/secret.raw").write_bytes(NUMBERS.tobytes())
    (tmp_path / "inside/near.raw").write_bytes(NUMBERS.tobytes())
    return tmp_path / "inside"


@contextmanager
def opened_store(file: Path, external: ExternalPolicy = ExternalPolicy.FOLDER) -> Iterator[Store]:
    with closing(open_store(StoreOptions(file, external=external))) as store:
        yield store


@contextmanager
def opened_in(folder: str | Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Open a store whose workers have a working directory: that of their own starter."""
    monkeypatch.chdir(folder)
    with closing(store_with_own_starter(StoreOptions(file))) as store:
        yield store


def link_of(store: Store, name: bytes) -> Link:
    return store.get_link(store.root().ref, name)


def follow(store: Store, name: bytes) -> ObjectInfo:
    return store.follow(store.root().ref, link_of(store, name))


def read(store: Store, name: bytes) -> list[int]:
    """Read ten integers of a dataset, as the tree would: describe, then read."""
    ref = follow(store, name).ref
    store.describe_dataset(ref)
    buffer = bytearray(80)
    dataset = store.describe_dataset(ref)
    store.read_into(ref, dataset, ArrayPart.ELEMENTS, 0, memoryview(buffer))
    return np.frombuffer(buffer, "<i8").tolist()  # type: ignore[no-any-return]


def add_virtual(opened: h5py.File, name: str, file: str | Path, dataset: str) -> None:
    layout = h5py.VirtualLayout((10,), "<i8")
    layout[:] = h5py.VirtualSource(str(file), dataset, (10,))
    opened.create_virtual_dataset(name, layout, fillvalue=FORBIDDEN)


def add_pattern(opened: h5py.File, name: str, file: str, dataset: str) -> None:
    """Make a virtual dataset of blocks of five, whose sources' names hold the block's number."""
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_fill_value(np.array(FORBIDDEN, "<i8"))
    space = h5s.create_simple((10,), (h5s.UNLIMITED,))
    space.select_hyperslab((0,), (h5s.UNLIMITED,), (5,), (5,))
    creation.set_virtual(space, file.encode(), dataset.encode(), h5s.create_simple((5,)))
    whole = h5s.create_simple((10,), (h5s.UNLIMITED,))
    h5d.create(opened.id, name.encode(), h5t.STD_I64LE, whole, creation)


def add_raw(opened: h5py.File, name: str, raw: str | Path) -> None:
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_external(os.fsencode(raw), 0, 80)
    h5d.create(opened.id, name.encode(), h5t.STD_I64LE, h5s.create_simple((10,)), creation)


WAYS: dict[str, Callable[[h5py.File, str | Path], None]] = {
    "raw data": lambda opened, place: add_raw(opened, "d", f"{place}.raw"),
    "a virtual source": lambda opened, place: add_virtual(opened, "d", f"{place}.h5", "d"),
    "an external link": lambda opened, place: opened.__setitem__(
        "d", h5py.ExternalLink(f"{place}.h5", "/d")
    ),
}


@pytest.mark.semantics("L5", "L6")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("policy", "near", "secret"),
    [("none", False, False), ("folder", True, False), ("all", True, True)],
)
@pytest.mark.parametrize("is_absolute", [False, True])
def test_policy_says_which_files_are_followed(
    place: Path, way: str, policy: str, near: bool, secret: bool, is_absolute: bool
) -> None:
    for where, is_allowed in (("near", near), ("../outside/secret", secret)):
        target = place / where if is_absolute else where
        with h5py.File(place / "f.h5", "w") as opened:
            WAYS[way](opened, target)
        with opened_store(place / "f.h5", ExternalPolicy(policy)) as store:
            if is_allowed:
                assert read(store, b"d") == NUMBERS.tolist()
            else:
                with pytest.raises(ForbiddenError):
                    read(store, b"d")


@pytest.mark.semantics("L5", "L6")
@pytest.mark.parametrize("way", WAYS)
def test_a_symbolic_link_does_not_lead_out_of_the_folder(place: Path, way: str) -> None:
    (place / "door.h5").symlink_to("../outside/secret.h5")
    (place / "door.raw").symlink_to("../outside/secret.raw")
    with h5py.File(place / "f.h5", "w") as opened:
        WAYS[way](opened, "door")
    with opened_store(place / "f.h5") as store, pytest.raises(ForbiddenError):
        read(store, b"d")


@pytest.mark.semantics("L5", "L6")
@pytest.mark.parametrize("way", WAYS)
def test_a_mounted_symbolic_link_counts_as_what_it_leads_to(place: Path, way: str) -> None:
    with h5py.File(place / "f.h5", "w") as opened:
        WAYS[way](opened, "near")
    (place.parent / "link.h5").symlink_to(place / "f.h5")
    with opened_store(place.parent / "link.h5") as store:
        assert read(store, b"d") == NUMBERS.tolist()


@pytest.mark.semantics("L5", "L6")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_only_regular_files_are_followed(
    place: Path, way: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for suffix in (".h5", ".raw"):
        other = place / f"odd{suffix}"
        if kind == "fifo":
            os.mkfifo(other)
        elif kind == "folder":
            other.mkdir()
        else:
            other.symlink_to("/dev/zero")
    with h5py.File(place / "f.h5", "w") as opened:
        WAYS[way](opened, "odd")
    with (
        opened_store(place / "f.h5", ExternalPolicy.ALL) as store,
        pytest.raises(H5fsError),
    ):
        read(store, b"d")


@pytest.mark.semantics("L6")
@pytest.mark.parametrize("way", ["raw data", "a virtual source"])
def test_data_beside_the_file_is_found_from_any_working_directory(
    place: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(place / "f.h5", "w") as opened:
        WAYS[way](opened, "near")
    with opened_in("/", place / "f.h5", monkeypatch) as store:
        assert read(store, b"d") == NUMBERS.tolist()


@pytest.mark.semantics("L6")
def test_a_virtual_source_is_not_taken_from_the_working_directory(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(place / "f.h5", "w") as opened:
        add_virtual(opened, "d", "secret.h5", "d")
    outside = place.parent / "outside"
    with opened_in(outside, place / "f.h5", monkeypatch) as store, pytest.raises(ForbiddenError):
        read(store, b"d")


@pytest.mark.semantics("L6")
def test_a_virtual_source_does_not_go_out_through_an_external_link(place: Path) -> None:
    with h5py.File(place / "f.h5", "w") as opened:
        opened["link"] = h5py.ExternalLink(str(place.parent / "outside/secret.h5"), "/d")
        add_virtual(opened, "d", ".", "link")
    with opened_store(place / "f.h5") as store, pytest.raises(ForbiddenError):
        read(store, b"d")


@pytest.mark.semantics("L6")
@pytest.mark.parametrize("way", WAYS)
def test_a_virtual_source_does_not_go_out_through_another_file(place: Path, way: str) -> None:
    with h5py.File(place / "between.h5", "w") as opened:
        WAYS[way](opened, place.parent / "outside/secret")
    with h5py.File(place / "f.h5", "w") as opened:
        add_virtual(opened, "d", "between.h5", "d")
    with opened_store(place / "f.h5") as store, pytest.raises(ForbiddenError):
        read(store, b"d")


@pytest.mark.semantics("L6")
def test_a_virtual_source_that_is_not_there_is_fill_values(place: Path) -> None:
    with h5py.File(place / "f.h5", "w") as opened:
        add_virtual(opened, "d", "gone.h5", "d")
    with opened_store(place / "f.h5") as store:
        assert read(store, b"d") == [FORBIDDEN] * 10


@pytest.mark.semantics("L6")
def test_a_pattern_of_virtual_sources_is_followed_where_policy_allows(place: Path) -> None:
    for number in range(2):
        with h5py.File(place / f"part_{number}.h5", "w") as opened:
            opened["d"] = NUMBERS[5 * number : 5 * number + 5]
    with h5py.File(place / "f.h5", "w") as opened:
        for name, pattern in (("d", "part_%b.h5"), ("bad", "../outside/secre%%t_%b.h5")):
            add_pattern(opened, name, pattern, "d")
    with opened_store(place / "f.h5") as store:
        assert read(store, b"d") == NUMBERS.tolist()
        with pytest.raises(ForbiddenError):
            read(store, b"bad")


@pytest.mark.semantics("L5")
def test_an_external_link_is_looked_for_where_hdf5_looks(place: Path) -> None:
    with h5py.File(place / "f.h5", "w") as opened:
        # An absolute name that is not there: its last part beside the linking file.
        opened["moved"] = h5py.ExternalLink("/not/there/near.h5", "/d")
        opened["gone"] = h5py.ExternalLink("gone.h5", "/d")
        opened["nothing in it"] = h5py.ExternalLink("near.h5", "/nothing")
        expected = opened["moved"][()].tolist()
    with opened_store(place / "f.h5") as store:
        assert read(store, b"moved") == expected
        for name in (b"gone", b"nothing in it"):
            with pytest.raises(NotFoundError):
                follow(store, name)


@pytest.mark.semantics("L5")
def test_an_external_link_to_a_file_that_is_not_hdf5_is_refused(place: Path) -> None:
    (place / "text.h5").write_text("not HDF5")
    with h5py.File(place / "f.h5", "w") as opened:
        opened["d"] = h5py.ExternalLink("text.h5", "/d")
    with opened_store(place / "f.h5") as store, pytest.raises(CannotOpenError):
        follow(store, b"d")


def test_one_file_has_one_number_whatever_leads_to_it(place: Path) -> None:
    os.link(place / "near.h5", place / "twin.h5")
    (place / "link.h5").symlink_to("near.h5")
    names = ["near.h5", "twin.h5", "link.h5", str(place / "near.h5"), "../inside/near.h5"]
    with h5py.File(place / "f.h5", "w") as opened:
        for number, name in enumerate(names):
            opened[str(number)] = h5py.ExternalLink(name, "/d")
        opened["self"] = h5py.ExternalLink("f.h5", "/")
    with opened_store(place / "f.h5") as store:
        refs = {follow(store, str(number).encode()).ref for number in range(len(names))}
        assert len(refs) == 1
        assert follow(store, b"self").ref == store.root().ref


def test_more_external_files_than_may_be_open_can_all_be_read(place: Path) -> None:
    count = 80
    for number in range(count):
        with h5py.File(place / f"x{number}.h5", "w") as opened:
            opened["d"] = NUMBERS + number
    with h5py.File(place / "f.h5", "w") as opened:
        for number in range(count):
            opened[str(number)] = h5py.ExternalLink(f"x{number}.h5", "/d")
    with opened_store(place / "f.h5") as store:
        for number in [*range(count), *range(count)]:
            assert read(store, str(number).encode()) == (NUMBERS + number).tolist()


@pytest.mark.semantics("M6")
@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n", b"text" * 1000])
def test_what_is_not_hdf5_says_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f.h5").write_bytes(content)
    with pytest.raises(CannotOpenError, match="is not an HDF5 file"):
        check_openable(tmp_path / "f.h5", Locking.DEFAULT)


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f.h5")
    with opened_writer(tmp_path / "f.h5"), pytest.raises(CannotOpenError, match="regular"):
        check_openable(tmp_path / "f.h5", Locking.DEFAULT)


@contextmanager
def opened_writer(fifo: Path) -> Iterator[None]:
    """Hold a FIFO open, so that opening it to read does not wait."""
    descriptor = os.open(fifo, os.O_RDWR)
    try:
        yield
    finally:
        os.close(descriptor)


@pytest.mark.semantics("M12")
@pytest.mark.parametrize(
    ("locking", "variable", "is_refused"),
    [
        (Locking.DEFAULT, None, True),
        (Locking.DEFAULT, "FALSE", False),
        (Locking.TRUE, None, True),
        (Locking.TRUE, "FALSE", True),
        (Locking.BEST_EFFORT, None, True),
        (Locking.FALSE, None, False),
        (Locking.FALSE, "TRUE", False),
    ],
)
def test_a_writers_lock_is_respected_when_locks_are_used(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    locking: Locking,
    variable: str | None,
    is_refused: bool,
) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        opened["d"] = NUMBERS
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    if variable is not None:
        monkeypatch.setenv("HDF5_USE_FILE_LOCKING", variable)
    with file.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if is_refused:
            with pytest.raises(CannotOpenError, match=f"locked by a writer .*pid {os.getpid()}"):
                check_openable(file, locking)
        else:
            check_openable(file, locking)


@pytest.mark.semantics("M12")
@pytest.mark.parametrize("locking", Locking)
def test_the_store_takes_the_lock_that_its_option_says(tmp_path: Path, locking: Locking) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        opened["d"] = NUMBERS
    # In a process of its own: the environment of this one may say otherwise to HDF5.
    program = (
        "import sys, fcntl; from pathlib import Path;"
        "from h5fs.model.settings import *; from h5fs.store import open_store;"
        "s = open_store(StoreOptions(Path(sys.argv[1]), locking=Locking(sys.argv[2])));"
        "f = open(sys.argv[1], 'rb'); fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "HDF5_USE_FILE_LOCKING"}
    done = subprocess.run(
        [sys.executable, "-c", program, file, locking.value],
        capture_output=True, text=True, timeout=240, check=False, env=environment,
    )  # fmt: skip
    if locking is Locking.FALSE:
        assert done.returncode == 0, done.stderr
    else:
        assert "BlockingIOError" in done.stderr


@pytest.mark.semantics("L6")
def test_no_external_link_is_followed_on_the_way_to_a_virtual_source(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Beside the linking file there is nothing of that name; from the working directory there is.
    (place / "sub").mkdir()
    with h5py.File(place / "sub/b.h5", "w") as opened:
        opened["hop"] = h5py.ExternalLink("../outside/secret.h5", "/")
    with h5py.File(place / "f.h5", "w") as opened:
        add_virtual(opened, "d", "sub/b.h5", "hop/d")
    with opened_in(place, place / "f.h5", monkeypatch) as store, pytest.raises(ForbiddenError):
        read(store, b"d")


@pytest.mark.semantics("L6")
def test_a_number_in_the_name_of_a_group_of_virtual_sources_is_refused(place: Path) -> None:
    with h5py.File(place / "f.h5", "w") as opened:
        opened["e0"] = h5py.ExternalLink(str(place.parent / "outside/secret.h5"), "/")
        opened.create_group("e1")
        add_pattern(opened, "d", ".", "/e%b/d")
    with opened_store(place / "f.h5") as store, pytest.raises(ForbiddenError):
        read(store, b"d")


@pytest.mark.semantics("L6")
def test_a_virtual_dataset_that_is_its_own_source_is_refused(place: Path) -> None:
    with h5py.File(place / "f.h5", "w") as opened:
        add_virtual(opened, "d", ".", "d")
        add_virtual(opened, "one", ".", "two")
        add_virtual(opened, "two", "f.h5", "one")
    with opened_store(place / "f.h5") as store:
        for name in (b"d", b"one", b"two"):
            with pytest.raises(ForbiddenError):
                read(store, name)
