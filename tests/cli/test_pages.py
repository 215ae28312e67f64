"""README.md and ADMINISTRATION.md: links that lead somewhere, commands that h5fs understands."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.pages import ADMINISTRATION, PAGES, ROOT, code_blocks

from h5fs.cli import main
from h5fs.cli.mount_options import is_known, parse_options
from h5fs.cli.parsers import COMMANDS

SHELL_KINDS = ("console", "bash", "sh")
OF_OTHERS = {"flock"}  # Lustre's own option
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "h5fs" / "CHANGELOG.md"], ids=lambda page: page.stem
)
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_relative_to(ROOT) and target.exists(), link
        assert not anchor or anchor in anchors(target), link


def commands(page: Path) -> Iterator[str]:
    """Yield each command of h5fs that a page shows, in a block for a shell or in a sentence."""
    text = page.read_text(encoding="utf-8")
    for kind in SHELL_KINDS:
        for block in re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            for line in block.splitlines():
                if found := re.match(r"(?:\$ )?(?:\S*/)?(h5fs .*)", line):
                    yield found[1]
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for found in re.findall(r"`(h5fs [^`]*)`", text):
        yield found.replace("\\|", "|")


def first_command(line: str) -> list[str]:
    """Return the words of a line's first command."""
    line = re.sub(r"\$\([^)]*\)", "X", line)
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split, lexer.commenters = True, "#"
    words = list(lexer)
    ends = [index for index, word in enumerate(words) if set(word) <= set("|&;<>")]
    return words[: ends[0]] if ends else words


@EACH_PAGE
def test_commands_of_h5fs_are_ones_that_it_understands(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    understood: list[argparse.Namespace] = []

    def note(given: argparse.Namespace, *_: object) -> int:
        understood.append(given)
        parse_options(getattr(given, "options", []))
        return 0

    monkeypatch.setattr(main, "_run_command", note)
    names = {command.name for command in COMMANDS}
    for line in commands(page):
        words = first_command(line)[1:]
        if words[-1] in ("--help", "--version"):
            assert words[0] in {*names, "COMMAND", words[-1]}, line
        elif len(words) > 1 or words[0] not in names:  # a name alone stands for all that it does
            assert main.main(words) == 0, line
    assert len(understood) > 9


def test_the_table_of_commands_is_that_of_the_parser() -> None:
    text = ADMINISTRATION.read_text(encoding="utf-8")
    rows = [f"| `h5fs {command.name}` | {command.summary} |" for command in COMMANDS]
    assert re.findall(r"^\| `h5fs \w+` \| .*$", text, re.MULTILINE) == rows


@EACH_PAGE
def test_options_that_a_page_names_are_there(page: Path) -> None:
    for word in re.findall(r"-o ([a-z_0-9]+)", page.read_text(encoding="utf-8")):
        assert is_known(word) or word in OF_OTHERS, word


def test_scripts_that_the_pages_show_are_ones_that_bash_can_read() -> None:
    for kind in SHELL_KINDS[1:]:
        for block in code_blocks(kind):
            done = subprocess.run(
                ["bash", "-n"], input=block, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr


def test_programs_of_the_repository_that_the_pages_name_are_there() -> None:
    """Each path of this repository that is named as code, such as ``scripts/bench``."""
    for page in PAGES:
        named = re.findall(r"`((?:scripts|tests)/[\w./-]+)", page.read_text(encoding="utf-8"))
        for name in named:
            assert (ROOT / name).exists(), name
