"""The serving and tensor messages, imported without TensorFlow.

    from serving.protos import predict_pb2, prediction_service_pb2_grpc

The generated modules are in the `tensorflow` package, whose `__init__` loads all of TensorFlow (6 s, 550 MB). So they
are imported here with an empty package in its place, which has TensorFlow's path and is removed afterwards. If
TensorFlow is imported later, it runs the same generated modules again and gets the same message classes, since protobuf
has one class per message in its descriptor pool. If TensorFlow was imported first, its own modules are used.
"""
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def _tensorflow_as_a_bare_package() -> Iterator[None]:  # decision 51
    if "tensorflow" in sys.modules:
        yield
        return
    spec = importlib.util.find_spec("tensorflow")  # finds a top-level package without importing it
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the tensorflow package, which holds the messages, is not installed "
                                  "(pip install tensorflow tensorflow-serving-api)", name="tensorflow")
    bare = ModuleType("tensorflow")
    bare.__path__ = list(spec.submodule_search_locations)
    sys.modules["tensorflow"] = bare
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name == "tensorflow" or name.startswith("tensorflow.")]:
            del sys.modules[name]


with _tensorflow_as_a_bare_package():
    from tensorflow.core.example import example_pb2, feature_pb2
    from tensorflow.core.framework import (
        attr_value_pb2,
        graph_pb2,
        node_def_pb2,
        tensor_pb2,
        tensor_shape_pb2,
        types_pb2,
    )
    from tensorflow.core.protobuf import config_pb2, error_codes_pb2, meta_graph_pb2, saved_model_pb2
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        inference_pb2,
        input_pb2,
        logging_pb2,
        model_management_pb2,
        model_pb2,
        model_service_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_log_pb2,
        prediction_service_pb2,
        prediction_service_pb2_grpc,
        regression_pb2,
        session_service_pb2,
        status_pb2,
    )
    from tensorflow_serving.config import (
        file_system_storage_path_source_pb2,
        log_collector_config_pb2,
        logging_config_pb2,
        model_server_config_pb2,
        platform_config_pb2,
    )

__all__ = [
    "attr_value_pb2", "classification_pb2", "config_pb2", "error_codes_pb2", "example_pb2", "feature_pb2",
    "file_system_storage_path_source_pb2", "get_model_metadata_pb2", "get_model_status_pb2", "graph_pb2",
    "inference_pb2", "input_pb2", "log_collector_config_pb2", "logging_config_pb2", "logging_pb2",
    "meta_graph_pb2", "model_management_pb2", "model_pb2", "model_server_config_pb2", "model_service_pb2",
    "model_service_pb2_grpc", "node_def_pb2", "platform_config_pb2", "predict_pb2", "prediction_log_pb2",
    "prediction_service_pb2", "prediction_service_pb2_grpc", "regression_pb2", "saved_model_pb2",
    "session_service_pb2", "status_pb2", "tensor_pb2", "tensor_shape_pb2", "types_pb2",
]
