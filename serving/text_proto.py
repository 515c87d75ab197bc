"""Configuration files: protocol buffers in text form, and the messages for which no Python package is published."""
import re
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from google.protobuf.message import Message

from serving.errors import Code, ServingError, invalid

M = TypeVar("M", bound=Message)

# Field numbers do not matter in text form; names and types are TensorFlow Serving's.
_MESSAGES: dict[str, dict[str, str]] = {
    "PrometheusConfig": {"enable": "bool", "path": "string"},
    "MonitoringConfig": {"prometheus_config": "tensorflow.serving.PrometheusConfig"},
    "SSLConfig": {"server_key": "string", "server_cert": "string", "custom_ca": "string", "client_verify": "bool"},
    "BatchingParameters": {
        "max_batch_size": "google.protobuf.Int64Value",
        "batch_timeout_micros": "google.protobuf.Int64Value",
        "max_enqueued_batches": "google.protobuf.Int64Value",
        "num_batch_threads": "google.protobuf.Int64Value",
        "thread_pool_name": "google.protobuf.StringValue",
        "allowed_batch_sizes": "repeated int64",
        "pad_variable_length_inputs": "bool",
        "enable_large_batch_splitting": "google.protobuf.BoolValue",
        "max_execution_batch_size": "google.protobuf.Int64Value",
    },
}


def _message_classes() -> dict[str, Any]:
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="serving/text_proto.proto", package="tensorflow.serving", syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"])
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), 1):
            repeated, kind = kind.startswith("repeated "), kind.removeprefix("repeated ")
            made = message.field.add(name=field, number=number,
                                     label=kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL)
            if "." in kind:
                made.type, made.type_name = kinds.TYPE_MESSAGE, f".{kind}"
            else:
                made.type = kinds.Type.Value(f"TYPE_{kind.upper()}")
    # A pool of its own: the real definitions may be loaded beside these.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tensorflow.serving.{name}"))
            for name in _MESSAGES}


_CLASSES = _message_classes()


def message(name: str) -> Any:
    """A new MonitoringConfig, SSLConfig or BatchingParameters."""
    return _CLASSES[name]()


def read(path: str, into: M) -> M:
    """Parses a file into the message. Raises ServingError in the original's words, with place and reason."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise invalid(f"Invalid protobuf file: '{path}': it is not text") from None
    except OSError as error:
        code = Code.NOT_FOUND if isinstance(error, FileNotFoundError) else Code.FAILED_PRECONDITION
        raise ServingError(code, f"{path}; {error.strerror}") from None
    if not text:
        raise invalid(f"{path}; Invalid argument: the file is empty")
    try:
        text_format.Parse(text, into)
    except text_format.ParseError as error:
        raise invalid(f"Invalid protobuf file: '{path}': Error parsing text-format "
                      f"{into.DESCRIPTOR.full_name}: {_place_and_reason(error, text)}") from None
    return into


def _place_and_reason(error: text_format.ParseError, text: str) -> str:
    """protobuf's C++ words, which people can search for; C++ names the place after an unknown field's name."""
    reason = re.sub(r"^\d+:\d+ : ('.*': )?", "", str(error)).rstrip()
    line, column = error.GetLine() or 1, error.GetColumn() or 1
    if unknown := re.search(r'has no field named "(\w+)"', reason):
        start = sum(len(each) for each in text.splitlines(keepends=True)[:line - 1]) + column - 1
        name_end = start + len(unknown[1])
        after = re.match(r"(?:\s|#[^\n]*)*", text[name_end:])
        assert after is not None
        before = text[:name_end + after.end()]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        if not text[len(before):]:
            column = len(before.rstrip()) - before.rstrip().rfind("\n")
            line = before.rstrip().count("\n") + 1
    reason = re.sub(r"Couldn't parse integer: (.*)", r"Expected integer, got: \1", reason)
    return f"{line}:{column}: {reason}"
