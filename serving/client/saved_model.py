"""What a SavedModel takes and gives, read from its files: for servers that do not tell it themselves."""
from pathlib import Path

from google.protobuf.message import DecodeError

from serving.client.protocol import Metadata, Signature, specs_of
from serving.protos import saved_model_pb2
from user_error import UserError

SERVE = {"serve"}


def metadata_of(path: str | Path, model: str | None = None) -> Metadata:
    """The signatures of a version directory, without TensorFlow. `model` is its name (default: models/NAME/...).

    Raises UserError for what is no SavedModel or has no graph to serve.
    """
    version = Path(path).resolve()
    file = version / "saved_model.pb"
    try:
        saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    except OSError as error:
        raise UserError(f"{path} is no SavedModel: cannot read {file.name} ({error.strerror})") from None
    except DecodeError:
        raise UserError(f"{file} is corrupted: it is no SavedModel") from None
    for graph in saved.meta_graphs:
        if set(graph.meta_info_def.tags) == SERVE:
            return Metadata(
                model or version.parent.parent.name, int(version.name) if version.name.isdecimal() else 1,
                {name: Signature(definition.method_name, specs_of(definition.inputs), specs_of(definition.outputs))
                 for name, definition in graph.signature_def.items()})
    raise UserError(f"{path} has no graph tagged 'serve'")
