"""Links as the service takes them. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from h5fs.errors import InvalidNameError, NotFoundError, show_path
from h5fs.model.objects import Link, LinkKind, ObjectRef
from h5fs.store.hsds.answers import LinkAnswer
from h5fs.store.hsds.object_descriptions import join_path

_DIGITS_BYTES: Final = 4


def is_group(body: Mapping[str, str]) -> bool:
    """Whether a link is one to a group."""
    return body.get("id", "").startswith("g-")


def digits_of(text: str) -> bytes:
    """Return some digits that stand for a text, in a name."""
    return hashlib.blake2b(text.encode(), digest_size=_DIGITS_BYTES).hexdigest().encode()


def title_of(name: bytes) -> str:
    """Return a link's name as the service has it. Raises ``InvalidNameError``."""
    try:
        title = name.decode()
    except UnicodeDecodeError:
        raise InvalidNameError(f"{show_path(name)}: the service has UTF-8 names only") from None
    if not title or "/" in title:
        raise InvalidNameError(f"{show_path(name)} is no name of a link")
    return title


def body_of(link: LinkAnswer) -> dict[str, str]:
    """Return what the service takes to make just such a link."""
    if link.id:
        return {"id": link.id}
    if link.kind == "H5L_TYPE_EXTERNAL":
        return {"h5path": link.h5path, "h5domain": link.file or link.h5domain}
    return {"h5path": link.h5path}


def body_of_link(link: Link, target_id: str) -> dict[str, Any]:
    """Return what the service takes for a link; ``target_id`` is that of a hard link's object."""
    if link.kind is LinkKind.HARD:
        return {"id": target_id}
    if link.kind is LinkKind.SOFT:
        return {"h5path": _path(link.soft_target)}
    if link.kind is LinkKind.EXTERNAL:
        return {"h5path": _path(link.external_path), "h5domain": _path(link.external_file)}
    raise InvalidNameError(f"a {link.kind.value} link, which the service does not have")


def check_there(found: LinkAnswer | None, group: ObjectRef, name: bytes) -> LinkAnswer:
    """Return a link that must be there. Raises ``NotFoundError``."""
    if found is None:
        raise NotFoundError(f"no link {show_path(join_path(group.path, name))}")
    return found


def _path(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise InvalidNameError(f"{show_path(text)}: the service has UTF-8 paths only") from None
