"""Which names a file, folder or link may get in a mount that writes: errors say why not.

Changes nothing; under the tree's lock.
"""

from __future__ import annotations

from h5fs.errors import (
    ExistsError,
    InvalidNameError,
    IsAGroupError,
    NotAGroupError,
    show_path,
)
from h5fs.model.objects import Link
from h5fs.model.settings import View
from h5fs.projection.names import GROUP_ATTRIBUTES, DentryName, Projection
from h5fs.tree.lookup import Lookup
from h5fs.tree.nodes import PARTNERS, Node
from h5fs.tree.writing.names.places import Places, is_file_name
from h5fs.tree.writing.names.scratch_names import (
    is_dot_name,
    is_made_by_mkstemp,
    is_placeholder,
    is_scratch_link_name,
    is_scratch_name,
)
from h5fs.tree.writing.names.soft_targets import link_from_text
from h5fs.tree.writing.pending.pending import Pending


class NameRules:
    """What may have which name.

    ``takes_scratch``: files may be outside of the HDF5 file, since what is left of them at the end
    has a place. ``mountpoint``: where absolute symbolic links lead into the mount, which shows
    ``part`` of the file.
    """

    def __init__(
        self, pending: Pending, lookup: Lookup, places: Places, *, takes_scratch: bool,
        mountpoint: bytes, part: bytes = b"",
    ) -> None:  # fmt: skip
        self._pending = pending
        self._lookup = lookup
        self._places = places
        self._takes_scratch = takes_scratch
        self._mountpoint = mountpoint
        self._part = part

    def check_new_file(self, path: bytes, flags: int, mode: int) -> None:
        """Raise unless a file may be created under that name."""
        folder, meaning = self._places.folder_and_file(path)
        name = path.rpartition(b"/")[2]
        if meaning is None:
            is_temporary = is_made_by_mkstemp(name, flags, mode) or is_placeholder(flags, mode)
            if not (is_temporary and self._takes_scratch):
                self.check_scratch(path)
        elif meaning.link_name is None and name != GROUP_ATTRIBUTES:
            raise InvalidNameError(f"{show_path(path)}: a name that only a longer one is cut to")
        elif meaning.link_name is not None and meaning.projection is not Projection.ATTRIBUTES:
            self.check_free(folder, meaning.link_name, path)

    def check_free(self, folder: Node, link_name: bytes, path: bytes) -> None:
        """Raise ``ExistsError`` when a group has a link of that name, which ``path`` is of."""
        link = self._lookup.get_any_link(folder.info.ref, link_name)
        if link is not None and not self._pending.is_whited_out(path):
            raise ExistsError(f"{show_path(path)}: the HDF5 file has another object of that name")

    def check_scratch(self, path: bytes) -> None:
        """Raise unless a file outside of the HDF5 file may have this name."""
        if self._takes_scratch and (
            is_scratch_name(path.rpartition(b"/")[2]) or self._places.is_in_scratch(path)
        ):
            return
        view = next((each.value.decode() for each in View if path.endswith(each.value)), None)
        hint = "" if view is None else (
            f"; where this is a view of an array, leave views out of a copy (rsync --exclude='*"
            f"{view}'), or copy from a mount without -o views"
        )  # fmt: skip
        raise InvalidNameError(
            f"{show_path(path)}: the HDF5 file can hold NAME.npy, NAME.attrs.json, "
            "NAME.dtype.json and folders; files of other names must be temporary (.NAME, "
            f"NAME~, NAME.tmp, ...){hint}"
        )

    def check_scratch_link(self, path: bytes) -> None:
        """Raise unless a dataset may have this name for a while: `ln -f` renames it then."""
        if not (self._takes_scratch and is_scratch_link_name(path.rpartition(b"/")[2])):
            self.check_scratch(path)

    def check_may_replace_scratch(self, path: bytes, *, is_folder: bool) -> None:
        """Raise when something of that kind cannot be renamed over what is outside at a path."""
        entry = self._pending.scratch(path)
        if entry is None:
            if is_folder and self._pending.staged(path) is not None:
                raise NotAGroupError(f"{show_path(path)} is not a folder")
            return
        if entry.is_folder and not is_folder:
            raise IsAGroupError(f"{show_path(path)} is a folder")
        if is_folder and not entry.is_folder:
            raise NotAGroupError(f"{show_path(path)} is not a folder")
        if entry.is_folder:
            self._places.check_nothing_outside_in(path)

    def is_scratch_folder(self, path: bytes, meaning: DentryName | None) -> bool:
        """Whether a folder that is made under a path is outside of the HDF5 file."""
        if not self._takes_scratch:
            return False
        if self._places.is_in_scratch(path):
            return True
        is_folder_name = meaning is None or meaning.projection is Projection.FOLDER
        return is_folder_name and is_dot_name(path.rpartition(b"/")[2])

    def is_scratch_link(self, path: bytes) -> bool:
        """Whether a symbolic link that is made under a path is outside of the HDF5 file."""
        name = path.rpartition(b"/")[2]
        is_on_the_way = is_dot_name(name) or is_scratch_link_name(name)
        return self._takes_scratch and (is_on_the_way or self._places.is_in_scratch(path))

    def link_name(self, path: bytes, meaning: DentryName | None, projection: Projection) -> bytes:
        """Return the link name of a path, which must mean such a projection."""
        if meaning is None or meaning.link_name is None or meaning.projection is not projection:
            wanted = projection.suffix.decode() or "no ending of a file's"
            is_half = not is_file_name(meaning) and projection in PARTNERS
            why = "; it is one of two files of a dataset, so copy it instead" if is_half else ""
            raise InvalidNameError(f"{show_path(path)}: the name must have {wanted}{why}")
        return meaning.link_name

    def link_of_text(self, path: bytes, meaning: DentryName | None, text: bytes) -> Link:
        """Return the HDF5 link that a symbolic link of that text at a path is."""
        if meaning is None or meaning.link_name is None:
            raise InvalidNameError(f"{show_path(path)}: no symbolic link can have this name")
        folder_path = path.rpartition(b"/")[0]
        return link_from_text(meaning, text, folder_path, self._mountpoint, self._part)
