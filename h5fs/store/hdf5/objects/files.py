"""The HDF5 files that are open: the mounted one, and those that external links lead to.

Owns the HDF5 file identifiers. Every file is opened once, whatever names lead to it: HDF5 shares
state between two openings of one file, and closing one has crashed reads through the other.
Not thread-safe: the store's lock is held around every call.
"""

from __future__ import annotations

import os
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from h5py import h5f, h5p

from h5fs.errors import CannotOpenError, ForbiddenError, H5fsError, NotFoundError, StaleError
from h5fs.model.file_status import NumberedFile
from h5fs.model.settings import ExternalPolicy, Locking, StoreOptions
from h5fs.store.external_policy import FilesToAskForError, places_of_external
from h5fs.store.file_checks import check_identity, check_lock, check_openable, library_locking
from h5fs.store.format.file_layout import FileLayout, read_file_layout
from h5fs.store.format.superblock import read_superblock
from h5fs.store.hdf5.library_errors import reading
from h5fs.store.hdf5.objects.allowed_files import AllowedFiles
from h5fs.store.hdf5.objects.driven_main import DrivenMain
from h5fs.store.hdf5.objects.source_places import Place, RealPlaces, find_sources
from h5fs.store.log.log_path import check_has_no_log, has_log_at
from h5fs.store.sources.interface import Source, read_bytes
from h5fs.store.sources.local_file import LocalFile

_MAX_EXTERNAL_FILES_OPEN = 256


