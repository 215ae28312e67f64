"""Which files beside the mounted one may be read. The daemon and the workers both ask here."""

from __future__ import annotations

from pathlib import Path

from h5fs.errors import ForbiddenError
from h5fs.options import ExternalPolicy


def check_policy(path: Path, policy: ExternalPolicy, folder: Path) -> None:
    """Raise ``ForbiddenError`` unless data may be read from the real path ``path``.

    ``folder`` is the real path of the mounted file's own.
    """
    if policy is ExternalPolicy.NONE:
        raise ForbiddenError(f"{path}: -o external=none")
    if policy is ExternalPolicy.FOLDER and not path.is_relative_to(folder):
        raise ForbiddenError(f"{path} is not below {folder} (-o external=all allows it)")
    if path.exists() and not path.is_file():
        raise ForbiddenError(f"{path} is not a regular file")
