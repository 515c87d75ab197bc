"""The CPU time of the clients for measurements: a load generator that needs much of it would distort the result."""
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from null_server import NullServer, running_null_server

ROOT = Path(__file__).resolve().parents[3]
# The largest allowed ratio of a request's CPU time with a client to that without one. Measured: 6 over REST, where the
# code without a client does not read the answer's headers, and 1 over gRPC; the library `requests` has 60 and more.
MOST = {"rest": 20, "grpc": 4}
# In a separate process, since otherwise the threads of other tests' servers would count.
MEASURE = """
import sys
sys.path.insert(0, "tests/support")
from bare_clients import bare_cpu_s, cpu_s
from serving.client import payloads
kind, address = sys.argv[1:]
if kind == "rest":
    from serving.client.rest import RestClient as Client
else:
    from serving.client.grpc import GrpcClient as Client
with Client(address, "null") as client:
    inputs = payloads.make(client.metadata().signature().inputs, batch=1)
    request = client.prepare(inputs)
    ours = cpu_s(lambda: client.send(request))
body = request if kind == "grpc" else b'{"instances": [[1.0]]}'
print(ours / bare_cpu_s(kind, address, body))
"""


@pytest.fixture(scope="module")
def null_server() -> Iterator[NullServer]:
    with running_null_server() as server:
        yield server


@pytest.mark.parametrize("kind", ["rest", "grpc"])
def test_a_request_costs_little_more_than_without_a_client(null_server: NullServer, kind: str) -> None:
    done = subprocess.run([sys.executable, "-c", MEASURE, kind, getattr(null_server, kind)], cwd=ROOT,
                          capture_output=True, text=True, check=True, timeout=150)
    assert float(done.stdout) < MOST[kind]
