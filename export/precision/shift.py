"""The mean of what rounding adds to each int8 layer, taken back in its bias: more exact at no cost when it runs.

    shifts = shift.measure(content, requests, noise.rounded_to_int8(graph, ranges))
    made, layers = quantize(graph, ranges, keep)
    made = shift.corrected(made, shifts)

Rounded weights are wrong by constants, and after a Relu the inputs that they multiply are not 0 on average.
Source: Nagel et al., Data-free quantization through weight equalization and bias correction, ICCV 2019 (there from
batch norms, here from samples).
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from export.graph import Graph, make_const, make_node
from export.precision.calibration import Request, answers
from export.precision.noise import Rounded
from export.saved_model import Content
from export.tensors import FLOAT, INT32, Array
from export.transform import Draft

_FEWEST = 16  # examples; the mean over fewer is as much chance as it is the layer's
_MOST = 32  # requests
_BIAS = "int8_bias"  # what int8_nodes calls the constants


def measure(content: Content, asked: Sequence[Request], rounded: Rounded) -> dict[str, Array]:  # decision 173
    """By layer, for each output channel the mean of (exact - rounded) over all examples and positions, as float64.

    Empty with fewer than 16 examples. Of many requests with the same inputs 32 are sent, evenly spaced.
    """
    draft, means = Draft(rounded.graph), {}
    for layer in rounded.sums:
        ref = rounded.difference(layer)
        rank = 2 if rounded.graph.nodes[layer].op == "MatMul" else 4
        axes = make_const(draft.unused_name(f"{ref}/axes"), np.arange(rank - 1, dtype=np.int32))
        mean = make_node(draft.unused_name(f"{ref}/mean"), "Mean", (ref, axes.name), T=FLOAT, Tidx=INT32,
                         keep_dims=False)
        draft.put(axes)
        draft.put(mean)
        means[mean.name] = layer
    sums: dict[str, Array] = {}
    examples: dict[str, int] = {}
    for request, answer in answers(replace(content, graph=draft.result()), asked, list(means), _MOST):
        batch = max((len(value) for value in request.values() if value.ndim), default=1)
        for ref, value in answer.items():
            layer = means[ref]
            sums[layer] = sums.get(layer, 0.0) + batch * value.astype(np.float64)
            examples[layer] = examples.get(layer, 0) + batch
    return {layer: total / examples[layer] for layer, total in sums.items()
            if examples[layer] >= _FEWEST and np.isfinite(total).all()}


def corrected(graph: Graph, shifts: Mapping[str, Array]) -> Graph:
    """The graph of `quantize` with the shifts added to the biases. A layer that is not int8 stays as it is."""
    draft = Draft(graph)
    for layer, shift in shifts.items():
        bias = graph.nodes.get(f"{layer}/{_BIAS}")
        if bias is not None and bias.op == "Const" and bias.shape == shift.shape:
            draft.put(make_const(bias.name, (bias.value + shift).astype(np.float32), bias.inputs, bias.device))
    return draft.result().validate("shift")
