"""The servers that the recorded cases use, by their names in tests/contract/data/servers.json.

By default each is an embedded server in this process. CONTRACT_START starts another server instead: a command with
{port}, {rest_port} and {flags}, for example TensorFlow Serving's binary or container:

    CONTRACT_START='tensorflow_model_server --port={port} --rest_api_port={rest_port} {flags}' pytest tests/contract

That server must see the directories in flags and files under the same paths.
"""
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from serving.protos import get_model_status_pb2

DATA = Path(__file__).resolve().parents[1] / "contract" / "data"
START = os.environ.get("CONTRACT_START", "")
_READY_S = 120


@dataclass(frozen=True)
class ContractServer:  # decision 36
    """A running server, and the ports and paths that replace the placeholders of the cases."""

    port: int
    rest_port: int
    models: Path
    work: Path

    def fill(self, text: str) -> str:
        """Replaces placeholders by real ports and paths."""
        for mark, real in self._names().items():
            text = text.replace(mark, real)
        return text

    def mark(self, text: str) -> str:
        """Replaces real paths by placeholders."""
        return text.replace(str(self.work), "{WORK}").replace(str(self.models), "{MODELS}")

    def _names(self) -> dict[str, str]:
        return {"{MODELS}": str(self.models), "{WORK}": str(self.work), "{PORT}": str(self.port),
                "{REST_PORT}": str(self.rest_port)}


def configurations() -> dict[str, dict[str, Any]]:
    """Flags, files and directories of every server that the cases use, by name."""
    found: dict[str, dict[str, Any]] = json.loads((DATA / "servers.json").read_text(encoding="utf-8"))
    return found


def cases(name: str) -> list[dict[str, Any]]:
    """The recorded cases of one file."""
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def prepare(config: dict[str, Any], models: Path, work: Path) -> ContractServer:
    """Makes the files and directories of a configuration, without starting the server."""
    server = ContractServer(free_port(), free_port(), models, work)
    for name in config.get("directories") or []:
        (work / name).mkdir(parents=True)
    for target, source in (config.get("copies") or {}).items():
        shutil.copytree(models / source, work / target)
    for name, text in (config.get("files") or {}).items():
        path = Path(server.fill(name)) if name.startswith("{") else work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(server.fill(text), encoding="utf-8")
    return server


@contextmanager
def running(config: dict[str, Any], models: Path, work: Path) -> Iterator[ContractServer]:
    """Starts a server of that configuration, and yields it when all of its models are loaded."""
    server = prepare(config, models, work)
    flags = [server.fill(flag) for flag in config.get("flags") or []]
    with _command(server, flags) if START else _embedded(server, flags):
        # A status request over REST would change the counts of cases that count requests.
        available = _over_grpc if config.get("ready_by") == "grpc" else _over_rest
        _wait(server, config.get("ready") or [], available)
        yield server


@contextmanager
def _embedded(server: ContractServer, flags: list[str]) -> Iterator[None]:
    from serving.config import parse_flags
    from serving.server import Server
    embedded = Server(parse_flags([*flags, f"--port={server.port}", f"--rest_api_port={server.rest_port}"]))
    embedded.start()
    try:
        yield
    finally:
        embedded.stop()


@contextmanager
def _command(server: ContractServer, flags: list[str]) -> Iterator[None]:
    words = [server.fill(word.replace("{port}", "{PORT}").replace("{rest_port}", "{REST_PORT}"))
             for part in shlex.split(START) for word in (flags if part == "{flags}" else [part])]
    with (server.work / "log~").open("wb") as log, subprocess.Popen(words, stdout=log, stderr=log) as process:
        try:
            yield
        finally:
            process.terminate()


def _wait(server: ContractServer, names: list[str], available: Callable[[ContractServer, str], bool]) -> None:
    end = time.monotonic() + _READY_S
    for name in names:
        while not available(server, name):
            assert time.monotonic() < end, f"{name} is not available after {_READY_S} s"
            time.sleep(0.02)


def _over_rest(server: ContractServer, name: str) -> bool:
    try:
        url = f"http://127.0.0.1:{server.rest_port}/v1/models/{name}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return not re.search(rb'"(START|LOADING)"', answer.read())
    except OSError:
        return False


def _over_grpc(server: ContractServer, name: str) -> bool:
    request = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": name})
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", [("grpc.enable_http_proxy", 0)]) as channel:
        ask = channel.unary_unary("/tensorflow.serving.ModelService/GetModelStatus")
        try:
            answer = get_model_status_pb2.GetModelStatusResponse.FromString(ask(request.SerializeToString(), timeout=5))
        except grpc.RpcError:
            return False
    # START and LOADING come before AVAILABLE.
    return all(version.state >= answer.model_version_status[0].AVAILABLE for version in answer.model_version_status)
