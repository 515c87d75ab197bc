"""Command line options that name a model on a running server, and the client made from them."""
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click

from serving.client.protocol import AnswerError, Client, Tls
from serving.client.rest import RestApi
from user_error import UserError

REST_ADDRESS = "localhost:8501"
GRPC_ADDRESS = "localhost:8500"
DEFAULT_MODEL = "mnist"

_HEADER = re.compile(r"\s*([A-Za-z0-9_.-]+)\s*:\s*([\x20-\x7e]*?)\s*")

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Target:
    """A model, or one version of it, on a server."""
    protocol: str
    address: str
    model: str
    version: int | None = None
    label: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    tls: Tls | None = None
    saved_model: str | None = None

    def client(self) -> Client:
        """A client for single requests. Raises UserError for an address or TLS file that cannot be used."""
        from serving.client.saved_model import metadata_of
        metadata = metadata_of(self.saved_model, self.model) if self.saved_model else None
        if self.protocol == "grpc":
            from serving.client.grpc import GrpcClient
            return GrpcClient(self.address, self.model, self.version, self.label, headers=self.headers, tls=self.tls)
        if self.protocol == "vertex":
            from serving.client.vertex import VertexClient
            return VertexClient(self.address, metadata, headers=self.headers, tls=self.tls)
        from serving.client.one_off import OneOffRestClient
        return OneOffRestClient(self.address, self.model, self.version, self.label, headers=self.headers,
                                metadata=metadata, tls=self.tls)


_OPTIONS = (
    click.option("--model", help=f"The model's name on the server (default: {DEFAULT_MODEL})."),
    click.option("--version", type=click.IntRange(min=1), help="One version (default: the newest)."),
    click.option("--label", help="The version that has this label (such as stable or canary)."),
    click.option("--protocol", type=click.Choice(["rest", "grpc", "vertex"]), default="rest", show_default=True,
                 help="The API to use."),
    click.option("--address", metavar="HOST:PORT",
                 help=f"The server: host:port, or a URL for REST ({REST_ADDRESS}; gRPC: {GRPC_ADDRESS}); "
                      "a Vertex AI endpoint: projects/P/locations/L/endpoints/E."),
    click.option("--saved-model", metavar="DIR", help="The model's version directory, for servers that do not "
                                                      "report its signatures (Vertex AI, most KServe runtimes)."),
    click.option("--header", "headers", multiple=True, metavar="NAME:VALUE",
                 help="Sent with the request (gRPC: as metadata); may be given more than once."),
    click.option("--tls-authority", metavar="FILE", help="Certificate (PEM) of the authority to trust."),
    click.option("--tls-certificate", metavar="FILE", help="The client's own certificate (PEM)."),
    click.option("--tls-key", metavar="FILE", help="The key of --tls-certificate (PEM)."),
    click.option("--tls", is_flag=True, help="Encrypt gRPC (REST does so for an https:// address)."),
)


def target_options(command: Command) -> Command:
    """Adds the options of `target` to a click command's function."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def server_options(command: Command) -> Command:
    """Adds the options that name the servers of a production root."""
    for option in (
            click.option("--grpc", "grpcs", multiple=True, metavar="HOST:PORT",
                         help=f"gRPC address of a server of the root; more than once for replicas ({GRPC_ADDRESS})."),
            click.option("--rest", "rests", multiple=True, metavar="URL",
                         help=f"REST address of a server of the root; more than once for replicas (http://{REST_ADDRESS}).")):
        command = option(command)
    return command


def target(*, model: str | None, version: int | None, label: str | None, protocol: str, address: str | None,
           headers: tuple[str, ...], saved_model: str | None, tls: bool, tls_authority: str | None,
           tls_certificate: str | None, tls_key: str | None) -> Target:
    """The target that the options of `target_options` name. Raises UserError for options that contradict each other."""
    if version is not None and label:
        raise UserError("--version and --label both choose a version: give one of them")
    if tls_key and not tls_certificate:
        raise UserError("--tls-key needs its --tls-certificate")
    if protocol == "vertex" and not address:
        raise UserError("--protocol vertex needs --address projects/P/locations/L/endpoints/E")
    files = Tls(tls_authority, tls_certificate, tls_key)
    address = address or (GRPC_ADDRESS if protocol == "grpc" else REST_ADDRESS)
    return Target(protocol, address, model or DEFAULT_MODEL, version, label, parse_headers(headers),
                  files if tls or files != Tls() else None, saved_model)


@contextmanager
def naming_models(client: Client, model_given: bool) -> Iterator[None]:
    """Adds the models that the server has to a "no such model" error, and the versions to a "no such version" one.

    Only if the server lists them, as the embedded server's REST API does.
    """
    try:
        yield
    except AnswerError as error:
        if error.code not in ("404", "NOT_FOUND"):
            raise
        there = client.models() if isinstance(client, RestApi) else {}
        if isinstance(client, RestApi) and client.model in there:
            versions = ", ".join(map(str, there[client.model])) or "none"
            known = f"; the versions of {client.model} that answer: {versions}"
        elif there:
            known = f"; the models there: {', '.join(there)} (--model NAME)"
        else:
            known = "" if model_given else f"; without --model, {DEFAULT_MODEL} is asked for: give --model NAME"
        raise AnswerError(error.code, error.message + known) from None


def parse_headers(headers: tuple[str, ...]) -> dict[str, str]:
    """"Name: value" strings as {"Name": "value"}. Raises UserError for a header that HTTP or gRPC cannot send."""
    parsed = {}
    for header in headers:
        found = _HEADER.fullmatch(header)
        if not found:
            raise UserError(f"{header!r} is no header; write NAME:VALUE, in ASCII")
        parsed[found[1]] = found[2]
    return parsed
