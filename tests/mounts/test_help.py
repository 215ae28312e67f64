"""Help, man page and completion: made from one parser, and their examples work."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mounts import end_mount, run_h5fs

from h5fs.cli.completion import write_completion
from h5fs.cli.manual import write_manual
from h5fs.cli.parsers import COMMANDS, SHELLS, build_parser

EXAMPLES = [example.command for command in COMMANDS for example in command.examples]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """What the examples need: data.h5, an empty folder mnt, result.npy."""
    with h5py.File(tmp_path / "data.h5", "w") as opened:
        opened["images/first"] = np.arange(6)
        opened.attrs["title"] = "x"
    np.save(tmp_path / "result.npy", np.arange(3))
    (tmp_path / "mnt").mkdir()
    return tmp_path


@pytest.mark.semantics("M22")
def test_every_command_has_help_with_its_examples() -> None:
    for command in COMMANDS:
        done = run_h5fs(command.name, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        for example in command.examples:
            assert f"  {example.command}  " in done.stdout


@pytest.mark.semantics("M22")
@pytest.mark.parametrize("command", EXAMPLES)
def test_the_examples_of_help_and_man_page_work(place: Path, command: str) -> None:
    (place / "bin").mkdir()
    (place / "bin/h5fs").write_text(f'#!/bin/sh\nexec {sys.executable} -m h5fs "$@"\n')
    (place / "bin/h5fs").chmod(0o755)
    env = os.environ | {"PATH": f"{place}/bin:{os.environ['PATH']}", "XDG_STATE_HOME": str(place)}
    stays = " -f " in f"{command} "
    if command.startswith(("h5fs umount mnt", "h5fs status mnt", "h5fs log mnt")):
        command = f"h5fs data.h5 mnt && {command}"
    elif stays:  # in the foreground: until it is unmounted
        command = f"{command} & until mountpoint -q mnt; do sleep 0.1; done; umount mnt && wait"
    try:
        done = subprocess.run(
            ["bash", "-c", command], cwd=place, env=env, capture_output=True, text=True,
            errors="replace", timeout=240, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        end_mount((place / "mnt").resolve())


@pytest.mark.semantics("M22")
def test_the_man_page_renders_without_a_warning(tmp_path: Path) -> None:
    page = tmp_path / "h5fs.1"
    page.write_text(write_manual("1.2.3"), encoding="utf-8")
    if shutil.which("groff") is None:
        pytest.skip("groff is missing")
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", page], capture_output=True, check=True, timeout=240
    )
    assert done.stderr == b""
    for text in (
        "NAME",
        "h5fs 1.2.3",
        "h5fs status [MOUNTPOINT]",
        "[NAME=VALUE ...]",
        "max_chunk=SIZE",
        "EXIT STATUS",
        "umount",
    ):
        # Bold is a letter, a backspace, and the letter again.
        assert text in re.sub(".\b", "", done.stdout.decode()), text


@pytest.mark.semantics("M22")
@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_that_is_here_takes_its_completion_script(tmp_path: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is missing")
    script = tmp_path / "script"
    script.write_text(write_completion(shell, build_parser()))
    done = subprocess.run([shell, "-n", script], capture_output=True, timeout=240, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


COMPLETIONS = [
    (["h5fs", "umo"], "umount"),
    (["h5fs", "da"], "data.h5"),
    (["h5fs", "data.h5", ":", "/im"], "/images/"),
    (["h5fs", "data.h5", "mnt", "--mo"], "--mode"),
    (["h5fs", "data.h5", "mnt", "--mode", "r"], "r r+"),
    (["h5fs", "data.h5", "mnt", "-o", "shuffle,ext"], "shuffle,external="),
    (["h5fs", "data.h5", "mnt", "-o", "external", "=", "fo"], "folder"),
    (["h5fs", "tree", "--sort", ""], "name size"),
    (["h5fs", "completion", "z"], "zsh"),
    (["h5fs", "help", "um"], "umount"),
    (["h5fs", "cat", "data.h5", ":", "/images/f"], "/images/first.npy"),
    (["h5fs", "cat", "data.h5", ":", "/"], "/.attrs.json /images/"),
]


@pytest.mark.semantics("M22")
@pytest.mark.parametrize(("words", "expected"), COMPLETIONS)
def test_bash_completes(place: Path, words: list[str], expected: str) -> None:
    (place / "script").write_text(write_completion("bash", build_parser()))
    (place / "h5fs").write_text(f'#!/bin/sh\nexec {sys.executable} -m h5fs "$@"\n')
    (place / "h5fs").chmod(0o755)
    line = " ".join(words).replace(" = ", "=").replace(" : ", ":")
    program = """
        PATH=.:$PATH; IFS=:; . ./script; compopt() { :; }; COMP_LINE=$1; COMP_POINT=${#1}; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _h5fs; IFS=' '; echo "${COMPREPLY[*]}"
    """
    done = subprocess.run(
        ["bash", "-c", program, "bash", line, *words], cwd=place, capture_output=True, text=True,
        timeout=240, check=True,
    )  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == (expected, "")


@pytest.mark.semantics("M22")
def test_bash_completes_mountpoints_whatever_ifs_is(tmp_path: Path) -> None:
    script = write_completion("bash", build_parser()).replace("/proc/self/mounts", "mounts")
    (tmp_path / "script").write_text(script)
    (tmp_path / "mounts").write_text(
        "f.h5 /data/one\\040two fuse.h5fs ro 0 0\ntmpfs /tmp tmpfs rw 0 0\nf /m fuse.h5fs ro 0 0\n"
    )
    program = """
        . ./script; compopt() { :; }; IFS=o
        for COMP_WORDS in umount status log; do
            COMP_WORDS=(h5fs "$COMP_WORDS" ''); COMP_CWORD=2
            COMP_LINE="h5fs ${COMP_WORDS[1]} "; COMP_POINT=${#COMP_LINE}
            _h5fs; printf '<%s>' "${COMPREPLY[@]}"
        done
    """
    done = subprocess.run(
        ["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=240,
        check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("</data/one two></m>" * 3, "")


@pytest.mark.semantics("M7", "M22")
@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["unmount", "mnt"], "h5fs umount"), (["tre", "data.h5"], "h5fs tree"),
        (["chekc", "data.h5"], "h5fs check"), (["nothing"], "no command"),
        ([], "FILE MOUNTPOINT"), (["tree"], "h5fs tree --help"),
        (["completion", "tcsh"], "'bash', 'zsh', 'fish'"),
        (["tree", "x", "--depth", "0"], "from 1"),
    ],
)  # fmt: skip
def test_a_word_that_was_meant_as_a_command_is_wrong_usage(words: list[str], meant: str) -> None:
    done = run_h5fs(*words)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert meant in line
