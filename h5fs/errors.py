"""Every way that h5fs refuses: one class each, with the errno that a program sees.

The FUSE room turns these into errnos, and nothing else does. A class's message is for the log; it
names the object. ``MountError`` is for the person at the command line instead.
"""

from __future__ import annotations

import errno as _errno

_MOST_SHOWN = 400  # characters of a line in the log about text that somebody wrote


class H5fsError(Exception):
    """Base of all refusals; ``errno`` is what the system call returns."""

    errno: int = _errno.EIO
    is_news: bool = True
    """Whether the log gets a line for this error; other errors are logged with --debug only."""


class UnreadableError(H5fsError):
    """The HDF5 library cannot read this object, or the file is damaged there."""

    errno = _errno.EIO


class GoneError(UnreadableError):
    """The object that a name led to, or a file was opened of, is not there any more."""

    errno = _errno.ESTALE


class NoRoomError(UnreadableError):
    """There is no room on the disk for decoded chunks."""


class CannotOpenError(UnreadableError):
    """An HDF5 file cannot be opened; the message says why and what to do about it."""


class HeldByH5fsError(CannotOpenError):
    """Another h5fs has the file locked, or a worker of a killed h5fs does, for a moment more."""


class LogMismatchError(CannotOpenError):
    """A redo log is not the log of its HDF5 file, or not one that this version of h5fs can read."""


class NotFoundError(H5fsError):
    """No such link, attribute file or dentry."""

    errno = _errno.ENOENT


class NotAGroupError(H5fsError):
    """A path component is not a group."""

    errno = _errno.ENOTDIR


class IsAGroupError(H5fsError):
    """A group was opened as if it were a file."""

    errno = _errno.EISDIR


class NotALinkError(H5fsError):
    """``readlink`` of something that is not a symbolic link."""

    errno = _errno.EINVAL


class UnsupportedTypeError(H5fsError):
    """The element type or the filter has no projection here."""

    errno = _errno.ENOTSUP


class TooLargeError(H5fsError):
    """The projected file would pass 2**63 - 1 bytes."""

    errno = _errno.EOVERFLOW


class AttributeTooLargeError(H5fsError):
    """The object cannot hold an attribute of this size, or h5fs could not read it again."""

    errno = _errno.EFBIG


class DatatypeTooLargeError(H5fsError):
    """A datatype whose description is longer than HDF5 stores: thousands of fields."""

    errno = _errno.EFBIG


class InvalidAttributesError(H5fsError):
    """Text that is not the JSON of attributes or of a datatype."""

    errno = _errno.EINVAL

    def __init__(self, message: str) -> None:
        super().__init__(message if len(message) <= _MOST_SHOWN else message[:_MOST_SHOWN] + "...")


class InvalidArrayError(H5fsError):
    """Bytes that are not a ``.npy`` file, or an array that its dataset cannot take."""

    errno = _errno.EINVAL


class EmptiedError(InvalidArrayError):
    """A file was emptied, and nothing has been written to it yet.

    A shell that redirects a command's output opens, empties and closes the file first.
    """

    is_news = False


class InvalidNameError(H5fsError):
    """A name, or the text of a symbolic link, that has no projection."""

    errno = _errno.EINVAL


class NameTooLongError(H5fsError):
    """A name of more than 255 bytes."""

    errno = _errno.ENAMETOOLONG


class ExistsError(H5fsError):
    """There is a link of that name already."""

    errno = _errno.EEXIST


class NotEmptyError(H5fsError):
    """A group that is to be removed still has links, or files that wait in it."""

    errno = _errno.ENOTEMPTY


class NoSpaceError(H5fsError):
    """The disk, or the user's share of it, is full."""

    errno = _errno.ENOSPC


class MixedPagesError(H5fsError):
    """Mapped pages come back in which there may be another content, read by others."""

    errno = _errno.EIO


class CrossFileError(H5fsError):
    """A link or a move from one HDF5 file to another."""

    errno = _errno.EXDEV


class NotPermittedError(H5fsError):
    """What POSIX does not allow here, such as a hard link to a folder."""

    errno = _errno.EPERM


class LostChangesError(H5fsError):
    """What was written is lost: the HDF5 library died, or the disk failed, before the commit."""

    errno = _errno.EIO
    note: bytes = b""
    """What the worker that died had written down at last."""


class KilledChangeError(LostChangesError):
    """A worker was killed from outside during a change: nobody knows whether it was done."""


class ChangeFailedError(LostChangesError):
    """The HDF5 library refused a change in the middle; the file is as it was before it."""


class LinkLoopError(H5fsError):
    """Soft or external links lead in a circle."""

    errno = _errno.ELOOP


class ForbiddenError(H5fsError):
    """The policy for what leads outside the file says no."""

    errno = _errno.EACCES


class ReadOnlyError(H5fsError):
    """The mount is read-only."""

    errno = _errno.EROFS


class BadHandleError(H5fsError):
    """A file handle that is not open."""

    errno = _errno.EBADF


class StaleError(H5fsError):
    """The HDF5 file was replaced or rewritten while a file of it was open."""

    errno = _errno.ESTALE


class NamelessError(StaleError):
    """What is asked about by its number alone has lost its name, and is no open file.

    Programs make temporary files so, and the kernel asks once more when two of its questions met a
    change in between.
    """

    is_news = False


class UnreachableError(UnreadableError):
    """The server of a remote file does not answer, or answers what cannot be true."""


class DeniedError(H5fsError):
    """The server of a remote file refuses access to it."""

    errno = _errno.EACCES


class PassedThroughError(H5fsError):
    """What the file system below answers for a file that is passed through as it is."""

    is_news = False

    @classmethod
    def of(cls, error: OSError, path: bytes) -> PassedThroughError:
        """Return what stands for an error of the system's, with its errno."""
        refusal = cls(f"{show_path(path)}: {error.strerror}")
        refusal.errno = error.errno or _errno.EIO
        return refusal


class NoAttributeError(H5fsError):
    """No such extended attribute."""

    errno = _errno.ENODATA


class MountError(OSError):
    """A mount cannot start or end; the message is one line that says what to do.

    An ``OSError`` without an errno, as Python programs expect of what opens a file. Not an
    ``H5fsError``: no system call is waiting for an answer, a person is.
    """


class UsageError(MountError):
    """The command line or an option is wrong (exit status 2)."""


def say_on_one_line(error: Exception) -> str:
    """Return an error's message without line ends."""
    return " ".join(str(error).split())


def show_path(path: bytes) -> str:
    """Return a name or path as a message can print it: control characters, bad UTF-8 escaped."""
    text = path.decode("utf-8", "backslashreplace")
    if text.isprintable():  # nearly always
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
