"""The model.tflite of a version -> its content, if it can do the server no harm, and the signatures in it.

LiteRT checks the form of a file, not what it says. A file with a wrong byte may end the process, run for ever, take
all memory, or give other answers. So a file must have the checksum that the version's manifest states. One that was
made elsewhere has none: it is loaded and run once in a process of its own before the server touches it.
"""
import json
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers
from google.protobuf.message import DecodeError

from other_engines import LITERT
from serving.engines.damage import check_digest, damaged
from serving.errors import Code, ServingError, invalid
from serving.memory import free_bytes
from serving.protos import meta_graph_pb2
from version_directory import MANIFEST, read_manifest

SIGNATURES = b"signature_defs_metadata"  # the name that the original looks for
_TRIAL = Path(__file__).with_name("litert_apart.py")
_SHARE = 0.75  # of the free memory, that a trial may take
_CPU_S = 30  # one example takes far less
_LONGEST_S = 300.0


def read(version: Path) -> bytes:  # decision 205
    """The content of a version's model.tflite. Raises ServingError that says what is wrong with it."""
    file = version / LITERT.file
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ServingError(Code.NOT_FOUND, f"{error.filename}; {error.strerror}") from None
    if not content:
        raise no_model("The file is empty")
    if (stated := _stated(version)) is None:
        _try_apart(file, content)
    else:
        check_digest(file, content, stated, MANIFEST.name, LITERT.name)
    return content


def no_model(reason: object) -> ServingError:
    """The error for a file that LiteRT does not take."""
    said = " ".join(str(reason).split())
    return invalid(f"Cannot build FlatBufferModel from buffer. {said}", "Convert the model again: the file was "
                   "cut, altered, or uses operations that LiteRT does not have.")


def not_allocated(reason: object) -> ServingError:
    """The error for a model whose operations do not fit together."""
    return ServingError(Code.INTERNAL, f"Failed to allocate tensors: {reason}")


_SLOW = "a process that ran it once did not come to an end"


def _stated(version: Path) -> Any:
    """The checksum that the manifest has for the file; None if it has none."""
    found: Any = read_manifest(version)
    for key in ("engines", LITERT.name, "sha256", str(LITERT.file)):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _try_apart(file: Path, content: bytes) -> None:
    """Runs the model in a process of its own. Raises ServingError if that ends, or the model does not load."""
    free = free_bytes()
    command = [sys.executable, "-P", str(_TRIAL), str(_CPU_S), str(0 if free is None else max(int(free * _SHARE), 1))]
    try:
        trial = subprocess.run(command, input=content, capture_output=True, timeout=_LONGEST_S, check=False)
    except subprocess.TimeoutExpired:
        raise damaged(file, _SLOW, LITERT.name) from None
    except OSError as error:
        raise ServingError(Code.RESOURCE_EXHAUSTED, f"{file} cannot be tried in a process of its own: "
                           f"{error.strerror}", "See whether the server may start processes.") from None
    if trial.returncode < 0:
        name = signal.Signals(-trial.returncode).name
        reason = _SLOW if name == "SIGXCPU" else f"a process that ran it once was ended by {name}"
        raise damaged(file, reason, LITERT.name)
    if trial.returncode:
        said = trial.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ServingError(Code.INTERNAL, f"{file} cannot be tried in a process of its own: {said}")
    found = json.loads(trial.stdout.splitlines()[-1])
    match found.get("failed"):
        case "build":
            raise no_model(found["reason"])
        case "allocate":
            raise not_allocated(found["reason"])
        case "memory":
            raise damaged(file, f"a process that ran it once found no memory: {found['reason']}", LITERT.name)


def signatures(content: bytes) -> dict[str, Any]:
    """The SignatureDefs in the file's metadata by key; none if it has none. Raises INVALID_ARGUMENT."""
    try:
        model = schema.Model.GetRootAs(content, 0)
        for place in range(model.MetadataLength()):
            metadata = model.Metadata(place)
            if metadata.Name() == SIGNATURES:
                found = flexbuffers.GetRoot(bytes(model.Buffers(metadata.Buffer()).DataAsNumpy())).AsMap
                return {key.AsKeyBytes.decode(): meta_graph_pb2.SignatureDef.FromString(value.AsStringBytes)
                        for key, value in zip(found.Keys, found.Values, strict=True)}
    except (DecodeError, ValueError, TypeError, KeyError, IndexError, struct.error) as error:
        raise invalid(f"Invalid SignatureDefs found in TfLite model: {error}") from None
    return {}
