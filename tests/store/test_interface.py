"""Whoever writes a store has its interface to go by: each method says what its parameters are."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from h5fs.store import interface
from h5fs.store.sources import interface as sources


def promises() -> Iterator[Any]:
    for protocol in (
        interface.ObjectStore, interface.Store, interface.WritingObjectStore,
        interface.WritingStore, sources.Source,
    ):  # fmt: skip
        for name, member in vars(protocol).items():
            method = member.fget if isinstance(member, property) else member
            if inspect.isfunction(method) and not name.startswith("_"):
                yield pytest.param(protocol, method, id=f"{protocol.__name__}.{name}")


@pytest.mark.parametrize(("protocol", "method"), list(promises()))
def test_every_method_of_the_interface_is_documented_with_its_parameters(
    protocol: type, method: Callable[..., Any]
) -> None:
    text = inspect.getdoc(method)
    assert text is not None
    where = text + (protocol.__doc__ or "") + (inspect.getmodule(protocol).__doc__ or "")
    parameters = [name for name in inspect.signature(method).parameters if name != "self"]
    assert [name for name in parameters if f"``{name}``" not in where] == []
    returns = inspect.signature(method).return_annotation
    is_property = isinstance(vars(protocol).get(method.__name__), property)
    assert returns in ("None", "ObjectInfo") or is_property or "eturn" in text
