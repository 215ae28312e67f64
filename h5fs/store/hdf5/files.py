"""The HDF5 files that are open: the mounted one, and those that external links lead to.

Owns the HDF5 file identifiers. Every file is opened once, whatever names lead to it: HDF5 shares
state between two openings of one file, and closing one has crashed reads through the other.
Not thread-safe: the store's lock is held around every call.
"""

from __future__ import annotations

import glob
import os
import re
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from h5py import h5f, h5p

from h5fs.errors import CannotOpenError, ForbiddenError, NotFoundError
from h5fs.options import ExternalPolicy, Locking, StoreOptions
from h5fs.store.hdf5.header_scan import FileLayout, read_file_layout
from h5fs.store.hdf5.logged_main import LoggedMain
from h5fs.store.hdf5.translation import reading
from h5fs.store.log_path import has_log
from h5fs.store.opening import check_identity, check_openable
from h5fs.store.policy import check_policy
from h5fs.store.superblock import read_superblock

_MAX_EXTERNAL_FILES_OPEN = 64


class OpenFiles:
    """Numbers the files and keeps the mounted one (number 0) open, others as long as they are used.

    ``on_close(number)`` is called before a file is closed, to let go of its objects;
    ``on_number(number, path)`` when a file other than the mounted one gets its number.
    """

    def __init__(
        self,
        options: StoreOptions,
        on_close: Callable[[int], None],
        on_number: Callable[[int, Path], None],
        logged: LoggedMain | None = None,
    ) -> None:
        self._options = options
        self._logged = logged
        self._on_close = on_close
        self._on_number = on_number
        self._paths: dict[int, Path] = {}
        self._numbers: dict[tuple[int, int], int] = {}
        self._open: OrderedDict[int, Any] = OrderedDict()
        self._base_offsets: dict[int, int] = {}
        self._layouts: dict[int, FileLayout | None] = {}
        self._folder = Path(os.path.realpath(options.file)).parent

    def open_mounted(self) -> None:
        """Open the mounted file. Raises ``CannotOpenError``."""
        self._number_of(Path(os.path.realpath(self._options.file)))
        self.file_id(0)

    def path_of(self, number: int) -> Path:
        """Return the real path of a numbered file."""
        return self._paths[number]

    def file_id(self, number: int) -> Any:
        """Return the open ``h5py.h5f.FileID`` of a numbered file, opening it when needed."""
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        if number == 0 and self._logged is not None:
            file_id = self._logged.open_library(self._paths[0], self._options.mode)
        else:
            if number and has_log(self._paths[number]):
                # Its own bytes are an older state, or a checkpoint that was cut off.
                raise CannotOpenError(
                    f"{self._paths[number]} has a log that is not brought in: end what writes it, "
                    f"or run: h5fs recover {self._paths[number]}"
                )
            is_swmr = self._options.is_swmr and number == 0
            file_id = _open_read_only(self._paths[number], self._options.locking, is_swmr=is_swmr)
            if number == 0:
                check_identity(self._options, file_id.get_vfd_handle())
        self._base_offsets[number] = file_id.get_create_plist().get_userblock()
        self._open[number] = file_id
        self._close_one_too_many(keep=number)
        return file_id

    def layout(self, number: int) -> FileLayout | None:
        """Return what the superblock of a numbered file says of its format."""
        if self.is_logged(number):
            return None  # what the library has not handed over yet is nowhere to be read
        if self._options.is_swmr and number == 0:
            return None  # a header may be written at this moment: the library knows how to wait
        if number not in self._layouts:
            self._layouts[number] = read_file_layout(self.descriptor(number))
        return self._layouts[number]

    def read_raw(self, number: int, address: int, size: int) -> bytes:
        """Return up to ``size`` of the file's bytes at an HDF5 address, past HDF5; b"" on failure.

        An address counts from the superblock, which a user block may precede.
        """
        try:
            offset = address + self._base_offsets[number]
            if number == 0 and self._logged is not None:
                return self._logged.read_at(offset, size)
            return os.pread(self.descriptor(number), size, offset)
        except (OSError, OverflowError):
            return b""

    def descriptor(self, number: int) -> int:
        """Return the file descriptor through which HDF5 reads a numbered file.

        What is asked of it is right whatever has become of the path since.
        """
        if number == 0 and self._logged is not None:
            return self._logged.descriptor
        descriptor: int = self.file_id(number).get_vfd_handle()
        return descriptor

    def is_logged(self, number: int) -> bool:
        """Whether a file is read and written through the redo log: not by its descriptor."""
        return number == 0 and self._logged is not None

    def find_external(self, name: bytes, *, linking_file: int) -> int:
        """Return the number of the file that an external link names.

        Tries what HDF5 tries: an absolute path as it is, then its last part beside the linking
        file; a relative one beside the linking file. Raises ``NotFoundError`` when there is none,
        ``ForbiddenError`` when the policy leaves only files that may not be followed.
        """
        if self._options.external is ExternalPolicy.NONE:
            raise ForbiddenError(f"external file {os.fsdecode(name)!r}: -o external=none")
        beside = self._paths[linking_file].parent
        wanted = Path(os.fsdecode(name))
        candidates = [wanted, beside / wanted.name] if wanted.is_absolute() else [beside / wanted]
        forbidden = None
        for candidate in candidates:
            path = Path(os.path.realpath(candidate))
            if not os.path.lexists(path):
                continue
            try:
                self.check_policy(path)
            except ForbiddenError as error:
                forbidden = error
            else:
                return self._number_of(path)
        raise forbidden or NotFoundError(f"external file {os.fsdecode(name)!r} is not there")

    def find_sources(self, name: str, using_file: int) -> list[int | None]:
        """Return the numbers of the files in which a dataset may have elements under that name.

        Looks where HDF5 looks: at an absolute path, in the folder of the file that uses it, in the
        working directory. ``%b`` in a name stands for a number. None stands for a file that is not
        an HDF5 file (raw data, or a source that HDF5 cannot open either). Raises
        ``ForbiddenError`` when the policy forbids one, even one that is not there yet.
        """
        beside = self._paths[using_file].parent
        self.check_policy(Path(os.path.realpath(beside / name)))
        found: dict[Path, None] = {}
        for place in (beside / name, beside / Path(name).name, Path.cwd() / name):
            wild = re.sub("%[b%]", lambda m: "*" if m[0] == "%b" else "%", glob.escape(place.name))
            candidates = [place, *(place.parent.glob(wild) if "%" in name else ())]
            found |= {Path(os.path.realpath(each)): None for each in candidates if each.exists()}
        for path in found:
            self.check_policy(path)
        return [self._number_if_hdf5(path) for path in found]

    def _number_if_hdf5(self, path: Path) -> int | None:
        with path.open("rb") as file:
            return self._number_of(path) if read_superblock(file) else None

    def check_policy(self, path: Path) -> None:
        """Raise ``ForbiddenError`` unless data may be read from the real path ``path``."""
        check_policy(path, self._options.external, self._folder)

    def know(self, number: int, path: Path) -> None:
        """Take over a number that another process has given to a file. Raises ``ForbiddenError``.
        """
        if number in self._paths:
            return
        real = Path(os.path.realpath(path))
        self.check_policy(real)
        status = os.stat(real)
        self._paths[number] = real
        self._numbers[status.st_dev, status.st_ino] = number

    def close(self) -> None:
        """Close every file."""
        for number in list(self._open):
            self._close(number)

    def _number_of(self, path: Path) -> int:
        try:
            status = os.stat(path)
        except OSError as error:
            raise CannotOpenError(f"{path}: {error.strerror}") from None
        identity = (status.st_dev, status.st_ino)
        if identity not in self._numbers:
            # From its path, so that inode numbers do not depend on which file was used first.
            number = zlib.crc32(os.fsencode(path)) if self._paths else 0
            while number in self._paths:
                number += 1
            self._numbers[identity] = number
            self._paths[number] = path
            if number:
                self._on_number(number, path)
        return self._numbers[identity]

    def _close_one_too_many(self, *, keep: int) -> None:
        if len(self._open) > 1 + _MAX_EXTERNAL_FILES_OPEN:
            self._close(next(number for number in self._open if number not in (0, keep)))

    def _close(self, number: int) -> None:
        self._on_close(number)
        self._open.pop(number).close()


def _open_read_only(path: Path, locking: Locking, *, is_swmr: bool) -> Any:
    superblock = check_openable(path, locking, is_swmr=is_swmr)
    with reading(f"open {path}"):
        access = h5p.create(h5p.FILE_ACCESS)
        if locking is not Locking.DEFAULT:
            access.set_file_locking(locking is not Locking.FALSE, locking is Locking.BEST_EFFORT)
        flags = h5f.ACC_RDONLY
        if is_swmr and superblock.version >= 3:  # no older one can be written by those rules
            flags |= h5f.ACC_SWMR_READ
            access.set_libver_bounds(h5f.LIBVER_LATEST, h5f.LIBVER_LATEST)
        return h5f.open(os.fsencode(path), flags, access)
