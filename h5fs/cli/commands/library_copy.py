"""``h5fs cp FILE:/x FILE2:/y``: objects from one HDF5 file to another, as the library copies them.

Nothing goes through the files of a mount, so that what these cannot show (chunks, filters, limits
of the shape, fill values, types) stays as it is.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from h5fs.cli.commands.without_mount import (
    explain_missing_object,
    find_object,
    opened_store,
    opened_tree,
)
from h5fs.cli.file_arguments import absolute
from h5fs.cli.output.sizes import show_size
from h5fs.errors import (
    ExistsError,
    H5fsError,
    InvalidNameError,
    MountError,
    NotFoundError,
    UsageError,
    show_path,
)
from h5fs.model.location import Location
from h5fs.model.objects import ObjectRef
from h5fs.model.settings import ExternalPolicy, Mode, StoreOptions
from h5fs.projection.names import Projection, decode_name
from h5fs.store.format.superblock import read_superblock
from h5fs.store.log.log_path import has_log
from h5fs.store.sources.local_file import LocalFile
from h5fs.tree import Tree
from h5fs.tree.nodes import PROJECTIONS, Node, NodeKind

if TYPE_CHECKING:
    from h5fs.store.worker_stores.writing_worker_store import WritingWorkerStore
    from h5fs.store.workers.starting.worker_starter import WorkerStarter

Place = tuple[Location, bytes]

_MOST_USER_BLOCK_BYTES = 2**26


def copy_between(
    source: Place, target: Place, starter: WorkerStarter | None, *, of_contents: bool
) -> int:
    """Copy; return the exit status. Raises ``MountError``."""
    for file, _ in (source, target):
        if not isinstance(file, Path):
            raise UsageError(
                f"{file}: the HDF5 library copies files of this machine; copy to a folder first"
            )
    node = _find_source(source, starter, of_contents=of_contents)
    file, path = target
    # Nothing that links of the target lead to is read: the policy is about the source alone.
    options = StoreOptions(absolute(file), mode=Mode.APPEND, external=ExternalPolicy.ALL)
    if node.info.ref.path == b"/" == path and _is_nothing(options.file):
        options = replace(options, user_block=_read_user_block(source[0]))  # type: ignore[arg-type]
    with opened_store(options, starter) as store:
        try:
            return _copy(source[0], node, store, path, of_contents)  # type: ignore[arg-type]
        except ExistsError as error:
            raise MountError(f"{file}: {error}: remove it first, or name another") from None
        except NotFoundError:  # the group that the copy is for
            raise MountError(explain_missing_object(file, path.rpartition(b"/")[0])) from None
        except H5fsError as error:
            raise MountError(f"{file}:{show_path(path)}: {error}") from None


def _is_nothing(file: Path) -> bool:
    """Whether a file is missing or empty, as one that a killed copy has made."""
    return not has_log(file) and not (file.exists() and file.stat().st_size)


def _read_user_block(file: Path) -> bytes:
    """Return what stands before all that is HDF5's: other programs know their files by it.

    Raises ``MountError``.
    """
    try:
        with file.open("rb") as opened:
            superblock = read_superblock(LocalFile(opened.fileno()))
            size = superblock.offset_bytes if superblock is not None else 0
            if size > _MOST_USER_BLOCK_BYTES:
                raise MountError(f"{file}: its user block has {show_size(size)}; copy it by cp")
            return opened.read(size)
    except OSError as error:
        raise MountError(f"{file}: {error.strerror}") from None


def _find_source(source: Place, starter: WorkerStarter | None, *, of_contents: bool) -> Node:
    file, path = source
    with opened_tree(StoreOptions(absolute(file)), starter) as tree:
        try:
            node = tree.lookup.find(find_object(tree, path))
        except NotFoundError:
            raise MountError(explain_missing_object(file, path)) from None
        except H5fsError as error:
            raise MountError(f"{file}:{error}") from None
    what = f"{file}:{show_path(path)}"
    if node.kind is NodeKind.ATTRIBUTES:
        raise MountError(f"{what} is no object of the file; h5fs attr sets attributes")
    if node.is_view:
        raise MountError(f"{what} is made of the array beside it: copy that")
    if of_contents and node.kind is not NodeKind.FOLDER:
        raise MountError(f"{what} is not a group")
    if node.info.ref.file or node.kind in (NodeKind.ANCESTOR_LINK, NodeKind.UNREADABLE):
        raise MountError(f"{what} leads to another file or a group above, or cannot be read")
    return node


def _copy(file: Path, node: Node, store: WritingWorkerStore, path: bytes, of_contents: bool) -> int:
    group, name = _find_place(Tree(store), node, path, of_contents=of_contents)
    if node.is_symbolic_link:
        assert node.link is not None
        store.create_link(group, replace(node.link, name=name))
        return 0
    uncopied = store.copy_object(file, node.info.ref.path, group, name)
    for each in uncopied:
        print(f"h5fs: {show_path(each.path)}: {each.reason}", file=sys.stderr)
    return 1 if uncopied else 0


def _find_place(
    tree: Tree, node: Node, path: bytes, *, of_contents: bool
) -> tuple[ObjectRef, bytes]:
    """Return the group and the link name for a copy; no name, for what is in a group."""
    with suppress(NotFoundError):
        there = tree.lookup.find(path)
        if there.kind is NodeKind.FOLDER:
            if of_contents or node.link is None:  # the root group has no name
                return there.info.ref, b""
            return there.info.ref, node.link.name
    parent, _, last = path.rpartition(b"/")
    meaning = decode_name(last)
    takes_name = meaning is not None and meaning.projection in (
        Projection.FOLDER, PROJECTIONS.get(node.kind)
    )  # fmt: skip
    if meaning is None or meaning.link_name is None or not takes_name:
        raise InvalidNameError(f"{show_path(last)} is no name for a {node.kind.value}")
    return tree.lookup.find_folder(parent or b"/").info.ref, meaning.link_name
