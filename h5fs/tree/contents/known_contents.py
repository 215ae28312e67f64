"""Contents of files that were asked for, so that nobody asks for them again.

Safe to use from any thread.
"""

from __future__ import annotations

from h5fs.lru_cache import LruCache
from h5fs.model.objects import ObjectRef
from h5fs.tree.contents.content import ArrayContent, Attributes, Content, TextContent
from h5fs.tree.nodes import PROJECTIONS, AnyKind, Node, NodeKind

_CONTENT_BYTES_KEPT = 24 * 2**20
_CONTENT_ENTRY_BYTES = 600  # what a content takes beside its text
_LARGEST_TEXT_KEPT_BYTES = 16 * 2**10
_ATTRIBUTES_BYTES_EACH = 16  # what attributes take for each byte of their text

# The kind of node; file and id of the object: an ``ObjectRef`` is hashed by a function of Python's.
_Key = tuple[AnyKind, int, int]


class KnownContents:
    """Contents by kind of node and object."""

    def __init__(self) -> None:
        self._own: LruCache[_Key, Content] = LruCache(_CONTENT_BYTES_KEPT, _weigh_content)
        # Those that follow from other objects, too: a change of any link may change them.
        self._dependent: LruCache[_Key, Content] = LruCache(_CONTENT_BYTES_KEPT, _weigh_content)
        # Large attribute files are usually read right after their size was asked for.
        self._large: LruCache[_Key, Content] = LruCache(2)

    def get(self, node: Node) -> Content | None:
        """Return the content of a node, None where it is not known."""
        ref = node.info.ref
        key = (node.kind, ref.file, ref.id)
        return self._own.get(key) or self._dependent.get(key) or self._large.get(key)

    def attributes_of(self, ref: ObjectRef) -> Attributes | None:
        """Return the attributes of an object, if its attribute file is known with them."""
        key = (NodeKind.ATTRIBUTES, ref.file, ref.id)
        content = self._own.get(key) or self._dependent.get(key)
        return content.attributes if isinstance(content, TextContent) else None

    def keep(self, node: Node, content: Content) -> None:
        """Let a node have a content from now on."""
        kept = self._own
        if isinstance(content, TextContent) and content.size_bytes > _LARGEST_TEXT_KEPT_BYTES:
            kept = self._large
        elif not _follows_from_its_object(node, content):
            kept = self._dependent
        ref = node.info.ref
        kept.put((node.kind, ref.file, ref.id), content)

    def forget(self) -> None:
        """Forget everything."""
        self._own.clear()
        self.forget_dependent()

    def forget_own(self, ref: ObjectRef) -> None:
        """Forget the contents of an object that has changed, but for those that follow from others,
        too."""
        file, object_id = ref.file, ref.id
        self._own.remove(*[(kind, file, object_id) for kind in PROJECTIONS])

    def forget_dependent(self) -> None:
        """Forget the contents that some change of another object may have changed."""
        self._dependent.clear()
        self._large.clear()


def _follows_from_its_object(node: Node, content: Content) -> bool:
    """Whether a content follows from its own object alone, and not from others or their names."""
    if isinstance(content, TextContent):
        return not content.names_objects
    if not isinstance(content, ArrayContent) or content.dataset.is_scanned:
        return False
    # A virtual dataset has neither, since it follows from its sources.
    return node.info.dataset is not None or content.dataset.data is not None


def _weigh_content(content: Content) -> int:
    if not isinstance(content, TextContent):
        return _CONTENT_ENTRY_BYTES
    text_bytes = len(content.data)
    if content.attributes is not None:
        text_bytes += _ATTRIBUTES_BYTES_EACH * text_bytes
    return _CONTENT_ENTRY_BYTES + text_bytes
