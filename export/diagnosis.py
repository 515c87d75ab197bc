"""Why a signature cannot be called: reasons that the model's files show, reported before TensorFlow runs anything.

Each cause has one diagnosis, which names the operation, placeholder, variable or key, and what to do.
"""
from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from export import effects
from export.assignments import assigned
from export.graph import Graph, Node, normal, port, producer
from export.node import from_node_def
from export.ops import attribute, op_def, output_dtypes
from export.parts import infos, is_composite, kind, parts
from export.reach import effects_of, nodes_of
from export.saved_model import SavedModel
from export.served import served_graph
from export.tensors import NAMES, RESOURCE, VARIANT
from export.variables import identity, is_variable
from user_error import UserError

_FLOATS = ("float", "double", "half")
_EXAMPLES = {**dict.fromkeys(_FLOATS, "1.0"), "bool": "false", "string": "text"}
# Names of numbers that are 0 for inference, unless they say what is kept.
_TRAINING = re.compile(r"train|phase|rate|drop", re.I)
_KEPT = re.compile("keep", re.I)
_UNLISTED = ("Placeholder", "PlaceholderV2")
_TAKES = re.compile(r"Queue(Dequeue|DequeueMany|DequeueUpTo)(V2)?|(Ordered)?(Map)?Unstage(NoKey)?|BarrierTakeMany")
_ADDS = re.compile(r"QueueEnqueue|(Ordered)?(Map)?Stage$|BarrierInsertMany")
# Tensors of these types have no values outside of the process that made them.
_WITHOUT_VALUES = (RESOURCE, VARIANT)
# These draw new random numbers each time, whatever their attributes are.
_UNSEEDED = ("NonDeterministicInts", "Timestamp", "RandomDataset")


def refuse(model: SavedModel, signatures: Mapping[str, Any], allowed: Collection[str] = ()) -> None:
    """Raises UserError for the first signature that cannot be called, or must not be called with random inputs.

    `allowed`: operations with effects that may run nevertheless.
    """
    found = {key: reason for key in signatures if (reason := why_not(model, key, allowed)) is not None}
    if not found:
        return
    key, (why, way) = next(iter(found.items()))
    fine = [one for one in signatures if one not in found]
    ways = [way, f"leave it out with --signatures {','.join(fine)}" if fine else ""]
    ways = [one for one in ways if one] or ["export the model without it"]
    raise UserError(f"signature '{key}' of {model.path} {why}: {'; or '.join(ways)}")


def why_not(model: SavedModel, key: str, allowed: Collection[str] = ()) -> tuple[str, str] | None:
    """The reason, and what to do other than leaving the signature out ('' for nothing); None if it can be called."""
    signature = model.signatures[key]
    for side in ("inputs", "outputs"):
        for name, info in sorted(getattr(signature, side).items()):
            if side == "inputs" and is_composite(info):
                return f"has the {kind(info)} input '{name}', which no client can send", ""
            if is_composite(info) and kind(info) not in ("sparse", "ragged"):
                return f"has the output '{name}' of class {kind(info)}, which is no tensor", ""
            for part in infos(name, info).values():
                if part.dtype in _WITHOUT_VALUES:
                    verb = "send" if side == "inputs" else "get"
                    return f"has the {NAMES[part.dtype]} {side[:-1]} '{name}', which no client can {verb}", ""
    without = _without_output(model, key)
    if without:
        name, item = without
        return f"has the output '{name}', but its operation {item.op} '{item.name}' makes no such tensor", ""
    waits = _never_filled(model, key)
    if waits:
        return (f"waits at {waits.op} '{waits.name}' for elements that nothing adds, so no request is ever answered",
                "feed the tensor that it makes as an input (--inputs KEY=TENSOR of a graph or checkpoint)")
    elsewhere = _for_other_platforms(model, key)
    if elsewhere:
        return elsewhere
    touching = [one for one in effects_of(model, key) if one.op not in allowed]
    if touching:
        return _not_run(touching)
    unlisted = _unlisted(model, key)
    if unlisted:
        node, dtype = unlisted
        return (f"needs a value for the placeholder '{node}' ({dtype}), which is none of its inputs, so it fails for "
                f"every request", f"give it its value with --fix {node}={_example(node, dtype)}")
    return None


def fix_a_switch(model: SavedModel, key: str) -> str:
    """The advice to fix inputs of one number, which may switch a dropout off, at their values for inference; or ""."""
    found = {name: NAMES.get(info.dtype, "") for name, info in sorted(model.signatures[key].inputs.items())
             if not is_composite(info) and not info.tensor_shape.dim
             # One of unknown rank may also hold the model's data: its name decides.
             and (not info.tensor_shape.unknown_rank or _TRAINING.search(name) or _KEPT.search(name))}
    switches = [f"--fix {name}={_example(name, dtype)}" for name, dtype in found.items()
                if dtype == "bool" or dtype in _FLOATS]
    return f"or fix what switches them off ({', '.join(switches)}), " if switches else ""


def _example(name: str, dtype: str) -> str:
    """A value for a placeholder, by its name one that means inference."""
    off = dtype in _FLOATS and _TRAINING.search(name) and not _KEPT.search(name)
    return "0.0" if off else _EXAMPLES.get(dtype, "1")


