from dataclasses import replace

import numpy as np

from export.graph import Graph, Node, make_const, make_node, port, producer
from export.ops import CONTROL_FLOW, attribute
from export.pattern import Skip
from export.quantized import COUNTERPARTS, Counterpart
from export.tensors import FLOAT, INT32, QINT32, QUINT8
from export.transform import Arg, Arguments, Draft, Record, TransformError, transform
from export.weights import FLOATS, check_finite, eight_bit

_CONCATS = {"Concat": 0, "ConcatV2": -1}
# QuantizeV2 widens narrow ranges to this share of its larger limit, or of 1; its own default costs small tensors bits.
_LEAST_RANGE = 1e-6
# The tensor of numbers 0..255, and the tensors with the floats that 0 and 255 stand for.
Triple = tuple[str, str, str]
Range = tuple[float, float] | None


@transform(
    "quantize_nodes",
    Arg("input_min", "float", None, help="makes float placeholders quint8 ones: the float that 0 stands for"),
    Arg("input_max", "float", None, help="with input_min: the float that 255 stands for"),
    Arg("fallback_min", "float", None, help="lowest value of every 32-bit result, instead of its measured one"),
    Arg("fallback_max", "float", None, help="highest value of every 32-bit result, instead of its measured one"),
    Arg("ignore_op", repeated=True, help="an op that stays float"))
def quantize_nodes(graph: Graph, args: Arguments, record: Record) -> Graph:
    """op(x, ...) -> Dequantize(QuantizedOp(QuantizeV2(x), ...)); neighbours stay in eight bits.

    For Add, AddV2, AvgPool, BiasAdd, Concat, ConcatV2, Conv2D, MatMul, MaxPool, Mul, Relu, Relu6, Reshape and
    ResizeBilinear. A result of 32 bits is requantized to 8 by its range: that of a following FakeQuantWithMinMaxVars,
    the fallback range, or the range that a RequantizationRange finds. For activations it is the range of each batch,
    for constants that of the constant. Every step changes a value by up to about 1/255 of its tensor's range; an
    activation must not be NaN, infinite or empty. With input_min and input_max, float Placeholders become quint8.

    Safe when: inputs and outputs are float and the node is not fed; no constant before it holds NaN or infinity;
      images are NHWC. Add and Mul broadcast over the first dimensions only, by shapes that are known. Conv2D has no
      dilations, explicit paddings or groups, and one stride; pools pool over height and width. The axis of a
      concatenation is constant, and its rank known if the axis is negative. A FakeQuant has eight bits, and a constant
      range around zero.
    Source: Graph Transform Tool, quantize_nodes (which checked none of these, and moved FakeQuants across any op).
      Conv2DBackpropInput stays float: TensorFlow 2.21 no longer has its kernel.
    """
    fallback = _range(args, "fallback")
    if fallback and not fallback[0] <= 0 <= fallback[1]:
        raise TransformError("quantize_nodes: expected fallback_min <= 0 <= fallback_max: the kernels need zero")
    quantizer = _Quantizer(graph, fallback)
    inputs = _range(args, "input")
    for item in graph.order():
        quantizer.follow(item)
        try:
            if item.op == "Placeholder" and inputs and item.get("dtype") == FLOAT:
                quantizer.placeholder(item, *inputs)
            elif item.op == "Dequantize":
                quantizer.known(item)
                continue
            elif item.op == "FakeQuantWithMinMaxVars":
                quantizer.fake_quant(item)
            elif item.op == "Conv2DBackpropInput":
                raise Skip("TensorFlow 2.21 has no eight-bit kernel for it")
            elif item.op in COUNTERPARTS and item.op not in args["ignore_op"]:
                quantizer.op(item, COUNTERPARTS[item.op])
            else:
                continue
            record.applied += 1
        except Skip as skip:
            record.skip(item.name, skip.reason)
    return quantizer.result()


