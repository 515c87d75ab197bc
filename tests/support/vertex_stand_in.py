"""A local server with Vertex AI's documented API, in front of a TensorFlow Serving REST address.

It has the parts that a client uses: the token endpoint of a service account (a signed JWT for an access token);
endpoints.get, :predict and :rawPredict, which need bearer tokens that expire; the fields that surround predictions;
and Google's errors.
"""
import base64
import json
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

ENDPOINT = "projects/123/locations/europe-west4/endpoints/456"
DEPLOYED = {"id": "789", "model": "projects/123/locations/europe-west4/models/m", "displayName": "echo",
            "modelVersionId": "3"}


class VertexStandIn:
    """Listens on 127.0.0.1. `token_s`: how long new tokens are valid. `seen`: the requests, as (method, path)."""

    def __init__(self, rest_address: str, model: str) -> None:
        self.model_url = f"http://{rest_address}/v1/models/{model}:predict"
        self.token_s = 3600
        self.seen: list[tuple[str, str]] = []
        self.grants: list[dict[str, Any]] = []
        self.valid_until: dict[str, float] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.endpoint = f"{self.url}/v1/{ENDPOINT}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    api: VertexStandIn
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.api.seen.append(("GET", self.path))
        if self._authorized():
            self._answer(200, {"name": ENDPOINT, "deployedModels": [DEPLOYED], "trafficSplit": {"789": 100}})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.api.seen.append(("POST", self.path))
        if self.path == "/token":
            self._grant(parse_qs(body.decode()))
        elif self._authorized():
            self._predict(body)

    def _grant(self, form: dict[str, list[str]]) -> None:
        claims = json.loads(base64.urlsafe_b64decode(form["assertion"][0].split(".")[1] + "=="))
        self.api.grants.append(claims)
        token = f"token-{len(self.api.grants)}"
        self.api.valid_until[token] = time.monotonic() + self.api.token_s
        self._answer(200, {"access_token": token, "expires_in": self.api.token_s, "token_type": "Bearer"})

    def _authorized(self) -> bool:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.api.valid_until.get(token, 0) > time.monotonic():
            return True
        self._error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        return False

    def _predict(self, body: bytes) -> None:
        if self.path not in (f"/v1/{ENDPOINT}:predict", f"/v1/{ENDPOINT}:rawPredict"):
            return self._error(404, "NOT_FOUND", f"Endpoint {self.path} not found.")
        raw = self.path.endswith(":rawPredict")
        if not raw and not isinstance(json.loads(body).get("instances"), list):
            return self._error(400, "INVALID_ARGUMENT", "Field instances is required.")
        request = urllib.request.Request(self.api.model_url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return self._error(400, "FAILED_PRECONDITION", error.read().decode())
        surrounding = {} if raw else {"deployedModelId": DEPLOYED["id"], "model": DEPLOYED["model"],
                                      "modelDisplayName": "echo", "modelVersionId": "3"}
        return self._answer(200, {**answer, **surrounding})

    def _error(self, status: int, name: str, message: str) -> None:
        self._answer(status, {"error": {"code": status, "message": message, "status": name}})

    def _answer(self, status: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Does not log requests."""
