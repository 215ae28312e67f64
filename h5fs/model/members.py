"""The base of enumerations whose members are keys of many tables."""

from __future__ import annotations

from enum import Enum


class FastEnum(Enum):
    """An enumeration whose members have the hash of any object, since each is there but once.

    ``Enum`` has one in Python, of the name, which every look into a set or a dict of members calls:
    34 times for one small array that is saved.
    """

    __hash__ = object.__hash__
