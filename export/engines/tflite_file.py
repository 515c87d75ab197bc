"""Signatures in a .tflite file, where TensorFlow Serving looks for them (`--prefer_tflite_model`).

TensorFlow's converter writes signatures in a form that only interpreters read. A server that finds none in the file's
metadata makes one up, whose keys are names of tensors: clients would have to change.
"""
from collections.abc import Mapping
from typing import Any

import numpy as np

from user_error import UserError

_NAME = b"signature_defs_metadata"


def with_signatures(content: bytes, signatures: Mapping[str, Any]) -> bytes:
    """The file with SignatureDef messages by key. Their tensor names are those of the file's tensors."""
    import flatbuffers
    from flatbuffers import flexbuffers
    from tensorflow.lite.python import schema_py_generated as schema
    texts = {key: _without_zeros(key, message) for key, message in sorted(signatures.items())}
    builder = flexbuffers.Builder()
    with builder.Map():
        for key, text in texts.items():
            builder.Key(key.encode())
            builder.String(text)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    kept = [one for one in model.metadata or [] if one.name != _NAME]
    buffer, metadata = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(bytes(builder.Finish()), np.uint8)
    model.buffers.append(buffer)
    metadata.name, metadata.buffer = _NAME.decode(), len(model.buffers) - 1
    model.metadata = [*kept, metadata]
    written = flatbuffers.Builder(len(content))
    written.Finish(model.Pack(written), b"TFL3")
    return bytes(written.Output())


def tensor_names(content: bytes) -> list[str]:
    """The names of the inputs and then of the outputs, in the order in which the converter was given them."""
    from tensorflow.lite.python import schema_py_generated as schema
    graph = schema.Model.GetRootAs(content, 0).Subgraphs(0)
    return [graph.Tensors(index).Name().decode()
            for index in (*graph.InputsAsNumpy().tolist(), *graph.OutputsAsNumpy().tolist())]


class _Bytes(bytes):
    """A string of bytes for the builder, which would write text in UTF-8."""

    def encode(self, _encoding: str) -> bytes:
        return bytes(self)


def _without_zeros(key: str, message: Any) -> _Bytes:
    """The message in bytes. The original reads it up to the first byte of zero, which empty parts are written as."""
    copy = type(message)()
    copy.CopyFrom(message)
    for info in (*copy.inputs.values(), *copy.outputs.values()):
        if not info.tensor_shape.dim and not info.tensor_shape.unknown_rank:
            info.ClearField("tensor_shape")  # a scalar's, with the same meaning
    text = _Bytes(copy.SerializeToString(deterministic=True))
    if 0 in text or "\0" in key:
        raise UserError(f"signature '{key}' cannot be written into a .tflite file: a name or a shape of it is empty")
    return text
