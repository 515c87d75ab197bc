"""The REST client for single requests from a command line."""
import http.client
from collections.abc import Mapping

import requests

from serving.client import json_codec
from serving.client.protocol import ANSWER_TIMEOUT_S, CONNECT_TIMEOUT_S, AnswerError, Metadata, Tls, UnreachableError
from serving.client.rest import RestApi, remedy, tls_context, why


class OneOffRestClient(RestApi):  # decision 52
    """A client that uses `requests`: slow, but it uses the proxies and certificates that the environment sets."""
    measured_by = f"requests {requests.__version__}, a connection per request"

    def __init__(self, address: str, model: str, version: int | None = None, label: str | None = None, *,
                 headers: Mapping[str, str] | None = None, layout: str = "row", metadata: Metadata | None = None,
                 tls: Tls | None = None) -> None:
        super().__init__(address, model, version, label, headers=headers, layout=layout, metadata=metadata)
        tls = tls or Tls()
        tls_context(tls)  # its error names a file that cannot be used; that of requests does not
        self._verify = tls.authority or tls.verify
        self._certificate = (tls.certificate, tls.key) if tls.certificate and tls.key else tls.certificate

    def _exchange(self, method: str, path: str, body: bytes | None = None) -> bytes:
        try:
            response = requests.request(method, self._where() + path, data=body, headers=self._headers,
                                        timeout=(CONNECT_TIMEOUT_S, ANSWER_TIMEOUT_S), verify=self._verify,
                                        cert=self._certificate)
        except requests.Timeout:
            raise UnreachableError(f"{self._where()}: no answer in time") from None
        except requests.RequestException as error:
            root = _root(error)
            if isinstance(root, http.client.HTTPException):
                raise UnreachableError(f"{self._where()}: cannot connect: what answers there does not speak HTTP; "
                                       "is this a gRPC port, or one with TLS (https://)?") from None
            raise UnreachableError(f"{self._where()}: cannot connect ({why(root)}); {remedy(root)}") from None
        if response.status_code != http.client.OK:
            raise AnswerError(str(response.status_code), json_codec.error_message(response.content))
        return response.content


def _root(error: BaseException) -> BaseException:
    """The innermost error: requests and urllib3 wrap the system's error three times."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error
