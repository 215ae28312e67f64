"""Rows that read data: whole arrays, random pieces, several readers at once, memory."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from benchmarks.contenders import (
    Contender,
    FailedError,
    H5fs,
    Peer,
    SkippedError,
    read_through,
)
from benchmarks.files import Files
from benchmarks.processes import TOKEN_NAME, PeakMemory
from benchmarks.rows import Bench, Row, Sample

MB = 2**20  # as in the mount option cache=256M
FEW_READS_SHARE = 10  # a gzip read costs h5py milliseconds: so many times fewer of them
DEFAULT_CACHE_MB = 256
MEMORY_OVER_CACHE_MB = 150

ChooseFile = Callable[[Files], Path]


def load_through_mount(
    bench: Bench, contender: Contender, *, file: ChooseFile, options: str = "", times: int = 1
) -> Sample:
    """``np.load`` through a mount that nobody has read from yet."""
    with contender.mount(file(bench.files), options) as mount:
        return bench.probe("load", path=mount.find("data"), times=times)


def load_npy(bench: Bench, _: Contender, *, times: int = 1) -> Sample:
    """``np.load`` of the same array in a real ``.npy`` file."""
    read_through(bench.files.npy())
    return bench.probe("load", path=str(bench.files.npy()), times=times)


def load_with_h5py(bench: Bench, _: Contender, *, file: ChooseFile) -> Sample:
    """Open the file with h5py and read the dataset."""
    path = file(bench.files)
    read_through(path)
    return bench.probe("h5py_load", file=str(path), dataset="data")


def load_through_bindfs(bench: Bench, _: Contender, *, times: int = 1) -> Sample:
    """``np.load`` of the same array's ``.npy`` file through bindfs, freshly mounted."""
    read_through(bench.files.npy())
    with passing_on().mount(bench.files.npy_folder()) as mount:
        return bench.probe("load", path=mount.find("data"), times=times)


def load_four_through_bindfs(bench: Bench, _: Contender) -> Sample:
    """Four processes, a ``.npy`` file each, through one bindfs."""
    folder = bench.files.four_npy()
    for number in range(4):
        read_through(folder / f"data{number}.npy")
    with passing_on().mount(folder) as mount:
        return bench.probe_together(
            ("load", {"path": mount.find(f"data{number}")}) for number in range(4)
        )


def passing_on() -> Peer:
    """Return a C program that only passes files on. Raises ``SkippedError`` without it."""
    if shutil.which("bindfs") is None:
        raise SkippedError("bindfs is not installed")
    command = "bindfs --multithreaded {file} {mountpoint}"
    return Peer("bindfs", command, "{dataset}.npy", os.environ[TOKEN_NAME])


