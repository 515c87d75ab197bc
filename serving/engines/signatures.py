"""SignatureDef messages -> the values that the server uses."""
from collections.abc import Mapping
from typing import Any

from google.protobuf import text_format

from serving.client.payloads import shape_of
from serving.protos import get_model_metadata_pb2, meta_graph_pb2
from serving.servable import Signature, TensorSpec
from serving.tensor_proto import to_ndarray

# TensorFlow lists a model's init op and training op among its signatures; no client calls them.
_NOT_CALLED = "__saved_model_init_op", "__saved_model_train_op"


def signature_of(name: str, message: Any) -> Signature:
    def specs(tensors: Mapping[str, Any]) -> dict[str, TensorSpec]:
        return {alias: TensorSpec(info.name, info.dtype, shape_of(info)) for alias, info in sorted(tensors.items())}

    copy = meta_graph_pb2.SignatureDef()
    copy.CopyFrom(message)
    return Signature(name, message.method_name, specs(message.inputs), specs(message.outputs),
                     {alias: to_ndarray(value) for alias, value in message.defaults.items()},
                     text_format.MessageToString(copy))


def map_of(meta_graph: Any) -> Any:
    """The SignatureDefMap of a MetaGraphDef, as GetModelMetadata answers it."""
    made = get_model_metadata_pb2.SignatureDefMap()
    for key, message in meta_graph.signature_def.items():
        made.signature_def[key].CopyFrom(message)
    return made


def signatures_of(metadata: Any) -> dict[str, Signature]:
    """The signatures in a SignatureDefMap that clients may call."""
    return {key: signature_of(key, message) for key, message in metadata.signature_def.items()
            if key not in _NOT_CALLED}
