"""Measuring servers that run already: TLS, headers, a Vertex AI endpoint."""
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from echo_servers import TLS, Servers
from saved_model_files import save_signature
from service_account import save_key
from vertex_stand_in import VertexStandIn

from benchmark.targets.addresses import Access, connect
from serving.client.protocol import Tls
from user_error import UserError

ROOT = Path(__file__).resolve().parents[3]
ACCESS = Access((("X-Team", "a"),), Tls(authority=str(TLS / "server.pem")))


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    started = Servers()
    yield started
    started.stop()


def compare(*options: str, **environment: str) -> Any:
    command = [sys.executable, "-m", "benchmark", "compare", "--model", "echo", "--batch", "2", "--repeat", "8",
               "--warmup", "1", "--json", "-", *options]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True,
                          check=False, timeout=300)


def test_both_protocols_over_tls_with_headers(servers: Servers) -> None:
    done = compare("--url", servers.rest_tls, "--grpc", servers.grpc_tls, "--url", servers.rest_tls, "--grpc",
                   servers.grpc_tls, "--tls-authority", str(TLS / "server.pem"), "--header", "X-Team: a")
    assert done.returncode == 0, done.stderr
    assert {comparison["protocol"] for comparison in json.loads(done.stdout)["comparisons"]} == {"rest", "grpc"}


def test_an_unknown_certificate_authority_is_a_one_line_error(servers: Servers) -> None:
    done = compare("--url", servers.rest_tls, "--url", servers.rest_tls)
    assert done.returncode == 2
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr


def test_a_vertex_endpoint_is_compared_with_the_server_behind_it(servers: Servers, tmp_path: Path) -> None:
    vertex = VertexStandIn(servers.rest, "echo")
    try:
        version = save_signature(tmp_path / "models" / "echo" / "original" / "7")
        done = compare("--url", servers.rest, "--url", f"vertex:{vertex.endpoint}", "--saved-model", str(version),
                       GOOGLE_APPLICATION_CREDENTIALS=str(save_key(tmp_path / "key.json", f"{vertex.url}/token")))
    finally:
        vertex.stop()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["comparisons"][0]["candidate"] == f"vertex:{vertex.endpoint}"
    assert len([path for _, path in vertex.seen if path.endswith(":predict")]) >= 8


def test_connect_uses_tls_and_refuses_an_invalid_vertex_address(servers: Servers) -> None:
    for protocol, address in (("rest", servers.rest_tls), ("grpc", servers.grpc_tls)):
        with_access = connect(protocol, address, "echo", ACCESS)
        assert with_access.metadata().version == 7
        with_access.close()
    with pytest.raises(UserError, match="is no Vertex AI endpoint"):
        connect("rest", "vertex:nowhere", "echo")