def read_pieces(
    bench: Bench, contender: Contender, *, probe: str, file: ChooseFile, share: int = 1
) -> Sample:
    """Random 4 KiB pieces through a fresh mount, microseconds each."""
    count = max(1, bench.reads // share)
    with contender.mount(file(bench.files)) as mount:
        return bench.probe(probe, path=mount.find("data"), count=count).each_of(count)


def read_pieces_of_npy(bench: Bench, _: Contender) -> Sample:
    """The same pieces of the same array in a real ``.npy`` file, through ``mmap``."""
    read_through(bench.files.npy())
    took = bench.probe("mmap_rows", path=str(bench.files.npy()), count=bench.reads)
    return took.each_of(bench.reads)


def read_pieces_with_h5py(
    bench: Bench, _: Contender, *, file: ChooseFile, share: int = 1
) -> Sample:
    """The same pieces as slices of a dataset that is open, its file in the page cache."""
    path = file(bench.files)
    read_through(path)
    count = max(1, bench.reads // share)
    took = bench.probe("h5py_rows", file=str(path), dataset="data", count=count)
    return took.each_of(count)


def load_four_through_mount(bench: Bench, contender: Contender) -> Sample:
    """Four processes, a gzip dataset each, through one fresh mount."""
    with contender.mount(bench.files.four()) as mount:
        return bench.probe_together(
            ("load", {"path": mount.find(f"data{number}")}) for number in range(4)
        )


def load_four_with_h5py(bench: Bench, _: Contender) -> Sample:
    """Four processes with h5py."""
    path = bench.files.four()
    read_through(path)
    return bench.probe_together(
        ("h5py_load", {"file": str(path), "dataset": f"data{number}"}) for number in range(4)
    )


def peak_memory(bench: Bench, contender: Contender) -> Sample:
    """Peak memory above the cache setting, in MB, of all processes behind the mount."""
    file = bench.files.big()
    with contender.mount(file) as mount, PeakMemory(mount.find_pids) as peak:
        bench.probe("command", words=["cat", mount.find("data")])
    if not peak.bytes:
        raise FailedError("no process of the mount was found")
    return Sample(peak.bytes / MB - cache_setting_mb(contender))


def cache_setting_mb(contender: Contender) -> float:
    """Return the size of the cache that the mount was told of, else the default; a peer's is 0."""
    if not isinstance(contender, H5fs):
        return 0
    found = re.findall(r"\bcache=([0-9]+)([KMGkmg]?)", " ".join(contender.arguments))
    if not found:
        return DEFAULT_CACHE_MB
    number, unit = found[-1]
    return int(number) * {"": 1 / MB, "K": 1 / 1024, "M": 1, "G": 1024}[unit.upper()]


def _whole(key: str, title: str, file: ChooseFile, bar: float, *, options: str = "") -> Row:
    return Row(
        key=key,
        title=f"{title}, whole" + (f", -o {options}" if options else ""),
        against="h5py ds[...]",
        measure=functools.partial(load_through_mount, file=file, options=options),
        compare=functools.partial(load_with_h5py, file=file),
        floor=load_through_bindfs,
        bar=bar,
        method="np.load through a fresh mount; h5py: File() and ds[...], both timed; the HDF5 "
        "file in the page cache",
    )


def _beside_contiguous(key: str, title: str, file: ChooseFile) -> Row:
    return Row(
        key=f"{key}-contiguous",
        title=f"{title}, whole, against the same mount",
        against="np.load of a contiguous dataset through it",
        measure=functools.partial(load_through_mount, file=file),
        compare=functools.partial(load_through_mount, file=Files.plain),
        floor=load_through_bindfs,
        bar=1.2,
        method="both np.load through fresh mounts, of arrays of the same size; the files in the "
        "page cache",
    )


def _filtered(name: str) -> ChooseFile:
    return lambda files: files.filtered(name)


_PIECES = Row(
    key="6",
    title="random 4 KiB reads of a contiguous dataset, mmap, warm",
    against="h5py slices",
    measure=functools.partial(read_pieces, probe="mmap_rows", file=Files.plain),
    compare=functools.partial(read_pieces_with_h5py, file=Files.plain),
    bar=0.3,
    unit="us",
    method="np.load(mmap_mode='r'), the file read once before; h5py's file open before; per read",
)

READING_ROWS = (
    Row(
        key="1",
        title="np.load of a contiguous dataset, fresh mount",
        against="np.load of a real .npy",
        measure=functools.partial(load_through_mount, file=Files.plain),
        compare=load_npy,
        floor=load_through_bindfs,
        bar=3,
        aim=1.5,
        method="both files in the page cache below; a new mount for each run, not timed",
    ),
    Row(
        key="2",
        title="the same, second time",
        against="np.load of a real .npy",
        measure=functools.partial(load_through_mount, file=Files.plain, times=2),
        compare=functools.partial(load_npy, times=2),
        floor=functools.partial(load_through_bindfs, times=2),
        bar=1.1,
        method="each process loads twice; the second is timed",
    ),
    Row(
        key="2-third",
        title="the same, third time",
        against="np.load of a real .npy",
        measure=functools.partial(load_through_mount, file=Files.plain, times=3),
        compare=functools.partial(load_npy, times=3),
        floor=functools.partial(load_through_bindfs, times=3),
        bar=None,
        method="at the second time the kernel moves each page of the mount to another list; no "
        "bar: for information",
    ),
    _whole("3", "shuffle+gzip", _filtered("gzip"), 0.35),
    _whole("4-tiles", "shuffle+gzip, 500x500 tiles", Files.tiles, 0.7, options="cache=64M"),
    _whole("4-columns", "shuffle+gzip, columns of 50", Files.columns, 0.7, options="cache=64M"),
    _whole("5-lzf", "shuffle+lzf", _filtered("lzf"), 0.7),
    _whole("5-blosc", "blosc", _filtered("blosc"), 0.7),
    _whole("5-zstd", "shuffle+zstd", _filtered("zstd"), 0.7),
    _whole("5-lz4", "shuffle+lz4", _filtered("lz4"), 0.7),
    _beside_contiguous("5-blosc", "blosc", _filtered("blosc")),
    _beside_contiguous("5-zstd", "shuffle+zstd", _filtered("zstd")),
    _beside_contiguous("5-lz4", "shuffle+lz4", _filtered("lz4")),
    _PIECES,
    dataclasses.replace(
        _PIECES,
        key="6-npy",
        title="the same against a real .npy",
        against="a real .npy, mmap",
        compare=read_pieces_of_npy,
        bar=None,
        method="as row 6, both through np.load(mmap_mode='r'); no bar: for information",
    ),
    dataclasses.replace(
        _PIECES,
        key="7",
        title="the same, nothing in the mount's page cache",
        measure=functools.partial(read_pieces, probe="pread_rows", file=Files.plain),
        bar=10,
        aim=4,
        method="fresh mount, pread after posix_fadvise(RANDOM): the kernel sends each as one FUSE "
        "request",
    ),
    dataclasses.replace(
        _PIECES,
        key="8",
        title="random 4 KiB reads of the gzip dataset, cold kernel cache",
        measure=functools.partial(
            read_pieces, probe="pread_rows", file=_filtered("gzip"), share=FEW_READS_SHARE
        ),
        compare=functools.partial(
            read_pieces_with_h5py, file=_filtered("gzip"), share=FEW_READS_SHARE
        ),
        bar=1,
        aim=None,
        method="as row 7, a tenth as many; both with their default chunk caches",
    ),
    Row(
        key="9",
        title="four processes, four gzip datasets at once",
        against="four h5py processes",
        measure=load_four_through_mount,
        compare=load_four_with_h5py,
        floor=load_four_through_bindfs,
        bar=0.6,
        method="a fourth of the size each; from the first start to the last end, imports not timed",
    ),
)

MEMORY_ROWS = (
    Row(
        key="12",
        title="peak memory over the cache setting, `cat` of a large gzip dataset",
        against="",
        measure=peak_memory,
        compare=None,
        bar=MEMORY_OVER_CACHE_MB,
        is_absolute=True,
        unit="MB",
        takes_largest=True,
        is_slow=True,
        method="31 times --size; PSS of the daemon and its descendants, and all their shared "
        "memory, mapped or not, every 50 ms; the largest of all runs",
    ),
)
