"""Whether a command prints in colors."""

from __future__ import annotations

import os
import sys


def shows_colors(choice: str) -> bool:
    """Whether ``--color CHOICE`` means colors here; ``auto`` heeds NO_COLOR (no-color.org)."""
    is_wanted = choice == "auto" and not os.environ.get("NO_COLOR") and sys.stdout.isatty()
    return choice == "always" or is_wanted
