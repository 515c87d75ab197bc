from dataclasses import replace

import numpy as np

from export.control_flow import within_control_flow
from export.functions import definitions
from export.graph import Graph, Node, make_const, make_node, normal, port, producer, tensor_name
from export.ops import attribute
from export.pattern import Skip
from export.tensors import FLOAT, INT32, INT64
from export.transform import Arg, Arguments, Draft, Record, sole_reader, transform
from export.transforms.inline_partitionedcall import COMPILED

# oneDNN keeps the weights of a product of 7 to 80 rows in narrower blocks than those of fewer or more rows, if the
# number of columns is a multiple of 32 over 32. Read off its log (ONEDNN_VERBOSE=1) for AVX2 and AVX-512.
FEWEST, MOST, COLUMNS = 7, 80, 32
# With fewer weights, to put them into other blocks costs less than the choice between two products (2 microseconds).
LEAST_WEIGHTS = 1 << 16
ACTIVATIONS = frozenset(("Relu", "Relu6", "Elu", "LeakyRelu", "Tanh", "Sigmoid"))
BIASES = frozenset(("BiasAdd", "Add", "AddV2"))
# What TensorFlow's optimizer may merge into a product with its bias: sums, and the parts of GELU and Swish.
_MERGED = frozenset(("Add", "AddV2", "AddN", "Mul", "RealDiv", "Neg", "Square", "Pow", "Erf", "Erfc"))
# Their result has as many rows as their first operand.
_SAME_ROWS = ACTIVATIONS | {"MatMul", "BiasAdd", "Softmax", "Identity"}


@transform("fork_by_rows",
           Arg("loops", "bool", False, help="also in loops, which then choose at every turn, and in branches"),
           bodies=False)
def fork_by_rows(graph: Graph, args: Arguments, record: Record) -> Graph:  # decision 234
    """BiasAdd(MatMul(x, W), b) -> two of them, for 7 to 80 rows and for others, behind a Switch

    TensorFlow keeps constant weights in the blocks that suit the number of rows of the first request; other numbers of
    rows may need other blocks, into which it then puts all weights at every request. Two products keep both.

    Safe when: the product is float32 on a CPU, W a constant that is not fed, x not transposed and of an unknown number
      of rows; only the bias reads the product, only the activation the bias, and neither is fed, requested or merged
      into more. What XLA compiles stays as it is.
    Source: not in the Graph Transform Tool.
    """
    if args["loops"] and not _has_compiled(graph):
        bodies = {name: _Forks(body, True, record, f"{name}/").result() for name, body in graph.bodies.items()}
        graph = replace(graph, bodies=bodies)
    return _Forks(graph, args["loops"], record).result()


def _has_compiled(graph: Graph) -> bool:
    functions = definitions(graph.library).values()
    return any(item.get(mark) for item in graph.nodes.values() for mark in COMPILED) or any(
        mark in function.attr and function.attr[mark].b for function in functions for mark in COMPILED)


