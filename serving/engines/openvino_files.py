"""assets.extra/openvino/ of a version -> what it holds, each file compared with the checksum that was written with it.

    {"precision": "float32" | "bfloat16" | "int8",
     "graphs": [{"model": "0.xml", "weights": "0.bin",
                 "inputs": ["serving_default_image:0", ...],        tensors of saved_model.pb, in the graph's order
                 "outputs": ["StatefulPartitionedCall:0", ...],
                 "limits": {"ids:0": 30522}}],                      inputs that are indices: the size of the table
     "left": {"classify": "why that signature was not converted"},
     "sha256": {"0.xml": "hex", "0.bin": "hex"}}
"""
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from other_engines import OPENVINO
from serving.engines.damage import again, check_digest, damaged
from serving.errors import UNREADABLE, Code, ServingError
from serving.remote_path import StorageError

PRECISIONS = "float32", "bfloat16", "int8"


@dataclass(frozen=True, slots=True)
class GraphFiles:
    """One graph (IR): its two files, and the tensors of saved_model.pb that it takes and gives.

    `limits`: by input, the size of the table in which its values are looked up.
    """

    path: Path
    model: bytes
    weights: bytes
    inputs: Sequence[str]
    outputs: Sequence[str]
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OpenVINOFiles:
    """Everything in the directory. `left`: signatures that were not converted, with the reason."""

    precision: str
    graphs: Sequence[GraphFiles]
    left: Mapping[str, str]


def read_openvino_files(version: Path) -> OpenVINOFiles:
    """Reads and checks the files of a version. Raises ServingError that names the file that is not as it was made."""
    listing = version / OPENVINO.file
    try:
        content = json.loads(_bytes(listing))
    except ValueError:
        raise damaged(listing, "it is not JSON", OPENVINO.name) from None
    try:
        precision, left, digests = content["precision"], content["left"], content["sha256"]
        named = [(one["model"], one["weights"], one["inputs"], one["outputs"], one.get("limits", {}))
                 for one in content["graphs"]]
    except (KeyError, TypeError) as error:
        missing = f"it has no {error}" if isinstance(error, KeyError) else "it has another form"
        raise damaged(listing, missing, OPENVINO.name) from None
    if precision not in PRECISIONS:
        raise damaged(listing, f"its precision is {precision!r}, not one of {', '.join(PRECISIONS)}", OPENVINO.name)
    if not (isinstance(left, dict) and isinstance(digests, dict) and named
            and all(_are_texts([model, weights]) and _are_texts(inputs) and _are_texts(outputs) and outputs
                    and _are_sizes(limits) for model, weights, inputs, outputs, limits in named)):
        raise damaged(listing, "it has another form", OPENVINO.name)
    return OpenVINOFiles(precision, [GraphFiles(
        listing.parent / model, _checked(listing, model, digests), _checked(listing, weights, digests), inputs, outputs,
        limits) for model, weights, inputs, outputs, limits in named], left)


def _checked(listing: Path, name: str, digests: Mapping[str, Any]) -> bytes:
    if name not in digests or Path(name).name != name:
        raise damaged(listing, f"it has no checksum of a file '{name}'", OPENVINO.name)
    content = _bytes(listing.parent / name)
    check_digest(listing.parent / name, content, digests[name], listing.name, OPENVINO.name)
    return content


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except StorageError:
        raise
    except PermissionError:
        raise ServingError(Code.PERMISSION_DENIED, f"{file}; Permission denied", UNREADABLE) from None
    except OSError as error:
        raise ServingError(Code.NOT_FOUND, f"{file}; {error.strerror}", again(OPENVINO.name)) from None


def _are_sizes(values: Any) -> bool:
    return isinstance(values, dict) and all(isinstance(size, int) and size > 0 for size in values.values())


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)
