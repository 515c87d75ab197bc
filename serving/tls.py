"""SSLConfig files, which hold keys and certificates in the original's format, for both transports."""
import re
import ssl
import tempfile
from typing import Any

import grpc

from serving import text_proto
from serving.errors import ServingError, invalid

_PATH = re.compile(r"\S+")
# Kind of PEM text by field; keys have several ("RSA PRIVATE KEY", "EC PRIVATE KEY", ...).
_KINDS = {"server_key": "PRIVATE KEY", "server_cert": "CERTIFICATE", "custom_ca": "CERTIFICATE"}


def grpc_credentials(config_file: str) -> Any:
    """Credentials for a grpcio server; None without a file. Raises ServingError."""
    if not config_file:
        return None
    config, _ = _read(config_file)
    return grpc.ssl_server_credentials([(config.server_key.encode(), config.server_cert.encode())],
                                       config.custom_ca.encode() or None, config.client_verify)


def rest_context(config_file: str) -> ssl.SSLContext | None:
    """A context for the REST server; None without a file. Raises ServingError."""
    return _read(config_file)[1] if config_file else None


def _read(path: str) -> tuple[Any, ssl.SSLContext]:
    """The SSLConfig and an SSLContext made from it. Making one finds mistakes, which grpcio does not report."""
    config = text_proto.read(path, text_proto.message("SSLConfig"))
    for field, kind in _KINDS.items():
        text = getattr(config, field)
        if (text or field != "custom_ca") and not re.search(rf"-----BEGIN ([A-Z0-9]+ )*{kind}-----", text):
            raise invalid(f"{path}: {field} is {_described(text)}; it takes the PEM text itself, "
                          f"\"-----BEGIN {kind}-----\\n...\"")
    if config.client_verify and not config.custom_ca:
        raise invalid(f"{path}: client_verify needs custom_ca, which the clients' certificates are checked by")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load_chain(context, path, config)
    if config.custom_ca:
        try:
            context.load_verify_locations(cadata=config.custom_ca)
        except (ssl.SSLError, ValueError) as error:
            raise _unreadable(path, "custom_ca", error) from None
    if config.client_verify:
        context.verify_mode = ssl.CERT_REQUIRED
    return config, context


def _load_chain(context: ssl.SSLContext, path: str, config: Any) -> None:
    # The ssl module reads keys only from files; this one is private and is deleted right after.
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as pem:
        pem.write(config.server_key + "\n" + config.server_cert)
        pem.flush()
        try:
            # With no password given, OpenSSL would ask for one at the terminal, and wait.
            context.load_cert_chain(pem.name, password="")
            return
        except (ssl.SSLError, ValueError) as error:
            if "KEY_VALUES_MISMATCH" in str(error):
                raise invalid(f"{path}: server_key is not the key of server_cert; give a pair") from None
            failure = error
    try:
        # Finds which of the two is wrong: a certificate can be read by itself.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=config.server_cert)
    except (ssl.SSLError, ValueError) as error:
        raise _unreadable(path, "server_cert", error) from None
    if "ENCRYPTED" in config.server_key:
        raise invalid(f"{path}: server_key is encrypted, and nobody can type its password; give the key without one")
    raise _unreadable(path, "server_key", failure)


def _described(text: str) -> str:
    if not text:
        return "empty"
    if _PATH.fullmatch(text) and ("/" in text or text.endswith((".pem", ".crt", ".key", ".cert"))):
        return f"the path {text}"
    kinds = re.findall(r"-----BEGIN ([A-Z0-9 ]+)-----", text)
    return f"PEM text of another kind ({', '.join(kinds)})" if kinds else "no PEM text"


def _unreadable(path: str, field: str, error: Exception) -> ServingError:
    reason = (error.reason if isinstance(error, ssl.SSLError) else "") or str(error)
    return invalid(f"{path}: {field} is PEM text that cannot be read: {reason}; was it copied whole, its line ends as "
                   "\\n?")
