"""Which other files hold a dataset's elements, and whether those may be read.

HDF5 opens external raw data and the sources of virtual datasets by itself, wherever they are. So
h5fs first checks every file that HDF5 would open, sources of sources included. Under the store's
lock.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, product, starmap
from typing import Any, Protocol

from h5py import h5d, h5i, h5s
from msgspec import Struct, field

from h5fs.errors import (
    ForbiddenError,
    H5fsError,
    UnreadableError,
    UnsupportedTypeError,
    show_path,
)
from h5fs.model.link_table import Links, LinkTable
from h5fs.model.objects import DatasetInfo, Hyperslab, ObjectKind, ObjectRef
from h5fs.projection.slicing import split_into_hyperslabs
from h5fs.store.hdf5.library_errors import reading
from h5fs.store.hdf5.objects.files import OpenFiles
from h5fs.store.hdf5.reading.alike_sources import AlikeSources, DescribedSource, Source
from h5fs.store.hdf5.reading.datasets import creation_of
from h5fs.store.resolving import LinkSource, Resolver

_MAX_DEPTH = 16  # virtual datasets of virtual datasets; nobody needs more than two
_RESIZED = "a source of this virtual dataset has been resized, and no longer fits"
_FILES_OPEN = 8
"""How many files of sources stay open. The library takes 0.6 MB for each, which is new memory as
long as none is closed: to touch it takes as long as all else that is done to open a file."""
SAME_FILE = "."
"""The name of a source's file where that is the virtual dataset's own."""

DescribeSource = Callable[[ObjectRef], "tuple[h5d.DatasetID, DatasetInfo] | None"]
"""Returns a source that was checked, open, and how it looks; None for one that is virtual."""


class ListingSource(LinkSource, Protocol):
    """What is needed of the store."""

    def list_links(self, group: ObjectRef, unsafe: frozenset[bytes]) -> LinkTable: ...


class Outside(Struct, frozen=True):
    """Where elements of a dataset are, outside of it.

    ``mapped``: the source of each mapping of a virtual dataset, in their order.
    ``files``: the names of all sources' files, each with the number of the file that uses it.
    ``datasets``: what each source of the dataset itself leads to; none for one that is missing,
    several where a name stands for several, or where several files have the name. ``described``:
    how those look that are of the dataset's own type, and not virtual. ``resized``: parts of the
    dataset that all of a source is mapped to, which has another number of elements than they have.
    """

    mapped: tuple[Source, ...] = ()
    files: tuple[tuple[str, int], ...] = ()
    datasets: Mapping[Source, tuple[ObjectRef, ...]] = field(default_factory=dict)
    described: Mapping[ObjectRef, DatasetInfo] = field(default_factory=dict)
    resized: tuple[Hyperslab, ...] = ()

    def check_mapped(self, dataset_id: Any, start: int, stop: int) -> None:
        """Raise ``UnreadableError`` when some of the elements ``[start, stop)`` are in ``resized``.

        The library refuses to read such a part as a whole, and takes the elements of less from
        wrong places.
        """
        if not self.resized:
            return
        slabs = split_into_hyperslabs(dataset_id.get_space().get_simple_extent_dims(), start, stop)
        if any(starmap(_overlap, product(slabs, self.resized))):
            raise UnreadableError(f"{show_path(h5i.get_name(dataset_id) or b'')}: {_RESIZED}")


class _Found(Struct):
    """What has been found of an ``Outside``, by its names."""

    mapped: tuple[Source, ...] = ()
    files: dict[tuple[str, int], None] = field(default_factory=dict)
    datasets: dict[Source, tuple[ObjectRef, ...]] = field(default_factory=dict)
    described: dict[ObjectRef, DatasetInfo] = field(default_factory=dict)
    resized: tuple[Hyperslab, ...] = ()


class OutsidePolicy:
    """Checks a dataset before its elements are read.

    ``open_dataset`` returns the identifier of a dataset without checking it. ``describe_source``
    describes a source that may be read, None for one that is virtual itself; without it, sources
    are not described.
    """

    def __init__(
        self,
        store: ListingSource,
        files: OpenFiles,
        open_dataset: Callable[[ObjectRef], h5d.DatasetID],
        describe_source: DescribeSource | None,
        on_progress: Callable[[], None],
    ) -> None:
        self._store = store
        self._files = files
        self._open_dataset = open_dataset
        self._describe_source = describe_source
        self._on_progress = on_progress

    def check(self, ref: ObjectRef, *, is_logged: bool) -> Outside:
        """Return where a dataset's elements are, as far as that is outside of it.

        Raises ``ForbiddenError`` when a source may not be read, or when sources form a circle;
        ``UnsupportedTypeError`` where the dataset's file is read through its log (``is_logged``),
        and a source, or a source of a source, is another file: the library looks for it with this
        file's driver, which can open no other file, and would read fill values.
        """
        found = _Found()
        self._check(ref, (), found)
        if is_logged and found.files:
            raise UnsupportedTypeError(
                "a virtual dataset of other files cannot be read while the file is written; "
                "mount it with --mode r"
            )
        return Outside(
            found.mapped, tuple(found.files), found.datasets, found.described, found.resized
        )

    def _check(self, ref: ObjectRef, users: tuple[ObjectRef, ...], all_found: _Found) -> None:
        where = show_path(ref.path)
        if ref in users:
            raise ForbiddenError(f"{where} is a virtual dataset that has itself as a source")
        if len(users) > _MAX_DEPTH:
            raise ForbiddenError(f"{where}: virtual datasets nested more than {_MAX_DEPTH} deep")
        with reading(ref.path):
            dataset_id = self._open_dataset(ref)
            creation = creation_of(dataset_id)
            layout = creation.get_layout()
        if layout == h5d.CONTIGUOUS:
            count = creation.get_external_count()
            raw = (os.fsdecode(creation.get_external(i)[0]) for i in range(count))
            self._files.find_sources(raw, ref.file)
        elif layout == h5d.VIRTUAL:
            self._check_virtual(ref, creation, users, all_found)

    def _check_virtual(
        self, ref: ObjectRef, creation: Any, users: tuple[ObjectRef, ...], all_found: _Found
    ) -> None:
        mapped = tuple(_sources_of(creation))
        names = (file for file, _ in mapped if file != SAME_FILE)
        files = self._files.find_sources(names, ref.file)
        all_found.files |= dict.fromkeys((file, ref.file) for file in files)
        files[SAME_FILE] = [ref.file]
        counts = self._check_sources(dict.fromkeys(mapped), files, (*users, ref), all_found)
        with reading(ref.path):
            resized = tuple(_resized_parts(creation, mapped, counts))
        if not users:
            all_found.mapped, all_found.resized = mapped, resized
        elif resized:
            raise UnreadableError(f"{show_path(ref.path)}: {_RESIZED}")

    def _check_sources(
        self,
        sources: Iterable[Source],
        files: Mapping[str, list[int | None]],
        users: tuple[ObjectRef, ...],
        all_found: _Found,
    ) -> dict[Source, int]:
        """Check the sources of a virtual dataset, the last of ``users``, one file after another.

        Returns how many elements they have, where a source is one dataset.
        """
        counts: dict[Source, int] = {}
        is_described = len(users) == 1 and self._describe_source is not None
        in_use = {user.file for user in users}
        alike = AlikeSources(
            self._files, sources if is_described else (), files, self._on_progress, in_use
        )
        for source in sources:
            described = alike.get(source)
            if described is not None:
                counts[source] = described.count
                all_found.datasets[source] = (described.ref,)
                all_found.described[described.ref] = described.dataset
                continue
            datasets = self._find_datasets_of(source, files)
            for each in datasets:
                self._check(each, users, all_found)
            # A name with "%" may stand for several, and of several files the library chooses one.
            is_known = "%" not in "".join(source) and len(files[source[0]]) == 1
            if is_known and len(datasets) == 1:
                with reading(datasets[0].path):
                    space = self._open_dataset(datasets[0]).get_space()
                    counts[source] = space.get_simple_extent_npoints()
            if len(users) == 1:
                all_found.datasets[source] = datasets if is_known else ()
                dataset = self._describe(users[0], datasets)
                if dataset is not None:
                    all_found.described[datasets[0]] = dataset
                    if source in counts:
                        described = DescribedSource(datasets[0], dataset, counts[source])
                        alike.learn(source, described)
            self._files.close_all_but(_FILES_OPEN, keep=in_use)
        return counts

    def _describe(self, ref: ObjectRef, sources: tuple[ObjectRef, ...]) -> DatasetInfo | None:
        """Describe a source as long as its file is open, if there is one of the dataset's type."""
        if self._describe_source is None or len(sources) != 1:
            return None
        try:
            found = self._describe_source(sources[0])
        except H5fsError:
            return None  # whoever reads it gets the error
        if found is None or not found[0].get_type().equal(self._open_dataset(ref).get_type()):
            return None
        return found[1]

    def _find_datasets_of(
        self, source: Source, files: Mapping[str, list[int | None]]
    ) -> tuple[ObjectRef, ...]:
        """Return what a source leads to in each of the files of its name."""
        name, path = source
        numbers = [number for number in files[name] if number is not None]
        for number in numbers:
            self._files.check_has_no_log(number)  # the library would open it by its name, without
        each = (self._find_datasets(number, os.fsencode(path)) for number in numbers)
        return tuple(chain.from_iterable(each))

    def _find_datasets(self, file: int, path: bytes) -> Iterator[ObjectRef]:
        """Yield the datasets that a source's path leads to; ``%b`` in it stands for a number.

        Datasets that are missing or cannot be opened are skipped: HDF5 cannot open them either.
        """
        try:
            root = self._store.root(file).ref
            for candidate in self._spell_out(root, path):
                # External links are refused: HDF5 would follow them without the policy.
                info = Resolver(self._store, leaves_file=False).walk(root, candidate)
                if info.kind is ObjectKind.DATASET:
                    yield info.ref
        except ForbiddenError:
            raise
        except H5fsError:
            return

    def _spell_out(self, root: ObjectRef, path: bytes) -> Iterator[bytes]:
        if b"%" not in path:
            yield path
            return
        parent, _, name = path.rpartition(b"/")
        pattern = re.compile(
            rb"[0-9]+".join(re.escape(part.replace(b"%%", b"%")) for part in name.split(b"%b"))
        )
        if b"%" in parent:
            raise ForbiddenError(f"{show_path(path)}: a number in the name of a group")
        group = Resolver(self._store, leaves_file=False).walk(root, parent or b"/").ref
        for name in Links(self._store.list_links(group, frozenset({b""}))).names():
            if pattern.fullmatch(name):
                yield parent + b"/" + name


def _sources_of(creation: Any) -> Iterator[Source]:
    for index in range(creation.get_virtual_count()):
        yield creation.get_virtual_filename(index), creation.get_virtual_dsetname(index)


def _resized_parts(
    creation: Any, mapped: Iterable[Source], counts: Mapping[Source, int]
) -> Iterator[Hyperslab]:
    """Yield what all of a source stands for that has another number of elements.

    ``counts``: how many elements each source has.
    """
    for index, source in enumerate(mapped):
        if source not in counts:
            continue
        if creation.get_virtual_srcspace(index).get_select_type() != h5s.SEL_ALL:
            continue
        space = creation.get_virtual_vspace(index)
        if counts[source] != space.get_select_npoints():
            first, last = space.get_select_bounds()
            yield Hyperslab(
                first, tuple(high - low + 1 for low, high in zip(first, last, strict=True))
            )


def _overlap(one: Hyperslab, other: Hyperslab) -> bool:
    edges = zip(one.start, one.count, other.start, other.count, strict=True)
    return all(a < c + d and c < a + b for a, b, c, d in edges)
