"""Names that belong together, joined step by step (disjoint sets)."""
from __future__ import annotations


class Groups:
    """`find` gives the same name for all that were joined; a name is a group of its own from its first mention."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def find(self, ref: str) -> str:
        root = self._parent.setdefault(ref, ref)
        while root != self._parent[root]:
            root = self._parent[root] = self._parent[self._parent[root]]
        return root

    def join(self, a: str, b: str) -> None:
        self._parent[self.find(a)] = self.find(b)

    def all(self) -> list[list[str]]:
        found: dict[str, list[str]] = {}
        for ref in self._parent:
            found.setdefault(self.find(ref), []).append(ref)
        return list(found.values())
