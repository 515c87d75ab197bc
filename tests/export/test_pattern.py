import pytest
from graph_session import build, tf

from export.graph import Graph
from export.pattern import Any, Const, Op, Skip, match

v1 = tf.compat.v1
LINEAR = Op("MatMul|Conv2D", Any("x"), Const("W"), bind="linear")
SCALED = Op("Mul", LINEAR, Const("scale"), bind="mul", either_way=True)


def graph(first):
    def make():
        x = v1.placeholder(tf.float32, [None, 2], "x")
        product = tf.matmul(x, tf.constant([[1.0, 2.0], [3.0, 4.0]], name="W"), name="product")
        scale = tf.constant([5.0, 6.0], name="scale")
        tf.multiply(*((scale, product) if first else (product, scale)), name="y")
    return Graph.from_graph_def(build(make), ["x"], ["y"])


@pytest.mark.parametrize("first", [True, False])
def test_binds_nodes_and_tensors_whichever_operand_comes_first(first):
    found = graph(first)
    m = match(SCALED, found.nodes, found.nodes["y"])
    assert m is not None
    assert (m["linear"].name, m["W"].name, m["scale"].name, m["mul"].name) == ("product", "W", "scale", "y")
    assert m.refs == {"x": "x"}
    assert m.members[0].name == "y"
    assert {item.name for item in m.members} == {"y", "product", "W", "scale"}


def test_does_not_match_another_shape_of_graph():
    found = graph(False)
    assert match(SCALED, found.nodes, found.nodes["product"]) is None
    assert match(Op("Mul", Const(), Const()), found.nodes, found.nodes["y"]) is None
    assert match(Op("Mul", Any()), found.nodes, found.nodes["y"]) is None
    assert match(Op("Mul"), found.nodes, found.nodes["y"]) is not None
    assert match(Op("Mul", Op("Conv2D"), Any()), found.nodes, found.nodes["y"]) is None


def test_only_the_first_output_of_an_inner_node_matches():
    def make():
        a, b = tf.split(v1.placeholder(tf.float32, [4], "x"), 2)
        tf.sqrt(a, name="first")
        tf.sqrt(b, name="second")
    found = Graph.from_graph_def(build(make), ["x"], ["first", "second"])
    pattern = Op("Sqrt", Op("Split"))
    assert match(pattern, found.nodes, found.nodes["first"]) is not None
    assert match(pattern, found.nodes, found.nodes["second"]) is None


def test_a_refusal_carries_its_reason():
    found = graph(False)
    m = match(SCALED, found.nodes, found.nodes["y"])
    assert m is not None
    m.require(True, "fine")
    with pytest.raises(Skip) as caught:
        m.require(False, "scale is not one float per channel")
    assert caught.value.reason == "scale is not one float per channel"


def test_a_pattern_prints_as_it_reads():
    assert str(SCALED) == "Mul(Conv2D|MatMul(x, Const:W), Const:scale)"
