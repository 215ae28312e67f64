"""What the service's answers hold, as far as h5fs reads them; ``Client`` checks the types.

Format: https://hdf5-hsds-api.readthedocs.io, and what hsds 1.0.2 says.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from h5fs.errors import UnreadableError
from h5fs.model.datatype_rules import MAX_RANK

_LARGEST = (1 << 63) - 1


class LinkAnswer(Struct, frozen=True):
    """One link. ``id``: of a hard link's object. ``file`` or ``h5domain``: of an external link."""

    title: str
    kind: str = field(name="class", default="")
    id: str = ""
    h5path: str = ""
    file: str = ""
    h5domain: str = ""


class LinksAnswer(Struct, frozen=True):
    """Some links of one group."""

    links: list[LinkAnswer]


class AllLinksAnswer(Struct, frozen=True):
    """The links of many groups, by the groups' ids."""

    links: dict[str, list[LinkAnswer]]


class DomainAnswer(Struct, frozen=True):
    """A domain, or a folder of domains, which has no root group."""

    name: str = ""
    root: str = ""
    kind: str = field(name="class", default="")
    last_modified: float = field(name="lastModified", default=0.0)
    total_size: float = 0


class FlushAnswer(Struct, frozen=True):
    """The answer to a flush: the data nodes that there are."""

    dn_ids: list[str] = field(default_factory=list)


class DomainsAnswer(Struct, frozen=True):
    """What is in a folder of domains."""

    domains: list[DomainAnswer]


class ShapeAnswer(Struct, frozen=True):
    """A dataspace."""

    kind: str = field(name="class")
    dims: list[int] = field(default_factory=list)
    maxdims: list[int | str] = field(default_factory=list)

    def shape(self) -> tuple[int, ...] | None:
        """Return the shape, None for a null dataspace. Raises ``UnreadableError``."""
        if self.kind == "H5S_NULL":
            return None
        if self.kind not in ("H5S_SCALAR", "H5S_SIMPLE"):
            raise UnreadableError(f"a dataspace of class {self.kind!r:.60}")
        dims = tuple(self.dims) if self.kind == "H5S_SIMPLE" else ()
        if len(dims) > MAX_RANK or not all(0 <= size <= _LARGEST for size in dims):
            raise UnreadableError(f"a dataspace of {dims!r:.60}")
        return dims

    def max_shape(self) -> tuple[int | None, ...] | None:
        """Return the largest shape, where a dimension without limit is None."""
        shape = self.shape()
        if not shape or len(self.maxdims) != len(shape):
            return shape
        return tuple(size if isinstance(size, int) and size > 0 else None for size in self.maxdims)


class ObjectAnswer(Struct, frozen=True):
    """A group, a dataset or a committed datatype; ``shape`` and ``type`` as they have them."""

    id: str
    attribute_count: int = field(name="attributeCount", default=0)
    last_modified: float = field(name="lastModified", default=0.0)
    shape: ShapeAnswer | None = None
    type: Any = None
    creation: dict[str, Any] = field(name="creationProperties", default_factory=dict)

    @property
    def layout(self) -> dict[str, Any]:
        """How a dataset is stored."""
        layout = self.creation.get("layout")
        return layout if isinstance(layout, dict) else {}

    def chunk_shape(self, rank: int) -> tuple[int, ...] | None:
        """Return the shape of a dataset's chunks; None where it has none, or none that fits."""
        dims = self.layout.get("dims")
        if self.layout.get("class") == "H5D_CONTIGUOUS" or not isinstance(dims, list):
            return None
        fits = len(dims) == rank and all(type(size) is int and size > 0 for size in dims)
        return tuple(dims) if fits and rank else None


class AttributeAnswer(Struct, frozen=True):
    """One attribute. ``encoding``: of ``value``, where that is no JSON."""

    name: str
    type: Any
    shape: ShapeAnswer
    value: Any = None
    encoding: str = ""


class AttributesAnswer(Struct, frozen=True):
    """The attributes of one object."""

    attributes: list[AttributeAnswer]
