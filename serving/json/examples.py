"""REST classify and regress bodies -> the Input message: a list of tf.Examples, optionally with a shared context."""
from typing import Any

from serving.errors import ServingError, invalid
from serving.json.rapidjson import Value, members
from serving.json.tensor import parse_document, signature_name
from serving.json.values import c_string, decode_base64, format_error, is_base64, type_name
from serving.protos import example_pb2, feature_pb2, input_pb2

_INT64_END = 2**63
_KIND_OF = {dict: "bytes_list", str: "bytes_list", float: "float_list"}
_KINDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


def parse_examples(body: bytes) -> tuple[str, Any]:
    """The signature name and the Input message of a body. Raises INVALID_ARGUMENT with the original's message."""
    doc = parse_document(body)
    name = signature_name(doc)
    message = input_pb2.Input()
    examples = message.example_list.examples
    if "context" in doc:
        with_context = message.example_list_with_context
        with_context.context.CopyFrom(_example(doc["context"]))
        examples = with_context.examples
    if "examples" not in doc:
        # The original's text says "classify" for both methods.
        raise format_error(doc, "When method is classify, key 'examples' is expected and was not found")
    if not isinstance(doc["examples"], list):
        raise format_error(doc, "Expecting 'examples' value to be an list/array")
    if not doc["examples"]:
        raise format_error(doc, "'examples' value is an empty array")
    examples.extend(map(_example, doc["examples"]))
    return name, message


def _example(value: Value) -> Any:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {type_name(value)}")
    example = example_pb2.Example()
    features = example.features.feature
    for key, content in members(value):
        name = c_string(key)
        feature = feature_pb2.Feature()
        for item in content if isinstance(content, list) else [content]:
            _add(feature, name, item)
        features[name.encode("utf-8", "replace").decode()].CopyFrom(feature)
    return example


def _add(feature: Any, name: str, value: Value) -> None:
    if value is None or isinstance(value, list) or (isinstance(value, dict) and not is_base64(value)):
        raise invalid(f"Feature: {name} has element with unexpected JSON type: {type_name(value)}")
    kind = _KIND_OF.get(type(value), "int64_list")
    chosen = feature.WhichOneof("kind")
    if chosen not in (None, kind):
        raise _mixed(name, chosen)
    if isinstance(value, int) and value >= _INT64_END:
        raise invalid(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
    if isinstance(value, dict):
        value = decode_base64(value["b64"])
    elif isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    elif isinstance(value, bool):
        value = int(value)
    getattr(feature, kind).value.append(value)


def _mixed(name: str, kind: str) -> ServingError:
    return invalid(f"Unexpected element type in feature: {name} expecting type: {_KINDS[kind]}")
