"""SignatureDef messages -> the values that the server uses."""
from collections.abc import Mapping
from typing import Any

from google.protobuf import text_format

from serving.client.payloads import shape_of
from serving.protos import meta_graph_pb2
from serving.servable import Signature, TensorSpec
from serving.tensor_proto import to_ndarray


def signature_of(name: str, message: Any) -> Signature:
    def specs(tensors: Mapping[str, Any]) -> dict[str, TensorSpec]:
        return {alias: TensorSpec(info.name, info.dtype, shape_of(info)) for alias, info in sorted(tensors.items())}

    copy = meta_graph_pb2.SignatureDef()
    copy.CopyFrom(message)
    return Signature(name, message.method_name, specs(message.inputs), specs(message.outputs),
                     {alias: to_ndarray(value) for alias, value in message.defaults.items()},
                     text_format.MessageToString(copy))
