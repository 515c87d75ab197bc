"""tensorflow.ProfilerService on the gRPC port: records a trace of some seconds for TensorBoard's "capture profile".

The profile is written on the server's machine, into the directory that the request names. So only clients on this
machine are answered: otherwise strangers could write files here.
"""
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from serving.errors import Code, ServingError, invalid
from whole_file import write_bytes

SERVICE = "tensorflow.ProfilerService"
_LONGEST_MS = 600_000
_LOCAL = ("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "unix:")
_FIELDS: dict[str, dict[str, tuple[int, str]]] = {
    "ProfileRequest": {"duration_ms": (1, "uint64"), "repository_root": (5, "string"), "session_id": (6, "string"),
                       "host_name": (7, "string")},
    "ProfileResponse": {"empty_trace": (7, "bool")},
}


def _message_classes() -> dict[str, Any]:
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="serving/profiler.proto", package="tensorflow", syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            message.field.add(name=field, number=number, label=kinds.LABEL_OPTIONAL,
                              type=kinds.Type.Value(f"TYPE_{kind.upper()}"))
    # In a separate pool, since TensorFlow may have loaded the real definitions into the default one.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tensorflow.{name}"))
            for name in _FIELDS}


_CLASSES = _message_classes()


class Profiler:  # decision 142
    """Takes one profile at a time."""

    def __init__(self, stopping: threading.Event) -> None:
        """`stopping` ends a profile early."""
        self._stopping = stopping
        self._busy = threading.Lock()

    def handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        """The methods of the service: bytes in, bytes out."""
        return {"Profile": grpc.unary_unary_rpc_method_handler(self._handle)}

    def _handle(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            if not context.peer().startswith(_LOCAL):
                raise ServingError(Code.PERMISSION_DENIED, "profiles are written on the server's machine, and taken "
                                   "for clients on that machine only")
            request = _CLASSES["ProfileRequest"].FromString(data)
            answer: bytes = self.profile(request).SerializeToString()
            return answer
        except ServingError as error:
            status = next(status for status in grpc.StatusCode if status.value[0] == error.code.value)
            return bytes(context.abort(status, error.message))

    def profile(self, request: Any) -> Any:
        """Traces for `duration_ms` and writes repository_root/session_id/HOST.xplane.pb. Raises ServingError."""
        if not 0 < request.duration_ms <= _LONGEST_MS:
            raise invalid(f"duration_ms has to be 1 to {_LONGEST_MS}; was {request.duration_ms}")
        if Path(request.session_id).name != request.session_id or not Path(request.repository_root).is_absolute():
            raise invalid("repository_root has to be an absolute path, and session_id a name; they were "
                          f"{request.repository_root!r} and {request.session_id!r}")
        if not self._busy.acquire(blocking=False):
            raise ServingError(Code.ALREADY_EXISTS, "another profile is being taken; try again when it has ended")
        try:
            trace = self._trace(request.duration_ms / 1000)
        finally:
            self._busy.release()
        folder = Path(request.repository_root, request.session_id)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise invalid(f"{folder}: {error.strerror}") from None
        write_bytes(folder / f"{request.host_name.replace('/', '_') or 'localhost'}.xplane.pb", trace)
        return _CLASSES["ProfileResponse"](empty_trace=not trace)

    def _trace(self, seconds: float) -> bytes:
        # Imported at the first request, since few servers ever get one.
        from tensorflow.python.profiler.internal import _pywrap_profiler  # the only maker of sessions
        with TemporaryDirectory(prefix="profile") as folder:
            session = _pywrap_profiler.ProfilerSession()
            session.start(folder, {})
            self._stopping.wait(seconds)
            session.export_to_tb()
            return b"".join(found.read_bytes() for found in sorted(Path(folder).rglob("*.xplane.pb")))
