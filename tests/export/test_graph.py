"""The graph: it is written as it was read, names are normalised, and errors name what is broken."""
import numpy as np
import pytest
from graph_session import build, seeded, session_run, tf
from graph_strategies import Drawn, drawn_graphs
from hypothesis import given, settings

from export.graph import (
    Graph,
    GraphError,
    Node,
    make_attr,
    make_const,
    make_node,
    normal,
    plain,
    port,
    producer,
    tensor_name,
)
from export.graph_file import as_graph_def, whole
from export.tensors import DType, dtype_named, to_array, to_proto

v1 = tf.compat.v1


def split():
    a, b = tf.split(v1.placeholder(tf.float32, [4], "x"), 2, name="halves")
    tf.add(a, b, name="y")


@settings(max_examples=20, derandomize=True, deadline=None)
@given(drawn_graphs())
def test_a_graph_def_is_written_as_it_was_read(drawn: Drawn):
    assert as_graph_def(whole(Graph.from_graph_def(drawn.graph_def, ["x"], drawn.outputs))) == drawn.graph_def


def test_devices_debug_information_and_types_are_kept():
    graph_def = build(split)
    item = graph_def.node[0]
    item.device = "/device:CPU:0"
    item.experimental_debug_info.original_node_names.append("before")
    item.experimental_type.type_id = 2
    graph_def.versions.producer, graph_def.versions.min_consumer = 77, 3
    assert as_graph_def(whole(Graph.from_graph_def(graph_def))) == graph_def


@pytest.mark.parametrize(("ref", "name", "number"), [
    ("x", "x", 0), ("x:1", "x", 1), ("^x", "x", -1), ("a/b:12", "a/b", 12)])
def test_names_of_tensors(ref, name, number):
    assert (producer(ref), port(ref)) == (name, number)
    assert number < 0 or tensor_name(name, number) == ref


def test_port_zero_is_the_bare_name():
    graph_def = build(split)
    graph_def.node[-1].input[0] = "halves:0"
    assert Graph.from_graph_def(graph_def, ["x:0"], ["y:0", "halves:1"]).outputs == ("y", "halves:1")
    assert normal("x:0") == "x"
    assert normal("x:10") == "x:10"


def test_constants_are_shared_not_copied():
    graph_def = build(lambda: tf.add(v1.placeholder(tf.float32, [], "x"), tf.constant(seeded([100])), name="y"))
    graph = Graph.from_graph_def(graph_def, ["x"], ["y"])
    other = graph.renamed({"Const": "moved"})
    assert other.nodes["moved"].attrs["value"] is graph.nodes["Const"].attrs["value"]
    assert other.nodes["y"].inputs == ("x", "moved")


@pytest.mark.parametrize(("break_it", "message"), [
    (lambda g: g.node[0].MergeFrom(type(g.node[0])(name="y")), "two nodes named 'y'"),
    (lambda g: g.node[-1].input.append("gone"), "node 'y' reads 'gone', which is not in the graph"),
    (lambda g: g.node[-1].input.append("halves:2"), "'halves:2' is not an output of its node"),
    (lambda g: g.node[-1].input.insert(0, "^x"), "after a control input"),
    (lambda g: g.node[1].input.append("^y"), "waits for itself"),
])
def test_a_broken_graph_is_named(break_it, message):
    graph_def = build(split)
    break_it(graph_def)
    with pytest.raises(GraphError) as caught:
        Graph.from_graph_def(graph_def, [], ["y"]).validate("here")
    assert message in str(caught.value)


def test_inputs_and_outputs_must_exist():
    with pytest.raises(GraphError, match="input 'xx' is not in the graph"):
        Graph.from_graph_def(build(split), ["xx"], ["y"])
    with pytest.raises(GraphError, match=r"output 'halve' is not in the graph .did you mean 'halves'"):
        Graph.from_graph_def(build(split), ["x"], ["halve"])


def test_consumers_and_order():
    graph_def = build(split)
    nodes = list(graph_def.node)
    del graph_def.node[:]
    graph_def.node.extend(reversed(nodes))
    graph = Graph.from_graph_def(graph_def, ["x"], ["y"])
    assert graph.consumers["halves"] == ("y",)
    assert "y" not in graph.consumers
    names = [item.name for item in graph.order()]
    assert names.index("x") < names.index("halves") < names.index("y")
    assert graph.reachable(["halves"]) == {"halves", "x", "halves/split_dim"}
    assert graph.reachable(["y"], stop=frozenset({"halves"})) == {"y", "halves"}


def test_colocation_constraints_follow_renames_and_removed_nodes():
    graph_def = build(split)
    graph_def.node[-1].attr["_class"].list.s.extend([b"loc:@halves", b"loc:@nowhere", b"other"])
    graph = Graph.from_graph_def(graph_def, ["x"], ["y"])
    renamed = graph.renamed({"halves": "parts"}).without_dangling_colocation()
    assert list(renamed.nodes["y"].attrs["_class"].list.s) == [b"loc:@parts", b"other"]
    assert renamed.nodes["y"].inputs == ("parts", "parts:1")


@pytest.mark.parametrize("value", [
    True, 3, 2.5, "text", DType(9), (1, -1, 3), (), [1, 2], [1.5], ["a", "b"], [True, False], [DType(1), DType(3)],
    [(1, 2), (3,)]])
def test_attributes_round_trip(value):
    assert plain(make_attr(value)) == value
    assert type(plain(make_attr(value))) is type(value)


def test_an_unknown_rank_is_none():
    proto = make_attr((1,))
    proto.shape.Clear()
    proto.shape.unknown_rank = True
    assert plain(proto) is None


@pytest.mark.parametrize("dtype", [
    "float32", "float64", "int32", "int64", "uint8", "bool", "float16", "bfloat16", "complex64"])
def test_constants_of_every_type(dtype):
    import ml_dtypes
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    value = np.array([[0, 1], [2, 3]]).astype(kind)
    item = make_const("c", value)
    assert item.shape == (2, 2)
    assert item.value.tolist() == value.tolist()
    graph_def = as_graph_def(whole(Graph({"c": item}, (), ("c",))))
    assert session_run(graph_def, ["c"], {})["c"].tolist() == value.tolist()
    assert to_array(tf.make_tensor_proto(value)).tolist() == value.tolist()


def test_constants_of_strings_quantized_and_splat_values():
    words = np.array([b"a", b"\xff\x00"], dtype=object)
    assert to_array(to_proto(words)).tolist() == words.tolist()
    assert tf.make_ndarray(to_proto(np.array([1, 2], np.int8), 11)).tolist() == [(1,), (2,)]
    splat = tf.make_tensor_proto(7.0, shape=[3, 2])
    assert to_array(splat).tolist() == [[7.0, 7.0]] * 3


@pytest.mark.parametrize(("name", "number"), [
    ("float", 1), ("DT_FLOAT", 1), ("float32", 1), ("quint8", 12), ("none", None)])
def test_types_by_name(name, number):
    assert dtype_named(name) == number


def test_nodes_are_made_with_plain_attributes():
    item = make_node("n", "MatMul", ["a", "b:1", "^c"], T=DType(1), transpose_a=True)
    assert (item.data, item.controls, item.get("T"), item.get("transpose_a"), item.get("none", 5)) == (
        ("a", "b:1"), ("^c",), 1, True, 5)
    changed = item.with_attrs(without=("transpose_a",), transpose_b=True)
    assert isinstance(changed, Node)
    assert set(changed.attrs) == {"T", "transpose_b"}
    assert set(item.attrs) == {"T", "transpose_a"}
