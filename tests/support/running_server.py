"""Servers in this process or as commands, and requests to them."""
import os
import socket
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import grpc

from serving.config import Flags
from serving.protos import predict_pb2
from serving.server import Server, start
from serving.tensor_proto import to_ndarray, to_proto

PREDICT = "/tensorflow.serving.PredictionService/Predict"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(models: Path, model: str = "half", **flags: Any) -> Iterator[tuple[Server, Flags]]:
    made = Flags(model_name=model, model_base_path=str(models / model), port=free_port(), rest_api_port=free_port(),
                 **flags)
    server = start(made)
    try:
        yield server, made
    finally:
        server.stop()


def get(flags: Flags, path: str, context: ssl.SSLContext | None = None) -> tuple[int, str]:
    scheme = "https" if context else "http"
    try:
        with urllib.request.urlopen(f"{scheme}://127.0.0.1:{flags.rest_api_port}{path}", timeout=60,
                                    context=context) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def request(model: str = "half", signature: str = "", **inputs: Any) -> bytes:
    import numpy as np
    message = predict_pb2.PredictRequest()
    message.model_spec.name, message.model_spec.signature_name = model, signature
    for alias, value in inputs.items():
        message.inputs[alias].CopyFrom(to_proto(np.asarray(value)))
    return message.SerializeToString()


def call(port: int, data: bytes, timeout_s: float = 60, credentials: Any = None, output: str = "y") -> list[float]:
    address, options = f"127.0.0.1:{port}", [("grpc.enable_http_proxy", 0)]
    channel = (grpc.secure_channel(address, credentials, options) if credentials else
               grpc.insecure_channel(address, options))
    with closing(channel):
        answer = channel.unary_unary(PREDICT)(data, timeout=timeout_s)
    values: list[float] = to_ndarray(predict_pb2.PredictResponse.FromString(answer).outputs[output]).tolist()
    return values


X = [[1.0]]


def half() -> bytes:
    import numpy as np
    return request(x=np.array(X, np.float32))


def listens(port: int, host: str = "127.0.0.1") -> bool:
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def command(models: Path, model: str, *flags: str) -> list[str]:
    return [sys.executable, "-m", "serving", "serve", f"--model_name={model}", f"--model_base_path={models / model}",
            *flags]
