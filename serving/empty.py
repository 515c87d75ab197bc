"""Servers that run no model, on the real servers' HTTP and gRPC layers: they show what those layers alone cost.

    python -m serving.empty --port P --rest_api_port R

They answer a predict request of one input with that input as the output: the request's bytes are copied unparsed.
"""
import argparse
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from serving.config import Flags
from serving.grpc_service import OPTIONS, PREDICTION_SERVICE
from serving.http_message import Request, Response
from serving.http_server import HttpServer
from serving.json import answer
from serving.servable import VersionStatus


class Empty:  # decision 155
    """The HTTP handler: answers predict with the request's own numbers, and status with AVAILABLE."""

    def handle(self, request: Request) -> Response:
        if request.method == "POST":
            return Response(200, request.body.replace(b'"instances"', b'"predictions"', 1), "application/json")
        return Response(200, answer.status([VersionStatus(1, "AVAILABLE")]), "application/json")

    on_event_loop = handle


def echo(request: bytes, context: Any) -> bytes:
    """PredictRequest {1: model_spec, 2: inputs} -> PredictResponse {1: outputs}; both maps look alike on the wire."""
    return b"\x0a" + request[request[1] + 3:]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m serving.empty")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rest_api_port", type=int, required=True)
    ports = parser.parse_args()
    flags = Flags()
    server = grpc.server(ThreadPoolExecutor(flags.grpc_max_threads), options=OPTIONS)
    server.add_registered_method_handlers(PREDICTION_SERVICE, {"Predict": grpc.unary_unary_rpc_method_handler(echo)})
    server.add_insecure_port(f"127.0.0.1:{ports.port}")
    server.start()
    HttpServer(Empty(), "127.0.0.1", ports.rest_api_port, threads=flags.rest_api_num_threads).start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
