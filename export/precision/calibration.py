"""Runs the float32 graph on samples and measures the values of its tensors, in a separate process.

    requests = reference.feeds(calibration.piece(graph, tensors), most=512)     # export.precision.reference
    histograms = calibration.calibrate(content, requests, tensors)              # export.precision.ranges
"""
from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from commandline import steps
from export import saved_model
from export.control_flow import within_control_flow
from export.graph import Graph, Node, make_node, normal, producer
from export.loaded import DiedError, LoadedModel, RunError
from export.node import port
from export.ops import output_dtypes
from export.precision.ranges import Histogram, merged
from export.saved_model import Content
from export.signatures import PREDICT
from export.tensors import Array
from user_error import FailedError, UserError

Request = Mapping[str, Array]  # by input tensor

_MEMORY = 256 << 20  # bytes of tensors that are fetched at once
_LARGEST_PIECE = 32
_UNKNOWN = 16  # the size of a dimension that the graph does not tell
_PLACEHOLDERS = ("Placeholder", "PlaceholderV2")


def piece(graph: Graph, tensors: Sequence[str]) -> int:
    """How many examples to send at once, so that the fetched tensors take at most 256 MB, as far as is known."""
    one = sum(_bytes(graph, ref, 1) for ref in tensors)
    return max(1, min(_LARGEST_PIECE, _MEMORY // max(one, 1)))


def calibrate(content: Content, asked: Sequence[Request], tensors: Sequence[str]) -> dict[str, Histogram]:
    """The histograms of `tensors`, by name, over the requests.

    `content`: the graph with what it needs to be loaded (assets, initialiser). A tensor that no request computes has
    no histogram: its signature has no samples, for example. Raises UserError if the graph does not answer a request.
    """
    wanted = list(dict.fromkeys(map(normal, tensors)))
    asked = [{normal(ref): value for ref, value in one.items()} for one in asked]
    found: dict[str, Histogram] = {}
    if not wanted or not asked:
        return found
    groups = _groups(content.graph, asked, wanted)
    with running(content, groups, summary=histograms) as model, steps("measure ranges", len(asked)) as done:
        for request in asked:
            for key, (fed, _) in groups.items():
                if fed == frozenset(request):
                    merged(answered(model, key, request), found)
            done()
    return {ref: found[ref] for ref in wanted if ref in found}


def histograms(answer: Mapping[str, Array]) -> list[Histogram]:
    """The histogram of each tensor in one answer."""
    found = []
    for ref, value in answer.items():
        found.append(Histogram(ref))
        found[-1].add(value)
    return found


Groups = Mapping[str, tuple[frozenset[str], Sequence[str]]]  # by key: what is fed, and what is fetched


def _groups(graph: Graph, asked: Sequence[Request], wanted: Sequence[str]) -> Groups:
    """The tensors that each kind of request computes, in groups that fit into the memory."""
    groups: dict[str, tuple[frozenset[str], list[str]]] = {}
    for fed in dict.fromkeys(frozenset(one) for one in asked):
        batch = max((len(value) for one in asked if frozenset(one) == fed for value in one.values() if value.ndim),
                    default=1)
        group: list[str] = []
        used = 0
        for ref in computed(graph, fed, wanted):
            size = _bytes(graph, ref, batch)
            if not group or used + size > _MEMORY:
                group, used = [], 0
                groups[f"group_{len(groups)}"] = fed, group
            used += size
            group.append(ref)
    return groups


def computed(graph: Graph, fed: frozenset[str], wanted: Sequence[str]) -> list[str]:
    """Those of the wanted tensors that every request which feeds `fed` computes, and that can be fetched.

    Not those that need another placeholder, and not those within a loop or a branch of TensorFlow 1.
    """
    known, missing, within = frozenset(map(producer, fed)), set[str](), within_control_flow(graph)
    for item in graph.order():
        if item.name not in known and (item.op in _PLACEHOLDERS or any(
                producer(ref) in missing for ref in item.inputs)):
            missing.add(item.name)
    return [ref for ref in wanted if producer(ref) not in missing and producer(ref) not in within]


def answers(content: Content, asked: Sequence[Request], wanted: Sequence[str], most: int
            ) -> Iterator[tuple[Request, Mapping[str, Array]]]:
    """Each request with those of the wanted tensors that it computes: small ones, which are not fetched in groups.

    Of more than `most` requests with the same inputs as many are sent, evenly spaced.
    """
    kinds: dict[frozenset[str], list[Request]] = {}
    for request in asked:
        kinds.setdefault(frozenset(request), []).append(request)
    groups = {f"group_{number}": (fed, computed(content.graph, fed, wanted)) for number, fed in enumerate(kinds)}
    groups = {key: group for key, group in groups.items() if group[1]}
    if not groups:
        return
    with running(content, groups) as model:
        for key, (fed, _) in groups.items():
            there = kinds[fed]
            count = min(len(there), most)
            for request in (there[number * len(there) // count] for number in range(count)):
                yield request, answered(model, key, request)


@contextmanager
def running(content: Content, groups: Groups, summary: Any = None) -> Iterator[LoadedModel]:
    """The graph loaded in a separate process, with a signature for each group; inputs and outputs by tensor name."""
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
    signatures = {}
    copies: dict[str, Node] = {}
    prefix = "measured"
    while any(name.startswith(f"{prefix}/") for name in content.graph.nodes):
        prefix += "_"
    for key, (fed, fetched) in groups.items():
        made = SignatureDef(method_name=PREDICT)
        # TensorFlow's optimizer merges a Sigmoid, a Mul and the bias before them even where the bias is fetched, which
        # then is not found; it does not where another node reads it.
        copied = {ref: f"{prefix}/{len(copies) + number}" for number, ref in enumerate(fetched)}
        copies |= {name: make_node(name, "Identity", (ref,), T=_dtype(content.graph, ref))
                   for ref, name in copied.items()}
        for side, refs in ((made.inputs, {ref: ref for ref in sorted(fed)}), (made.outputs, copied)):
            for ref, tensor in refs.items():
                side[ref].name = f"{producer(tensor)}:{port(tensor)}"
                side[ref].dtype = _dtype(content.graph, ref)
                side[ref].tensor_shape.unknown_rank = True
        signatures[key] = made
    graph = content.graph.with_nodes((*content.graph.nodes.values(), *copies.values()))
    with tempfile.TemporaryDirectory(prefix="export-calibrate-") as folder:
        saved_model.write(Path(folder), replace(content, graph=graph, signatures=signatures))
        with LoadedModel(Path(folder), content.tags, own_directory=True, summary=summary) as model:
            model.loaded()
            yield model


def answered(model: LoadedModel, key: str, request: Request) -> Any:
    """The answer, or what the model's `summary` makes of it. Raises UserError if there is none."""
    try:
        return model.summary(key, request)
    except RunError as error:
        raise UserError(f"the float32 graph does not answer a request of the samples: {error}") from None
    except DiedError as error:
        raise FailedError(f"the float32 graph does not answer a request of the samples: {error}") from None


def _dtype(graph: Graph, ref: str) -> int:
    item = graph.nodes.get(producer(ref))
    dtypes = output_dtypes(item, graph.library) if item is not None else None
    if dtypes is None or port(ref) >= len(dtypes):
        raise UserError(f"the graph has no tensor '{ref}'")
    return dtypes[port(ref)]


def _bytes(graph: Graph, ref: str, batch: int) -> int:
    """What a float32 tensor takes, as far as its shape is known."""
    shape = graph.shapes.get(ref)
    size = 4
    for index, length in enumerate((None, None) if shape is None else shape):
        size *= (batch if index == 0 else _UNKNOWN) if length is None else length
    return size
