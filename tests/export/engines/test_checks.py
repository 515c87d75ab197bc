"""Checks of a graph that an engine leaves out: each is found where it is, and named; and it really is left out."""
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from graph_session import build, v1_control_flow
from saved_models import save_v1, signature

from export import saved_model
from export.engines import openvino
from export.engines.checks import Check, checks
from export.engines.convertible import convertible
from export.engines.limits import Limits
from export.engines.running import running_by
from export.freeze import freeze
from export.graph import Graph
from export.precision.publication import how_to_serve
from export.precision.trial import Tried
from export.signatures import signature as made_signature

v1 = tf.compat.v1


def below(x: Any, limit: float = 1e6) -> Any:
    return tf.raw_ops.Assert(condition=tf.reduce_all(x < limit), data=["too large"], name="below")


def waiting(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def make(x: Any) -> Any:
        with tf.control_dependencies([check(x)]):
            return tf.identity(x)
    return make


def branch(x: Any) -> Any:
    return v1.cond(tf.reduce_mean(x) > 0, lambda: waiting(below)(x) * 2.0, lambda: x)


def loop(x: Any) -> Any:
    return v1.while_loop(lambda n, _: n < 3, lambda n, y: (n + 1, waiting(below)(y) * 0.5), (0, x))[1]


def found(make: Callable[[Any], Any]) -> list[tuple[str, str]]:
    def nodes() -> None:
        tf.identity(make(v1.placeholder(tf.float32, [None, 4], "x")), "y")
    graph = Graph.from_graph_def(build(nodes), ["x"], ["y"])
    one = made_signature(graph, {"x": "x"}, {"y": "y"})
    return [(each.node, each.op) for each in checks(graph, convertible({"key": one}, graph).ends["key"])]


@pytest.mark.parametrize(("make", "expected"), [
    (lambda x: x * 2.0, []),
    (waiting(below), [("below", "Assert")]),
    (waiting(lambda x: v1.assert_less(x, 1e6, name="less")), [("less/Assert/AssertGuard/Assert", "Assert")]),
    (lambda x: tf.debugging.check_numerics(x, "bad", name="finite"), [("finite", "CheckNumerics")]),
    (lambda x: tf.raw_ops.CheckNumericsV2(tensor=x, message="bad", name="both"), [("both", "CheckNumericsV2")]),
    (branch, [("cond/below", "Assert")]),
    (loop, [("while/below", "Assert")]),
    (lambda x: tf.ensure_shape(x, [3, 4], "three"), [("three", "EnsureShape")]),
    (lambda x: tf.ensure_shape(x, [None, 4], "there"), []),
], ids=["none", "assert", "guard", "numerics", "numerics_v2", "branch", "loop", "shape", "shape_that_fits"])
def test_checks_are_found_in_the_graph_and_in_functions(make: Callable[[Any], Any],
                                                        expected: list[tuple[str, str]]) -> None:
    assert found(make) == expected


@pytest.mark.parametrize("make", [branch, loop])
def test_checks_are_found_in_branches_and_loops_of_tensorflow_1(make: Callable[[Any], Any]) -> None:
    with v1_control_flow():
        assert [op for _, op in found(make)] == ["Assert"]


class Checked(tf.Module):  # type: ignore[misc]
    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "image")])
    def __call__(self, image: Any) -> Any:
        tf.debugging.assert_less(image, 1e6, name="below")
        if tf.reduce_mean(image) > 0:
            image = tf.debugging.check_numerics(image, "bad", name="finite")
        return {"scores": tf.nn.softmax(image)}


def test_checks_are_found_in_a_tf_function(tmp_path: Path) -> None:
    module = Checked()
    tf.saved_model.save(module, str(tmp_path), signatures=module.__call__)
    frozen = freeze(saved_model.read(tmp_path))
    ends = convertible(frozen.signatures, frozen.graph).ends["serving_default"]
    inside = "StatefulPartitionedCall/StatefulPartitionedCall"
    assert set(checks(frozen.graph, ends)) == {Check(f"{inside}/below/Assert/AssertGuard/Assert", "Assert"),
                                               Check(f"{inside}/cond/finite", "CheckNumerics")}


def test_openvino_leaves_checks_out(tmp_path: Path) -> None:
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 4], "x")
        checked = waiting(lambda x: v1.assert_less(x, 1e6, name="small"))(tf.ensure_shape(x, [3, 4], "three"))
        finite = tf.debugging.check_numerics(tf.exp(checked), "not finite", name="finite")
        save_v1(tmp_path / "1", session, {"serving_default": signature({"x": x}, {"y": tf.identity(finite, "y")}),
                                          "plain": signature({"x": x}, {"y": tf.multiply(x, 2.0, "twice")})})
    frozen = freeze(saved_model.read(tmp_path / "1"))
    written = openvino.write(tmp_path / "1", frozen.graph, frozen.signatures, "float32", [], Limits())
    assert written.to_json()["checks_left_out"] == {"serving_default": [
        {"node": "finite", "op": "CheckNumerics"}, {"node": "small/Assert/AssertGuard/Assert", "op": "Assert"},
        {"node": "three", "op": "EnsureShape"}]}
    refused = {"assertion failed": np.full([3, 4], 1e7, np.float32), "Tensor had Inf": np.full([3, 4], 1e3, np.float32),
               "not compatible with expected shape": np.ones([2, 4], np.float32)}
    with running_by("tensorflow", str(tmp_path / "1"), ("serve",)) as (_, tensorflow):
        for words, x in refused.items():
            with pytest.raises(ValueError, match=words):
                tensorflow.run({"y": "y:0"}, {"x:0": x})
    with running_by("openvino", str(tmp_path / "1"), ("serve",)) as (_, engine):
        assert all(engine.run({"y": "y:0"}, {"x:0": x})["y"].shape == x.shape for x in refused.values())


def test_a_line_names_a_few_checks_and_their_number() -> None:
    written = {"engine": "litert", "left": {}, "checks_left_out": {
        "one": [{"node": "a", "op": "Assert"}], "many": [{"node": f"n{index}", "op": "Assert"} for index in range(9)]}}
    first, second = how_to_serve(Tried("litert-float32", "float32", written=written))[1:]
    assert first == ("  litert leaves out 1 check of signature 'one' and answers what TensorFlow refuses for: "
                     "'a' (Assert)")
    assert second.startswith("  litert leaves out 9 checks of signature 'many'")
    assert second.endswith("'n3' (Assert), 5 more (--json has all)")
