"""Models with StableHLO modules, as jax2tf writes them: an XlaCallModule node, here with a module written by hand."""
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from awkward_models import save, serving
from saved_models import random
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

from commandline import status_of
from export import saved_model
from user_error import UserError

Run = Callable[..., object]
SINE = """
module @jit_f attributes {jax.uses_shape_polymorphism = true} {
  func.func public @main(%x: tensor<?x3xf32>) -> tensor<?x3xf32> {
    %y = stablehlo.sine %x : tensor<?x3xf32>
    return %y : tensor<?x3xf32>
  }
}
"""
# With several platforms, the first argument is the index of the one it runs on.
SINE_ON_TWO = SINE.replace("@main(", "@main(%index: tensor<i32>, ")
# Calls function 0 of the node's function_list, as jax2tf.call_tf does.
CALLS_TENSORFLOW = """
module @jit_f {
  func.func public @main(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
    %y = stablehlo.custom_call @tf.call_tf_function(%x) {
        tf.backend_config = {called_index = 0 : i64, has_token_input_output = false}
    } : (tensor<2x3xf32>) -> tensor<2x3xf32>
    return %y : tensor<2x3xf32>
  }
}
"""


def call(x: Any, module: str = SINE, platforms: Sequence[str] = ("CPU",), functions: Sequence[Any] = ()) -> Any:
    return gen_xla_ops.xla_call_module(
        [x], version=9, module=module, Tout=[tf.float32], Sout=[tf.TensorShape([None, 3])], platforms=list(platforms),
        dim_args_spec=[], function_list=list(functions), has_token_input_output=False, disabled_checks=[])[0]


def answered(path: Path, x: Any) -> Any:
    model = saved_model.read(path)
    signature = model.signatures["serving_default"]
    with saved_model.session(model) as session:
        return session.run(signature.outputs["y"].name, {signature.inputs["x"].name: x})


@pytest.mark.parametrize(("module", "platforms"), [(SINE, ["CPU"]), (SINE_ON_TWO, ["CPU", "CUDA"]),
                                                   (SINE_ON_TWO, ["TPU", "CPU"])])
def test_a_module_is_published_with_the_layers_around_it(
        run: Run, tmp_path: Path, module: str, platforms: list[str]) -> None:
    holder = tf.Module()
    holder.weights = tf.Variable(random(3, 3))
    serving(tmp_path / "from" / "1", lambda x: {"y": call(x @ holder.weights, module, platforms)},
            tf.TensorSpec([None, 3], tf.float32, "x"), module=holder)
    run("optimize", tmp_path / "from", "--to", tmp_path / "to", "--batch", "1,3")
    made = saved_model.read(tmp_path / "to").meta_graph.graph_def
    assert [node.op for node in made.node].count("XlaCallModule") == 1
    assert not any("Variable" in node.op or "PartitionedCall" in node.op for node in made.node)
    x = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_allclose(answered(tmp_path / "to", x), np.sin(x @ random(3, 3)), rtol=1e-5)


def test_functions_that_a_module_calls_are_kept(run: Run, tmp_path: Path) -> None:
    @tf.function(autograph=False)
    def twice(x: Any) -> Any:
        return 2.0 * x
    concrete = twice.get_concrete_function(tf.TensorSpec([2, 3], tf.float32))

    def serve(x: Any) -> Any:
        concrete.add_to_graph(tf.compat.v1.get_default_graph())
        return {"y": call(x, CALLS_TENSORFLOW, functions=[concrete.name])}
    serving(tmp_path / "from" / "1", serve, tf.TensorSpec([2, 3], tf.float32, "x"))
    run("optimize", tmp_path / "from", "--to", tmp_path / "to")
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(answered(tmp_path / "to", x), 2 * x)


def test_a_module_for_other_platforms_is_refused_by_name(run: Run, tmp_path: Path) -> None:
    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
        def on_tpu(self, x: Any) -> Any:
            return {"y": call(x, SINE, ["TPU"])}

        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
        def plain(self, x: Any) -> Any:
            return {"y": x @ random(3, 3)}
    made = Module()
    save(tmp_path / "from" / "1", made, serving_default=made.on_tpu, plain=made.plain)
    given = ("optimize", tmp_path / "from", "--to", tmp_path / "to", "--batch", "1,3")
    with pytest.raises(UserError) as caught:
        run(*given)
    assert status_of(caught.value) == 2
    line = str(caught.value)
    assert line.startswith(f"signature 'serving_default' of {tmp_path / 'from' / '1'} holds XlaCallModule '")
    assert line.endswith("', a module made for TPU and not for the CPU, where answers are compared: export it again "
                         "for both (jax2tf: native_serialization_platforms=['cpu', 'tpu']); or leave it out with "
                         "--signatures plain")
    run(*given, "--signatures", "plain")


def test_a_module_that_does_not_parse_is_refused_with_the_reason(run: Run, tmp_path: Path) -> None:
    serving(tmp_path / "from" / "1", lambda x: {"y": call(x, "module @jit_f { nonsense")},
            tf.TensorSpec([None, 3], tf.float32, "x"))
    with pytest.raises(UserError, match=r"Cannot deserialize computation|nonsense|expected") as caught:
        run("optimize", tmp_path / "from", "--to", tmp_path / "to", "--batch", "1")
    assert "\n" not in str(caught.value)
