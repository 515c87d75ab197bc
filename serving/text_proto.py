"""Configuration files: protocol buffers in text form, and the messages for which no Python package is published."""
import re
from typing import Any, TypeVar

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from google.protobuf.message import Message

from serving.errors import UNREADABLE, Code, ServingError, invalid
from serving.remote_path import StorageError, path_of

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
    # In a separate pool, since the real definitions may be loaded in the default one.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tensorflow.serving.{name}"))
            for name in _MESSAGES}


_CLASSES = _message_classes()


def message(name: str) -> Any:
    """A new MonitoringConfig, SSLConfig or BatchingParameters."""
    return _CLASSES[name]()


def read_text(path: str) -> str:
    """A configuration file's text. Raises ServingError with the messages of the original (which uses mmap)."""
    try:
        text = path_of(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise invalid(f"Invalid protobuf file: '{path}': it is not text") from None
    except IsADirectoryError:
        raise ServingError(Code.NOT_FOUND, f"{path}; No such device: it is a directory") from None
    except StorageError as error:
        raise ServingError(error.code, f"{path}; {error.strerror}", error.advice) from None
    except OSError as error:
        code = {FileNotFoundError: Code.NOT_FOUND, PermissionError: Code.PERMISSION_DENIED}.get(
            type(error), Code.FAILED_PRECONDITION)
        raise ServingError(code, f"{path}; {error.strerror}",
                           UNREADABLE if isinstance(error, PermissionError) else "") from None
    if not text:
        raise invalid(f"{path}; Invalid argument: the file is empty")
    return text


def read(path: str, into: M) -> M:
    """Parses a file into the message. Raises ServingError with the original's message, place and reason."""
    return parsed(path, read_text(path), into)


def parsed(path: str, text: str, into: M) -> M:
    """The same of a file's text."""
    try:
        text_format.Parse(text, into)
    except text_format.ParseError as error:
        raise invalid(f"Invalid protobuf file: '{path}': Error parsing text-format "
                      f"{into.DESCRIPTOR.full_name}: {_place_and_reason(error, text)}") from None
    return into


# Messages of protobuf in Python -> those in C++, which the original prints, and the token whose position C++ reports:
# the wrong one ("this"), the next one, or the one before it.
_TOKEN = re.compile(r"""[+-]?[\w.]+|"[^"\n]*"|'[^'\n]*'|\S|$""")
_SPACE = re.compile(r"(?:\s|#[^\n]*)*")
_MESSAGES_OF_CPP = (
    (r'(Message type ".*" has no field named "\w+"\.)', r"{0}", "next"),
    (r'Message type ".*" should not have multiple "(\w+)" fields\.',
     'Non-repeated field "{0}" is specified multiple times.', "before"),
    (r'(Field "\w+" is specified along with field "\w+", another member of oneof "\w+") .*', "{0}.", "next"),
    (r"Couldn't parse integer: .*", "Expected integer, got: {token}", "this"),
    (r"Value out of range: .*", "Integer out of range ({token})", "this"),
    (r"Expected string but found: .*", "Expected string, got: {token}", "this"),
    (r'Expected "true" or "false"\.', 'Invalid value for boolean field "{field}". Value: "{token}".', "next"),
    (r'Enum type ".*" has no value named (\w+)\.', 'Unknown enumeration value of "{0}" for field "{field}".', "next"),
    (r"Expected identifier or number, got .*", "Expected identifier, got: {token}", "this"),
    (r'Expected "[}>]"\.', "Expected identifier, got: ", "end"),
    (r'Expected "(.)"\.', 'Expected "{0}", found "{token}".', "this"),
)


def _place_and_reason(error: text_format.ParseError, text: str) -> str:
    reason = re.sub(r"^\d+:\d+ : ('.*': )?", "", str(error)).rstrip()
    lines = text.splitlines(keepends=True)
    at = len("".join(lines[:(error.GetLine() or 1) - 1])) + (error.GetColumn() or 1) - 1
    token = _TOKEN.match(text, at)
    assert token is not None
    for pattern, text_of_cpp, place in _MESSAGES_OF_CPP:
        if found := re.fullmatch(pattern, reason):
            field = re.search(r"(\w+)\s*:\s*$", text[:at])
            reason = text_of_cpp.format(*found.groups(), token=token[0], field=field[1] if field else "")
            if place == "end":
                at = len(text)
            elif place == "before" and token[0] not in "{<":
                at = text.rindex(":", 0, at)
            elif place == "next":
                space = _SPACE.match(text, token.end())
                assert space is not None
                at = space.end()
            break
    before = text[:at]
    return f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}: {reason}"
