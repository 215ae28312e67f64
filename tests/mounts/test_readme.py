"""The commands of README and ADMINISTRATION, typed one after another, in a fresh copy."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.pages import README, ROOT, code_blocks

COMMAND = re.compile(r"^\$ ((?:[^\n]|\n(?!\$ ))+)", re.MULTILINE)
# A command may change PATH for those after it, as activating an environment does.
ONE_AFTER_ANOTHER = 'eval "$1"; status=$?; printf %s "$PATH" >"$2"; exit "$status"'


def console_commands() -> list[str]:
    """Return the commands of all ``console`` blocks, in order."""
    return [command for block in code_blocks("console") for command in COMMAND.findall(block)]


def copy_tracked_files(folder: Path) -> None:
    """Copy what git tracks, as a clone of the working tree would have it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)


@pytest.mark.timeout(600)
def test_every_command_of_the_readme_works_in_a_fresh_clone(tmp_path: Path) -> None:
    clone, home = tmp_path / "h5fs", tmp_path / "home"
    clone.mkdir()
    home.mkdir()
    copy_tracked_files(clone)
    # The demo of whoever runs the tests stays as it is.
    demo = tmp_path / "demo"
    path_file = tmp_path / "path"
    env = {**os.environ, "HOME": str(home), "H5FS_DEMO_DIR": str(demo), "USER": ""}
    for name in ("H5FS_VENV", "VIRTUAL_ENV", "PYTHONPATH"):
        env.pop(name, None)
    try:
        for command in console_commands():
            here = command.replace("/tmp/h5fs-demo-$(id -un)", str(demo))
            done = subprocess.run(
                ["bash", "-c", ONE_AFTER_ANOTHER, "bash", here, path_file], cwd=clone, env=env,
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
            env["PATH"] = path_file.read_text(encoding="utf-8")
    finally:
        for mountpoint in (demo / "experiment", clone / "run42"):
            subprocess.run(["fusermount3", "-uz", mountpoint], check=False, capture_output=True)


def test_the_python_of_the_readme_works(tmp_path: Path) -> None:
    sample = tmp_path / "run42.h5"
    subprocess.run([sys.executable, ROOT / "scripts" / "sample.py", sample], check=True)
    program = "\n".join(code_blocks("python"))
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=240)


def test_the_json_in_the_readme_is_what_the_sample_shows(tmp_path: Path) -> None:
    (shown,) = code_blocks("json", README)
    from h5fs.model.settings import StoreOptions
    from h5fs.store import open_store
    from h5fs.tree import Tree

    sample = tmp_path / "sample.h5"
    subprocess.run([sys.executable, ROOT / "scripts" / "sample.py", sample], check=True)
    tree = Tree(open_store(StoreOptions(sample)))
    try:
        handle = tree.open(b"/acquisition/channel_488/stack.attrs.json", os.O_RDONLY)
        data = bytes(tree.read(handle, 2**20, 0))
    finally:
        tree.close()
    assert data.decode() == shown
    assert json.loads(data)["units"] == "counts"
