"""Connections to servers that were not started here, with headers, TLS or Google's credentials if they need them."""
from dataclasses import dataclass

from serving.client.grpc import GrpcClient
from serving.client.protocol import ANSWER_TIMEOUT_S, Client, Tls
from serving.client.rest import RestClient
from serving.client.saved_model import metadata_of

VERTEX = "vertex:"


@dataclass(frozen=True)
class Access:
    """What requests to an address need besides their body. `saved_model` is a file with the signatures, for servers
    that report none."""

    headers: tuple[tuple[str, str], ...] = ()
    tls: Tls | None = None
    saved_model: str | None = None


def connect(protocol: str, address: str, model: str, access: Access | None = None,
            answer_timeout_s: float = ANSWER_TIMEOUT_S) -> Client:
    """A client with a persistent connection to a server.

    A REST address is host:port, a URL, or "vertex:" before the name or URL of a Vertex AI endpoint.
    """
    access = access or Access()
    headers = dict(access.headers)
    if protocol == "grpc":
        return GrpcClient(address, model, headers=headers, tls=access.tls, answer_timeout_s=answer_timeout_s)
    metadata = metadata_of(access.saved_model, model) if access.saved_model else None
    if address.startswith(VERTEX):
        # Imported here because only Vertex AI needs google-auth.
        from serving.client.vertex import VertexClient
        return VertexClient(address.removeprefix(VERTEX), metadata, headers=headers, tls=access.tls,
                            answer_timeout_s=answer_timeout_s)
    return RestClient(address, model, headers=headers, metadata=metadata, tls=access.tls,
                      answer_timeout_s=answer_timeout_s)
