"""What a model's files show before TensorFlow runs anything."""
from pathlib import Path
from typing import Any

import saved_models
import tensorflow as tf

from export import diagnosis, saved_model


class TwoOutputs(tf.Module):
    """Two outputs of a function whose body has a call of the same node name, with one output."""

    def __init__(self) -> None:
        self.weights = tf.Variable(saved_models.random(3, 2))

    @tf.function
    def inner(self, x: Any) -> Any:
        return x @ self.weights

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
    def serve(self, x: Any) -> Any:
        y = self.inner(x)
        return {"a": y, "b": y + 1.0}


def test_an_output_is_looked_up_in_the_graph_and_not_in_its_functions(tmp_path: Path) -> None:
    module = TwoOutputs()
    tf.saved_model.save(module, str(tmp_path), signatures=module.serve)
    model = saved_model.read(tmp_path)
    outputs = {info.name for info in model.signatures["serving_default"].outputs.values()}
    assert outputs == {"StatefulPartitionedCall:0", "StatefulPartitionedCall:1"}
    names = [node.name for function in model.meta_graph.graph_def.library.function for node in function.node_def]
    assert "StatefulPartitionedCall" in names
    assert diagnosis.why_not(model, "serving_default") is None
