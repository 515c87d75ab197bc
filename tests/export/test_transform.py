"""The registry of transforms, their arguments, and what `Rewrite` does for its subclasses."""
import pytest
from graph_session import build, tf

from export.graph import Graph, make_node
from export.pattern import Any, Op, Skip
from export.tensors import DType
from export.transform import REGISTRY, Arg, Arguments, Draft, Record, Rewrite, TransformError, named, transform

v1 = tf.compat.v1


def chain():
    x = v1.placeholder(tf.float32, [2], "x")
    a = tf.sqrt(tf.square(x, name="square"), name="a")
    tf.add(a, tf.sqrt(tf.square(a, name="again"), name="b"), name="y")


class AbsOfSquares(Rewrite):
    """Sqrt(Square(x)) -> Abs(x)"""

    pattern = Op("Sqrt", Op("Square", Any("x"), bind="square"), bind="root")

    def rewrite(self, m, draft, args):
        yield make_node(m.root.name, "Abs", [m.refs["x"]], T=DType(1))


def applied(rewrite, inputs=("x",), outputs=("y",)):
    graph = Graph.from_graph_def(build(chain), inputs, outputs)
    record = Record()
    return rewrite.run(graph, Arguments("t", [], {}), record), record


def test_every_match_is_rewritten_and_unused_nodes_are_dropped():
    graph, record = applied(AbsOfSquares())
    assert sorted(item.op for item in graph.nodes.values()) == ["Abs", "Abs", "AddV2", "Placeholder"]
    assert graph.nodes["a"].op == "Abs"
    assert (record.applied, record.skipped) == (2, [])
    graph.validate("test")


def test_a_requested_inner_node_stays():
    graph, record = applied(AbsOfSquares(), outputs=("y", "square"))
    assert graph.nodes["square"].op == "Square"
    assert record.applied == 2


def test_patterns_do_not_match_beyond_a_fed_node():
    _, record = applied(AbsOfSquares(), inputs=("x", "square"))
    assert record.skipped == [("square", "it is fed from outside")]
    assert record.applied == 1


def test_a_check_that_refuses_leaves_the_match_and_gives_its_reason():
    class Careful(AbsOfSquares):
        def check(self, m, draft):
            m.require(m.root.name != "b", "not this one")
    graph, record = applied(Careful())
    assert graph.nodes["b"].op == "Sqrt"
    assert record.skipped == [("b", "not this one")]


def test_arguments_are_read_by_their_kind():
    specs = [Arg("op", repeated=True), Arg("most", "int", 1), Arg("part", "float", 0.5), Arg("on", "bool", False),
             Arg("file", required=True)]
    read = Arguments("t", specs, {"op": ["a", "b"], "part": ["2.5"], "on": ["TRUE"], "file": ["x"]})
    assert read.values == {"op": ["a", "b"], "most": 1, "part": 2.5, "on": True, "file": "x"}
    for wrong in ({"file": ["a", "b"]}, {"file": ["x"], "most": ["1.5"]}, {}, {"file": ["x"], "part": ["half"]}):
        with pytest.raises(TransformError):
            Arguments("t", specs, wrong)


def test_an_unknown_transform_names_the_nearest():
    with pytest.raises(TransformError, match="did you mean 'remove_device'"):
        named("remove_devices")


def test_registering_takes_functions_and_rewrites():
    try:
        transform("test_only_abs")(AbsOfSquares)
        assert REGISTRY["test_only_abs"].pattern == "Sqrt(Square(x))"
        assert REGISTRY["test_only_abs"].summary == "Sqrt(Square(x)) -> Abs(x)"
    finally:
        REGISTRY.pop("test_only_abs")


def test_a_draft_keeps_consumers_up_to_date():
    draft = Draft(Graph.from_graph_def(build(chain), ["x"], ["y"]))
    draft.redirect("a", "x", keep=frozenset({"y"}))
    assert [item.name for item in draft.readers("x")] == ["square", "again"]
    assert list(draft.consumers["a"]) == ["y"]
    assert draft.unused_name("a") == "a_1"
    draft.drop_unused(["y", "again", "a"])
    assert {"y", "a", "again"} <= draft.nodes.keys()


def test_skip_may_name_another_node():
    class Blames(AbsOfSquares):
        def rewrite(self, m, draft, args):
            raise Skip("because of it", m["square"].name)
    _, record = applied(Blames())
    assert record.skipped == [("square", "because of it"), ("again", "because of it")]
