"""A disk that fails is an error that names the object, and no fault of h5fs."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from store.conformance import make_sample, object_at
from support.stores import open_store

from h5fs.errors import UnreadableError
from h5fs.model.settings import StoreOptions
from h5fs.store.interface import ArrayPart
from h5fs.store.mounted_file import PlainFile
from h5fs.store.sources.local_file import LocalFile


class FailingDisk(LocalFile):
    """A file on a disk that has failed since it was opened."""

    __slots__ = ()

    def read_into(self, buffer: memoryview, offset: int) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def status(self) -> Any:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    space = status


class FailingFile(PlainFile):
    """The mounted file on such a disk."""

    @property
    def source(self) -> LocalFile:
        return FailingDisk(self._descriptor)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Any]:
    with closing(open_store(StoreOptions(make_sample(tmp_path), workers=1))) as store:
        yield store


@pytest.mark.parametrize(
    "ask, message",
    [
        (
            lambda store, ref, info: store.read_into(
                ref, info, ArrayPart.ELEMENTS, 8, memoryview(bytearray(80))
            ),
            "/contiguous: Input/output error",
        ),
        (lambda store, *_: store.file_status(0), "sample.h5: Stale"),
        (lambda store, *_: store.file_system_status(), "sample.h5: Stale"),
    ],
)
def test_a_disk_that_fails_is_an_error_with_a_name(
    store: Any, ask: Callable[..., None], message: str
) -> None:
    ref = object_at(store, "contiguous").ref
    info = store.describe_dataset(ref)
    store._main.__class__ = FailingFile
    with pytest.raises(UnreadableError, match=message):
        ask(store, ref, info)
