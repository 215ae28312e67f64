"""The package as people get it: a wheel, installed into an empty environment, mounts a file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mounts import end_mount
from support.reference import npy_bytes

import h5fs

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = np.arange(100, dtype="<i4")


def run(*words: str | Path, folder: Path) -> str:
    """Run a program outside of the clone, without its modules; it must succeed."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in words], cwd=folder, env=env, capture_output=True, text=True,
        timeout=380, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.semantics("M21")
def test_the_wheel_in_an_empty_environment_mounts_a_file(tmp_path: Path) -> None:
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", ROOT, "-w", tmp_path,
        folder=tmp_path)  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    venv, mountpoint, file = tmp_path / "venv", tmp_path / "mnt", tmp_path / "f.h5"
    run(sys.executable, "-m", "venv", venv, folder=tmp_path)
    run(venv / "bin/python", "-m", "pip", "install", "-q", wheel, folder=tmp_path)
    command = venv / "bin/h5fs"
    version = run(command, "--version", folder=tmp_path)
    assert version.startswith(f"h5fs {h5fs.__version__} (mfusepy "), version
    where = run(venv / "bin/python", "-c", "import h5fs; print(h5fs.__file__)", folder=tmp_path)
    package = Path(where.strip()).parent
    assert package.is_relative_to(venv)
    for name in ("py.typed", "SEMANTICS.md", "ADMINISTRATION.md", "CHANGELOG.md"):
        assert (package / name).is_file(), name
    assert f'"h5fs {h5fs.__version__}"' in (venv / "share/man/man1/h5fs.1").read_text()
    completion = run(command, "completion", "bash", folder=tmp_path)
    installed = venv / "share/bash-completion/completions/h5fs"
    assert installed.read_text() == completion
    assert (venv / "bin/mount.h5fs").is_file()

    with h5py.File(file, "w") as opened:
        opened["d"] = NUMBERS
    mountpoint.mkdir()
    try:
        run(command, file, mountpoint, "-o", f"log={tmp_path}/log", folder=tmp_path)
        assert (mountpoint / "d.npy").read_bytes() == npy_bytes(NUMBERS)
        run(command, "umount", mountpoint, folder=tmp_path)
        assert not os.listdir(mountpoint)
    finally:
        end_mount(mountpoint)
    with zipfile.ZipFile(wheel) as packed:
        assert not [name for name in packed.namelist() if name.startswith(("tests", "scripts"))]


def test_the_version_is_written_in_one_place() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'dynamic = ["version"]' in project
    assert re.search(r'^path = "h5fs/__init__.py"$', project, re.MULTILINE)
    listed = subprocess.run(
        ["git", "grep", "-lF", f'"{h5fs.__version__}"', "--", "h5fs", "scripts", "pyproject.toml"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    assert listed.split() == ["h5fs/__init__.py"]


def test_a_release_without_a_public_address_says_so() -> None:
    """The address is in pyproject.toml alone; ``scripts/release`` asks for it before an upload."""
    release = (ROOT / "scripts/release").read_text(encoding="utf-8")
    (found,) = re.findall(r"^address=\$\(sed -n '(.*)' pyproject\.toml\)$", release, re.MULTILINE)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    commented, alive = "# [project.urls]\n# Repository = ", "[project.urls]\nRepository = "
    filled_in = project.replace(commented, alive)
    for text, address in (
        (project.replace("\n[project.urls]", "\n[other]"), ""),
        (filled_in.replace("https://...", "https://host/h5fs"), "https://host/h5fs\n"),
    ):
        done = subprocess.run(
            ["sed", "-n", found], input=text, capture_output=True, text=True, check=True
        )
        assert done.stdout == address
    places = subprocess.run(
        ["git", "grep", "-lE", r"https://(github|gitlab)\.com/[^ ]*/h5fs\b"], cwd=ROOT,
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    assert places.split() in ([], ["pyproject.toml"])
