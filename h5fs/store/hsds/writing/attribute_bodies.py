"""Attributes as the service's JSON, from an object and back to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from h5fs.errors import GoneError, InvalidNameError, show_path
from h5fs.store.hsds.client import Client
from h5fs.store.hsds.object_descriptions import path_of

_SEPARATORS: Final = "/|\x1f\x1e"
_KEPT: Final = ("type", "shape", "value", "encoding")


def read_bodies(client: Client, query: Mapping[str, str], object_id: str) -> dict[str, Any]:
    """Return an object's attributes as the service takes them again, by their names."""
    answer = client.get(
        path_of(object_id) + "/attributes", dict,
        {**query, "IncludeData": "1", "encoding": "base64"},
    )  # fmt: skip
    return {
        each["name"]: {key: each[key] for key in _KEPT if each.get(key) is not None}
        for each in answer.get("attributes", ())
        if isinstance(each, dict) and isinstance(each.get("name"), str)
    }


def write_bodies(
    client: Client, query: Mapping[str, str], object_id: str, bodies: Mapping[str, Any]
) -> None:
    """Give an object attributes, in the place of those that have the names, in one step."""
    client.change(
        "PUT", path_of(object_id) + "/attributes", {**query, "replace": "1"},
        {"attributes": bodies},
    )  # fmt: skip


def delete_attributes(
    client: Client, query: Mapping[str, str], object_id: str, names: Sequence[bytes]
) -> None:
    """Delete attributes; those that are gone by now are no error."""
    titles = [attribute_title(name) for name in names]
    separator = next((each for each in _SEPARATORS if not any(each in t for t in titles)), None)
    together = [titles] if separator is not None and titles else [[title] for title in titles]
    for part in together:
        try:
            client.change(
                "DELETE", path_of(object_id) + "/attributes",
                {**query, "separator": separator or "\x1d",
                 "attr_names": (separator or "").join(part)},
            )  # fmt: skip
        except GoneError:
            for title in part if len(part) > 1 else ():
                delete_attributes(client, query, object_id, [title.encode()])


def attribute_title(name: bytes) -> str:
    """Return an attribute's name as the service has it. Raises ``InvalidNameError``."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise InvalidNameError(f"{show_path(name)}: the service has UTF-8 names only") from None
