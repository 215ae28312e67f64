"""The promise and its tests: each mark has a test, each test's mark is promised."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
PROMISE = TESTS.parent / "h5fs" / "SEMANTICS.md"


def promised_marks() -> list[str]:
    return re.findall(r"^- `\[([A-Z]\d+)\]`", PROMISE.read_text(encoding="utf-8"), re.MULTILINE)


def marks_in_tests() -> Iterator[tuple[str, str]]:
    """Yield (mark, place) for each ``pytest.mark.semantics("...")`` in the tests."""
    for source in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "semantics"
            ):
                place = f"{source.relative_to(TESTS)}:{node.lineno}"
                for argument in node.args:
                    assert isinstance(argument, ast.Constant), f"{place}: a mark must be a literal"
                    yield str(argument.value), place


def test_every_mark_is_promised_once() -> None:
    marks = promised_marks()
    assert marks
    assert len(marks) == len(set(marks))


def test_every_promise_has_a_test_that_names_it() -> None:
    missing = set(promised_marks()) - {mark for mark, _ in marks_in_tests()}
    assert not missing


def test_no_test_names_a_promise_that_is_not_made() -> None:
    unknown = [named for named in marks_in_tests() if named[0] not in promised_marks()]
    assert not unknown
