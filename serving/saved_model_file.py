"""saved_model.pb -> MetaGraphDef, without TensorFlow: an invalid file is reported before TensorFlow is imported."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serving.errors import UNREADABLE, Code, ServingError, not_found
from serving.protos import saved_model_pb2
from serving.remote_path import StorageError
from version_directory import DamagedModelError, NoModelError, read_model


def read_meta_graph(path: Path, tags: Sequence[str]) -> Any:
    """The MetaGraphDef with exactly these tags. Raises ServingError with the original's message."""
    try:
        return _read(path, tags)
    except StorageError as error:
        raise ServingError(error.code, f"{error.filename}; {error.strerror}", error.advice) from None
    except PermissionError as error:
        raise ServingError(Code.PERMISSION_DENIED, f"{error.filename}; Permission denied", UNREADABLE) from None


def _read(path: Path, tags: Sequence[str]) -> Any:
    model = saved_model_pb2.SavedModel()
    try:
        read_model(path, model)
    except DamagedModelError as error:
        if error.file.suffix == ".pbtxt":
            raise ServingError(Code.DATA_LOSS, f"Can't parse {error.file} as text proto") from None
        if _ends_early(error.file.read_bytes()):
            raise ServingError(Code.OUT_OF_RANGE, "Read less bytes than requested") from None
        raise ServingError(Code.DATA_LOSS, f"Can't parse {error.file} as binary proto") from None
    except NoModelError:
        if path.exists() and not path.is_dir():
            raise ServingError(
                Code.FAILED_PRECONDITION, "Error while attempting to reserve resources to load servable "
                f"{{name: {path.parent.name} version: {path.name}}}: {path}; Not a directory") from None
        # It may also be a SavedModel whose large parts are in separate files; TensorFlow itself reads those.
        raise not_found("Specified file path does not appear to contain a SavedModel bundle (should have a file "
                        f"called `saved_model.pb`)\nSpecified file path: {path}") from None
    for meta_graph in model.meta_graphs:
        if set(meta_graph.meta_info_def.tags) == set(tags):
            return meta_graph
    there = ", ".join(f"{{ {' '.join(each.meta_info_def.tags)} }}" for each in model.meta_graphs) or "no graph"
    named = " ".join(reversed(dict.fromkeys(tags)))  # the order in which the original prints one or two tags
    raise not_found(f"Could not find meta graph def matching supplied tags: {{ {named} }}. To "
                    "inspect available tag-sets in the SavedModel, please use the SavedModel CLI: `saved_model_cli`",
                    f"The version has {there}; --saved_model_tags takes the tags of one of these.")


def _ends_early(data: bytes) -> bool:
    """Whether a message that does not parse was cut off: its lengths say that it is longer than the file."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    try:
        while at < len(data):
            kind = varint() & 7
            if kind == 0:
                varint()
            elif kind == 2:
                length = varint()
                at += length
            elif kind in (1, 5):
                at += 8 if kind == 1 else 4
            else:
                return False
    except IndexError:
        return True
    return at > len(data)
