"""The messages between the daemon and a worker, as bytes: msgpack, by msgspec.

A request is the name of a method and its arguments. The types of arguments and answer come from the
annotations of ``WritingLibraryStore``, and decoding checks them, since a file may have taken over
the worker that reads it. Decoding can make no objects of other types. One request can hold several
changes, which are committed together (``CHANGES``).

One message is one packet of a SOCK_SEQPACKET socket. An answer that does not fit into a packet goes
through the worker's reply buffer, a memory file that both processes have open; the packet then
holds the number of bytes in it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, get_type_hints

import msgspec
from msgspec import Struct

from h5fs import errors
from h5fs.errors import H5fsError, UnreadableError, UnsupportedTypeError
from h5fs.model.file_status import NumberedFile
from h5fs.model.objects import Attribute, UnreadableAttribute
from h5fs.store.interface import Array_contra
from h5fs.store.library_interface import (
    ChangedObjects,
    ChangedPart,
    NewArray,
    WritingLibraryStore,
)
from h5fs.store.workers.encoding import ENCODER, decoder, with_elements

MAX_PACKET_BYTES: Final = 60_000
"""Largest message that goes as a packet; well below what the kernel lets a socket hold."""

NOTE_BYTES: Final = 4096
"""Size of the note at the start of the reply buffer: the object that a worker will look at next."""

RESULT, RESULT_IN_BUFFER, DATA, DATA_IN_BUFFER, FAILURE, LAST_FAILURE, NEEDS = b"RWDBEXN"
LOG, PROGRESS, FILE, READY, FETCH, CHANGED = b"LPFYTC"
FETCHED, NOT_FETCHED = b"+", b"-"
"""The first byte of a worker's packet. DATA are plain bytes, a RESULT is encoded; after a
LAST_FAILURE the worker ends; NEEDS names files that it must read before it can answer. FILE names a
file that the worker has given a number; READY: the worker is confined and will now open the mounted
file. CHANGED: there was a commit, or a checkpoint was tried; the next packet, as a rule the
answer, follows in the same one, so that the daemon wakes up once (``pack_changed``). FETCH names
ranges of bytes of a mounted file that comes bit by bit; the worker then waits for one packet,
FETCHED or NOT_FETCHED."""

ANSWERS: Final = frozenset(
    {RESULT, RESULT_IN_BUFFER, DATA, DATA_IN_BUFFER, FAILURE, LAST_FAILURE, NEEDS}
)
"""The packets that end a request. The request's number follows, NUMBER_BYTES, little-endian; number
0 is opening the file, which needs no request."""

NUMBER_BYTES: Final = 8
MOST_RANGES: Final = 2000
MOST_FETCHED_BYTES: Final = 2**28
"""How much one FETCH may ask for."""

CHANGES: Final = "make_changes"
"""The name of a request of several changes. Its arguments are pairs, each a method's name and
arguments; the answer is an ``Outcome`` for each, and is given after the commit of them all."""

_MOST_TEXT = 20_000
_SIZE_BYTES = 4


class Request(Struct, frozen=True, array_like=True):
    """A call of a method; ``arguments`` are encoded apart, by the method's types.

    ``number``: the request's own, which the answer repeats. ``files``: the files beside the mounted
    one that other workers have numbered. ``gone``: shared buffers that no
    request will name again. ``shared_buffers``: numbers and sizes in bytes of new ones, and
    whether they are on disk; their descriptors travel with the packet in the same order.
    ``large_bytes``: when not 0, the arguments are so many bytes in a memory file, whose descriptor
    comes first. ``commit``: what a worker that reads beside the one that writes must have caught up
    with (``committed_state.Commit``).
    """

    method: str
    arguments: msgspec.Raw
    number: int
    files: tuple[tuple[int, NumberedFile], ...] = ()
    shared_buffers: tuple[tuple[int, int, bool], ...] = ()
    gone: tuple[int, ...] = ()
    large_bytes: int = 0
    commit: tuple[int, int] | None = None


class Outcome(Struct, frozen=True):
    """What became of one of several changes: it is committed and has a ``result``, or was refused.

    ``goes_alone``: nothing was done, since the worker needs files first; it is to be asked for
    alone.
    """

    method: str
    result: Any = None
    refusal: H5fsError | None = None
    goes_alone: bool = False


class Outcomes(Struct, frozen=True):
    """What became of several changes, in their order."""

    each: tuple[Outcome, ...]


class _Change(Struct, frozen=True, array_like=True):
    method: str
    arguments: msgspec.Raw


class _EncodedOutcome(Struct, frozen=True, array_like=True):
    """``result`` and ``refusal`` are encoded as if the change had been alone; of neither nothing
    was done."""

    method: str
    result: bytes | None = None
    refusal: bytes | None = None


class Method:
    """Decodes the arguments and the result of one method."""

    def __init__(self, name: str) -> None:
        function = getattr(WritingLibraryStore, name)
        hints = get_type_hints(function)
        self.name = name
        parameters = list(inspect.signature(function).parameters.values())[1:]
        kinds = tuple(_kind_of(hints[parameter.name]) for parameter in parameters)
        self.returns_data = hints["return"] in (bytes, bytes | bytearray)
        self._arguments = decoder(tuple[kinds] if kinds else tuple[()])  # type: ignore[valid-type]
        is_encoded = not self.returns_data and hints["return"] is not type(None)
        self._result = decoder(hints["return"]) if is_encoded else None

    def decode_arguments(self, encoded: msgspec.Raw) -> tuple[Any, ...]:
        """Return the arguments of a request. Raises ``msgspec.MsgspecError``."""
        arguments: tuple[Any, ...] = self._arguments.decode(encoded)
        if self.name == "write_attributes":
            ref, attributes, gone = arguments
            return ref, tuple(map(with_elements, attributes)), gone
        return arguments

    def decode_result(self, encoded: bytes | memoryview) -> Any:
        """Return the result of a call. Raises ``UnreadableError`` for bytes that are no result."""
        try:
            result = None if self._result is None else self._result.decode(encoded)
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
            what = f"the worker's answer to {self.name} is not one: {error}"
            raise UnreadableError(what) from None
        if self.name == "read_attributes" and result is not None:
            return tuple(with_elements(attribute) for attribute in result)
        if self.name == "write_attributes" and result is not None:
            info, attributes = result
            return info, tuple(with_elements(attribute) for attribute in attributes)
        return result


class _ChangesMethod(Method):
    """Decodes a request of several changes, and its answer."""

    def __init__(self) -> None:
        self.name = CHANGES
        self.returns_data = False

    def decode_arguments(self, encoded: msgspec.Raw) -> tuple[tuple[str, tuple[Any, ...]], ...]:
        changes: tuple[_Change, ...] = _CHANGES.decode(encoded)
        return tuple(
            (each.method, METHODS[each.method].decode_arguments(each.arguments)) for each in changes
        )

    def decode_result(self, encoded: bytes | memoryview) -> Outcomes:
        try:
            found: tuple[_EncodedOutcome, ...] = _OUTCOMES.decode(encoded)
            return Outcomes(tuple(map(_decode_outcome, found)))
        except (msgspec.MsgspecError, ValueError, TypeError, KeyError, RecursionError) as error:
            what = f"the worker's answer to {self.name} is not one: {error}"
            raise UnreadableError(what) from None


def _decode_outcome(outcome: _EncodedOutcome) -> Outcome:
    if outcome.result is not None:
        return Outcome(outcome.method, METHODS[outcome.method].decode_result(outcome.result))
    if outcome.refusal is not None:
        return Outcome(outcome.method, refusal=decode_failure(outcome.refusal))
    return Outcome(outcome.method, goes_alone=True)


def encode_outcomes(outcomes: Outcomes) -> bytes:
    """Return what became of several changes as bytes, where each result is encoded already."""
    return encode(
        tuple(
            _EncodedOutcome(
                each.method,
                each.result,
                None if each.refusal is None else encode_failure(each.refusal),
            )
            for each in outcomes.each
        )
    )


def _kind_of(annotation: Any) -> Any:
    """Return the type that an argument is sent as: arrays are lent in shared buffers."""
    return NewArray if annotation is Array_contra else annotation


encode: Callable[[Any], bytes] = ENCODER.encode
"""Returns a plain value as bytes. Raises ``OverflowError`` for an integer beyond 64 bits."""


def encode_result(result: Any) -> bytes:
    """Return a method's result as bytes.

    An attribute whose type has integers beyond 64 bits (in an enumeration) becomes an unreadable
    attribute. Raises ``UnsupportedTypeError`` where such a type is no attribute's.
    """
    try:
        return ENCODER.encode(result)
    except OverflowError:
        return encode(_without_wide_attributes(result))


def _without_wide_attributes(result: Any) -> Any:
    reason = "integers beyond 64 bits in its type"
    if isinstance(result, tuple):
        return tuple(map(_without_wide_attributes, result))
    if _is_encodable(result):
        return result
    if not isinstance(result, Attribute):
        raise UnsupportedTypeError(reason)
    return UnreadableAttribute(result.name, reason)


def _is_encodable(value: Any) -> bool:
    try:
        encode(value)
    except OverflowError:
        return False
    return True


decode_request: Callable[[bytes | memoryview], Request] = msgspec.msgpack.Decoder(Request).decode
"""Returns the request in a packet."""


def with_arguments(request: Request, arguments: bytes) -> Request:
    """Return a request with the arguments that came in a memory file."""
    return msgspec.structs.replace(request, arguments=msgspec.Raw(arguments))


def encode_failure(error: H5fsError) -> bytes:
    """Return an ``H5fsError`` as bytes that fit into a packet: its class and its message."""
    return encode((type(error).__name__, str(error)[:_MOST_TEXT]))


def decode_failure(encoded: bytes | memoryview) -> H5fsError:
    """Return the error in a packet; an unknown class becomes ``UnreadableError``."""
    name, text = _TEXTS.decode(encoded)
    text = _on_one_line(text)
    kind = getattr(errors, name, None)
    known = isinstance(kind, type) and issubclass(kind, H5fsError)
    return kind(text) if known else UnreadableError(text)  # type: ignore[misc]


def decode_file(encoded: bytes | memoryview) -> tuple[int, NumberedFile]:
    """Return a file that a worker has numbered."""
    number, file = _FILE.decode(encoded)
    return number, file


def pack_changed(changed: ChangedObjects, stop: int, packet: bytes) -> bytes:
    """Return the packet that tells of a commit and goes on with another one.

    ``changed``: the objects that the commit is about; ``stop``: where in the log it ends.
    """
    encoded = encode((changed, stop))
    return bytes([CHANGED]) + len(encoded).to_bytes(_SIZE_BYTES, "little") + encoded + packet


def split_changed(body: memoryview) -> tuple[ChangedObjects, int, memoryview]:
    """Return the objects that a commit is about, where in the log it ends, and the packet that
    follows. Raises for what is no such packet."""
    rest = _SIZE_BYTES + int.from_bytes(body[:_SIZE_BYTES], "little")
    changed, stop = _CHANGED.decode(body[_SIZE_BYTES:rest])
    is_true = stop >= 0
    for each in changed or ():
        is_true = is_true and not (isinstance(each, ChangedPart) and each.start < 0)
    if not is_true:
        raise UnreadableError("a commit that ends nowhere, or of data that begin nowhere")
    return changed, stop, body[rest:]


def decode_log(encoded: bytes | memoryview) -> tuple[int, str]:
    """Return level and text of a line for the log; a traceback may have several."""
    level, text = _LOG.decode(encoded)
    lines = text[:_MOST_TEXT].splitlines()
    return min(max(level, 0), 50), "\n  ".join(map(_on_one_line, lines))


def decode_needs(encoded: bytes | memoryview) -> tuple[bytes, ...]:
    """Return the real paths of files that a worker has to read for an answer."""
    paths: tuple[bytes, ...] = _NEEDS.decode(encoded)
    if not paths or not all(path.startswith(b"/") and b"\0" not in path for path in paths):
        raise UnreadableError("needs that are no paths")
    return paths


def decode_fetch(encoded: bytes | memoryview) -> tuple[list[tuple[int, int]], int]:
    """Return the half-open ranges that a worker lacks, and in what units to fetch them."""
    ranges, unit_bytes = _FETCH.decode(encoded)
    if len(ranges) > MOST_RANGES or not 0 < unit_bytes <= MOST_FETCHED_BYTES:
        raise UnreadableError("ranges of bytes that are none")
    if not all(0 <= start < stop < 2**63 for start, stop in ranges):
        raise UnreadableError("ranges of bytes that are none")
    if sum(stop - start for start, stop in ranges) > MOST_FETCHED_BYTES:
        raise UnreadableError("more bytes than may be asked for at once")
    return ranges, unit_bytes


def _on_one_line(text: str) -> str:
    """Return a text that cannot look like another line of the log, or act on a terminal."""
    if text.isprintable():
        return text[:_MOST_TEXT]
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:_MOST_TEXT])


_TEXTS = msgspec.msgpack.Decoder(tuple[str, str])
_FILE = msgspec.msgpack.Decoder(tuple[int, NumberedFile])
_CHANGED = msgspec.msgpack.Decoder(tuple[ChangedObjects, int])
_LOG = msgspec.msgpack.Decoder(tuple[int, str])
_FETCH = msgspec.msgpack.Decoder(tuple[list[tuple[int, int]], int])
_CHANGES = msgspec.msgpack.Decoder(tuple[_Change, ...])
_OUTCOMES = msgspec.msgpack.Decoder(tuple[_EncodedOutcome, ...])
_NEEDS = msgspec.msgpack.Decoder(tuple[bytes, ...])


class _Methods(dict[str, Method]):
    """Finds out what a method's messages are when it is first asked for: few of them all are."""

    def __missing__(self, name: str) -> Method:
        if name not in METHOD_NAMES:
            raise KeyError(name)
        made = _ChangesMethod() if name == CHANGES else Method(name)
        self[name] = made  # two threads make the same
        return made


METHOD_NAMES: Final = frozenset(
    name for kind in WritingLibraryStore.__mro__ for name, member in vars(kind).items()
    if inspect.isfunction(member) and not name.startswith("_")
) | {CHANGES}  # fmt: skip
"""Every method of ``WritingLibraryStore``, those that it takes over, too; and ``CHANGES``."""

METHODS: Final = _Methods()
"""Each of ``METHOD_NAMES`` by its name, once it has been asked for."""
