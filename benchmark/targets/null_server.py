"""A server that does nothing, as fast as possible: it shows how fast the load generator itself is.

It implements enough of TensorFlow Serving's API for one model whose output `x` is its input `x` (float32, [-1, 4]). The
answer is the request's own bytes under another tag, so no time goes into parsing. With --work-ms it is busy for a known
time per request, to test whether a measurement finds a known difference.
"""
import asyncio
import signal
from collections.abc import Callable
from concurrent import futures
from time import perf_counter
from typing import Any, cast

import click
import grpc

from benchmark.targets.child import free_ports
from user_error import UserError

MODEL = "null"  # decision 155
STATUS = (b'{"model_version_status": [{"version": "1", "state": "AVAILABLE", '
          b'"status": {"error_code": "OK", "error_message": ""}}]}')
_TENSOR = (b'{"x": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "4", '
           b'"name": ""}], "unknown_rank": false}, "name": "x:0"}}')
METADATA = (b'{"model_spec": {"name": "null", "signature_name": "", "version": "1"}, "metadata": {"signature_def": '
            b'{"signature_def": {"serving_default": {"inputs": ' + _TENSOR + b', "outputs": ' + _TENSOR
            + b', "method_name": "tensorflow/serving/predict"}}}}}')
PREDICT = "/tensorflow.serving.PredictionService/Predict"
GET_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
GET_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"


class RestProtocol(asyncio.Protocol):
    """HTTP/1.1 with keep-alive and Content-Length: only what the project's clients send."""

    def __init__(self, work_s: float) -> None:
        self._work_s = work_s
        self._buffer = b""
        self._write: Callable[[bytes], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = cast(asyncio.Transport, transport).write

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15:].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            body = self._buffer[end + 4:end + 4 + length]
            method, path = self._buffer[:end].split(b" ", 2)[:2]
            self._buffer = self._buffer[end + 4 + length:]
            self._answer(method, path, body)

    def _answer(self, method: bytes, path: bytes, body: bytes) -> None:
        assert self._write is not None
        if method == b"POST":
            spin(self._work_s)
            text = body.replace(b'"instances"', b'"predictions"', 1)
        else:
            text = METADATA if path.endswith(b"/metadata") else STATUS
        self._write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                    % (len(text), text))


def echo(request: bytes) -> bytes:
    """The inputs (field 2) of a serialized PredictRequest as the outputs (field 1) of a PredictResponse."""
    at, answer = 0, bytearray()
    while at < len(request):
        tag, start = request[at], at + 1
        length = shift = 0
        while True:
            byte = request[start]
            start += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if tag == 0x12:
            answer += b"\x0a" + request[at + 1:start + length]
        at = start + length
    return bytes(answer)


def spin(seconds: float) -> None:
    """Keeps a CPU busy for this time. It does not sleep, because sleeping would free the CPU for others."""
    until = perf_counter() + seconds if seconds else 0.0
    while seconds and perf_counter() < until:
        pass


def grpc_server(port: int, work_s: float, threads: int = 4) -> Any:
    from serving.protos import get_model_metadata_pb2, get_model_status_pb2

    status = get_model_status_pb2.GetModelStatusResponse()
    status.model_version_status.add(version=1, state=30)
    metadata = get_model_metadata_pb2.GetModelMetadataResponse()
    signatures = get_model_metadata_pb2.SignatureDefMap()
    signature = signatures.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    for tensor in (signature.inputs["x"], signature.outputs["x"]):
        tensor.name, tensor.dtype = "x:0", 1
        for size in (-1, 4):
            tensor.tensor_shape.dim.add(size=size)
    metadata.model_spec.name = MODEL
    metadata.model_spec.version.value = 1
    metadata.metadata["signature_def"].Pack(signatures)

    def predict(request: bytes, context: Any) -> bytes:
        spin(work_s)
        return echo(request)
    answers = {PREDICT: predict, GET_METADATA: lambda request, context: metadata.SerializeToString(),
               GET_STATUS: lambda request, context: status.SerializeToString()}

    class Handler(grpc.GenericRpcHandler):
        def service(self, call: Any) -> Any:
            behaviour = answers.get(call.method)
            return behaviour and grpc.unary_unary_rpc_method_handler(behaviour)
    server = grpc.server(futures.ThreadPoolExecutor(threads), handlers=(Handler(),), options=(
        ("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)))
    try:
        server.add_insecure_port(f"127.0.0.1:{port}")
    except RuntimeError:
        raise UserError(f"port {port} is taken: choose another --port, or 0 for any free one") from None
    return server


async def _serve(rest_port: int, grpc_port: int, work_s: float) -> None:
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    server = grpc_server(grpc_port, work_s)
    server.start()
    rest = await loop.create_server(lambda: RestProtocol(work_s), "127.0.0.1", rest_port)
    click.echo(f"null server: model '{MODEL}', REST http://127.0.0.1:{rest_port}, gRPC 127.0.0.1:{grpc_port}")
    await stopped.wait()
    rest.close()
    server.stop(0.5).wait()


@click.command(epilog="""\b
Example:
  python -m benchmark null-server --rest-port 9001 --grpc-port 9000
  python -m benchmark compare --url http://127.0.0.1:9001 --url http://127.0.0.1:9001 --model null --batch 1
""")
@click.option("--rest-port", type=click.IntRange(0, 65535), default=0, help="REST port (0: any free one).")
@click.option("--grpc-port", type=click.IntRange(0, 65535), default=0, help="gRPC port (0: any free one).")
@click.option("--work-ms", type=click.FloatRange(0), default=0.0, help="Milliseconds to be busy for each request.")
def command(rest_port: int, grpc_port: int, work_ms: float) -> None:
    """Answers REST and gRPC predict requests with their own input, until SIGTERM or Ctrl-C."""
    import uvloop

    free = free_ports(2)
    uvloop.run(_serve(rest_port or free[0], grpc_port or free[1], work_ms / 1e3))
