"""Where mounts of one domain keep what has no name yet: a hidden group each.

All are links of one group in the domain's root. The attribute with the highest number names the
owner of a hidden group. The service makes each attribute once: so only one of several mounts gets
what a dead mount has left. A mount of this machine is dead when its process is; a mount of another
machine is never taken for dead.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from h5fs.errors import ExistsError, GoneError, H5fsError
from h5fs.store.hidden_names import HIDDEN_GROUP
from h5fs.store.hsds.answers import LinksAnswer, ObjectAnswer
from h5fs.store.hsds.client import Client
from h5fs.store.hsds.object_descriptions import name_of, path_of
from h5fs.store.hsds.writing.attribute_bodies import read_bodies
from h5fs.store.hsds.writing.link_changes import LinkChanges

_log = logging.getLogger(__name__)

_OWNER: Final = "owner "
_NOBODY: Final = "nobody"
_TEXT: Final = {"class": "H5T_STRING", "charSet": "H5T_CSET_UTF8", "length": "H5T_VARIABLE",
                "strPad": "H5T_STR_NULLTERM"}  # fmt: skip


class HiddenGroups:
    """Finds, makes and gives up this mount's hidden group. One thread at a time."""

    def __init__(self, client: Client, query: Mapping[str, str], links: LinkChanges) -> None:
        self._client = client
        self._query = query
        self._links = links
        self._me = _own_name()
        self._own: tuple[str, bytes] | None = None  # its id, and its name in the group of all
        self._number = 0
        self._was_looked_for = False

    def find(self, root_id: str, *, makes: bool) -> tuple[str, bytes] | None:
        """Return the id and the path of this mount's hidden group, which may be a dead mount's."""
        if self._own is None and not self._was_looked_for:
            self._was_looked_for = True
            self._own = self._take_over(root_id)
        if self._own is None and makes:
            self._own = self._make(root_id)
        if self._own is None:
            return None
        return self._own[0], b"/" + HIDDEN_GROUP + b"/" + self._own[1]

    def remove(self, root_id: str) -> str | None:
        """Let go of the hidden group, with what is in it; return its id."""
        everything = self._links.find(root_id, HIDDEN_GROUP)
        if self._own is None or everything is None:
            return None
        (own_id, name), self._own = self._own, None
        self._links.delete(everything.id, name)
        return own_id

    def give_up(self) -> None:
        """Leave the hidden group to the next mount."""
        if self._own is not None:
            with suppress(ExistsError, GoneError):
                self._claim(self._own[0], self._number + 1, _NOBODY)
            self._own = None

    def _make(self, root_id: str) -> tuple[str, bytes]:
        everything = self._links.find(root_id, HIDDEN_GROUP)
        while everything is None:
            made = self._make_group()
            with suppress(ExistsError):
                self._links.make(root_id, HIDDEN_GROUP, {"id": made})
            everything = self._links.find(root_id, HIDDEN_GROUP)
        own = self._make_group()
        self._claim(own, 1, self._me)
        name = secrets.token_hex(8).encode()
        self._links.make(everything.id, name, {"id": own})
        self._number = 1
        return own, name

    def _make_group(self) -> str:
        return self._client.ask("POST", "/groups", ObjectAnswer, self._query, {}).id

    def _take_over(self, root_id: str) -> tuple[str, bytes] | None:
        everything = self._links.find(root_id, HIDDEN_GROUP)
        if everything is None:
            return None
        found = self._client.get(path_of(everything.id) + "/links", LinksAnswer, self._query)
        for link in found.links:
            try:
                number, owner = self._owner_of(link.id)
                if _is_gone(owner) and self._claim(link.id, number + 1, self._me):
                    self._number = number + 1
                    return link.id, name_of(link)
            except H5fsError as error:
                _log.warning("what another mount has kept cannot be looked at: %s", error)
        return None

    def _owner_of(self, group_id: str) -> tuple[int, str]:
        owners = {0: ""}
        for name, body in read_bodies(self._client, self._query, group_id).items():
            if name.startswith(_OWNER) and name[len(_OWNER) :].isdecimal():
                owners[int(name[len(_OWNER) :])] = str(body.get("value"))
        number = max(owners)
        return number, owners[number]

    def _claim(self, group_id: str, number: int, owner: str) -> bool:
        body: Any = {"type": _TEXT, "value": owner}
        try:
            self._client.change(
                "PUT", path_of(group_id) + "/attributes", self._query,
                {"attributes": {f"{_OWNER}{number}": body}},
            )  # fmt: skip
        except ExistsError:
            return False
        return True


def _own_name() -> str:
    """Return a text that no other mount has: machine, its start, process, the process's start."""
    return f"{socket.gethostname()} {_boot_id()} {os.getpid()} {_start_of(os.getpid())}"


def _is_gone(owner: str) -> bool:
    """Whether an owner is known to be gone."""
    parts = owner.split(" ")
    if owner == _NOBODY:
        return True
    if len(parts) != 4 or parts[0] != socket.gethostname():
        return False
    is_this_start = parts[1] == _boot_id()
    return not is_this_start or not parts[2].isdecimal() or _start_of(int(parts[2])) != parts[3]


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _start_of(pid: int) -> str:
    """Return when a process has started, in ticks since the system's start; "" if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return fields[19].decode("ascii")
    except OSError:
        return ""
