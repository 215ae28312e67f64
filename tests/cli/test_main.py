"""The command line without a mount: usage, help, what it passes on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from support.mounts import run_h5fs

import h5fs
from h5fs.cli import main
from h5fs.cli.commands import mount
from h5fs.cli.output.colors import shows_colors
from h5fs.errors import MountError
from h5fs.model.settings import ExternalPolicy, Mode, MountOptions


@pytest.fixture
def passed_on(monkeypatch: pytest.MonkeyPatch) -> list[MountOptions]:
    """What the command passes to ``mount``, which does nothing."""
    given: list[MountOptions] = []
    monkeypatch.setattr(mount, "mount", given.append)
    return given


@pytest.mark.semantics("M2")
def test_the_word_mount_may_be_left_out(passed_on: list[MountOptions]) -> None:
    assert main.main(["f.h5", "mnt", "-o", "uid=1"]) == 0
    assert main.main(["mount", "f.h5", "mnt", "-o", "uid=1"]) == 0
    assert passed_on[0] == passed_on[1]


@pytest.mark.semantics("M2")
def test_options_may_stand_anywhere(passed_on: list[MountOptions]) -> None:
    assert main.main(["f.h5", "mnt", "--mode", "r+", "-f"]) == 0
    for words in (
        ["--mode", "r+", "f.h5", "mnt", "-f"], ["f.h5", "--mode", "r+", "mnt", "-f"],
        ["-f", "f.h5", "--mode", "r+", "mnt"], ["mount", "f.h5", "-f", "--mode=r+", "mnt"],
        ["f.h5", "-f", "mnt", "--mode", "r+"], ["--mode", "r+", "-f", "--", "f.h5", "mnt"],
    ):  # fmt: skip
        assert main.main(words) == 0
        assert passed_on[-1] == passed_on[0]
    for words in (["f.h5", "-f", "mnt", "more"], ["f.h5", "-f", "--unknown"]):
        assert main.main(words) == 2


@pytest.mark.semantics("M7")
def test_modes_are_those_of_h5py_and_r_is_the_default(passed_on: list[MountOptions]) -> None:
    assert main.main(["f.h5", "mnt"]) == 0
    for mode in ("r", "r+", "a", "w", "x", "w-"):
        assert main.main(["f.h5", "mnt", "--mode", mode]) == 0
    assert [options.mode for options in passed_on] == [
        Mode.READ, Mode.READ, Mode.UPDATE, Mode.APPEND, Mode.CREATE, Mode.EXCLUSIVE, Mode.EXCLUSIVE
    ]  # fmt: skip
    assert all(options.store.mode is options.mode for options in passed_on)
    for mode in ("", "R", "rw"):
        assert main.main(["f.h5", "mnt", "--mode", mode]) == 2


@pytest.mark.semantics("M11")
@pytest.mark.parametrize(
    ("options", "mode", "said"),
    [("rw,mode=a", Mode.APPEND, ""), ("ro", Mode.READ, ""), ("rw,ro", Mode.READ, ""),
     ("rw", Mode.READ, "h5fs: -o rw lets no program write; --mode r+ does\n")],
)  # fmt: skip
def test_rw_is_no_mode(
    passed_on: list[MountOptions], capsys: pytest.CaptureFixture[str], options: str, mode: Mode,
    said: str,
) -> None:  # fmt: skip
    assert main.main(["f.h5", "mnt", "-o", options]) == 0
    assert passed_on[-1].mode is mode
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("words", "level"), [([], "WARNING"), (["-v"], "INFO"), (["--debug"], "DEBUG")]
)
@pytest.mark.semantics("M10")
def test_v_and_debug_log_more(passed_on: list[MountOptions], words: list[str], level: str) -> None:
    main.main(["f.h5", "mnt", *words])
    assert passed_on[0].log.level == level


def test_paths_are_absolute_and_the_mountpoint_is_real(
    passed_on: list[MountOptions], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    main.main(["f.h5", "link", "-o", "external=none"])
    assert passed_on[0].store.file == tmp_path / "f.h5"
    assert passed_on[0].store.external is ExternalPolicy.NONE
    assert passed_on[0].mountpoint == (tmp_path / "real").resolve()


@pytest.mark.semantics("M10")
def test_the_log_file_is_absolute_since_the_daemon_goes_to_the_root(
    passed_on: list[MountOptions], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    main.main(["f.h5", "mnt", "-o", "log=my.log"])
    assert passed_on[0].log.target == str(tmp_path / "my.log")


@pytest.mark.semantics("M7")
@pytest.mark.parametrize(
    "words",
    [
        [], ["f.h5", "mnt", "more"], ["f.h5", "mnt", "--unknown"], ["f.h5", "mnt", "-o"],
        ["f.h5", "mnt", "-z"], ["f.h5", "mnt", "--mode"], ["f.h5", "mnt", "--mode", "rw"],
        ["f.h5", "mnt", "-o", "nonsense"], ["f.h5", "mnt", "-o", "external=some"],
        ["f.h5", "mnt", "-o", "locking="], ["f.h5", "mnt", "-o", "uid"], ["umount"],
        ["umount", "a", "b"], ["umount", "-x", "a"], ["mount"],
    ],
)  # fmt: skip
def test_wrong_usage_is_exit_status_2_and_says_what_is_wrong(words: list[str]) -> None:
    done = run_h5fs(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(("h5fs: ", "h5fs umount: "))
    assert "Traceback" not in done.stderr


@pytest.mark.semantics("M7")
@pytest.mark.parametrize(
    "words",
    [
        ["f.h5", "mnt", "--mode", "rw"], ["f.h5", "mnt", "-o", "nonsense"],
        ["f.h5", "mnt", "-o", "external=some"], ["f.h5", "mnt", "-o", "uid"],
    ],
)  # fmt: skip
def test_a_wrong_option_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(words) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.semantics("M6")
def test_an_error_is_one_line_and_exit_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_options: MountOptions) -> None:
        raise MountError("no\nmore\rthan one\u2028line")

    monkeypatch.setattr(mount, "mount", refuse)
    assert main.main(["f.h5", "mnt"]) == 1
    assert capsys.readouterr().err == "h5fs: no more than one line\n"


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["tree", "--help"], ["help", "cp"]])
def test_help_and_version_need_no_numpy(words: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "h5fs", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "h5fs.cli.main" in imported
    assert imported.isdisjoint({"numpy", "h5py", "fsspec"})


def test_help_is_a_command_and_a_capital_v_the_version() -> None:
    assert run_h5fs("help").stdout == run_h5fs("--help").stdout
    assert run_h5fs("help", "tree").stdout == run_h5fs("tree", "--help").stdout
    assert run_h5fs("-V").stdout == run_h5fs("--version").stdout


@pytest.mark.semantics("C1")
@pytest.mark.parametrize(
    ("choice", "no_color", "expected"),
    [
        ("auto", "", True), ("auto", "1", False), ("always", "1", True), ("never", "", False),
    ],
)  # fmt: skip
def test_no_color_is_heard_unless_colors_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, choice: str, no_color: str, expected: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert shows_colors(choice) is expected


def test_help_and_version_go_to_stdout() -> None:
    version = run_h5fs("--version").stdout
    own = re.escape(h5fs.__version__)
    assert re.fullmatch(rf"h5fs {own} \(m?fusepy [\d.]+ over .*\)\n", version)
    shown = run_h5fs("--help")
    assert shown.returncode == 0
    assert "MOUNTPOINT" in shown.stdout
    assert shown.stderr == ""


@pytest.mark.semantics("M6")
def test_umount_of_what_is_not_mounted_says_so(tmp_path: Path) -> None:
    done = run_h5fs("umount", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"h5fs: nothing is mounted at {tmp_path}; ")


@pytest.mark.semantics("M6")
def test_umount_of_another_file_system_says_so() -> None:
    done = run_h5fs("umount", "/proc")
    assert done.returncode == 1
    assert "is not an h5fs mount" in done.stderr
    assert os.path.ismount("/proc")


@pytest.mark.semantics("C1", "M27")
def test_no_name_of_a_file_reaches_the_terminal_with_control_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    passed_on: list[MountOptions],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"\x1b[31m\xff.h5")
    with h5py.File("f.h5", "w") as opened:
        opened["x"] = 1
    os.rename("f.h5", name)
    assert main.main(["tree", name]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "\\x1b[31m\\xff.h5"
    assert main.main([name]) == 0
    assert capsys.readouterr().out == "mounted on \\x1b[31m\\xff\n"
