"""Changes that a listing taken before has to leave out."""

from __future__ import annotations

from h5fs.tree.writing.pending.recent_changes import RecentChanges
from h5fs.tree.writing.pending.writable_file import WritableFile


def test_files_that_changed_since_a_listing_are_told() -> None:
    changes = RecentChanges(most=3)
    before = changes.count
    assert changes.since(before) == frozenset()
    file = WritableFile(b"/a", inode=1)
    with changes.by(file):
        file.inode = 2  # it has become another object
    with changes.by(None):
        pass
    assert changes.since(before) == {1, 2}
    changes.note(3)
    assert changes.since(before + 2) == {3}
    changes.note(4)
    assert changes.since(before) is None  # more than are kept
    assert changes.since(before + 1) == {2, 3, 4}


def test_after_a_change_of_names_every_file_may_have_changed() -> None:
    changes = RecentChanges()
    changes.note(1)
    before = changes.count
    changes.note_any()
    assert changes.since(before) is None
    assert changes.since(changes.count) == frozenset()
    changes.note(2)
    assert changes.since(before + 1) == {2}
