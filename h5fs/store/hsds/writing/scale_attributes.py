"""Dimension scales, and what they are attached to, when one of them becomes another dataset.

Each has the ids of the others in an attribute, by which HDF5's high-level library and netCDF find
them. The service changes attributes as a whole. So of two mounts that change one attribute at the
same time one may take back what the other has done. So each asks here a second time some seconds
later, and then looks whether it stays so.
"""

from __future__ import annotations

import base64
import binascii
import logging
import random
import re
import time
from collections.abc import Mapping
from typing import Any, Final

from h5fs.errors import GoneError, H5fsError
from h5fs.store.hsds.client import Client
from h5fs.store.hsds.writing.attribute_bodies import read_bodies, write_bodies

_log = logging.getLogger(__name__)

_ANSWERED_BY: Final = {"REFERENCE_LIST": "DIMENSION_LIST", "DIMENSION_LIST": "REFERENCE_LIST"}
"""Attributes that lead to other datasets, and those by which these lead back."""

_MOST_LOOKS: Final = 10
_SHORTEST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 0.5
_REFERENCE: Final = re.compile(r"datasets/(d-[0-9a-f-]{36})")


def is_about_scales(name: str, before: Any, now: Any) -> bool:
    """Whether an attribute leads to other datasets, and no more has happened than to their ids."""
    return name in _ANSWERED_BY and len(_ids_in(before)) == len(_ids_in(now)) > 0


def lead_to_new(
    client: Client, query: Mapping[str, str], old_id: str, new_id: str,
    attributes: Mapping[str, Any], *, insists: bool = False,
) -> None:  # fmt: skip
    """Let what knows a dataset as its scale, or is a scale of it, know the new one instead.

    ``attributes`` are the old one's. What cannot be read, or is not there any more, stays as it is.
    ``insists``: look whether others have taken it back, which takes a moment.
    """
    for name, answer in _ANSWERED_BY.items():
        for other in dict.fromkeys(_ids_in(attributes.get(name))):
            if other not in (old_id, new_id):
                _exchange(client, query, other, answer, {old_id: new_id}, insists=insists)


def catch_up(
    client: Client, query: Mapping[str, str], old_id: str, new_id: str,
    before: Mapping[str, Any], now: Mapping[str, Any],
) -> None:  # fmt: skip
    """Let a new dataset know what its scales have become, and those know it, now that all is calm.

    ``before`` are the attributes of the old one that the new one got copies of, ``now`` what they
    are: others have changed them that had not heard of the new one.
    """
    if not any(_ids_in(now.get(name)) for name in _ANSWERED_BY):
        return
    for name in _ANSWERED_BY:
        changed = dict(zip(_ids_in(before.get(name)), _ids_in(now.get(name)), strict=False))
        _exchange(client, query, new_id, name, changed, insists=True)
    try:
        attributes = read_bodies(client, query, new_id)
    except GoneError:  # it was replaced by now
        return
    lead_to_new(client, query, old_id, new_id, attributes, insists=True)


def _exchange(
    client: Client, query: Mapping[str, str], object_id: str, name: str, new_ids: Mapping[str, str],
    *, insists: bool,
) -> None:  # fmt: skip
    """Let an attribute of a dataset lead to other datasets instead of some."""
    if all(old == new for old, new in new_ids.items()):
        return
    try:
        for _ in range(_MOST_LOOKS if insists else 1):
            changed = body = read_bodies(client, query, object_id).get(name)
            for old_id, new_id in new_ids.items():
                changed = _exchanged(changed, old_id, new_id)
            if changed == body:
                return
            write_bodies(client, query, object_id, {name: changed})
            if insists:  # longer than it takes others to write what they have read before
                time.sleep(random.uniform(_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS))
    except GoneError:
        pass  # whoever has replaced it takes its attributes along
    except H5fsError as error:
        _log.warning("dataset %s does not know what it belongs to: %s", object_id, error)


def _ids_in(body: Any) -> list[str]:
    if not isinstance(body, dict):
        return []
    is_encoded = bool(body.get("encoding"))
    text = _decoded(body).decode("latin-1") if is_encoded else str(body.get("value"))
    return _REFERENCE.findall(text)


def _exchanged(body: Any, old_id: str, new_id: str) -> Any:
    """Return an attribute with another id in it; all ids have the same length."""
    if not isinstance(body, dict) or len(old_id) != len(new_id):
        return body
    if body.get("encoding"):
        data = _decoded(body)
        changed = data.replace(old_id.encode(), new_id.encode())
        is_same = changed == data
        return body if is_same else {**body, "value": base64.b64encode(changed).decode("ascii")}
    return {**body, "value": _exchanged_value(body.get("value"), old_id, new_id)}


def _exchanged_value(value: Any, old_id: str, new_id: str) -> Any:
    if isinstance(value, list):
        return [_exchanged_value(each, old_id, new_id) for each in value]
    return value.replace(old_id, new_id) if isinstance(value, str) else value


def _decoded(body: Mapping[str, Any]) -> bytes:
    try:
        return base64.b64decode(str(body.get("value")), validate=True)
    except (binascii.Error, ValueError):
        return b""