def _not_run(touching: list[effects.Effect]) -> tuple[str, str]:
    first = next((one for one in touching if one.reason == effects.PYTHON), touching[0])
    more = f" (and {len(touching) - 1} more such)" if len(touching) > 1 else ""
    why = f"holds {first}{more}"
    if first.reason == effects.PYTHON:
        return f"{why}: no server can run that", ""
    if first.reason == effects.ENDS:
        return why, ""
    ops = ",".join(dict.fromkeys(one.op for one in touching))
    return (f"{why}, so it is not run on made-up inputs",
            f"allow it with --allow {ops}, and it runs in an empty directory")


def _without_output(model: SavedModel, key: str) -> tuple[str, Node] | None:
    """An output whose tensor does not exist, such as that of a resource variable's assignment, and its node."""
    # Not those of functions, where a node may have the same name.
    nodes = {proto.name: proto for proto in model.meta_graph.graph_def.node}
    for name, info in sorted(model.signatures[key].outputs.items()):
        for tensor in parts("", info).values():
            proto = nodes.get(producer(normal(tensor)))
            item = from_node_def(proto) if proto else None
            dtypes = output_dtypes(item, model.meta_graph.graph_def.library) if item else None
            if item and dtypes is not None and port(normal(tensor)) >= len(dtypes):
                return name, item
    return None


def _never_filled(model: SavedModel, key: str) -> Node | None:
    """A node that takes elements from a queue (or the like) to which no node of the model adds any in serving.

    The threads that fill a queue in training are not part of a SavedModel.
    """
    taking = [item for item, _ in nodes_of(model, key) if _TAKES.fullmatch(item.op)]
    if not taking or any(_ADDS.match(item.op) for item, _ in nodes_of(model, key)):
        return None
    # The initialiser may fill it, too.
    served = served_graph(model)
    added = any(_ADDS.match(item.op) for body in (served, *served.bodies.values()) for item in body.nodes.values())
    return None if added else taking[0]


def _for_other_platforms(model: SavedModel, key: str) -> tuple[str, str] | None:
    """The reason and the way on if a StableHLO module, as jax2tf writes it, does not run on the CPU; else None."""
    for item, _ in nodes_of(model, key):
        platforms = [str(one) for one in attribute(item, "platforms") or ()] if item.op == "XlaCallModule" else []
        if platforms and "CPU" not in platforms:
            wanted = ", ".join(f"'{one.lower()}'" for one in ("CPU", *platforms))
            return (f"holds XlaCallModule '{item.name}', a module made for {', '.join(platforms)} and not for the CPU, "
                    "where answers are compared",
                    f"export it again for both (jax2tf: native_serialization_platforms=[{wanted}])")
    return None


def _unlisted(model: SavedModel, key: str) -> tuple[str, str] | None:
    """Name and type of a placeholder that the outputs need but the signature does not feed; None without one."""
    fed = {producer(normal(name)) for info in model.signatures[key].inputs.values()
           for name in parts("", info).values()}
    for item, _ in nodes_of(model, key):
        if item.op in _UNLISTED and item.name not in fed:
            return item.name, NAMES.get(item.get("dtype"), str(item.get("dtype")))
    return None


def refuse_without_value(model: SavedModel, keys: Iterable[str], nodes: Collection[str]) -> None:
    """Raises UserError for a signature that reads a variable without a value after loading; `nodes` are their nodes.

    Not for a variable that answering assigns, since it may get its value there.
    """
    if not nodes:
        return
    graph = Graph.from_graph_def(model.meta_graph.graph_def)
    for key in keys:
        signature = model.signatures[key]
        fed, fetched = ([producer(normal(name)) for info in side.values() for name in parts("", info).values()]
                        for side in (signature.inputs, signature.outputs))
        needed = graph.reachable(fetched, stop=frozenset(fed))
        kept = assigned(graph, [(name, frozenset(fed)) for name in fetched])
        for name in sorted(needed & set(nodes)):
            item = graph.nodes[name]
            if is_variable(item) and identity(item) not in kept:
                raise UserError(
                    f"signature '{key}' of {model.path}: its variable '{identity(item)}' has no value in the model, so "
                    "it fails for every request; it was not tracked when the model was saved: keep its layer in an "
                    "attribute of the saved object before saving, and export the model again")


def unseeded_op(model: SavedModel, key: str) -> effects.Effect | None:
    """The first operation of a signature whose random numbers no seed can fix; None without one."""
    return next((effects.Effect(item.op, item.name, "takes no seed") for item, _ in nodes_of(model, key)
                 if item.op in _UNSEEDED), None)


def random_op(model: SavedModel, key: str) -> effects.Effect | None:
    """The first operation of a signature that draws random numbers; None without one."""
    for item, _ in nodes_of(model, key):
        definition = op_def(item.op)
        seeded = definition is not None and {"seed", "seed2"} <= {one.name for one in definition.attr}
        if item.op in _UNSEEDED or (seeded and definition.is_stateful):
            return effects.Effect(item.op, item.name, "draws random numbers")
    return None
