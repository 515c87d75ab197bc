"""Transforms, and their registry by name.

A transform is a function of the whole graph, or a `Rewrite`: a pattern, a check and a rewrite, applied at each match:

    @transform("remove_device")
    def remove_device(graph: Graph, args: Arguments, record: Record) -> Graph: ...

    @transform("fuse_pad_and_conv")
    class FusePadAndConv(Rewrite):
        pattern = Op("Conv2D", Op("Pad", Any("x"), Const("paddings"), bind="pad"), Any("W"), bind="conv")

The docstring of each says what it rewrites, when that is safe, and the source of the idea.
"""
from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

from export.graph import Graph, Node, nearest, producer, tensor_name
from export.ops import is_pure
from export.pattern import Match, Op, Skip, match
from user_error import UserError


class TransformError(UserError):
    """A transform cannot run: an unknown name or argument, or a value that is not accepted."""


@dataclass(frozen=True)
class Arg:
    """One argument of a transform: its type and its default."""

    name: str
    kind: str = "text"  # text | int | float | bool
    default: Any = None
    repeated: bool = False
    required: bool = False
    help: str = ""

    def read(self, transform_name: str, texts: list[str]) -> Any:
        if self.required and not texts:
            raise TransformError(f"{transform_name}: needs {self.name}=..., for example "
                                 f"{transform_name}({self.name}=name)")
        if self.repeated:
            return [self._one(transform_name, text) for text in texts]
        if len(texts) > 1:
            raise TransformError(f"{transform_name}: '{self.name}' is given {len(texts)} times, it takes one value")
        if not texts:
            return self.default
        return self._one(transform_name, texts[0])

    def _one(self, transform_name: str, text: str) -> Any:
        try:
            if self.kind == "bool":
                return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
            return {"text": str, "int": int, "float": float}[self.kind](text)
        except (KeyError, ValueError):
            wanted = {"bool": "true or false", "int": "a whole number", "float": "a number"}[self.kind]
            raise TransformError(f"{transform_name}: {self.name}={text}: expected {wanted}") from None


IGNORE_ERRORS = Arg("ignore_errors", "bool", False, help="record an error of this step and continue")


class Arguments:
    """The values of a transform's arguments, by name: `args["op"]`."""

    def __init__(self, name: str, specs: Iterable[Arg], given: Mapping[str, list[str]]) -> None:
        by_name = {spec.name: spec for spec in specs}
        for key in given:
            if key not in by_name:
                raise TransformError(f"{name}: no argument '{key}'{nearest(key, by_name)}; "
                                     f"it takes {', '.join(by_name)}")
        self.values = {key: spec.read(name, given.get(key, [])) for key, spec in by_name.items()}

    def __getitem__(self, key: str) -> Any:
        return self.values[key]


@dataclass
class Record:
    """What a step did: how many times it applied, and which nodes it did not change and why."""

    applied: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def skip(self, node: str, reason: str) -> None:
        self.skipped.append((node, reason))


Run = Callable[[Graph, Arguments, Record], Graph]


@dataclass(frozen=True)
class Transform:
    name: str
    run: Run
    doc: str
    pattern: str
    args: tuple[Arg, ...]
    # Whether the bodies of the graph's functions are transformed too.
    bodies: bool

    @property
    def summary(self) -> str:
        return self.doc.partition("\n")[0]

    def explained(self) -> str:
        """Name, arguments, pattern and docstring, as `python -m export transforms NAME` prints them."""
        lines = [self.name, "", *(f"  {line}".rstrip() for line in self.doc.splitlines()), ""]
        if self.pattern:
            lines += [f"  Pattern: {self.pattern}", ""]
        lines.append("  Arguments:")
        for arg in self.args:
            default = "" if arg.default in (None, "") or arg.repeated else f" (default {arg.default})"
            note = ", repeatable" if arg.repeated else ", required" if arg.required else ""
            lines.append(f"    {arg.name}={arg.kind}{note}: {arg.help}{default}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "summary": self.summary, "doc": self.doc, "pattern": self.pattern,
                "args": [{"name": arg.name, "kind": arg.kind, "default": arg.default, "repeated": arg.repeated,
                          "required": arg.required, "help": arg.help} for arg in self.args]}


# Filled by importing export.transforms, as export.pipeline does.
REGISTRY: dict[str, Transform] = {}


def transform(name: str, *args: Arg, bodies: bool = True) -> Callable[[Any], Any]:
    """Registers a function (Graph, Arguments, Record) -> Graph, or a Rewrite class, under a name."""
    def register(target: Any) -> Any:
        rewrite = cast(Rewrite, target()) if inspect.isclass(target) else None
        run: Run = rewrite.run if rewrite else target
        pattern = str(rewrite.pattern) if rewrite else ""
        REGISTRY[name] = Transform(name, run, inspect.getdoc(target) or "", pattern, (*args, IGNORE_ERRORS), bodies)
        return target
    return register


def every_transform() -> list[Transform]:
    return list(REGISTRY.values())


