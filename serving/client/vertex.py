"""A client of Vertex AI endpoints: the REST predict API, with Google's credentials.

The endpoint forwards {"instances"} to the model's container and answers {"predictions", "deployedModelId", ...}, so
the JSON is TensorFlow Serving's. It does not report the model's signature: that is read from the SavedModel.
"""
import json
import platform
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from serving.client import json_codec
from serving.client.payloads import Arrays
from serving.client.protocol import (
    ANSWER_TIMEOUT_S,
    CONNECT_TIMEOUT_S,
    AnswerError,
    Metadata,
    Tls,
    UnreachableError,
    VersionStatus,
)
from serving.client.rest import Request, RestClient
from user_error import UserError

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_RESOURCE = re.compile(r"projects/[^/]+/locations/(?P<location>[^/]+)/endpoints/[^/:]+")

Authorize = Callable[[], Mapping[str, str]]


class VertexClient(RestClient):  # decision 54
    """A measuring `Client` of one Vertex AI endpoint.

    `endpoint` is "projects/P/locations/L/endpoints/E", or a URL that ends like that (dedicated and private endpoints
    have their own hosts). `metadata` holds the signatures of the model deployed there, as `metadata_of` reads them from
    its SavedModel. `authorize` returns the headers for a request; the default uses the credentials of the environment
    (google-auth's application default credentials).

    serving_default is called through :predict; another signature through :rawPredict, which passes the whole request to
    the container.
    """
    measured_by = (f"http.client of Python {platform.python_version()}, one persistent connection per client, "
                   "tokens by google-auth")

    def __init__(self, endpoint: str, metadata: Metadata | None = None, *, authorize: Authorize | None = None,
                 headers: Mapping[str, str] | None = None, tls: Tls | None = None,
                 connect_timeout_s: float = CONNECT_TIMEOUT_S, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        origin, self._resource = _split(endpoint)
        super().__init__(origin, "", headers=headers, metadata=metadata, tls=tls,
                         connect_timeout_s=connect_timeout_s, answer_timeout_s=answer_timeout_s)
        self._authorize = authorize or default_credentials()

    def prepare(self, inputs: Arrays, signature_name: str = "") -> Request:
        body = json_codec.request_body(inputs, signature_name)
        if not body.startswith(b'{"instances"') and not signature_name:
            raise ValueError("Vertex AI takes instances: all inputs must have the batch as their first axis")
        return Request(f"{self._resource}:{'rawPredict' if signature_name else 'predict'}", body)

    def metadata(self) -> Metadata:
        """The metadata of the given SavedModel: an endpoint reports no signatures."""
        if self._metadata is None:
            raise UserError("Vertex AI does not report a model's signatures: name its SavedModel (--saved-model)")
        return self._metadata

    def status(self) -> tuple[VersionStatus, ...]:
        """The models deployed to the endpoint, by their version in the model registry."""
        answer = json.loads(self._exchange("GET", self._resource))
        return tuple(VersionStatus(int(one.get("modelVersionId") or 1), "AVAILABLE", "OK", one.get("displayName", ""))
                     for one in answer.get("deployedModels", ()))

    def _try_exchange(self, method: str, path: str, body: bytes | None) -> bytes:
        self._headers.update(self._authorize())
        return super()._try_exchange(method, path, body)


def default_credentials() -> Authorize:
    """Headers from google-auth's application default credentials, refreshed when they expire.

    Raises UserError when google-auth is not installed or finds no credentials.
    """
    try:
        import google.auth
        import google.auth.exceptions
        import google.auth.transport.requests
    except ImportError:
        raise UserError("Vertex AI needs google-auth: pip install google-auth") from None
    # With a connect timeout: without a network google-auth would wait for two minutes.
    request = partial(google.auth.transport.requests.Request(), timeout=(CONNECT_TIMEOUT_S, ANSWER_TIMEOUT_S))
    try:
        found = google.auth.default(scopes=[SCOPE])
    except google.auth.exceptions.GoogleAuthError as error:
        raise UserError(f"no Google credentials: {error}") from None

    credentials: Any = found[0]

    def authorize() -> Mapping[str, str]:
        headers: dict[str, str] = {}
        try:
            # Fetches a token if there is none or it is about to expire; otherwise it only copies the token.
            credentials.before_request(request, "POST", "", headers)
        except google.auth.exceptions.TransportError as error:
            raise UnreachableError(f"no token from Google: cannot connect ({error})") from None
        except google.auth.exceptions.GoogleAuthError as error:
            raise AnswerError("401", f"no token from Google: {error}") from None
        return headers
    return authorize


def _split(endpoint: str) -> tuple[str, str]:
    """A resource name or a URL as ("https://host", "/v1/projects/...")."""
    found = _RESOURCE.search(endpoint)
    if not found or found.end() != len(endpoint):
        raise UserError(f"'{endpoint}' is no Vertex AI endpoint; write projects/P/locations/L/endpoints/E, or a URL "
                        "that ends so")
    if "://" not in endpoint:
        return f"https://{found['location']}-aiplatform.googleapis.com", f"/v1/{endpoint}"
    scheme, _, rest = endpoint.partition("://")
    host, _, path = rest.partition("/")
    return f"{scheme}://{host}", f"/{path}"
