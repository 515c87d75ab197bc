"""The cost of each load generator: requests per CPU second of its process, batch 1, against the null server."""
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from locust_runs import LOADTEST, options_for
from null_server import NullServer
from proof import Proof

ROOT = LOADTEST.parent
SHORT_S, LONG_S = 2, 12
SAMPLES = Path(__file__).parent / "samples" / "plain_users.py"
OURS = """
import sys, time
from serving.client import payloads
module, kind, address, seconds = sys.argv[1:]
import importlib
with getattr(importlib.import_module("serving.client." + module), kind)(address, "null") as client:
    request = client.prepare(payloads.make(client.metadata().signature().inputs, batch=1))
    until, count = time.monotonic() + float(seconds), 0
    while time.monotonic() < until:
        client.send(request)
        count += 1
print(count, "requests in")
"""
WRK = ('wrk.method = "POST"; wrk.body = \'{"instances": [[1.0, 2.0, 3.0, 4.0]]}\'; '
       'wrk.headers["Content-Type"] = "application/json"')
Command = Callable[[NullServer, int, Path], list[str]]


def ours(module: str, kind: str, protocol: str) -> Command:
    return lambda server, seconds, folder: [sys.executable, "-c", OURS, module, kind, getattr(server, protocol),
                                            str(seconds)]


def locust(files: Path, user: str) -> Command:
    return lambda server, seconds, folder: [
        sys.executable, "-m", "locust", "-f", str(files), "--headless", "--only-summary", "-u", "1", "-t",
        f"{seconds}s", *(options_for(server) if files == LOADTEST else ("-H", server.rest)), user]


def wrk(server: NullServer, seconds: int, folder: Path) -> list[str]:
    (folder / "post.lua").write_text(WRK)
    return ["wrk", "-t1", "-c1", f"-d{seconds}s", "-s", str(folder / "post.lua"),
            f"{server.rest}/v1/models/null:predict"]


GENERATORS: dict[str, Command] = {
    "REST: wrk": wrk,
    "REST: RestClient (http.client)": ours("rest", "RestClient", "rest"),
    "REST: OneOffRestClient (requests)": ours("one_off", "OneOffRestClient", "rest"),
    "REST: Locust's HttpUser": locust(SAMPLES, "PlainHttpUser"),
    "REST: Locust's FastHttpUser": locust(SAMPLES, "PlainFastHttpUser"),
    "REST: loadtest/ RestUser, answers checked": locust(LOADTEST, "RestUser"),
    "gRPC: GrpcClient (grpcio)": ours("grpc", "GrpcClient", "grpc"),
    "gRPC: loadtest/ GrpcUser, answers checked": locust(LOADTEST, "GrpcUser"),
}


def cost(command: Command, server: NullServer, folder: Path) -> dict[str, Any]:
    """The figures of a command, from the difference of a long and a short run, so that its start does not count."""
    runs = []
    for seconds in (SHORT_S, LONG_S):
        process = subprocess.Popen(command(server, seconds, folder), cwd=ROOT, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
        assert process.returncode == 0, output
        found = re.search(r"(\d+) requests in|Aggregated +(\d+) +0\(0\.00%\)", output)
        assert found, output
        runs.append((int(found[1] or found[2]), usage.ru_utime + usage.ru_stime))
    (few, little), (many, much) = runs
    return {"requests_per_cpu_s": round((many - few) / (much - little)),
            "requests_per_s": round((many - few) / (LONG_S - SHORT_S)), "requests": many}


@pytest.mark.proof
@pytest.mark.timeout(600)
def test_generators(null_server: NullServer, tmp_path: Path) -> None:
    """Our clients send at least 3,000 gRPC and 2,000 REST requests per CPU second."""
    proof = Proof("generators", seed=0, about=[
        "serving/client/rest.py", "serving/client/one_off.py", "serving/client/grpc.py",
        "benchmark/targets/null_server.py",
        *(f"loadtest/{name}.py" for name in ("_pace", "_recorder", "_user", "_work", "rest_users", "grpc_users"))])
    rows = {name: proof.row(name, lambda command=command: cost(command, null_server, tmp_path))
            for name, command in GENERATORS.items() if name != "REST: wrk" or shutil.which("wrk")}
    assert rows["REST: RestClient (http.client)"]["requests_per_cpu_s"] >= 2000
    assert rows["gRPC: GrpcClient (grpcio)"]["requests_per_cpu_s"] >= 3000
    print(json.dumps(rows, indent=1))