class _Forks:
    def __init__(self, graph: Graph, loops: bool, record: Record, prefix: str = "") -> None:
        self._graph, self._draft = graph, Draft(graph)
        self._choices: dict[str, str] = {}
        self._left = frozenset[str]() if loops else within_control_flow(graph)
        for item in graph.nodes.values():
            if item.op == "MatMul":
                try:
                    chain = self._chain(item)
                except Skip as skip:
                    record.skip(prefix + item.name, skip.reason)
                    continue
                if chain:
                    self._fork(chain)
                    record.applied += 1

    def result(self) -> Graph:
        return self._draft.result()

    def _chain(self, item: Node) -> list[Node]:
        """Product, bias, and activation if there is one; nothing if TensorFlow keeps no weights of it, or few."""
        inputs, columns = self._sizes(item)
        if inputs * columns < LEAST_WEIGHTS:
            return []
        reader = self._only_reader(item)
        if reader is None or not self._adds_bias(reader, item, columns) or columns % COLUMNS or columns == COLUMNS:
            return []
        if item.name in self._left:
            raise Skip("it is in a loop, which would choose at every turn, or in a branch (loops=true)")
        if item.get("T") != FLOAT:
            raise Skip("its type is not float32")
        if "GPU" in item.device.upper():
            raise Skip("it is not on a CPU")
        if attribute(item, "transpose_a"):
            raise Skip("x is transposed")
        shape = self._graph.shapes.get(item.data[0])
        if shape and shape[0] is not None:
            raise Skip("the number of rows is always the same")
        for one in (item, reader):
            if one.name in self._graph.fed:
                raise Skip("it is fed from outside")
        sole_reader(self._draft, item, reader.name)
        chain = [item, reader]
        after = self._only_reader(reader)
        if after is not None and after.op in ACTIVATIONS and reader.name not in self._draft.kept \
                and after.name not in self._graph.fed:
            chain.append(after)
        elif any(one.op in _MERGED for one in self._draft.readers(reader.name)):
            raise Skip("TensorFlow's optimizer may merge what reads the bias into the product")
        if any(one.op == "Merge" for one in self._draft.readers(chain[-1].name)):
            raise Skip("it is one of two branches")
        return chain

    def _sizes(self, product: Node) -> tuple[int, int]:
        """(inputs, columns) of its weights; zeros if they are no constant matrix."""
        weights = self._constant(product.data[1])
        if weights is None or len(weights.shape) != 2:
            return 0, 0
        inputs, columns = weights.shape[::-1] if attribute(product, "transpose_b") else weights.shape
        return inputs, columns

    def _constant(self, ref: str) -> Node | None:
        """The constant that a tensor is, in a v1 loop, too, where TensorFlow's optimizer moves it into the loop."""
        item = self._graph.nodes[producer(ref)]
        while item.op == "Enter" and item.get("is_constant"):
            item = self._graph.nodes[producer(item.data[0])]
        return item if item.op == "Const" and item.name not in self._graph.fed else None

    def _only_reader(self, item: Node) -> Node | None:
        readers = self._draft.consumers.get(item.name, {})
        return self._draft.nodes[next(iter(readers))] if len(readers) == 1 else None

    def _adds_bias(self, reader: Node, product: Node, columns: int) -> bool:
        if reader.op not in BIASES or len(reader.data) != 2 or normal(reader.data[0]) != normal(product.name):
            return False
        bias = self._constant(reader.data[1])
        return bias is not None and tuple(bias.shape) == (columns,)

    def _fork(self, chain: list[Node]) -> None:
        product, end = self._draft.nodes[chain[0].name], chain[-1]
        x = product.data[0]
        choice = self._choice(x, self._sizes(product)[0], product.device)
        switch = self._put(f"{end.name}/by_rows", "Switch", (x, choice), product.device, T=FLOAT)
        ends = [self._copy(chain, f"{end.name}/{name}", tensor_name(switch, output))
                for output, name in enumerate(("wide", "narrow"))]
        for one in chain[:-1]:
            self._draft.drop(one.name)
        self._draft.put(make_node(end.name, "Merge", ends, end.device, T=FLOAT, N=2))

    def _copy(self, chain: list[Node], prefix: str, x: str) -> str:
        for one in chain:
            now = self._draft.nodes[one.name]
            made = replace(now, name=self._draft.unused_name(f"{prefix}/{one.op}"), inputs=(x, *now.inputs[1:]))
            self._draft.put(made)
            x = made.name
        return x

    def _choice(self, x: str, columns: int, device: str) -> str:
        """Whether x[rows, columns] has 7 to 80 rows: computed once for all tensors with the rows of the same one."""
        while port(x) == 0 and (item := self._graph.nodes[producer(x)]).op in _SAME_ROWS and item.data \
                and not attribute(item, "transpose_a") and item.name not in self._graph.fed \
                and (shape := self._graph.shapes.get(item.data[0])) and len(shape) == 2 and shape[1]:
            x, columns = item.data[0], shape[1]
        if normal(x) not in self._choices:
            self._choices[normal(x)] = self._compared(x, columns, device)
        return self._choices[normal(x)]

    def _compared(self, x: str, columns: int, device: str) -> str:
        source = self._graph.nodes[producer(x)]
        # Size refuses a tensor whose number of elements its type does not hold.
        size = self._put(f"{source.name}/rows", "Size", (x,), device, T=FLOAT, out_type=INT64)
        bucket = self._put(f"{source.name}/rows", "Bucketize", (size,), device, T=INT64,
                           boundaries=[float(FEWEST * columns), float((MOST + 1) * columns)])
        # In a v1 loop a constant is kept in the loop's frame by what it waits for.
        one = make_const(self._draft.unused_name(f"{source.name}/rows/one"), np.array(1, np.int32),
                         (f"^{source.name}",), device)
        self._draft.put(one)
        return self._put(f"{source.name}/rows", "Equal", (bucket, one.name), device, T=INT32)

    def _put(self, prefix: str, op: str, inputs: tuple[str, ...], device: str, **attrs: object) -> str:
        made = make_node(self._draft.unused_name(f"{prefix}/{op}"), op, inputs, device, **attrs)
        self._draft.put(made)
        return made.name
