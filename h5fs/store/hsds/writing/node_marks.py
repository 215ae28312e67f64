"""Which data nodes were started again: what such a node had not written yet is lost.

A service that names its nodes by their numbers tells nobody. But a node knows which objects were
deleted for as long as it runs, and answers that they are gone; one that was started since has never
heard of them. So a mount lets each node make an object and delete it, and asks for that later.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Final

from h5fs.errors import GoneError, H5fsError
from h5fs.store.hsds.client import Client, DeletedError
from h5fs.store.hsds.data_nodes import home_of
from h5fs.store.hsds.object_descriptions import path_of

_MOST_NODES: Final = 64  # of a larger service too much would be asked for each flush
_PREFIX_CHARACTERS: Final = len("g-00000000-00000000")


class NodeMarks:
    """The marks of one domain's mount, by the nodes' numbers. For one thread at a time."""

    def __init__(self, client: Client, query: Mapping[str, str]) -> None:
        self._client = client
        self._query = query
        self._marks: dict[int, str] = {}

    def lay(self, root_id: str, count: int) -> None:
        """Leave a mark with each of so many nodes that has none, as long as they answer."""
        for number in range(count if count <= _MOST_NODES else 0):
            if number in self._marks:
                continue
            mark = _id_on(number, count, root_id)
            try:
                self._client.change("POST", "/groups", self._query, {"id": mark})
                self._client.change("DELETE", path_of(mark), self._query)
            except H5fsError:
                break
            self._marks[number] = mark

    def find_restarted(self) -> Sequence[int]:
        """Return the numbers of the nodes that do not know their marks; these marks are dropped."""
        restarted = []
        for number, mark in self._marks.items():
            try:
                self._client.get(path_of(mark), dict, self._query)
            except DeletedError:
                continue
            except GoneError:
                restarted.append(number)
            except H5fsError:  # it does not answer: that is an error of what is asked of it
                break
        for number in restarted:
            del self._marks[number]
        return restarted


def _id_on(number: int, count: int, root_id: str) -> str:
    """Return a new id, in the domain of a root group, that is at home on a node."""
    while True:
        token = secrets.token_hex(8)
        made = f"{root_id[:_PREFIX_CHARACTERS]}-{token[:4]}-{token[4:10]}-{token[10:16]}"
        if home_of(made, count) == number:
            return made
