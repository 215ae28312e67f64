"""Rows that write: through a mount, and the redo log beside plain h5py."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from benchmarks.contenders import Contender
from benchmarks.rows import Bench, Row, Sample

_MOST_RATIO_OF_BULK = 2.0  # no less than half the speed
_GZIP = "compression=gzip:4,shuffle"  # h5py's level


def save_through_mount(
    bench: Bench, contender: Contender, *, options: str = "", syncs: bool = False
) -> Sample:
    """``np.save`` through a fresh mount in mode w."""
    source = str(bench.files.npy())
    with tempfile.TemporaryDirectory(prefix="written-", dir=bench.files.folder) as folder:
        file = Path(folder, "new.h5")
        file.touch()
        with contender.mount(file, options, ("--mode", "w")) as mount:
            return bench.probe("save", source=source, target=mount.find("data"), syncs=syncs)


def save_to_disk(bench: Bench, _: Contender, *, syncs: bool = False) -> Sample:
    """``np.save`` to the same disk."""
    with tempfile.TemporaryDirectory(prefix="written-", dir=bench.files.folder) as folder:
        target = f"{folder}/data.npy"
        return bench.probe("save", source=str(bench.files.npy()), target=target, syncs=syncs)


def create_with_h5py(bench: Bench, _: Contender) -> Sample:
    """``create_dataset`` with gzip and shuffle."""
    with tempfile.TemporaryDirectory(prefix="written-", dir=bench.files.folder) as folder:
        file = f"{folder}/new.h5"
        return bench.probe("h5py_create", source=str(bench.files.npy()), file=file, gzip=True)


def work_durably(
    bench: Bench, _: Contender, *, kind: str, logged: bool, checkpoints: bool = False
) -> Sample:
    """Work with commits, in one process without a mount."""
    with tempfile.TemporaryDirectory(prefix="written-", dir=bench.files.folder) as folder:
        return bench.probe(
            "durable", kind=kind, file=f"{folder}/f.h5", size_mb=int(bench.files.size_mb),
            logged=logged, checkpoints=checkpoints,
        )  # fmt: skip


def _durable(key: str, title: str, kind: str, speed: float, *, checkpoints: bool = False) -> Row:
    return Row(
        key=key,
        title=title,
        against="plain h5py, fsync at the same moments",
        measure=functools.partial(work_durably, kind=kind, logged=True, checkpoints=checkpoints),
        compare=functools.partial(work_durably, kind=kind, logged=False),
        bar=1 / speed,
        h5fs_only=True,
        method="the redo log under h5py, without a mount; ends when the last commit is on the disk"
        + (" and the log in the file" if checkpoints else ""),
    )


WRITING_ROWS = (
    Row(
        key="17",
        title="np.save of a contiguous dataset and fsync, fresh mount, mode w",
        against="np.save and fsync to the same disk",
        measure=functools.partial(save_through_mount, syncs=True),
        compare=functools.partial(save_to_disk, syncs=True),
        bar=_MOST_RATIO_OF_BULK,
        h5fs_only=True,
        method="until fsync returns: both are on the disk then",
    ),
    Row(
        key="17-cache",
        title="the same without fsync",
        against="np.save into the page cache",
        measure=save_through_mount,
        compare=save_to_disk,
        bar=None,
        h5fs_only=True,
        method="until np.save returns; neither is on the disk then; no bar: for information",
    ),
    Row(
        key="18",
        title="np.save with compression=gzip:4,shuffle, fresh mount, mode w",
        against="h5py create_dataset(compression='gzip', shuffle=True)",
        measure=functools.partial(save_through_mount, options=_GZIP),
        compare=create_with_h5py,
        bar=1,
        h5fs_only=True,
        method="until np.save returns; h5py: File(), create_dataset, close",
    ),
    _durable("19-large", "redo log: one large array, one commit", "large", 0.8),
    _durable("19-small", "redo log: 10,000 small datasets, a commit every 100", "small", 0.8),
    _durable("19-overwrite", "redo log: sequential overwrite, one commit", "overwrite", 0.5),
    _durable(
        "19-checkpoint", "the same, the log brought into the file", "overwrite", 0.5,
        checkpoints=True,
    ),
)  # fmt: skip
