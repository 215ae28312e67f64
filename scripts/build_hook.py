"""Build hook of hatchling: the wheel brings the man page and the shells' completion.

Both are made from the parser of the very tree that is built, and installed below ``share/`` of the
environment, where ``man`` and the shells look.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BuildHook(BuildHookInterface):
    """Writes the files to a temporary folder, and names them to hatchling."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add them to the wheel as shared data; an editable install has none."""
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        try:
            from h5fs.cli.completion import INSTALLED_AS, write_completion
            from h5fs.cli.manual import write_manual
            from h5fs.cli.parsers import build_parser
        finally:
            sys.path.remove(self.root)
        self._folder = tempfile.TemporaryDirectory(prefix="h5fs-build-")
        texts = {"man/man1/h5fs.1": write_manual(self.metadata.version)}
        for shell, place in INSTALLED_AS.items():
            texts[place] = write_completion(shell, build_parser())
        for place, text in texts.items():
            file = Path(self._folder.name, place)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            build_data["shared_data"][str(file)] = f"share/{place}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary folder."""
        if version != "editable":
            self._folder.cleanup()
