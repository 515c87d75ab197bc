"""The JSON of TensorFlow Serving's REST API for clients: writes requests, reads answers."""
import base64
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from google.protobuf.json_format import ParseDict

from serving.client.payloads import Array, Arrays, TensorSpec, specs_of
from serving.client.protocol import Metadata, Signature, VersionStatus
from serving.protos import meta_graph_pb2
from user_error import UserError


def request_body(inputs: Arrays, signature_name: str = "", layout: str = "row",
                 extra: Mapping[str, Any] | None = None) -> bytes:
    """A predict request. In row form if every input has the same first size, unless `layout` is "column".

    Raises ValueError for complex inputs, which JSON cannot carry.
    """
    head: dict[str, Any] = {"signature_name": signature_name} if signature_name else {}
    batches = {array.shape[0] if np.ndim(array) else None for array in inputs.values()}
    if layout == "row" and len(batches) == 1 and batches != {None}:
        return _dump({**head, "instances": _rows({name: _json_value(array) for name, array in inputs.items()}),
                      **(extra or {})}, inputs)
    return _dump({**head, "inputs": {name: _json_value(array) for name, array in inputs.items()}}, inputs)


def outputs(raw: bytes, specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    """The outputs of an answer in row or column form, in their signature's dtypes.

    Raises UserError if this is not an answer to predict, or not one for this signature.
    """
    answer = _load(raw)
    if "predictions" in answer:
        rows = answer["predictions"]
        named = len(specs) > 1
        columns = {name: [row[name] for row in rows] for name in specs} if named else dict.fromkeys(specs, rows)
    elif "outputs" in answer:
        columns = answer["outputs"] if len(specs) > 1 else dict.fromkeys(specs, answer["outputs"])
    else:
        raise UserError(f"this is no answer to predict: it has neither 'predictions' nor 'outputs' ({raw[:80]!r})")
    missing = [name for name in specs if name not in columns]
    if missing:
        raise UserError(f"the answer has no output '{missing[0]}'; it has: {', '.join(columns)}")
    return {name: to_array(columns[name], spec) for name, spec in specs.items()}


def metadata(raw: bytes) -> Metadata:
    answer = _load(raw)
    try:
        signatures = answer["metadata"]["signature_def"]["signature_def"]
        return Metadata(answer["model_spec"]["name"], int(answer["model_spec"]["version"]), {
            name: Signature(definition.get("method_name", ""), _specs(definition, "inputs"),
                            _specs(definition, "outputs"))
            for name, definition in signatures.items()})
    except (KeyError, TypeError) as error:
        raise UserError(f"this is no metadata of a model: {error} is missing ({raw[:80]!r})") from None


def status(raw: bytes) -> tuple[VersionStatus, ...]:
    """The versions in TensorFlow Serving's answer, or in KServe's {"name", "ready"}, whose models have one version."""
    answer = _load(raw)
    if "ready" in answer:
        ready = str(answer["ready"]).lower() == "true"  # some runtimes write it as a string
        return (VersionStatus(1, "AVAILABLE" if ready else "LOADING"),)
    try:
        return tuple(VersionStatus(int(one["version"]), one["state"], one["status"]["error_code"],
                                   one["status"]["error_message"])
                     for one in answer["model_version_status"])
    except (KeyError, TypeError) as error:
        raise UserError(f"this is no status of a model: {error} is missing ({raw[:80]!r})") from None


def plain_values(array: Array) -> Any:
    """Nested lists for any JSON reader: strings as text or {"b64"}, NaN and infinities as strings."""
    if array.dtype.kind == "O":
        return _map_leaves(array.tolist(), _json_string)
    if array.dtype.kind == "c":
        return _map_leaves(array.tolist(), str)
    value = _json_value(array)
    return _map_leaves(value.tolist() if isinstance(value, np.ndarray) else value, _finite_or_word)


def error_message(raw: bytes) -> str:
    """The message in the body of an error: {"error": "..."}, {"error": {"message": "..."}}, or else the body itself."""
    try:
        error = json.loads(raw)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return raw[:200].decode(errors="replace")


def _rows(columns: Mapping[str, Any]) -> Any:
    """One entry per example: its tensor itself when there is one input, else {name: tensor}."""
    if len(columns) == 1:
        return next(iter(columns.values()))
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _json_value(array: Any) -> Any:
    """A value that orjson can write: a contiguous array of a dtype that it knows, or nested lists."""
    array = np.asarray(array)
    if array.dtype.kind in "OSU":
        return _map_leaves(array.tolist(), _json_string)
    if array.dtype.kind == "c":
        raise ValueError(f"JSON has no {array.dtype.name}: use gRPC")
    if array.dtype.names:
        array = array.view(array.dtype[0])
    if array.dtype.kind not in "fiub" or (array.dtype.itemsize < 4 and array.dtype != np.bool_):
        array = array.astype(np.float32 if "float" in array.dtype.name else np.int64)
    return np.ascontiguousarray(array) if array.ndim else array.item()


def _dump(body: Mapping[str, Any], inputs: Arrays) -> bytes:
    if all(_is_finite(array) for array in inputs.values()):
        return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    # orjson writes null for NaN and infinity; Python's json writes NaN and Infinity, which the server reads.
    return json.dumps(body, default=lambda array: array.tolist()).encode()


def _is_finite(array: Any) -> bool:
    array = np.asarray(array)
    return "float" not in array.dtype.name or bool(np.isfinite(array).all())


def _json_string(value: Any) -> Any:
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def to_array(value: Any, spec: TensorSpec) -> Array:
    """The array of nested lists in the dtype of `spec`. Raises ValueError for lists of unequal length."""
    if spec.dtype.kind == "O":
        return _string_array(value)
    if value == []:  # has no information about the other axes
        return np.zeros([0, *(max(size, 0) for size in (spec.shape or ())[1:])], spec.dtype)
    array = np.array(value)
    if spec.dtype.names:
        return array.astype(spec.dtype[0]).view(spec.dtype)
    return array.astype(spec.dtype, copy=False)


def _string_array(value: Any) -> Array:
    shape: list[int] = []
    level = value
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0] if level else None
    flat: list[bytes] = []
    _map_leaves(value, lambda leaf: flat.append(
        base64.b64decode(leaf["b64"]) if isinstance(leaf, dict) else str(leaf).encode()))
    array = np.empty(len(flat), object)
    array[:] = flat
    return array.reshape(shape)


def _finite_or_word(value: Any) -> Any:
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


def _map_leaves(value: Any, function: Any) -> Any:
    return [_map_leaves(item, function) for item in value] if isinstance(value, list) else function(value)


def _specs(definition: Mapping[str, Any], side: str) -> dict[str, TensorSpec]:
    return specs_of({name: ParseDict(tensor, meta_graph_pb2.TensorInfo(), ignore_unknown_fields=True)
                     for name, tensor in definition.get(side, {}).items()})


def _load(raw: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        try:
            value = json.loads(raw)  # slower, but reads the server's NaN and Infinity
        except ValueError:
            value = None
    if not isinstance(value, dict):
        raise UserError(f"the answer is no JSON object: {raw[:80]!r}")
    return value
