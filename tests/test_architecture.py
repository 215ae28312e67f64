"""ARCHITECTURE.md names what is there: every file, class and function; and every room."""

from __future__ import annotations

import ast
import re
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
