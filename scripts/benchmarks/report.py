"""What a run leaves: the table, the JSON, and what the machine was."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.running import Result

ROOT = Path(__file__).resolve().parent.parent.parent
_PACKAGES = "h5fs numpy h5py hdf5plugin fusepy mfusepy deflate isal msgspec".split()
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_HEADINGS = (
    "row,what,through,takes,at least,against,that takes,at least,ratio,bar,,only passed on"
).split(",")


def format_table(results: Sequence[Result], file_system: str) -> str:
    """Return the results as a Markdown table that reads well as plain text too."""
    lines = [_HEADINGS, *(_cells(result, file_system) for result in results)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    rows = (
        " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        for cells in lines
    )
    return "".join(f"| {row} |\n" for row in rows) + _notes(results)


def _cells(result: Result, file_system: str) -> list[str]:
    row = result.row
    bar = ""
    if row.bar is not None:
        bar = f"{row.bar:g} {row.unit}" if row.is_absolute else f"{row.bar:.3g}x"
        bar += f", aim {row.aim:g}x" if row.aim is not None else ""
    return [
        row.key,
        row.title,
        result.contender,
        format_value(result.value, row.unit),
        format_value(_median(result.least), row.unit),
        row.against + (f" on {file_system}" if "real" in row.against else ""),
        format_value(result.alternative, row.unit),
        format_value(_median(result.compared_least), row.unit),
        "" if result.ratio is None else f"{result.ratio:.2f}x",
        bar,
        result.verdict,
        f"{format_value(_median(result.floors), row.unit)} ({row.passed_on_by})"
        if result.floors
        else "",
    ]


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def format_value(value: float | None, unit: str) -> str:
    """Return a value as people write it."""
    if value is None:
        return ""
    if unit in _SECONDS:
        seconds = value * _SECONDS[unit]
        for name, size in _SECONDS.items():
            if seconds >= size:
                return f"{seconds / size:.3g} {name}"
    return f"{value:.3g} {unit}" if value < 100 else f"{value:.0f} {unit}"


def _notes(results: Sequence[Result]) -> str:
    """Say why rows lack figures: each reason once."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for result in results:
        if result.problem:
            reason = (result.contender, result.verdict, result.problem)
            rows.setdefault(reason, []).append(result.row.key)
        if result.no_floor:
            reason = (result.row.passed_on_by, "skipped", result.no_floor)
            rows.setdefault(reason, []).append(result.row.key)
    return "".join(
        f"\n{contender}: {verdict}: {problem} (rows {', '.join(keys)})\n"
        for (contender, verdict, problem), keys in rows.items()
    )


def as_json(results: Sequence[Result], settings: dict[str, Any], machine: dict[str, Any]) -> str:
    """Return everything about a run."""
    everything = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine,
        "versions": describe_versions(),
        "settings": settings,
        "rows": [result.as_json() for result in results],
    }
    return json.dumps(everything, indent=1) + "\n"


def describe_machine(folder: Path) -> dict[str, Any]:
    """Return what the figures depend on; the load is that of the moment."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "kernel": platform.release(),
        "file_system": file_system_of(folder),
        "load_average": os.getloadavg(),
    }


def say_machine(machine: dict[str, Any]) -> str:
    """Return the machine in a line."""
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']:g} GiB, "
        f"Linux {machine['kernel']}, {machine['file_system']}; "
        f"load average at the start {machine['load_average'][0]:.1f}"
    )


def is_busy(machine: dict[str, Any]) -> bool:
    """Whether other programs take so much that the figures mean little."""
    return bool(machine["load_average"][0] > machine["cores"] / 2)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


def file_system_of(folder: Path) -> str:
    """Return the type of the file system that a folder is on."""
    words = ["stat", "--file-system", "--format=%T", str(folder)]
    name = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    return "ext4" if name == "ext2/ext3" else name  # they share a number


def describe_versions() -> dict[str, str]:
    """Return the versions of what took part, and the commit."""
    import h5py

    versions = {"python": platform.python_version(), "HDF5": h5py.version.hdf5_version}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    commit = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    return {**versions, "commit": commit or "unknown"}
