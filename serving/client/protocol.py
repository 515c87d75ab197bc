"""The interface of all clients, whatever the transport: `Client`, the values it returns and its errors."""
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from serving.client.payloads import Array, Arrays, TensorSpec, misfits
from serving.timing import REQUESTED
from user_error import FailedError, UserError

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 60.0
DEFAULT_SIGNATURE = "serving_default"
# The embedded server reports the timing of a request that carries this header.
ASKS_TIMING = REQUESTED


@dataclass(frozen=True)
class Signature:
    """A SignatureDef: inputs and outputs by key, in the server's order."""
    method_name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


@dataclass(frozen=True)
class Metadata:
    """One loaded version of a model and its signatures."""
    model: str
    version: int
    signatures: Mapping[str, Signature]

    def signature(self, name: str = "") -> Signature:
        """The signature of that name; "" is serving_default. Raises UserError that lists the existing ones."""
        found = self.signatures.get(name or DEFAULT_SIGNATURE)
        if found is None:
            # Without outputs: an initialisation that TensorFlow 2 lists among the signatures.
            there = sorted(key for key, signature in self.signatures.items() if signature.outputs)
            raise UserError(f"model '{self.model}' version {self.version} has no signature "
                            f"'{name or DEFAULT_SIGNATURE}'; it has: {', '.join(there) or 'none'}")
        return found


@dataclass(frozen=True)
class VersionStatus:
    """`state` is START, LOADING, AVAILABLE, UNLOADING or END; `code` is OK or why loading failed."""
    version: int
    state: str
    code: str = "OK"
    message: str = ""


@dataclass(frozen=True)
class Tls:
    """Files in PEM form. `authority` replaces the system's certificates; `certificate` and `key` are the client's own.

    `verify=False` accepts any server certificate: for tests of your own servers.
    """
    authority: str | None = None
    certificate: str | None = None
    key: str | None = None
    verify: bool = True


class AnswerError(FailedError):
    """The server answered, and refused: `code` is "404" over REST and "NOT_FOUND" over gRPC."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"the server answered {code}: {message or 'no reason given'}")
        self.code = code
        self.message = message


class UnreachableError(UserError):
    """The connection failed or broke, or the answer did not arrive in time."""


class Client(Protocol):
    """One connection to one model on one server, for use by one thread.

    `predict` combines prepare, send and decode. To measure latency, time only `send`: prepare before it, decode after
    it. All methods raise AnswerError and UnreachableError.
    """
    measured_by: str

    def prepare(self, inputs: Arrays, signature_name: str = "") -> Any:
        """The request, serialized. Raises ValueError for inputs that the transport cannot carry."""

    def send(self, request: Any) -> bytes:
        """Sends a prepared request and returns the body of the answer, not decoded."""

    def decode(self, raw: bytes, signature_name: str = "") -> dict[str, Array]:
        """The outputs by key, in the dtypes of the signature."""

    def predict(self, inputs: Arrays, signature_name: str = "") -> dict[str, Array]: ...

    def server_timing(self) -> dict[str, float]:
        """The server's timing of the last answer: milliseconds by stage. Empty if the server reports none.

        The embedded server reports it to clients that send the header ASKS_TIMING.
        """

    def metadata(self) -> Metadata: ...

    def status(self) -> tuple[VersionStatus, ...]: ...

    def close(self) -> None: ...


def predict(client: Client, inputs: Arrays, signature_name: str = "") -> dict[str, Array]:
    """Prepare, send and decode. A refusal also says which inputs have another shape than the signature."""
    request = client.prepare(inputs, signature_name)
    try:
        raw = client.send(request)
    except AnswerError as error:
        raise explained(client, error, inputs, signature_name) from None
    return client.decode(raw, signature_name)


def explained(client: Client, error: AnswerError, inputs: Arrays, signature_name: str) -> AnswerError:
    """The error with a sentence for each input of a wrong shape, which TensorFlow's own text does not name."""
    try:
        specs = client.metadata().signature(signature_name).inputs
    except (AnswerError, UserError, ValueError):
        return error  # no metadata, or no numpy types: the first error is the one that matters
    return AnswerError(error.code, "; ".join([error.message, *misfits(inputs, specs)]))
