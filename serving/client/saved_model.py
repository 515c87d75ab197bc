"""A SavedModel's signatures, read from its files: for servers that do not report them."""
from pathlib import Path

from serving.client.payloads import specs_of
from serving.client.protocol import Metadata, Signature
from serving.protos import saved_model_pb2
from user_error import UserError
from version_directory import number, read_model

SERVE = {"serve"}


def metadata_of(path: str | Path, model: str | None = None) -> Metadata:  # decision 54
    """The signatures of a version directory, without TensorFlow. `model` is its name (default: models/NAME/...).

    Raises UserError if it is not a SavedModel, or has no graph to serve.
    """
    version = Path(path).resolve()
    saved = saved_model_pb2.SavedModel()
    try:
        read_model(version, saved)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from None
    for graph in saved.meta_graphs:
        if set(graph.meta_info_def.tags) == SERVE:
            return Metadata(
                model or version.parent.parent.name, number(version.name) or 1,
                {name: Signature(definition.method_name, specs_of(definition.inputs), specs_of(definition.outputs))
                 for name, definition in graph.signature_def.items()})
    raise UserError(f"{path} has no graph tagged 'serve'")
