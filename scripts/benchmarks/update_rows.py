"""Rows that read through a mount in mode r+ beside one in mode r: it is to be the same product."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

from benchmarks.contenders import Contender
from benchmarks.files import Files
from benchmarks.listing_rows import run_listing
from benchmarks.reading_rows import ChooseFile
from benchmarks.rows import Bench, Row, Sample

_BAR_OF_LISTINGS = 1.5
_BAR_OF_DATA = 1.3
_BAR_BESIDE_SAVES = 3.0

# A program that saves a small array every 100 ms, from the moment on that it has done so once.
_SAVES = """
import sys, time, numpy as np
while True:
    np.save(sys.argv[1], np.arange(100))
    print(flush=True)
    time.sleep(0.1)
"""


def list_in_mode(
    bench: Bench, contender: Contender, *, mode: str, program: str, times: int
) -> Sample:
    """List the large group through a fresh mount, or a second time through the same."""
    with contender.mount(bench.files.many(), words=("--mode", mode)) as mount:
        folder = mount.find_folder("many")
        return run_listing(bench, program, folder, bench.files.objects, times)


def list_beside_saves(
    bench: Bench, contender: Contender, *, mode: str, program: str, times: int
) -> Sample:
    """List as ``list_in_mode`` while another program saves a small array again and again.

    In mode r nobody saves.
    """
    with contender.mount(bench.files.many(), words=("--mode", mode)) as mount:
        folder = mount.find_folder("many")
        if mode == "r":
            return run_listing(bench, program, folder, bench.files.objects, times)
        # Beside the folder: how many files are listed must not depend on the moment.
        saves = [sys.executable, "-c", _SAVES, os.path.join(os.path.dirname(folder), "new.npy")]
        saver = subprocess.Popen(saves, stdout=subprocess.PIPE)
        try:
            assert saver.stdout is not None
            saver.stdout.readline()
            return run_listing(bench, program, folder, bench.files.objects, times)
        finally:
            saver.kill()
            saver.wait()


def load_in_mode(
    bench: Bench, contender: Contender, *, mode: str, file: ChooseFile, times: int
) -> Sample:
    """``np.load`` through a fresh mount, or a second time through the same."""
    with contender.mount(file(bench.files), words=("--mode", mode)) as mount:
        return bench.probe("load", path=mount.find("data"), times=times)


def read_pieces_in_mode(bench: Bench, contender: Contender, *, mode: str) -> Sample:
    """Random 4 KiB pieces, the file read once before; microseconds each."""
    with contender.mount(bench.files.plain(), words=("--mode", mode)) as mount:
        took = bench.probe("mmap_rows", path=mount.find("data"), count=bench.reads)
        return took.each_of(bench.reads)


def _row(key: str, title: str, measure: functools.partial[Sample], bar: float, unit: str) -> Row:
    return Row(
        key=f"30-{key}",
        title=f"mode r+: {title}",
        against="mode r",
        measure=functools.partial(measure, mode="r+"),
        compare=functools.partial(measure, mode="r"),
        bar=bar,
        unit=unit,
        h5fs_only=True,
        method="a fresh mount for each; nothing is written",
    )


_LISTINGS = (("ls", "`ls -f`", "ls", 1), ("find", "`find -size +0`, first", "find", 1),
             ("find-again", "`find -size +0`, again", "find", 2))  # fmt: skip
_ARRAYS = (("contiguous", Files.plain), ("gzip", lambda files: files.filtered("gzip")))

UPDATE_ROWS = (
    *(
        _row(
            key, title, functools.partial(list_in_mode, program=program, times=times),
            _BAR_OF_LISTINGS, "s",
        )
        for key, title, program, times in _LISTINGS
    ),
    _row(
        "find-beside", "`find -size +0`, again, while another program saves each 100 ms",
        functools.partial(list_beside_saves, program="find", times=2), _BAR_BESIDE_SAVES, "s",
    ),
    *(
        _row(
            f"{name}{ending}", f"np.load, {name}, {when}",
            functools.partial(load_in_mode, file=file, times=times), _BAR_OF_DATA, "s",
        )
        for name, file in _ARRAYS
        for ending, when, times in (("", "first", 1), ("-again", "again", 2))
    ),
    _row(
        "pieces", "random 4 KiB reads, mmap, warm", functools.partial(read_pieces_in_mode),
        _BAR_OF_DATA, "us",
    ),
)  # fmt: skip
