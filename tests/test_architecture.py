"""ARCHITECTURE.md names what is there: every file, class and function; and every room.

And rooms stay as they are meant: modules that can be read at once, under names of their own.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "h5fs"
TEXT = (PACKAGE / "ARCHITECTURE.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`([^`\n]+)`", TEXT)))


def definitions() -> Iterator[tuple[str, ast.stmt]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                yield node.name, node
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    if isinstance(target, ast.Name):
                        yield target.id, node


DEFINED = dict(definitions())


def has_method(class_name: str, method: str) -> bool:
    """Whether a class or one of its base classes in h5fs defines a method."""
    found = DEFINED.get(class_name)
    if not isinstance(found, ast.ClassDef):
        return False
    own = {node.name for node in found.body if isinstance(node, ast.FunctionDef)}
    return method in own or any(has_method(ast.unparse(base), method) for base in found.bases)


@pytest.mark.parametrize("name", [n for n in NAMED if re.fullmatch(r"[a-z0-9_/]+(/|\.py)", n)])
def test_files_and_rooms_that_are_named_are_there(name: str) -> None:
    assert (PACKAGE / name).exists() or name == "h5fs/"


@pytest.mark.parametrize("name", [n for n in NAMED if n.endswith("()")])
def test_functions_that_are_named_are_there(name: str) -> None:
    class_name, _, function = name.removesuffix("()").rpartition(".")
    if class_name:
        assert has_method(class_name, function)
    else:
        assert isinstance(DEFINED.get(function), ast.FunctionDef)


CLASS_OR_TABLE = r"[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*|[A-Z]+_[A-Z_]+"


@pytest.mark.parametrize("name", [n for n in NAMED if re.fullmatch(CLASS_OR_TABLE, n)])
def test_classes_and_tables_that_are_named_are_there(name: str) -> None:
    assert name in DEFINED


def test_every_room_is_named() -> None:
    rooms = {
        f"{file.parent.relative_to(PACKAGE)}/"
        for file in PACKAGE.rglob("__init__.py")
        if file.parent != PACKAGE
    }
    assert rooms <= set(NAMED)


MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES, MOST_MODULES = 400, 18
# Both rooms have the same thing there: a store and its promise, what it counts. The others are
# named after words of the command line.
SAME_IN_TWO_ROOMS = {
    "__init__.py", "interface.py", "store.py", "writing_store.py", "statistics.py",
    "status.py", "tree.py",
}  # fmt: skip


def test_no_module_is_too_long_to_be_read_at_once() -> None:
    lengths = {each: len(each.read_text(encoding="utf-8").splitlines()) for each in MODULES}
    assert {each.name: length for each, length in lengths.items() if length > MOST_LINES} == {}


def test_no_room_is_crowded() -> None:
    rooms = Counter(str(each.parent.relative_to(PACKAGE)) for each in MODULES)
    assert {room: count for room, count in rooms.items() if count > MOST_MODULES} == {}


def test_modules_of_one_name_are_of_one_thing() -> None:
    names = Counter(each.name for each in MODULES)
    assert {name for name, count in names.items() if count > 1} == SAME_IN_TWO_ROOMS


def test_classes_that_rooms_share_have_names_of_their_own() -> None:
    names = Counter(
        node.name
        for each in MODULES
        for node in ast.parse(each.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name for name, count in names.items() if count > 1} == set()
