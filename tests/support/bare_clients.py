"""The minimum CPU time of a request, with which the clients are compared, measured in the same process and run.

Only the CPU time of this process, so that neither the server nor other load counts; the lowest of several tries.
"""
import socket
from collections.abc import Callable
from time import process_time

import grpc

PREDICT = "/tensorflow.serving.PredictionService/Predict"


# decision 100
def cpu_s(ask: Callable[[], object], count: int = 250, tries: int = 4) -> float:
    """CPU seconds of one call of `ask`."""
    best = float("inf")
    for _ in range(tries):
        began = process_time()
        for _ in range(count):
            ask()
        best = min(best, process_time() - began)
    return best / count


def bare_cpu_s(protocol: str, address: str, body: bytes) -> float:
    """CPU seconds of a request to the model "null" without client code: over a plain socket, or a plain grpcio call.

    body: the JSON of a REST request, or a serialised PredictRequest. address: host:port.
    """
    if protocol == "grpc":
        with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
            call = channel.unary_unary(PREDICT)
            return cpu_s(lambda: call(body))
    host, port = address.removeprefix("http://").split(":")
    message = f"POST /v1/models/null:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    with socket.create_connection((host, int(port))) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def ask() -> None:
            connection.sendall(message)
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        return cpu_s(ask)
