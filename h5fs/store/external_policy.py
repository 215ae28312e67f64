"""Which files beside the mounted one may be read. The daemon and the workers both ask here."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from h5fs.errors import ForbiddenError
from h5fs.model.settings import ExternalPolicy


def check_policy(path: Path, policy: ExternalPolicy, folder: Path) -> None:
    """Raise ``ForbiddenError`` unless data may be read from the real path ``path``.

    ``folder`` is the real path of the mounted file's own.
    """
    check_path(path, policy, folder)
    if path.exists() and not path.is_file():
        raise ForbiddenError(f"{path} is not a regular file")


def check_path(path: Path | str, policy: ExternalPolicy, folder: Path) -> None:
    """Raise ``ForbiddenError`` as ``check_policy`` does, but without a look at the file."""
    if policy is ExternalPolicy.NONE:
        raise ForbiddenError(f"{path}: -o external=none")
    # As text, since a virtual dataset may have thousands of files.
    inside = os.path.join(folder, "")
    if policy is ExternalPolicy.FOLDER and not os.path.join(path, "").startswith(inside):
        raise ForbiddenError(f"{path} is not below {folder} (-o external=all allows it)")


class FilesToAskForError(BaseException):
    """The worker needs files that it may not read yet.

    Not an ``Exception``, so that no code takes it for damage, and goes on without those files.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self.paths = tuple(os.fsencode(path) for path in paths)
        super().__init__(self.paths)


def places_of_external(name: bytes, beside: Path) -> list[Path]:
    """Return where HDF5 looks for the file of an external link.

    HDF5 looks at an absolute path as it is, then for its last part in ``beside``, the linking
    file's folder; for a relative path in ``beside``.
    """
    if b"\0" in name:
        return []
    wanted = Path(os.fsdecode(name))
    return [wanted, beside / wanted.name] if wanted.is_absolute() else [beside / wanted]
