"""A signature of a version with the names of its tensors, read from its model file without TensorFlow."""
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from serving.protos import saved_model_pb2
from user_error import UserError
from version_directory import read_model


def read(version: Path, name: str) -> Any:
    """The SignatureDef `name` of the graph that is served. Raises UserError if there is none of that name."""
    saved = saved_model_pb2.SavedModel()
    read_model(version, saved)
    served = next((graph for graph in saved.meta_graphs if "serve" in graph.meta_info_def.tags), None)
    if served is None:
        raise UserError(f"{version} has no graph to serve (tag 'serve'): export the model for serving")
    if name not in served.signature_def:
        there = sorted(key for key in served.signature_def if not key.startswith("__"))  # those are TF2's own
        raise UserError(f"no signature '{name}': there are {', '.join(there) or 'none'}")
    return served.signature_def[name]


def refuse_missing(what: str, wanted: Iterable[str], there: Iterable[str], file: Path, remedy: str) -> None:
    """Raises UserError if `file` lacks one of the wanted inputs or outputs."""
    found = set(there)
    missing = sorted(set(wanted) - found)
    if missing:
        raise UserError(f"{file} has no {what} '{missing[0]}', which the signature has, only "
                        f"{', '.join(sorted(found)) or 'none'}: {remedy}")
