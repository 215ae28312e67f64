"""One file of a mount that writes: what the HDF5 file has of it, and what is not there yet."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from h5fs.errors import H5fsError, NoSpaceError
from h5fs.model.objects import ObjectRef
from h5fs.tree.contents.content import Content
from h5fs.tree.nodes import Node
from h5fs.tree.writing.pending.drafts import Draft
from h5fs.tree.writing.pending.last_removals import RemovedObject


@dataclass(eq=False)
class WritableFile:
    """A file that is open to write, or that waits to become part of the HDF5 file.

    ``path`` is its name in the mount. ``node`` and ``content`` are what the HDF5 file has under
    it; both None for a file that it does not have. ``draft``: what was written; None when it reads
    as the HDF5 file has it. ``is_dirty``: something in it is not in the HDF5 file. ``opened``: how
    many handles there are. ``is_gone``: it was unlinked, and lives as long as it is open;
    ``has_other_names``: its dataset has, and what is written in place is theirs, too.
    ``held``: a dataset with a scratch name, kept by the store though perhaps no link leads to it.
    ``origin``: the name that attributes had before a scratch one. ``kept_as``: its link in the
    hidden group; ``is_kept``: that holds what was written. ``awaits``: HDF5 paths that attributes
    refer to and that are not there yet. ``may_refer``: attributes that wait may refer to objects.
    ``failure``: why something that was written is missing. ``is_mixed``: pages were refused that
    may have another content, so that what was written is not whole. ``was_offered``: it was decided
    whether its data stream into the HDF5 file. ``made_at``: the path of a new file, where nothing
    was. ``refusal``: why it was not committed when that was last tried. ``refused_name``: the path
    that a `rename` was to give to what is in it, and why that was refused. ``started_from``: the
    text of attributes that was changed, if that is not ``content``. ``is_closed``: a `close` came
    after the last change, so that all but those who have it open read what the HDF5 file has.
    ``replaces``: an object that the program has removed before it made this file anew.
    ``stored_like``: a dataset that the one that it is about to be is stored like.
    ``copy_of``: the object whose attributes those that wait were, when they became a link to them.
    ``is_over``: it waits in the place of what the HDF5 file has at its path, which goes with it.
    ``inode`` and the times are those of a file without a node.
    """

    path: bytes
    node: Node | None = None
    content: Content | None = None
    draft: Draft | None = None
    is_dirty: bool = False
    opened: int = 0
    is_gone: bool = False
    has_other_names: bool = False
    held: ObjectRef | None = None
    origin: bytes | None = None
    kept_as: bytes | None = None
    is_kept: bool = False
    awaits: frozenset[bytes] = frozenset()
    may_refer: bool = True
    was_offered: bool = False
    failure: NoSpaceError | None = None
    is_mixed: bool = False
    is_over: bool = False
    made_at: bytes | None = None
    refusal: str = ""
    refused_name: tuple[bytes, str] | None = None
    started_from: bytes | None = None
    is_closed: bool = False
    replaces: RemovedObject | None = None
    stored_like: ObjectRef | None = None
    copy_of: ObjectRef | None = None
    inode: int = 0
    atime_ns: int = field(default_factory=time.time_ns)
    mtime_ns: int = field(default_factory=time.time_ns)

    @property
    def size_bytes(self) -> int:
        """How long the file is for whoever writes it."""
        if self.draft is not None:
            return self.draft.size_bytes
        return self.content.size_bytes if self.content is not None else 0

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer`` as a read of the file, drafts included; return how much."""
        if self.draft is not None:
            return self.draft.read_into(buffer, offset)
        return self.content.read_into(buffer, offset) if self.content is not None else 0

    def begin(self, *, empty: bool) -> Draft:
        """Return the draft to change it, begun if there is none: on what is there, or ``empty``."""
        self.is_dirty = True
        self.is_closed = False
        self.is_kept = False
        self.may_refer = True
        self.copy_of = None
        if self.draft is None:
            self.draft = Draft(None if empty else self.content)
        elif empty:
            self.draft.truncate(0)
        if empty:
            self.failure = None
            self.is_mixed = False
            self.refused_name = None
        return self.draft

    @contextmanager
    def getting_name(self, path: bytes) -> Iterator[None]:
        """Note why what is in the file cannot be at a path, if the block raises."""
        self.refused_name = None
        try:
            yield
        except H5fsError as error:
            self.refused_name = path, str(error)
            raise

    @property
    def is_changed(self) -> bool:
        """Whether something was written that is not in the HDF5 file."""
        return self.draft is not None and self.is_dirty

    @property
    def is_unfinished(self) -> bool:
        """Whether a program has the file open whose `close` has yet to say what was written."""
        return self.is_changed and self.opened > 0 and not self.is_kept

    @contextmanager
    def without_draft(self) -> Iterator[None]:
        """Let the file be as the HDF5 file has it within the block; then go on with the draft."""
        draft, failure, is_mixed = self.draft, self.failure, self.is_mixed
        refused_name = self.refused_name
        self.draft, self.failure, self.is_mixed, self.is_dirty = None, None, False, False
        try:
            yield
        finally:
            self.discard()
            self.draft, self.failure, self.is_mixed = draft, failure, is_mixed
            self.refused_name = refused_name
            self.is_dirty, self.is_closed, self.is_kept = True, False, False

    @property
    def is_as_written(self) -> bool:
        """Whether whoever opens it reads the draft, although the HDF5 file has what it says."""
        return self.draft is not None and not self.is_dirty and not self.is_closed

    def discard(self) -> None:
        """Forget what was written and is not in the HDF5 file."""
        self.is_dirty = False
        if self.draft is not None:
            self.draft.close()
            self.draft = None
