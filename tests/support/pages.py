"""The pages that people read, and the blocks of code in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README, ADMINISTRATION = ROOT / "README.md", ROOT / "h5fs" / "ADMINISTRATION.md"
PAGES = (README, ADMINISTRATION)


def code_blocks(kind: str, *pages: Path) -> list[str]:
    """Return the fenced blocks of a kind, such as ``console``, of some pages, or else of all."""
    found = [
        block
        for page in pages or PAGES
        for block in re.findall(
            rf"^```{kind}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        )
    ]
    assert found, f"no {kind} block"
    return found