def named(name: str) -> Transform:
    if name not in REGISTRY:
        raise TransformError(f"no transform '{name}'{nearest(name, REGISTRY)}; "
                             "'python -m export transforms' lists all")
    return REGISTRY[name]


class Draft:
    """A graph that is being changed. Consumers are updated node by node, so a step's cost depends on its changes."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: dict[str, Node] = dict(graph.nodes)
        self.kept = graph.kept
        self.changed = False
        self._consumers: dict[str, dict[str, None]] | None = None

    @property
    def consumers(self) -> dict[str, dict[str, None]]:
        """The nodes that read or wait for each node. Computed at first use, since many steps find nothing to do."""
        if self._consumers is None:
            self._consumers = {}
            for item in self.nodes.values():
                for ref in item.inputs:
                    self._consumers.setdefault(producer(ref), {})[item.name] = None
        return self._consumers

    def put(self, item: Node) -> None:
        """Adds a node, or replaces the node of the same name."""
        self.changed = True
        self._forget(item.name)
        self.nodes[item.name] = item
        if self._consumers is not None:
            for ref in item.inputs:
                self._consumers.setdefault(producer(ref), {})[item.name] = None

    def drop(self, name: str) -> None:
        self.changed = True
        self._forget(name)
        del self.nodes[name]

    def drop_unused(self, names: Iterable[str]) -> None:
        """Drops those of `names` that nothing reads or keeps and that only compute; then the nodes only they read."""
        todo = list(names)
        while todo:
            name = todo.pop()
            if (name in self.nodes and name not in self.kept and not self.consumers.get(name)
                    and is_pure(self.nodes[name])):
                todo.extend(map(producer, self.nodes[name].inputs))
                self.drop(name)

    def redirect(self, old: str, new: str, keep: frozenset[str] = frozenset()) -> None:
        """Makes every reader of tensor `old`, except those in `keep`, read `new`."""
        for reader in list(self.consumers.get(producer(old), ())):
            if reader not in keep:
                item = self.nodes[reader]
                if old in item.inputs:
                    self.put(item.with_inputs(new if ref == old else ref for ref in item.inputs))

    def readers(self, ref: str) -> list[Node]:
        """The nodes that read this tensor."""
        return [self.nodes[name] for name in self.consumers.get(producer(ref), ()) if ref in self.nodes[name].inputs]

    def unused_name(self, wanted: str) -> str:
        name, count = wanted, 0
        while name in self.nodes:
            count += 1
            name = f"{wanted}_{count}"
        return name

    def result(self) -> Graph:
        # The graph itself if nothing was changed, so that its cached order and shapes serve the next step.
        return self.graph.with_nodes(self.nodes.values()) if self.changed else self.graph

    def _forget(self, name: str) -> None:
        if self._consumers is not None and name in self.nodes:
            for ref in self.nodes[name].inputs:
                self._consumers.get(producer(ref), {}).pop(name, None)


class Rewrite(ABC):
    """Pattern, check, rewrite. Subclasses define `pattern` and `rewrite`; they refuse by Skip or `m.require`."""

    pattern: ClassVar[Op]

    def check(self, m: Match, draft: Draft) -> None:  # noqa: B027 - a rewrite that is always safe has no check
        """Raises Skip if the rewrite would change a result."""

    @abstractmethod
    def rewrite(self, m: Match, draft: Draft, args: Arguments) -> Iterable[Node]:
        """The new nodes; the node with the root's name replaces the root. Existing nodes are not changed."""

    def run(self, graph: Graph, args: Arguments, record: Record) -> Graph:
        draft = Draft(graph)
        for name in list(graph.nodes):
            if name not in draft.nodes or draft.nodes[name].op not in self.pattern.ops:
                continue
            m = match(self.pattern, draft.nodes, draft.nodes[name])
            if m is None:
                continue
            try:
                self.check(m, draft)
                fed = next((item.name for item in m.members if item.name in graph.fed), None)
                if fed is not None:
                    raise Skip("it is fed from outside", fed)
                new = list(self.rewrite(m, draft, args))
            except Skip as skip:
                record.skip(skip.node or name, skip.reason)
                continue
            for item in new:
                draft.put(item)
            draft.drop_unused(item.name for item in m.members[1:])
            record.applied += 1
        return draft.result()


def sole_reader(draft: Draft, item: Node, reader: str) -> None:
    """Raises Skip unless only `reader` uses `item`, and only its first output, once."""
    if item.name in draft.kept:
        raise Skip(f"'{item.name}' is itself a requested input or output", item.name)
    others = [name for name in draft.consumers.get(item.name, ()) if name != reader]
    if others:
        raise Skip(f"'{item.name}' is also read by '{others[0]}'", item.name)
    refs = [ref for ref in draft.nodes[reader].inputs if producer(ref) == item.name]
    if refs != [tensor_name(item.name, 0)]:
        raise Skip(f"'{reader}' uses '{item.name}' more than once", item.name)
