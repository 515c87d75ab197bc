"""Measures the size of the summands of each number in an answer, by small random changes to all floats on the way.

    with measuring(model, "serving_default") as scales:
        added_up = scales(inputs)        # output key -> array like the answer

If large numbers cancel to a small result, two correct ways of computing it differ by the rounding errors of the large
numbers. The result alone does not show that. So each float tensor between inputs and outputs is multiplied by
1 + d * u, with u random in [-1, 1) for each element (Monte Carlo arithmetic, Parker 1997). The change of an element of
the answer, divided by d, is the scale of its summands through all layers.
"""
from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from export import saved_model
from export.freeze import freeze
from export.graph import Graph, Node, make_const, make_node, normal, port, producer, tensor_name
from export.loaded import LoadedModel
from export.ops import output_dtypes
from export.saved_model import Content, SavedModel
from export.tensors import DOUBLE, FLOAT, INT32, Array

# Far above float32's rounding (6e-8), and small enough that the outputs of a layer change in proportion.
_SHAKE = 2.0 ** -10  # decision 111
_RUNS = 5
# These only pass values on, which were changed where they were made.
_PASSING = frozenset((
    "Identity", "IdentityN", "Reshape", "Squeeze", "ExpandDims", "Transpose", "ConcatV2", "Pack", "Unpack", "Split",
    "SplitV", "Slice", "StridedSlice", "Enter", "Exit", "Switch", "RefSwitch", "Merge", "RefMerge", "NextIteration",
    "Tile", "Pad", "PadV2", "MirrorPad", "StopGradient", "GatherV2", "GatherNd", "BroadcastTo", "Select", "SelectV2",
    "ReverseV2", "SpaceToBatchND", "BatchToSpaceND", "PlaceholderWithDefault", "Relu", "MaxPool", "Max", "Maximum",
    "Minimum", "Min"))
# For these a small change of an input may change the result completely.
_EXACT_READERS = frozenset(("Range", "LinSpace", "Floor", "Round", "Rint", "Ceil", "FloorDiv", "FloorMod"))

Scales = Callable[[Mapping[str, Array]], dict[str, Array]]
Derive = Callable[[Mapping[str, Array]], Mapping[str, Array]]


@contextmanager
def measuring(model: SavedModel, key: str, derive: Derive = dict) -> Iterator[Scales]:
    """A context with a function: inputs of the signature `key` -> the scale of the summands, for each float output.

    derive: answer -> answer with additional values computed from it (a softmax's logits), which get scales, too.
    Raises UserError for a model that cannot be frozen; the function raises RunError if the changed model fails.
    """
    frozen = freeze(model, [key])
    with tempfile.TemporaryDirectory(prefix="export-rounding-") as folder:
        path = Path(folder, "model")
        path.mkdir()
        saved_model.write(path, Content(
            shaken(frozen.graph), frozen.signatures, model.tags, frozen.init_op, frozen.assets, frozen.variables,
            like=model))
        with LoadedModel(path, model.tags) as running, LoadedModel(model.path, model.tags) as exact:
            running.loaded()
            exact.loaded()

            def scales(inputs: Mapping[str, Array]) -> dict[str, Array]:
                expected = derive(exact.run(key, inputs))
                random = np.random.default_rng(0)
                moved = [derive(_shaken_answer(running.run(key, inputs), random)) for _ in range(_RUNS)]
                return {name: np.median([_distance(one[name], value) for one in moved], axis=0) / _SHAKE
                        for name, value in expected.items() if value.dtype.kind in "fc"
                        and all(one[name].shape == value.shape for one in moved)}
            yield scales


def shaken(graph: Graph) -> Graph:
    """The graph in which each float tensor is changed slightly, differently for each element and run."""
    noisy: dict[str, str] = {}
    added: list[Node] = []
    for item in graph.nodes.values():
        for index, dtype in enumerate(output_dtypes(item) or ()):
            ref = tensor_name(item.name, index)
            if dtype not in (FLOAT, DOUBLE) or item.op in _PASSING or item.op.startswith(
                    ("Variable", "Assign")) or _read_exactly(graph, ref):
                continue
            made = _noise(item.name, index, dtype, len(added))
            noisy[ref] = made[-1].name
            added += made
    nodes = [replace(item, inputs=tuple(noisy.get(normal(ref), ref) if not ref.startswith("^") else ref
                                        for ref in item.inputs)) for item in graph.nodes.values()]
    return graph.with_nodes([*nodes, *added])


def _read_exactly(graph: Graph, ref: str) -> bool:
    readers = [graph.nodes[name] for name in graph.consumers.get(producer(ref), ()) if name in graph.nodes]
    return any(reader.op in _EXACT_READERS or (reader.op == "Cast" and reader.attrs["DstT"] not in (FLOAT, DOUBLE))
               for reader in readers if any(normal(one) == normal(ref) and port(one) == port(ref)
                                            for one in reader.data))


def _noise(name: str, index: int, dtype: int, seed: int) -> list[Node]:
    """ref * (1 - d + 2 d * uniform), all in the frame of the node `name`."""
    at = f"{name}/shaken_{index}"
    ref = tensor_name(name, index)
    kind = np.float32 if dtype == FLOAT else np.float64
    width, low = (make_const(f"{at}/{what}", np.asarray(value, kind)).with_inputs([f"^{name}"])
                  for what, value in (("width", 2 * _SHAKE), ("low", 1 - _SHAKE)))
    return [
        width, low,
        make_node(f"{at}/shape", "Shape", (ref,), T=dtype, out_type=INT32),
        make_node(f"{at}/uniform", "RandomUniform", (f"{at}/shape",), T=INT32, dtype=dtype, seed=1, seed2=seed + 1),
        make_node(f"{at}/scaled", "Mul", (f"{at}/uniform", width.name), T=dtype),
        make_node(f"{at}/factor", "AddV2", (f"{at}/scaled", low.name), T=dtype),
        make_node(at, "Mul", (ref, f"{at}/factor"), T=dtype)]


def _shaken_answer(answer: Mapping[str, Array], random: np.random.Generator) -> dict[str, Array]:
    """The answer with its own last rounding simulated."""
    return {name: (value * (1 + _SHAKE * random.uniform(-1, 1, value.shape))).astype(value.dtype)
            if value.dtype.kind in "fc" else value for name, value in answer.items()}


def _distance(moved: Array, value: Array) -> Array:
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(moved.astype(np.complex128) - value.astype(np.complex128))
    return np.where(np.isfinite(apart), apart, 0.0)