class OpenFiles:
    """Numbers the files. The mounted one (number 0) stays open, others as long as they are used.

    ``on_close(number)`` is called before a file is closed, to let go of its objects;
    ``on_number(number, file)`` when a file other than the mounted one gets its number.

    ``driven``: the mounted file where the library reads it through a driver of h5fs. Else
    ``main``: a descriptor of the mounted file: that very file is opened, whatever stands at its
    path by now. ``granted``: device and inode numbers of the other files that this process may
    read; when it needs further files, it raises ``FilesToAskForError``. None: it may read whatever
    the policy allows.
    """

    def __init__(
        self,
        options: StoreOptions,
        on_close: Callable[[int], None],
        on_number: Callable[[int, NumberedFile], None],
        driven: DrivenMain | None = None,
        main: int | None = None,
        granted: frozenset[tuple[int, int]] | None = None,
    ) -> None:
        self._options = options
        self._driven = driven
        self._main = main if driven is None else driven.descriptor
        self._on_close = on_close
        self._on_number = on_number
        self._paths: dict[int, Path] = {}
        self._numbers: dict[tuple[int, int], int] = {}
        self._identities: dict[int, tuple[int, int]] = {}  # of files other than the mounted one
        self._open: OrderedDict[int, Any] = OrderedDict()
        self._is_out_of_reach = False  # the path no longer leads to the mounted file
        self._descriptors: dict[int, int] = {}
        self._base_offsets: dict[int, int] = {}
        self._layouts: dict[int, FileLayout | None] = {}
        folder = Path(os.path.realpath(options.file)).parent
        self._allowed = AllowedFiles(options.external, folder, granted)

    def open_mounted(self) -> None:
        """Open the mounted file. Raises ``CannotOpenError``."""
        path = Path(os.path.realpath(self._options.file))
        try:
            status = os.stat(path) if self._main is None else os.fstat(self._main)
        except OSError as error:
            raise CannotOpenError(f"{path}: {error.strerror}") from None
        self._paths[0] = path
        self._allowed.own = status.st_dev, status.st_ino
        self._numbers[self._allowed.own] = 0
        self.file_id(0)

    def path_of(self, number: int) -> Path:
        """Return the real path of a numbered file."""
        return self._paths[number]

    def file_id(self, number: int) -> Any:
        """Return the open ``h5py.h5f.FileID`` of a numbered file, opening it when needed.

        Raises ``CannotOpenError``, ``UnreadableError``, ``StaleError``, ``FilesToAskForError``.
        """
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        if number == 0 and self._driven is not None:
            file_id = self._driven.open_library(self._paths[0], self._options.mode)
        elif number == 0:
            file_id = self._open_main()
        else:
            path = self._paths[number]
            self.check_has_no_log(number)
            self._allowed.ask_for_path(path)
            file_id = self._open_read_only(path, path)
            # The driver that is used where the path is out of reach has no descriptor to show.
            self._check_identity(
                number, path if self._is_out_of_reach else file_id.get_vfd_handle()
            )
        self._base_offsets[number] = file_id.get_create_plist().get_userblock()
        self._open[number] = file_id
        self.close_all_but(_MAX_EXTERNAL_FILES_OPEN, keep={number})
        return file_id

    def check_has_no_log(self, number: int) -> None:
        """Raise ``CannotOpenError`` for a file beside the mounted one that has a log."""
        if number:
            check_has_no_log(os.fspath(self._paths[number]))

    def _open_main(self) -> Any:
        """Open the mounted file for reading.

        By its path while that leads to it, since HDF5 finds other files from the path. Otherwise
        (the file was replaced, or the path is out of reach) by the descriptor.
        """
        path, is_swmr = self._paths[0], self._options.is_swmr
        if self._main is None or self._is_at(path):
            try:
                file_id = self._open_read_only(path, path, is_swmr=is_swmr)
                handle = file_id.get_vfd_handle()
                check_identity(self._options, handle)
                if self._main is None or os.path.samestat(os.fstat(self._main), os.fstat(handle)):
                    return file_id
                file_id.close()
            except H5fsError:
                if self._main is None or self._is_at(path):
                    raise
        self._is_out_of_reach = True
        return self._open_read_only(path, Path(f"/proc/self/fd/{self._main}"), is_swmr=is_swmr)

    def _is_at(self, path: Path) -> bool:
        """Whether a path leads to the mounted file, for this process."""
        assert self._main is not None
        try:
            with path.open("rb") as file:
                return os.path.samestat(os.fstat(self._main), os.fstat(file.fileno()))
        except OSError:
            return False

    def _open_read_only(self, path: Path, opened_as: Path, *, is_swmr: bool = False) -> Any:
        locking = self._options.locking
        superblock = check_openable(path, locking, is_swmr=is_swmr, opened_as=opened_as)
        locking = library_locking(opened_as, locking)
        with reading(f"open {path}"):
            access = h5p.create(h5p.FILE_ACCESS)
            if locking is not Locking.DEFAULT:
                access.set_file_locking(
                    locking is not Locking.FALSE, locking is Locking.BEST_EFFORT
                )
            flags = h5f.ACC_RDONLY
            if is_swmr and superblock.version >= 3:  # SWMR needs version 3
                flags |= h5f.ACC_SWMR_READ
                access.set_libver_bounds(h5f.LIBVER_LATEST, h5f.LIBVER_LATEST)
            if self._is_out_of_reach:
                # With the usual driver HDF5 asks for the real path, which a file without a name
                # does not have. So this driver opens all files: two drivers cannot share a file.
                access.set_fapl_stdio()
            return h5f.open(os.fsencode(opened_as), flags, access)

    def sources_folder(self, number: int) -> Path | None:
        """Return the folder of a virtual dataset's sources; None where HDF5 knows it by itself."""
        return self._paths[0].parent if self._is_out_of_reach and not number else None

    def layout(self, number: int) -> FileLayout | None:
        """Return what the superblock of a numbered file says of its format."""
        if self._options.is_swmr and number == 0:
            return None  # a program may be writing a header just now: the library reads again
        if number not in self._layouts:
            self._layouts[number] = read_file_layout(self.bytes_of(number))
        return self._layouts[number]

    def bytes_of(self, number: int) -> Source:
        """Return the bytes of a numbered file as the library has them now, past HDF5."""
        if number == 0 and self._driven is not None:
            return self._driven.flushed()
        return self.source(number)

    def read_raw(self, number: int, address: int, size: int) -> bytes:
        """Return up to ``size`` of the file's bytes at an HDF5 address, past HDF5; b"" on failure.

        An address counts from the superblock, which a user block may precede.
        """
        try:
            offset = address + self._base_offsets[number]
            return read_bytes(self.bytes_of(number), offset, size)
        except (OSError, OverflowError):
            return b""

    def source(self, number: int) -> Source:
        """Return the bytes of a numbered file, without what its log has."""
        fetched = self._fetched(number)
        return fetched if fetched is not None else self.local_file(number)

    def local_file(self, number: int) -> LocalFile:
        """Return a numbered file, which is on this machine."""
        return LocalFile(self.descriptor(number))

    def descriptor(self, number: int) -> int:
        """Return a descriptor of a numbered file, as a rule the one through which HDF5 reads it.

        It is the same file, whatever has become of the path since.
        """
        if number == 0 and self._main is not None:
            return self._main
        if self._is_out_of_reach:
            if number not in self._descriptors:
                self._descriptors[number] = os.open(self._paths[number], os.O_RDONLY | os.O_CLOEXEC)
                self._check_identity(number, self._descriptors[number])
            return self._descriptors[number]
        descriptor: int = self.file_id(number).get_vfd_handle()
        return descriptor

    def open_anew(self, number: int) -> int | None:
        """Return another descriptor of a numbered file, to be read past the library.

        None where the library might not open the file, or not read it as it is.
        """
        path = self._paths[number]
        if (self._driven is not None and not number) or has_log_at(os.fspath(path)):
            return None
        place = path if number else Path(f"/proc/self/fd/{self.descriptor(0)}")
        try:
            descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            self._check_identity(number, descriptor)
            check_lock(path, descriptor, self._options.locking)
        except H5fsError:
            os.close(descriptor)
            return None
        return descriptor

    @property
    def failure(self) -> OSError | None:
        """The first error of reading or writing the mounted file through its log."""
        return self._driven.failure if self._driven is not None else None

    def base_offset_of_fetched(self, number: int) -> int | None:
        """Return where HDF5's addresses count from; None for a file all of which is here."""
        return self._base_offsets[number] if self._fetched(number) is not None else None

    def _fetched(self, number: int) -> Source | None:
        if number != 0 or self._driven is None:
            return None
        return self._driven.fetched

    def is_logged(self, number: int) -> bool:
        """Whether a file is read and written through the redo log: not by its descriptor."""
        return number == 0 and self._driven is not None and self._driven.fetched is None

    def find_external(self, name: bytes, *, linking_file: int) -> int:
        """Return the number of the file that an external link names.

        Tries what HDF5 tries: an absolute path as it is, then its last part beside the linking
        file; a relative one beside the linking file. Raises ``NotFoundError`` when there is none,
        ``ForbiddenError`` when the policy leaves only files that may not be followed.
        """
        if self._options.external is ExternalPolicy.NONE:
            raise ForbiddenError(f"external file {os.fsdecode(name)!r}: -o external=none")
        forbidden = None
        for place in places_of_external(name, self._paths[linking_file].parent):
            path = Path(os.path.realpath(place))
            if path != self._paths[0] and not os.path.lexists(path):
                continue
            try:
                self._allowed.check(path)
            except ForbiddenError as error:
                forbidden = error
            else:
                there = RealPlaces().at(os.fspath(path))
                if path != self._paths[0]:
                    self._allowed.ask_for([there])
                return self._number_of(there)
        raise forbidden or NotFoundError(f"external file {os.fsdecode(name)!r} is not there")

    def find_sources(self, names: Iterable[str], using_file: int) -> dict[str, list[int | None]]:
        """Return the numbers of the files that HDF5 would open under sources' names.

        Looks where HDF5 looks: at an absolute path, in the folder of the file with the dataset, in
        the working directory. ``%b`` in a name stands for a number. None stands for a file that is
        not an HDF5 file (raw data, or a source that HDF5 cannot open either). Raises
        ``ForbiddenError`` when the policy forbids a file, even one that does not exist yet. Files
        to ask for are asked for together: each answer that names some costs a worker.
        """
        places, folder = RealPlaces(), self._paths[using_file].parent
        found: dict[str, list[int | None]] = {}
        missing: list[Path] = []
        for name in dict.fromkeys(names):
            self._allowed.check_place(places.at(os.path.join(folder, name)))
            there = find_sources(name, folder, places)
            for place in there:
                self._allowed.check_place(place)
                if place.path == os.fspath(self._paths[0]) and self._is_replaced():
                    # HDF5 would read the new file.
                    path = place.path
                    raise StaleError(
                        f"{path} has been replaced; its old version refers to it by name"
                    )
            try:
                self._allowed.ask_for(there)
                found[name] = [self._number_if_hdf5(place) for place in there]
            except FilesToAskForError as need:
                missing += [Path(os.fsdecode(path)) for path in need.paths]
        if missing:
            raise FilesToAskForError(missing)
        return found

    def confirm_sources(self, sources: Iterable[tuple[str, int]]) -> None:
        """Raise ``FilesToAskForError`` if a source exists by now that this process may not read.

        ``sources``: names, and the numbers of the files that use them.
        """
        self._allowed.confirm((name, self._paths[user].parent) for name, user in sources)

    def _number_if_hdf5(self, place: Place) -> int | None:
        descriptor = os.open(place.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            is_hdf5 = read_superblock(LocalFile(descriptor)) is not None
        finally:
            os.close(descriptor)
        return self._number_of(place) if is_hdf5 else None

    def _is_replaced(self) -> bool:
        try:
            status = os.stat(self._paths[0])
        except OSError:
            return True
        return self._numbers.get((status.st_dev, status.st_ino)) != 0

    def know(self, number: int, file: NumberedFile) -> None:
        """Take over a number that another process has given to a file. Raises ``ForbiddenError``.

        When another file stands at its path by now, opening it is a ``StaleError``.
        """
        if number in self._paths:
            return
        real = Path(os.path.realpath(os.fsdecode(file.path)))
        self._allowed.check(real)
        self._paths[number] = real
        self._identities[number] = identity = file.device, file.inode
        self._numbers.setdefault(identity, number)

    def _check_identity(self, number: int, opened: int | Path) -> None:
        """Raise ``StaleError`` unless a descriptor or path is of the file that got the number."""
        status = os.stat(opened)
        if number and self._identities[number] != (status.st_dev, status.st_ino):
            raise StaleError(f"{self._paths[number]} has been replaced since links led to it")

    def close(self) -> None:
        """Close every file."""
        for number in list(self._open):
            self._close(number)

    def close_mounted(self) -> None:
        """Close the mounted file, to open it as of another commit."""
        if 0 in self._open:
            self._close(0)
        self._layouts.pop(0, None)

    def _number_of(self, place: Place) -> int:
        if place.path == os.fspath(self._paths[0]):
            return 0  # the mounted file, even if another file stands at its path by now
        identity, path = place.identity, Path(place.path)
        if identity is None:
            raise CannotOpenError(f"{path} is gone")
        if identity not in self._numbers:
            # From its path, so that inode numbers do not depend on which file was used first.
            number = zlib.crc32(os.fsencode(path))
            while number in self._paths:
                number += 1
            self._numbers[identity] = number
            self._paths[number], self._identities[number] = path, identity
            self._on_number(number, NumberedFile(os.fsencode(path), *identity))
        return self._numbers[identity]

    def close_all_but(self, count: int, *, keep: set[int]) -> None:
        """Close files beside the mounted one, but for those that were used last, and ``keep``."""
        others = [number for number in self._open if number and number not in keep]
        for number in others[: max(len(others) - count, 0)]:
            self._close(number)

    def _close(self, number: int) -> None:
        self._on_close(number)
        self._open.pop(number).close()
        descriptor = self._descriptors.pop(number, None)
        if descriptor is not None:
            os.close(descriptor)
