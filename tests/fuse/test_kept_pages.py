"""Which pages the kernel may keep, and for whom they are another's."""

from __future__ import annotations

from h5fs.fuse.kept_pages import KeptPages, Pages
from h5fs.tree.contents.page_content import PageContent

NODE, OTHER_NODE = 7, 8


def content(name: str = "x", version: int | None = 1, *, is_followed: bool = True) -> PageContent:
    return PageContent(name, version, is_followed)


def read(pages: KeptPages, handle: int, what: PageContent, node: int = NODE) -> Pages:
    """Open and close."""
    answer = pages.open_to_read(handle, node, what)
    pages.release(handle, node)
    return answer


def test_pages_are_kept_as_long_as_content_and_version_are_the_same() -> None:
    pages = KeptPages()
    assert read(pages, 1, content(is_followed=False)) is Pages.DROPPED
    assert read(pages, 2, content()) is Pages.KEPT
    assert read(pages, 3, content(version=2)) is Pages.DROPPED
    assert read(pages, 4, content(version=2)) is Pages.KEPT
    assert read(pages, 5, content("y", 2)) is Pages.DROPPED
    assert read(pages, 6, content(version=2)) is Pages.DROPPED
    assert read(pages, 7, content(version=2), OTHER_NODE) is Pages.DROPPED


def test_pages_whose_changes_nobody_tells_of_are_never_kept() -> None:
    pages = KeptPages()
    for what in (content(version=None), content(is_followed=False)):
        assert [read(pages, number, what) for number in range(3)] == [Pages.DROPPED] * 3


def test_what_a_program_wrote_is_not_taken_for_the_content() -> None:
    pages = KeptPages()
    read(pages, 1, content())
    assert pages.open_to_write(2, NODE, content()) is Pages.DROPPED
    assert read(pages, 3, content()) is Pages.DROPPED  # while it may write
    pages.release(2, NODE)
    assert read(pages, 4, content()) is Pages.DROPPED  # what it wrote may have been refused
    assert read(pages, 5, content()) is Pages.KEPT
    pages.forget(NODE)  # cut by its path
    assert read(pages, 6, content()) is Pages.DROPPED


def test_a_new_file_is_known_by_the_first_request_that_has_its_node() -> None:
    pages = KeptPages()
    pages.open_to_write(1, 0, None)
    assert read(pages, 2, content()) is Pages.DROPPED
    assert pages.writes(1, NODE)
    assert not pages.writes(2, NODE)
    assert read(pages, 3, content()) is Pages.DROPPED
    pages.release(1, NODE)
    assert read(pages, 4, content()) is Pages.DROPPED
    assert read(pages, 5, content()) is Pages.KEPT


def test_two_contents_of_one_node_do_not_share_its_pages() -> None:
    pages = KeptPages()
    assert pages.open_to_read(1, NODE, content("old")) is Pages.DROPPED
    assert pages.open_to_read(2, NODE, content("new")) is Pages.BYPASSED
    assert pages.open_to_write(3, NODE, content("new")) is Pages.BYPASSED
    assert pages.open_to_write(4, NODE, None) is Pages.BYPASSED  # a draft, as a new map begins it
    for handle in (2, 3, 4):
        pages.release(handle, NODE)
    assert pages.open_to_read(5, NODE, content("old", 2)) is Pages.DROPPED
    pages.release(1, NODE)
    pages.release(5, NODE)
    assert read(pages, 6, content("new")) is Pages.DROPPED
    assert read(pages, 7, content("new")) is Pages.KEPT


def test_pages_of_a_writer_are_mixed_where_others_read_another_content() -> None:
    pages = KeptPages()
    pages.open_to_write(1, NODE, content())
    assert not pages.are_mixed(1, None)
    pages.open_to_read(2, NODE, content())
    assert not pages.are_mixed(1, content(version=2))  # what is written in place is read by all
    assert pages.are_mixed(1, None)
    assert pages.are_mixed(1, content("new"))
    pages.release(2, NODE)
    assert not pages.are_mixed(1, None)
    assert not pages.are_mixed(9, None)


def test_pages_of_a_writer_that_keeps_to_its_content_are_not_shared_with_another_one() -> None:
    pages = KeptPages()
    old, new = (PageContent(name, None, lasts=True) for name in ("old", "new"))
    assert pages.open_to_write(1, NODE, old) is Pages.DROPPED
    assert pages.open_to_write(2, NODE, old) is Pages.DROPPED
    assert pages.open_to_read(3, NODE, new) is Pages.BYPASSED
    assert pages.open_to_write(4, NODE, new) is Pages.BYPASSED
    assert pages.open_to_read(5, NODE, old) is Pages.DROPPED
    assert not pages.are_mixed(1, old)
    for handle in (1, 3, 4, 5):
        pages.release(handle, NODE)
    assert pages.open_to_read(6, NODE, new) is Pages.BYPASSED  # the second one is open still
    assert not pages.are_mixed(2, new)  # what it has written itself is the new one
    pages.release(2, NODE)
    assert read(pages, 7, new) is Pages.DROPPED


def test_nodes_that_are_open_are_not_forgotten() -> None:
    pages = KeptPages(most_nodes=2)
    pages.open_to_read(1, NODE, content("old"))
    for node in range(100, 110):
        read(pages, node, content(), node)
    assert pages.open_to_read(2, NODE, content("new")) is Pages.BYPASSED
    assert read(pages, 109, content(), 109) is Pages.KEPT
    assert read(pages, 100, content(), 100) is Pages.DROPPED
