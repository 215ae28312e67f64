"""Rows of what people look at beside the arrays: tables, pictures, and folders that show them."""

from __future__ import annotations

import functools
import importlib.util

from benchmarks.contenders import Contender, FailedError, SkippedError
from benchmarks.files import STACK
from benchmarks.rows import Bench, Row, Sample

_TABLES, _PICTURES = "views=csv", "views=png"


def read_table(bench: Bench, contender: Contender) -> Sample:
    """Read a table through a mount that nobody has read from yet."""
    with contender.mount(bench.files.numbers(), _TABLES) as mount:
        return bench.probe("read_table", path=mount.find("data").replace(".npy", ".csv"))


def save_table(bench: Bench, _: Contender, *, program: str) -> Sample:
    """Write the same array, which is in memory, as a table. Raises ``SkippedError``."""
    if importlib.util.find_spec(program) is None:
        raise SkippedError(f"needs {program}")
    file = str(bench.files.numbers())
    return bench.probe("save_table", file=file, dataset="data", program=program)


def read_picture(bench: Bench, contender: Contender) -> Sample:
    """Read the first picture of a mount."""
    with contender.mount(bench.files.stack(), _PICTURES) as mount:
        path = mount.find("data").replace(".npy", ".png")
        return bench.probe("blocks", path=path, size=2**17)


def list_with_sizes(bench: Bench, contender: Contender, *, options: str) -> Sample:
    """``ls -l`` of a large group through a fresh mount."""
    with contender.mount(bench.files.many(), options) as mount:
        took = bench.probe("command", words=["ls", "-l", mount.find_folder("many")])
    files = bench.files.objects * (2 if options else 1)
    if took.digest != [files + 1]:
        raise FailedError(f"ls printed {took.digest[0]} lines, not {files + 1}")
    return Sample(took.value)


VIEW_ROWS = (
    *(
        Row(
            key=f"22-{program}",
            title="the table of 10 million float64",
            against=against,
            measure=read_table,
            compare=functools.partial(save_table, program=program),
            bar=0.5,
            h5fs_only=True,
            method="x.csv read to its end through a fresh mount, its chunks with it; numpy and "
            "pandas have the array in memory and write to /dev/null",
        )
        for program, against in (("numpy", "np.savetxt"), ("pandas", "pandas to_csv"))
    ),
    Row(
        key="22-picture",
        title=f"the first picture of a gzip stack of {'x'.join(map(str, STACK))}",
        against="nothing",
        measure=read_picture,
        compare=None,
        bar=0.3,
        is_absolute=True,
        h5fs_only=True,
        method="x.png read through a fresh mount, its workers not yet started",
    ),
    Row(
        key="22-ls",
        title="many datasets in one group with tables: `ls -l`",
        against="the same without views",
        measure=functools.partial(list_with_sizes, options=_TABLES),
        compare=functools.partial(list_with_sizes, options=""),
        bar=2,
        h5fs_only=True,
        method="a fresh mount for each run; twice as many files with views (--objects 20000)",
    ),
)
