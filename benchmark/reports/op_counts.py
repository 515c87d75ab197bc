"""The operations of a study's variants, before and after: a table, and rings as one SVG file."""
from typing import TypedDict


class Variant(TypedDict):
    """A version's graph: `ops` counts its nodes by operation, functions included; `bytes` are those on disk."""

    name: str
    bytes: int
    nodes: int
    ops: dict[str, int]
