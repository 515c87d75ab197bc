"""SSLConfig files, the original's form of keys and certificates, for both transports."""
import ssl
import tempfile
from typing import Any

import grpc

from serving import text_proto
from serving.errors import invalid


def grpc_credentials(config_file: str) -> Any:
    """Credentials for a grpcio server; None without a file. Raises ServingError."""
    if not config_file:
        return None
    config = text_proto.read(config_file, text_proto.message("SSLConfig"))
    if config.client_verify and not config.custom_ca:
        raise invalid(f"{config_file}: client_verify needs custom_ca, which the clients' certificates are checked by")
    return grpc.ssl_server_credentials([(config.server_key.encode(), config.server_cert.encode())],
                                       config.custom_ca.encode() or None, config.client_verify)


def rest_context(config_file: str) -> ssl.SSLContext | None:
    """A context for the REST server; None without a file. Raises ServingError."""
    if not config_file:
        return None
    config = text_proto.read(config_file, text_proto.message("SSLConfig"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # The ssl module reads keys from files only; this one is private and gone at once.
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as pem:
            pem.write(config.server_key + "\n" + config.server_cert)
            pem.flush()
            context.load_cert_chain(pem.name)
        if config.custom_ca:
            context.load_verify_locations(cadata=config.custom_ca)
    except ssl.SSLError as error:
        raise invalid(f"{config_file}: {error.reason}; server_key and server_cert take PEM text") from None
    if config.client_verify:
        context.verify_mode = ssl.CERT_REQUIRED
    return context
