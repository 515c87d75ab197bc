"""Convolutions and matrix products by a constant: how a map of their input or output is merged into the weights.

    y = contraction(x, W):   scale * y            = contraction(x, over_outputs(W, scale))
                             contraction(scale*x) = contraction(x, over_inputs(W, scale))
                             contraction(x + t)   = y + response(W, t),   unless it pads with zeros

All weights are float32 or float64; the arithmetic is done in float64 and rounded once.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from export.graph import Node
from export.ops import attribute
from export.pattern import Skip
from export.tensors import DOUBLE, FLOAT, Array

# op: (index of the data input, index of the weights input, rank of the output; 0: the rank of the data)
_OPS = {"Conv2D": (0, 1, 4), "DepthwiseConv2dNative": (0, 1, 4), "Conv2DBackpropInput": (2, 1, 4), "Conv3D": (0, 1, 5),
        "MatMul": (0, 1, 2), "BatchMatMul": (0, 1, 0), "BatchMatMulV2": (0, 1, 0), "BatchMatMulV3": (0, 1, 0)}
CONTRACTIONS = frozenset(_OPS)
PRODUCTS = frozenset({"MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"})


@dataclass(frozen=True)
class Contraction:
    """One contraction node with its constant weights."""

    node: Node
    weights_node: Node

    @property
    def data_index(self) -> int:
        return _OPS[self.node.op][0]

    @property
    def weights_index(self) -> int:
        return _OPS[self.node.op][1]

    @property
    def rank(self) -> int:
        """Rank of input and output; 0: any rank."""
        return _OPS[self.node.op][2]

    @property
    def channels_first(self) -> bool:
        return self.node.op not in PRODUCTS and str(attribute(self.node, "data_format")).startswith("NC")

    @property
    def outputs(self) -> int:
        """Number of output channels."""
        shape, op = self.weights_node.shape, self.node.op
        if op == "DepthwiseConv2dNative":
            return shape[2] * shape[3]
        if op == "Conv2DBackpropInput":
            return shape[2]
        return shape[-2] if op in PRODUCTS and self._transposed else shape[-1]

    @property
    def _transposed(self) -> bool:
        return bool(attribute(self.node, "transpose_b" if self.node.op == "MatMul" else "adj_y"))

    def over_outputs(self, weights: Array, scale: Array) -> Array:
        """Weights for `scale` times the output; `scale` is one number, or one per output channel."""
        if scale.ndim == 0:
            return weights * scale
        op = self.node.op
        if op == "DepthwiseConv2dNative":
            return weights * scale.reshape(weights.shape[2:])
        if op == "Conv2DBackpropInput" or (op in PRODUCTS and self._transposed):
            return weights * scale[:, None]
        return weights * scale

    def over_inputs(self, weights: Array, scale: Array) -> Array:
        """Weights for an input that is no longer multiplied by `scale`: one number, or one per input channel."""
        if scale.ndim == 0:
            return weights * scale
        if self.node.op in PRODUCTS:
            if attribute(self.node, "transpose_a" if self.node.op == "MatMul" else "adj_x"):
                raise Skip("the input is transposed, so its last axis is not what is summed over")
            across = weights.swapaxes(-1, -2) if self._transposed else weights
            self._fits(scale, across.shape[-2])
            scaled = across * scale[:, None]
            return scaled.swapaxes(-1, -2) if self._transposed else scaled
        if self.node.op == "Conv2DBackpropInput":
            self._fits(scale, weights.shape[3])
            return weights * scale
        if self.node.op == "DepthwiseConv2dNative":
            self._fits(scale, weights.shape[2])
            return weights * scale[:, None]
        inner, outer = weights.shape[-2:]
        groups = scale.size // inner if inner and scale.size % inner == 0 else 0
        if groups < 1 or outer % groups:
            raise Skip(f"{scale.size} factors do not fit a filter for {inner} channels")
        # In a grouped convolution each block of output channels reads its own block of input channels.
        return weights * np.repeat(scale.reshape(groups, inner).T, outer // groups, axis=1)

    def response(self, weights: Array, offset: Array) -> Array:
        """What a constant offset of the input adds to the output, per output channel (shape [outputs]). Raises Skip if
        padding makes it differ at the border."""
        if not np.any(offset):
            return np.zeros(self.outputs)
        if self.node.op in PRODUCTS:
            if attribute(self.node, "transpose_a" if self.node.op == "MatMul" else "adj_x") and offset.ndim:
                raise Skip("the input is transposed, so its last axis is not what is summed over")
            if weights.ndim != 2 and any(size != 1 for size in weights.shape[:-2]):
                raise Skip("the weights differ along the batch, so the offset would")
        else:
            self._without_border(weights)
        moved = self.over_inputs(weights, offset)
        if self.node.op in PRODUCTS:
            moved = moved.reshape(moved.shape[-2:])
            return moved.sum(axis=1 if self._transposed else 0)
        if self.node.op == "DepthwiseConv2dNative":
            return moved.sum(axis=(0, 1)).ravel()
        return moved.reshape(-1, moved.shape[-1]).sum(axis=0)

    def _without_border(self, weights: Array) -> None:  # decision 12
        if self.node.op == "Conv2DBackpropInput":
            raise Skip("the border of a transposed convolution sees fewer inputs than its middle")
        padding = attribute(self.node, "padding")
        single = all(size == 1 for size in weights.shape[:self.rank - 2])
        explicit = padding == "EXPLICIT" and not any(attribute(self.node, "explicit_paddings"))
        if padding != "VALID" and not explicit and not (padding == "SAME" and single):
            raise Skip(f"{padding} padding puts zeros beside the offset")

    @staticmethod
    def _fits(scale: Array, channels: int) -> None:
        if scale.size != channels:
            raise Skip(f"{scale.size} factors do not fit weights for {channels} channels")

    def require_float(self) -> None:  # decision 13
        """Raises Skip for weights of a type or with values that cannot be rewritten exactly enough."""
        dtype = self.weights_node.get("dtype")
        if dtype not in (FLOAT, DOUBLE):
            raise Skip(f"weights of type {dtype!r} would be rounded a second time")
        if len(self.weights_node.shape) < 2 or 0 in self.weights_node.shape:
            raise Skip("the weights are empty")
        if self.rank and len(self.weights_node.shape) != self.rank:
            raise Skip(f"the weights have rank {len(self.weights_node.shape)}, not {self.rank}")
