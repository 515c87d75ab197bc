"""The Vertex AI client against a local server with Vertex AI's documented API, which forwards to the REST server.

Credentials and tokens are google-auth's own: a service account's key file, a signed JWT, an access token.
"""
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from saved_model_files import save_signature
from service_account import save_key
from vertex_stand_in import ENDPOINT, VertexStandIn

from serving.client import answers, predict
from serving.client.grpc import GrpcClient
from serving.client.protocol import AnswerError, Metadata, UnreachableError, VersionStatus
from serving.client.saved_model import metadata_of
from serving.client.vertex import VertexClient, default_credentials
from user_error import UserError

X = {"x": np.arange(3, dtype=np.float32)}


@pytest.fixture
def vertex(servers: Any) -> Iterator[VertexStandIn]:
    stand_in = VertexStandIn(servers.rest, "echo")
    yield stand_in
    stand_in.stop()


@pytest.fixture
def credentials(vertex: VertexStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A service account's key file, found as application default credentials."""
    path = save_key(tmp_path / "key.json", f"{vertex.url}/token")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    return path


@pytest.fixture
def metadata(servers: Any) -> Metadata:
    with GrpcClient(servers.grpc, "echo") as client:
        return client.metadata()


def test_predictions_use_one_token(vertex: VertexStandIn, credentials: Path, metadata: Metadata) -> None:
    with VertexClient(vertex.endpoint, metadata) as client:
        for _ in range(3):
            assert client.predict(X)["y"].tolist() == [0, 1, 2]
    assert [path for _, path in vertex.seen] == ["/token"] + [f"/v1/{ENDPOINT}:predict"] * 3
    assert vertex.grants[0]["scope"] == "https://www.googleapis.com/auth/cloud-platform"


def test_another_signature_is_called_through_raw_predict(
        vertex: VertexStandIn, credentials: Path, metadata: Metadata) -> None:
    inputs = {"a": np.array([1.5], np.float32), "b": np.array([2])}
    with VertexClient(vertex.endpoint, metadata) as client:
        assert answers.compare(inputs, client.predict(inputs, "pair")).equal
    assert vertex.seen[-1] == ("POST", f"/v1/{ENDPOINT}:rawPredict")


def test_an_expired_token_is_replaced(vertex: VertexStandIn, credentials: Path, metadata: Metadata) -> None:
    vertex.token_s = 1  # google-auth renews minutes before the end
    with VertexClient(vertex.endpoint, metadata) as client:
        client.predict(X)
        client.predict(X)
    assert len(vertex.grants) == 2


def test_status_lists_what_is_deployed(vertex: VertexStandIn, credentials: Path) -> None:
    with VertexClient(vertex.endpoint) as client:
        assert client.status() == (VersionStatus(3, "AVAILABLE", "OK", "echo"),)
        with pytest.raises(UserError, match="name its SavedModel"):
            client.metadata()


def test_errors_of_the_endpoint_are_reported(vertex: VertexStandIn, credentials: Path, metadata: Metadata) -> None:
    with VertexClient(vertex.endpoint.replace("456", "457"), metadata) as client, \
            pytest.raises(AnswerError, match=r"404: Endpoint .* not found"):
        client.predict(X)
    with VertexClient(vertex.endpoint, metadata, authorize=lambda: {"Authorization": "Bearer old"}) as client, \
            pytest.raises(AnswerError, match="401: Request had invalid authentication credentials"):
        client.predict(X)
    with VertexClient(vertex.endpoint, metadata) as client, pytest.raises(ValueError, match="takes instances"):
        client.prepare({"a": np.zeros(1, np.float32), "b": np.arange(2)})


@pytest.mark.parametrize("endpoint", ["", "projects/1/endpoints/2", f"{ENDPOINT}/x", f"{ENDPOINT}:predict", "h:1"])
def test_endpoints_that_are_invalid(endpoint: str) -> None:
    with pytest.raises(UserError, match="is no Vertex AI endpoint; write projects/P"):
        VertexClient(endpoint, authorize=dict)


def test_a_resource_name_has_its_regions_host() -> None:
    client = VertexClient(ENDPOINT, authorize=dict)
    assert client._where() == "https://europe-west4-aiplatform.googleapis.com"


def test_no_credentials_and_no_token(tmp_path: Path, credentials: Path,
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    account = json.loads(credentials.read_text())
    credentials.write_text(json.dumps({**account, "token_uri": "http://127.0.0.1:9/token"}))
    with pytest.raises(UnreachableError, match="no token from Google: cannot connect"):
        default_credentials()()
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    with pytest.raises(UserError, match=r"no Google credentials: File .*missing\.json was not found"):
        default_credentials()


def test_the_command_line(vertex: VertexStandIn, credentials: Path, tmp_path: Path) -> None:
    version = save_signature(tmp_path / "models" / "echo" / "original" / "3")
    arguments = ["--protocol", "vertex", "--address", vertex.endpoint, "--inputs", '{"x": [1.0]}', "--json", "-"]
    runner = CliRunner()
    result = runner.invoke(predict.command, [*arguments, "--saved-model", str(version)], standalone_mode=False)
    assert result.exception is None, result.exception
    assert json.loads(result.stdout)["outputs"]["y"]["values"] == [1.0]
    refused = runner.invoke(predict.command, arguments, standalone_mode=False)
    assert "name its SavedModel (--saved-model)" in str(refused.exception)
    refused = runner.invoke(predict.command, ["--protocol", "vertex"], standalone_mode=False)
    assert "needs --address projects/P" in str(refused.exception)


def test_metadata_from_files(tmp_path: Path) -> None:
    metadata = metadata_of(save_signature(tmp_path / "m" / "original" / "3"))
    assert (metadata.model, metadata.version) == ("m", 3)
    assert str(metadata.signature().inputs["x"]) == "float32 [-1]"
    assert metadata.signatures["__saved_model_init_op"].outputs == {}
    for path, words in ((tmp_path, "is no SavedModel: it has no saved_model.pb"),
                        (save_signature(tmp_path / "train", ("train",)), "has no graph tagged 'serve'")):
        with pytest.raises(UserError, match=words):
            metadata_of(path)
    (tmp_path / "train" / "saved_model.pb").write_bytes(b"\xff\xff")
    with pytest.raises(UserError, match="cannot be parsed, so it is truncated or corrupted"):
        metadata_of(tmp_path / "train")