class _Quantizer:  # decision 15
    """Goes through the nodes in order, and remembers which float tensors also exist in eight bits."""

    def __init__(self, graph: Graph, fallback: Range) -> None:
        self.graph, self.fallback = graph, fallback
        self.draft = Draft(graph)
        self.eight: dict[str, Triple] = {}
        # The 32-bit results, for a FakeQuant that follows.
        self.wide: dict[str, Triple] = {}
        # Nodes that NaN or infinity may reach from a constant.
        self.not_finite: set[str] = set()
        self.in_frames = any(item.op in CONTROL_FLOW for item in graph.nodes.values())

    def follow(self, item: Node) -> None:
        """Remembers whether NaN or infinity in a constant reaches a node: no range can contain them."""
        if item.op == "Const":
            reached = item.get("dtype") in FLOATS and not np.isfinite(item.value).all()
        else:
            reached = any(producer(ref) in self.not_finite for ref in item.data)
        if reached and item.name not in self.graph.fed:
            self.not_finite.add(item.name)

    def known(self, item: Node) -> None:
        """Remembers the eight-bit input of a Dequantize, such as quantize_weights makes."""
        plain = (attribute(item, "T") == QUINT8 and attribute(item, "mode") == "MIN_FIRST"
                 and attribute(item, "axis") == -1 and not attribute(item, "narrow_range")
                 and attribute(item, "dtype") == FLOAT)
        limits = [self.graph.nodes[producer(ref)] for ref in item.data[1:]]
        if plain and item.name not in self.graph.fed and all(
                limit.op == "Const" and limit.name not in self.graph.fed and not limit.shape for limit in limits):
            low, high = (float(limit.value) for limit in limits)
            if low <= 0 <= high:
                self.eight[item.name] = (item.data[0], item.data[1], item.data[2])

    def placeholder(self, item: Node, low: float, high: float) -> None:
        if item.name in map(producer, self.graph.outputs):
            raise Skip("it is a requested output, which must stay float")
        name = self.draft.unused_name(f"{item.name}_eightbit/dequantize")
        triple = (item.name, self._scalar(f"{item.name}_eightbit/min", low, item),
                  self._scalar(f"{item.name}_eightbit/max", high, item))
        self.draft.redirect(item.name, name)
        self.draft.put(item.with_attrs(without=("_output_shapes",), dtype=QUINT8))
        self.draft.put(make_node(name, "Dequantize", triple, item.device, T=QUINT8, mode="MIN_FIRST"))
        if low <= 0 <= high:
            self.eight[name] = triple

    def fake_quant(self, item: Node) -> None:
        limits = [self.graph.nodes[producer(ref)] for ref in item.data[1:]]
        if item.name in self.graph.fed or any(limit.op != "Const" or limit.name in self.graph.fed for limit in limits):
            raise Skip("its range is not constant, or it is fed from outside")
        if item.name in self.not_finite:
            raise Skip("NaN or infinity in a constant reaches it")
        low, high = (float(limit.value) for limit in limits)
        if attribute(item, "num_bits") != 8 or attribute(item, "narrow_range") or not low <= 0 <= high or low == high:
            raise Skip("its steps are not those of eight bits around zero")
        before = self.wide.get(self.draft.nodes[item.name].data[0])
        if before:
            triple = self._requantize(item, before, (item.data[1], item.data[2]))
        else:
            triple = self._quantize(item, self.draft.nodes[item.name].data[0], (item.data[1], item.data[2]))
        self._dequantize(item, triple)

    def op(self, item: Node, target: Counterpart) -> None:
        # A placeholder before the node may have been renamed.
        item = self.draft.nodes[item.name]
        if item.name in self.graph.fed:
            raise Skip("it is fed from outside")
        if attribute(item, "T") != FLOAT:
            raise Skip(f"it is {attribute(item, 'T')!r}, not float")
        if item.name in self.not_finite:
            raise Skip("NaN or infinity in a constant reaches it")
        target.check(self.graph.nodes[item.name], self.graph.shapes)
        inputs = list(item.data)
        axis = inputs.pop(_CONCATS[item.op]) if item.op in _CONCATS else ""
        count = target.quantized or len(inputs)
        constants = [self._check_constant(ref) for ref in inputs[:count]]
        leading = [self._axis(item, axis)] if axis else []
        triples = [self._triple(item, ref, is_constant)
                   for ref, is_constant in zip(inputs[:count], constants, strict=True)]
        limits = ([triple[1] for triple in triples] + [triple[2] for triple in triples] if axis else
                  [limit for triple in triples for limit in triple[1:]])
        main = make_node(self.draft.unused_name(f"{item.name}/eightbit"), target.op,
                    (*leading, *(triple[0] for triple in triples), *inputs[count:], *limits, *item.controls),
                    item.device, **target.attrs(item))
        self.draft.put(main)
        triple = (main.name, f"{main.name}:1", f"{main.name}:2")
        if target.wide:
            self.wide[item.name] = triple
            triple = self._requantize(main, triple, self._result_range(main, triple))
        self._dequantize(item, triple)

    def result(self) -> Graph:
        # Nodes that lost their last reader are dropped; those that had none before may be the graph's results.
        self.draft.drop_unused(list(self.graph.consumers))
        return self.draft.result()

    def _check_constant(self, ref: str) -> bool:
        """Whether a tensor is a constant that does not exist in eight bits yet. Raises Skip if it cannot."""
        made = self.draft.nodes[producer(ref)]
        if ref in self.eight or made.op != "Const" or made.name in self.graph.fed:
            return False
        try:
            if not made.value.size:
                raise Skip("it is empty")
            check_finite(made.value)
        except Skip as skip:
            raise Skip(f"of its constant '{made.name}': {skip.reason}") from None
        return True

    def _triple(self, item: Node, ref: str, is_constant: bool) -> Triple:
        """A float tensor in eight bits; it is made at first use."""
        if ref not in self.eight:
            if is_constant:
                made = self.draft.nodes[ref]
                self.eight[ref] = eight_bit(self.draft, made, made.value)
            else:
                self.eight[ref] = self._quantize(item, ref, None)
        return self.eight[ref]

    def _quantize(self, item: Node, ref: str, limits: tuple[str, str] | None) -> Triple:
        where = producer(ref) + (f"__port__{port(ref)}" if port(ref) else "")
        prefix = f"{item.name}_eightbit/{where}"
        if limits is None:
            flat = self._put(f"{prefix}/reshape", "Reshape", (ref, self._whole(f"{prefix}/reshape_dims", [-1], ref)),
                             item, T=FLOAT, Tshape=INT32)
            first = self._whole(f"{prefix}/reduction_dims", [0], ref)
            limits = (self._put(f"{prefix}/min", "Min", (flat, first), item, T=FLOAT, Tidx=INT32),
                      self._put(f"{prefix}/max", "Max", (flat, first), item, T=FLOAT, Tidx=INT32))
        name = self._put(f"{prefix}/quantize", "QuantizeV2", (ref, *limits), item, T=QUINT8, mode="MIN_FIRST",
                         ensure_minimum_range=_LEAST_RANGE)
        return name, f"{name}:1", f"{name}:2"

    def _requantize(self, item: Node, wide: Triple, limits: tuple[str, str]) -> Triple:
        name = self._put(f"{item.name}/requantize", "Requantize", (*wide, *limits), item, Tinput=QINT32,
                         out_type=QUINT8)
        return name, f"{name}:1", f"{name}:2"

    def _result_range(self, main: Node, wide: Triple) -> tuple[str, str]:
        if self.fallback:
            return (self._scalar(f"{main.name}/fallback_min", self.fallback[0], main),
                    self._scalar(f"{main.name}/fallback_max", self.fallback[1], main))
        name = self._put(f"{main.name}/requant_range", "RequantizationRange", wide, main, Tinput=QINT32)
        return name, f"{name}:1"

    def _dequantize(self, item: Node, triple: Triple) -> None:
        """Replaces a node by the float values of `triple`."""
        controls = item.controls if item.op == "FakeQuantWithMinMaxVars" else ()
        made = make_node(item.name, "Dequantize", (*triple, *controls), item.device, T=QUINT8, mode="MIN_FIRST")
        self.draft.put(replace(made, debug_info=item.debug_info))
        self.eight[item.name] = triple

    def _axis(self, item: Node, ref: str) -> str:
        made = self.draft.nodes[producer(ref)]
        if made.op != "Const" or made.name in self.graph.fed:
            raise Skip("its axis is not constant")
        axis = int(made.value)
        shape = self.graph.shapes.get(item.name)
        if axis < 0 and shape is None:
            raise Skip("its axis is counted from the end, and its rank is not known")
        return self._whole(f"{item.name}/eightbit/axis", axis if axis >= 0 else axis + len(shape or ()), item.data[-1])

    def _put(self, name: str, op: str, inputs: tuple[str, ...], like: Node, **attrs: object) -> str:
        made = make_node(self.draft.unused_name(name), op, inputs, like.device, **attrs)
        self.draft.put(made)
        return made.name

    def _scalar(self, name: str, value: float, like: Node) -> str:
        made = make_const(self.draft.unused_name(name), np.asarray(value, np.float32), self._anchor(like.name),
                          like.device)
        self.draft.put(made)
        return made.name

    def _whole(self, name: str, value: int | list[int], near: str) -> str:
        made = make_const(self.draft.unused_name(name), np.asarray(value, np.int32), self._anchor(near))
        self.draft.put(made)
        return made.name

    def _anchor(self, near: str) -> tuple[str, ...]:
        """The control input that keeps a constant in the frame of a v1 loop."""
        return (f"^{producer(near)}",) if self.in_frames else ()


def _range(args: Arguments, kind: str) -> Range:
    low, high = args[f"{kind}_min"], args[f"{kind}_max"]
    if low is None and high is None:
        return None
    if low is None or high is None or not low < high:
        raise TransformError(f"quantize_nodes: give both {kind}_min and {kind}_max, the first below the second")
    return float(low), float(high)
