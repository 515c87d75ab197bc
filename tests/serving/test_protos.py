"""The same messages without TensorFlow, before it and after it. Each case is a fresh process."""
import json
import subprocess
import sys
from typing import Any

import pytest

TENSORFLOW_LEFT = "[m for m in sys.modules if m == 'tensorflow' or m.startswith('tensorflow.')]"


def in_fresh_process(code: str) -> Any:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300,
                          env={"TF_CPP_MIN_LOG_LEVEL": "3", "PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def cost_of_import(module: str) -> Any:
    """(CPU seconds, resident bytes, TensorFlow's modules) of a process that imports a module."""
    # CPU time, not wall time: another process on the machine must not fail this test.
    # Not ru_maxrss: a child starts with its parent's, which is pytest's.
    return in_fresh_process(
        f"import json, psutil, sys, time\nimport {module}\n"
        f"print(json.dumps([time.process_time(), psutil.Process().memory_info().rss, {TENSORFLOW_LEFT}]))")


def test_import_is_quick_and_small_and_leaves_no_tensorflow() -> None:
    """Beside TensorFlow on the same machine: a thirtieth of its time and a sixteenth of its memory were seen."""
    cpu_s, resident, left = cost_of_import("serving.protos")
    most_cpu_s, most_resident, _ = cost_of_import("tensorflow")
    assert left == []
    assert cpu_s < most_cpu_s / 3
    assert resident < most_resident / 3


def test_stubs_import_without_tensorflow() -> None:
    methods, left = in_fresh_process(
        "import json, sys\n"
        "import grpc\n"
        "import serving.protos\n"
        "from tensorflow_serving.apis import prediction_service_pb2_grpc, model_service_pb2_grpc\n"
        "assert serving.protos.prediction_service_pb2_grpc is prediction_service_pb2_grpc\n"
        "channel = grpc.insecure_channel('127.0.0.1:9')\n"
        "stubs = (prediction_service_pb2_grpc.PredictionServiceStub(channel),\n"
        "         model_service_pb2_grpc.ModelServiceStub(channel))\n"
        f"print(json.dumps([sorted(name for stub in stubs for name in vars(stub)), {TENSORFLOW_LEFT}]))")
    assert left == []
    assert {"Predict", "Classify", "GetModelMetadata", "GetModelStatus"} <= set(methods)


INTEROPERATE = """
request = predict_pb2.PredictRequest()
request.inputs["x"].CopyFrom(tf.make_tensor_proto([[1.5, 2.5]]))
again = predict_pb2.PredictRequest.FromString(request.SerializeToString())
from tensorflow.core.framework import tensor_pb2 as tensorflows
from tensorflow.core.protobuf import saved_model_pb2 as tensorflows_saved_model
from serving.protos import saved_model_pb2, tensor_pb2
assert tensorflows.TensorProto is tensor_pb2.TensorProto
assert tensorflows_saved_model.SavedModel is saved_model_pb2.SavedModel
assert isinstance(again.inputs["x"], tensorflows.TensorProto)
from tensorflow_serving.apis import predict_pb2 as plain
assert plain.PredictRequest is predict_pb2.PredictRequest
with tf.Graph().as_default() as graph:
    tf.constant([1, 2])
from serving.protos import graph_pb2
graph_def = graph_pb2.GraphDef.FromString(graph.as_graph_def().SerializeToString())
tf.import_graph_def(graph_def)
print(json.dumps(tf.make_ndarray(again.inputs["x"]).tolist()))
"""


@pytest.mark.parametrize("imports", [
    "from serving.protos import predict_pb2\nimport tensorflow as tf",
    "import tensorflow as tf\nfrom serving.protos import predict_pb2",
], ids=["tensorflow later", "tensorflow first"])
def test_messages_interoperate_with_tensorflow(imports: str) -> None:
    assert in_fresh_process(f"import json\n{imports}\n{INTEROPERATE}") == [[1.5, 2.5]]


def test_a_failed_import_leaves_no_empty_tensorflow_package() -> None:
    message, left = in_fresh_process(
        "import json, sys\n"
        "sys.modules['tensorflow_serving'] = None\n"
        "try:\n"
        "    import serving.protos\n"
        "except ModuleNotFoundError as error:\n"
        f"    print(json.dumps([str(error), {TENSORFLOW_LEFT}]))")
    assert "tensorflow_serving" in message
    assert left == []
