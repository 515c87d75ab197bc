"""The project's real REST and gRPC servers with the numpy model `echo`, in this process, without TensorFlow."""
import socket
import ssl
from pathlib import Path
from typing import Any

import grpc
from echo_store import SIGNATURES, EchoStore

from serving.grpc_service import GrpcServer
from serving.predictor import Predictor
from serving.protos import get_model_metadata_pb2
from serving.readiness import ModelReadiness, Readiness
from serving.rest import RestServer

TLS = Path(__file__).parent / "tls"


def _signature_map() -> Any:
    message = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in SIGNATURES.items():
        definition = message.signature_def[name]
        definition.method_name = signature.method_name
        for specs, tensors in ((signature.inputs, definition.inputs), (signature.outputs, definition.outputs)):
            for key, spec in specs.items():
                tensors[key].name, tensors[key].dtype = spec.name, spec.dtype
                for size in spec.shape or ():
                    tensors[key].tensor_shape.dim.add(size=size)
    # As in TF2's SavedModels: an operation, not a tensor.
    message.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = "NoOp"
    return message


class Servers:
    """Servers of the echo model, with and without TLS, and their addresses."""

    def __init__(self) -> None:
        store = EchoStore()
        store.servable.metadata = _signature_map()
        predictor = Predictor(store)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
        credentials = grpc.ssl_server_credentials([((TLS / "server.key").read_bytes(),
                                                    (TLS / "server.pem").read_bytes())])
        self._rest = [RestServer(predictor, "127.0.0.1", 0, threads=2, tls=tls,
                                 ready=lambda: Readiness({"echo": ModelReadiness(True)})) for tls in (None, context)]
        for server in self._rest:
            server.start()
        self.rest, self.rest_tls = (f"{scheme}localhost:{server.port}" for scheme, server in
                                    zip(("", "https://"), self._rest, strict=True))
        self._grpc = []
        for tls in (None, credentials):
            port = _free_port()
            server = GrpcServer(predictor, [f"127.0.0.1:{port}"], 2, reload=lambda models: None,
                                observe=lambda call, code: None, credentials=tls)
            server.start()
            self._grpc.append((server, f"localhost:{port}"))
        self.grpc, self.grpc_tls = (address for _, address in self._grpc)

    def stop(self) -> None:
        for server in self._rest:
            server.stop(1)
        for server, _ in self._grpc:
            server.stop(1)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
