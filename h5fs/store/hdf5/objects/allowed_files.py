"""Which files this process may read beside the mounted one: by policy, and as it was granted."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from h5fs.errors import ForbiddenError
from h5fs.model.settings import ExternalPolicy
from h5fs.store.external_policy import FilesToAskForError, check_path, check_policy
from h5fs.store.hdf5.objects.source_places import (
    Place,
    RealPlaces,
    find_sources,
    has_prefixes,
)

Identity = tuple[int, int]
"""Device and inode number."""


class AllowedFiles:
    """``folder``: the real path of the mounted file's own; ``own``: what that file is.

    ``granted``: the other files that this process may read; when it needs further ones, it raises
    ``FilesToAskForError``. None: it may read whatever the policy allows.
    """

    def __init__(
        self, policy: ExternalPolicy, folder: Path, granted: frozenset[Identity] | None
    ) -> None:
        self.own: Identity | None = None
        self._policy = policy
        self._folder = folder
        self._granted = granted

    def check(self, path: Path) -> None:
        """Raise ``ForbiddenError`` unless data may be read from the real path ``path``."""
        check_policy(path, self._policy, self._folder)

    def check_place(self, place: Place) -> None:
        """Raise ``ForbiddenError`` unless data may be read from there; nothing need be there."""
        check_path(place.path, self._policy, self._folder)
        if place.status is not None and not stat.S_ISREG(place.status.st_mode):
            raise ForbiddenError(f"{place.path} is not a regular file")

    def ask_for(self, places: Iterable[Place]) -> None:
        """Raise ``FilesToAskForError`` unless this process may read all of these files."""
        if self._granted is None:
            return
        missing = [Path(place.path) for place in places if not self._may_read(place)]
        if missing:
            raise FilesToAskForError(missing)

    def ask_for_path(self, path: Path) -> None:
        """``ask_for`` what is at a real path."""
        if self._granted is not None:
            self.ask_for([RealPlaces().at(os.fspath(path))])

    def _may_read(self, place: Place) -> bool:
        assert self._granted is not None
        # Where there is nothing, there is nothing to ask for.
        identity = place.identity
        return identity is None or identity == self.own or identity in self._granted

    def confirm(self, sources: Iterable[tuple[str, Path]]) -> None:
        """Raise ``FilesToAskForError`` if a source exists by now that this process may not read.

        HDF5 takes a source that it may not open for a missing one. So this is called after a read,
        to see whether the read was complete. ``sources``: names, each with the folder of the file
        that uses it.
        """
        if self._granted is None:
            return
        finds_it_elsewhere, places = has_prefixes(), RealPlaces()
        for name, folder in sources:
            # Where HDF5 looks first there is still a file that may be read: it looks no further.
            if finds_it_elsewhere or not self._is_granted(os.path.join(folder, name)):
                self.ask_for(find_sources(name, folder, places))

    def _is_granted(self, place: str) -> bool:
        """Whether HDF5 finds a file at a place before all others, and this process may read it."""
        assert self._granted is not None
        if "%" in place:
            return False
        try:
            status = os.stat(place)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) in self._granted
