"""TensorFlow Serving's request messages, answered by the predictor. Shared by gRPC and by warm-up.

Input tensors are read when the predictor needs them, so that a request with two mistakes gets the same error as from
the original.
"""
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from serving.errors import invalid
from serving.predictor import Predictor
from serving.protos import (
    classification_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
    tensor_pb2,
    types_pb2,
)
from serving.servable import CLASSIFY_METHOD, DEFAULT_SIGNATURE, Array, ModelSpec, Servable, TensorSpec
from serving.tensor_proto import data_type, data_type_name, to_ndarray, to_proto

# The typed fields that hold an array's bytes unchanged on the wire: their tags (field number, wire type "bytes").
_PACKED = {np.dtype(kind): bytes([number << 3 | 2]) for kind, number in (
    ("f4", 5), ("f8", 6), ("c8", 9), ("c16", 12))}
_NUMBERS = {np.dtype(kind): name for kind, name in (
    ("i1", "int_val"), ("i2", "int_val"), ("i4", "int_val"), ("u1", "int_val"), ("u2", "int_val"),
    ("i8", "int64_val"), ("u4", "uint32_val"), ("u8", "uint64_val"), ("?", "bool_val"))}


def spec_of(message: Any) -> ModelSpec:
    """The ModelSpec of a request."""
    if not message.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return model_spec(message.model_spec)


def model_spec(message: Any) -> ModelSpec:
    """A ModelSpec message as a value."""
    choice = message.WhichOneof("version_choice")
    return ModelSpec(message.name, message.version.value if choice == "version" else None,
                     message.version_label if choice == "version_label" else None, message.signature_name)


def predict(predictor: Predictor, servable: Servable, request: Any, timeout_s: float | None = None,
            tensor_content: bool = False) -> Any:
    """A PredictResponse; `tensor_content` says how its tensors are written."""
    name = request.model_spec.signature_name
    signature = servable.signatures.get(name or DEFAULT_SIGNATURE)
    inputs = _Inputs(request.inputs, signature.inputs if signature else {})
    outputs = predictor.predict(servable, name, inputs, request.output_filter, timeout_s)
    response = predict_pb2.PredictResponse()
    _describe(response.model_spec, servable, request.model_spec.name, name)
    for alias, array in outputs.items():
        if tensor_content:
            _write_content(response.outputs[alias], array)
        else:
            write_fields(response.outputs[alias], array)
    return response


def classify(predictor: Predictor, servable: Servable, request: Any, timeout_s: float | None = None) -> Any:
    """A ClassificationResponse."""
    name = request.model_spec.signature_name
    response = classification_pb2.ClassificationResponse(
        result=predictor.classify(servable, name, request.input, timeout_s))
    _describe(response.model_spec, servable, request.model_spec.name, name)
    return response


def regress(predictor: Predictor, servable: Servable, request: Any, timeout_s: float | None = None) -> Any:
    """A RegressionResponse."""
    name = request.model_spec.signature_name
    response = regression_pb2.RegressionResponse(
        result=predictor.regress(servable, name, request.input, timeout_s))
    _describe(response.model_spec, servable, request.model_spec.name, name)
    return response


def multi_inference(predictor: Predictor, servable: Servable, request: Any, timeout_s: float | None = None) -> Any:
    """A MultiInferenceResponse."""
    tasks = [(model_spec(task.model_spec), task.method_name) for task in request.tasks]
    response = inference_pb2.MultiInferenceResponse()
    results = predictor.multi_inference(servable, tasks, request.input, timeout_s)
    for (spec, method), result in zip(tasks, results, strict=True):
        made = response.results.add()
        _describe(made.model_spec, servable, spec.name, spec.signature_name)
        if method == CLASSIFY_METHOD:
            made.classification_result.CopyFrom(result)
        else:
            made.regression_result.CopyFrom(result)
    return response


def count_examples(message: Any) -> int:
    """How many tf.Examples an Input message holds."""
    kind = message.WhichOneof("kind")
    return len(getattr(message, kind).examples) if kind else 0


def write_fields(proto: Any, array: Array) -> None:  # decision 35
    """Writes an array as the original does: into the typed fields."""
    _write_head(proto, array)
    packed = _PACKED.get(array.dtype)
    if packed is not None:
        if array.size:
            proto.MergeFromString(packed + _varint(array.nbytes) + array.tobytes())
    elif array.dtype in _NUMBERS:
        getattr(proto, _NUMBERS[array.dtype]).extend(array.ravel().tolist())
    elif array.dtype == object:
        proto.string_val.extend(array.ravel().tolist())
    elif array.dtype.itemsize == 2:
        proto.half_val.extend(array.ravel().view(np.uint16).tolist())
    else:
        # The narrow and quantized types, which are rare: clients read them from tensor_content as well.
        _write_content(proto, array)


def _write_content(proto: Any, array: Array) -> None:
    if array.dtype == object:
        _write_head(proto, array)
        elements = array.ravel().tolist()
        proto.tensor_content = b"".join([_varint(len(e)) for e in elements] + elements)
    else:
        proto.CopyFrom(to_proto(array))


def _write_head(proto: Any, array: Array) -> None:
    proto.dtype = data_type(array.dtype)
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def _describe(message: Any, servable: Servable, name: str, signature_name: str) -> None:
    message.name = name
    message.version.value = servable.version
    message.signature_name = signature_name or DEFAULT_SIGNATURE


class _Inputs(Mapping[str, Array]):
    """The inputs of a PredictRequest; each becomes an array when it is looked up."""

    __slots__ = ("_protos", "_specs")

    def __init__(self, protos: Mapping[str, tensor_pb2.TensorProto], specs: Mapping[str, TensorSpec]) -> None:
        self._protos = protos
        self._specs = specs

    def __getitem__(self, alias: str) -> Array:
        proto = self._protos[alias]
        try:
            return to_ndarray(proto)
        except ValueError:
            if proto.dtype == types_pb2.DT_RESOURCE:
                raise invalid(
                    "Invalid resource type hash code: 0(name:  type: ). Perhaps a resource tensor was being provided "
                    "as a feed? That is not currently allowed. Please file an issue at "
                    "https://github.com/tensorflow/tensorflow/issues/new, ideally with a short code snippet that "
                    "leads to this error message.") from None
            if proto.dtype == types_pb2.DT_VARIANT and alias in self._specs:
                wanted = data_type_name(self._specs[alias].dtype).removeprefix("DT_").lower()
                raise invalid(f"Expects arg[{list(self._specs).index(alias)}] to be {wanted} but variant is "
                              "provided") from None
            raise invalid(f"tensor parsing error: {alias}") from None

    def __contains__(self, alias: object) -> bool:
        return alias in self._protos

    def __iter__(self) -> Iterator[str]:
        return iter(self._protos)

    def __len__(self) -> int:
        return len(self._protos)
