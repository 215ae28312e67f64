"""Sources of a virtual dataset that are like one that the library has described.

The files that a virtual dataset joins were mostly written by one program, and the headers of the
datasets in them differ in little but the place of the data. So one of them is described by the
library, and of the others the bytes are looked at (`store.format.by_path`). All that is unusual in
the least goes to the library: also to be refused. A program may rewrite a file in place between
both looks; so what the library says of one is told of others only if its bytes are the same
afterwards, and the library has opened it since they were first read. Under the store's lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import suppress

from msgspec import Struct, structs

from h5fs.model.objects import Contiguous, DatasetInfo, ObjectRef
from h5fs.store.format.by_path.plain_dataset import PlainDataset, UnopenedFile, with_right_checksums
from h5fs.store.hdf5.objects.files import OpenFiles
from h5fs.store.hidden_names import is_below_hidden
from h5fs.store.sources.local_file import LocalFile

Source = tuple[str, str]
"""What a virtual dataset says of a source: the name of its file, and its path in there."""


class DescribedSource(Struct, frozen=True):
    """One dataset that a source leads to; ``count``: of its elements."""

    ref: ObjectRef
    dataset: DatasetInfo
    count: int


class AlikeSources:
    """The sources of one virtual dataset whose bytes are plain, before the library sees them.

    ``numbers``: which files there are by the names of sources. ``keep``: files that the library
    keeps open; it shall look at all others anew.
    """

    def __init__(
        self,
        files: OpenFiles,
        sources: Iterable[Source],
        numbers: Mapping[str, list[int | None]],
        on_progress: Callable[[], None],
        keep: set[int],
    ) -> None:
        by_file: dict[int, list[Source]] = {}
        for source in sources:
            named = numbers[source[0]]
            if len(named) == 1 and named[0] is not None and "%" not in "".join(source):
                by_file.setdefault(named[0], []).append(source)
        found: dict[Source, PlainDataset] = {}
        for number, some in by_file.items():
            on_progress()
            found |= _find(files, number, some)
        self._found = with_right_checksums(found)
        if self._found:
            files.close_all_but(0, keep=keep)
        self._files = files
        self._numbers = numbers
        self._described: dict[Hashable, DescribedSource] = {}

    def get(self, source: Source) -> DescribedSource | None:
        """Return a source that is like one that is known; None without one."""
        plain = self._found.get(source)
        like = None if plain is None else self._described.get(plain.likeness)
        if plain is None or like is None:
            return None
        ref, dataset = self._ref_of(source, plain), like.dataset
        if plain.data_offset is not None:
            dataset = structs.replace(dataset, data=Contiguous(plain.data_offset))
        return DescribedSource(ref, dataset, like.count)

    def learn(self, source: Source, described: DescribedSource) -> None:
        """Take note of what the library says of a source, unless its bytes say something else."""
        plain = self._found.get(source)
        if plain is None or self._ref_of(source, plain) != described.ref:
            return
        data = described.dataset.data
        offset = data.file_offset if isinstance(data, Contiguous) else None
        again = _find(self._files, described.ref.file, [source]).get(source)
        if offset == plain.data_offset and again == plain:
            self._described[plain.likeness] = described

    def _ref_of(self, source: Source, plain: PlainDataset) -> ObjectRef:
        number = self._numbers[source[0]][0]
        assert number is not None
        return ObjectRef(number, plain.address, plain.path)


def _find(files: OpenFiles, number: int, sources: Iterable[Source]) -> dict[Source, PlainDataset]:
    descriptor = files.open_anew(number)
    if descriptor is None:
        return {}
    found = {}
    try:
        with suppress(OSError):
            file = UnopenedFile(LocalFile(descriptor))
            for source in sources:
                plain = file.find(os.fsencode(source[1]))
                if plain is not None and not is_below_hidden(plain.path[1:]):
                    found[source] = plain
    finally:
        os.close(descriptor)
    return found
