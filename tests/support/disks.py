"""File systems of a size: to fill, and to find no room on. Needs root."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_disk(folder: Path, megabytes: int, kind: str = "tmpfs") -> Iterator[None]:
    """Mount an empty tmpfs or ext4 of that size at a new folder, as long as the block runs."""
    folder.mkdir()
    options = [f"size={megabytes}m"]
    source = "tmpfs"
    if kind == "ext4":
        image = folder.with_name(folder.name + ".img")
        image.touch()
        with image.open("r+b") as file:
            file.truncate(megabytes * 2**20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
        source, options = str(image), ["loop"]
    subprocess.run(["mount", "-t", kind, "-o", ",".join(options), source, folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
