"""What can be measured, by name: `original`, `container:original`, `session:original`, or a running address."""
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmark.targets.addresses import Access, connect
from benchmark.targets.child import Child, Container, free_ports, python_module
from benchmark.targets.connections import ClientConnection, Connection
from benchmark.targets.in_process.connection import Engine, InProcessConnection
from benchmark.targets.operations import operations
from serving.client.payloads import Arrays
from serving.client.protocol import AnswerError, UnreachableError
from user_error import FailedError, UserError

ROOT = Path(__file__).resolve().parents[2]
PROTOCOLS = ("rest", "grpc")
SERVERS = ("embedded", "container", "binary")
IN_PROCESS = ("session", "predictor")
READY_S = 180.0


@dataclass(frozen=True)
class Target:
    """A variant under a backend; or servers that someone else runs ("address"), or that `argv` starts ("command").

    In `argv`, {port} and {rest_port} stand for ports; it tells the model's status as TensorFlow Serving does.
    """

    name: str
    model: str
    backend: str = "embedded"
    base_path: Path | None = None
    rest: str | None = None
    grpc: str | None = None
    flags: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    signature: str = ""
    grappler: bool = True
    prefix: tuple[str, ...] = ()
    argv: tuple[str, ...] = ()
    access: Access | None = None

    @property
    def protocols(self) -> tuple[str, ...]:
        """What it can be asked over; a server of ours speaks both."""
        if self.backend in IN_PROCESS:
            return (*PROTOCOLS, "in-process")
        if self.backend != "address":
            return PROTOCOLS
        return tuple(name for name, address in zip(PROTOCOLS, (self.rest, self.grpc), strict=True) if address)

    @property
    def version_directory(self) -> Path | None:
        """The version a server takes: the newest."""
        return newest_version(self.base_path) if self.base_path else None


def find_target(text: str, models: Path, model: str, flags: Sequence[str] = (), signature: str = "",
         grappler: bool = True) -> Target:
    """`variant` or `backend:variant` of models/<model>. UserError when it is not there or has no version."""
    backend, _, variant = text.rpartition(":")
    backend = backend or "embedded"
    if backend not in SERVERS + IN_PROCESS:
        raise UserError(f"no backend '{backend}' in '{text}': choose from {', '.join(SERVERS + IN_PROCESS)}")
    base = models / model / variant
    if not (models / model).is_dir():
        there = sorted(path.name for path in models.iterdir() if path.is_dir()) if models.is_dir() else []
        raise UserError(f"no model '{model}' in {models}/: there are {', '.join(there) or 'none'}; "
                        "'python -m export build' makes some, --model names another")
    if not base.is_dir() or not variant:
        there = sorted(path.name for path in (models / model).iterdir() if path.is_dir() and newest_version(path))
        raise UserError(f"no variant '{variant}' in {models / model}: there are {', '.join(there) or 'none'}")
    if newest_version(base) is None:
        raise UserError(f"{base} has no version (a folder named by a number, with a saved_model.pb in it): "
                        f"make one with 'python -m export build' or 'python -m export optimize'")
    operations(newest_version(base) or base)  # a broken file is told now, not after a server has started
    return Target(text, model, backend, base.resolve(), flags=tuple(flags), signature=signature, grappler=grappler)


def running_targets(urls: Sequence[str], grpcs: Sequence[str], model: str,
                    access: Access | None = None) -> list[Target]:
    """Servers that already run. The n-th gRPC address is of the same server as the n-th URL."""
    pairs = zip_longest(urls, grpcs)
    return [Target(url or grpc or "", model, "address", rest=url, grpc=grpc, access=access) for url, grpc in pairs]


def common_protocols(targets: Sequence[Target]) -> tuple[str, ...]:
    """What all targets can be asked over: no protocol at all where none of them is a server."""
    if all(target.backend in IN_PROCESS for target in targets):
        return ("in-process",)
    return tuple(name for name in PROTOCOLS if all(name in target.protocols for target in targets))


def newest_version(base_path: Path) -> Path | None:
    versions = [path for path in base_path.iterdir()
                if path.name.isdecimal() and any((path / f"saved_model.{kind}").is_file() for kind in ("pb", "pbtxt"))]
    return max(versions, key=lambda path: int(path.name), default=None)


class Instance:
    """One running process (or one address) of a target."""

    def __init__(self, target: Target, child: Child | None, rest: str | None, grpc: str | None) -> None:
        self.target = target
        self.child = child
        self.load_s: float | None = None
        self.first_request_s: float | None = None
        self.rest = rest
        self.grpc = grpc
        self._why = "name it with --model"

    def wait(self) -> None:
        """Until the model is loaded; the seconds it took from the start are load_s."""
        if isinstance(self.child, Engine):
            self.load_s = self.child.wait_until(self.child.loaded, READY_S, "while loading the model")
        elif self.child is not None:
            self.load_s = self.child.wait_until(self._available, READY_S, "while loading the model")
        elif self.rest is not None and not self._available():
            raise UserError(f"{self.rest} has no model '{self.target.model}' that is AVAILABLE: {self._why}")

    def connect(self, protocol: str, signature_name: str = "") -> Connection:
        """A new connection. UserError when this target has no address for the protocol."""
        if isinstance(self.child, Engine):
            return InProcessConnection(self.child)
        address = self.rest if protocol == "rest" else self.grpc
        if address is None:
            raise UserError(f"{self.target.name} has no address for {protocol}: give --url for rest, --grpc for grpc")
        return ClientConnection(connect(protocol, address, self.target.model, self.target.access), signature_name)

    def await_death(self, doing: str, timeout_s: float = 1.0) -> None:
        """Raises UserError if the server is gone, or goes within a second: its connections break before it ends."""
        if self.child is not None:
            self.child.await_death(doing, timeout_s)

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop()

    def _available(self) -> bool:
        assert self.rest is not None
        client = connect("rest", self.rest, self.target.model, self.target.access, answer_timeout_s=5)
        try:
            states = client.status()
        except (AnswerError, UnreachableError) as error:
            self._why = str(error)
            return False
        finally:
            client.close()
        failed = next((each for each in states if each.code != "OK"), None)
        if failed:
            raise FailedError(f"{self.target.name} version {failed.version} does not load: {failed.message}")
        return any(each.state == "AVAILABLE" for each in states)


def start(target: Target) -> Instance:
    """Starts a server for the target on free loopback ports; the caller waits for it and stops it."""
    if target.backend == "address":
        return Instance(target, None, target.rest, target.grpc)
    if target.backend in IN_PROCESS:
        assert target.version_directory is not None
        engine = Engine(target.backend, target.name, target.version_directory, target.signature, target.grappler)
        return Instance(target, engine, None, None)
    grpc_port, rest_port = free_ports(2)
    env = dict(target.env)
    if target.backend == "embedded":
        argv = python_module("serving", "serve", f"--model_name={target.model}",
                             f"--model_base_path={target.base_path}", f"--port={grpc_port}",
                             f"--rest_api_port={rest_port}", "--max_num_load_retries=0", *target.flags)
        argv = [*target.prefix, *argv]
    elif target.backend == "command":
        ports = {"{port}": str(grpc_port), "{rest_port}": str(rest_port)}
        argv = [ports.get(part, part) for part in target.argv]
    else:
        assert target.base_path is not None
        argv = [str(ROOT / "tfserving.sh"), target.base_path.name, "--backend", target.backend, "--", *target.flags]
        env |= {"MODELS": str(target.base_path.parents[1]), "MODEL": target.model, "PORT": str(grpc_port),
                "REST_PORT": str(rest_port)}
    kind = Container if target.backend == "container" else Child
    child = kind(f"server of {target.name}", argv, env=env)
    return Instance(target, child, f"http://127.0.0.1:{rest_port}", f"127.0.0.1:{grpc_port}")


def first_request(instance: Instance, connection: Connection, inputs: Arrays) -> Any:
    """The cold first request of a process: prepared, sent, its time kept; returns the raw answer."""
    request = connection.prepare(inputs)
    began = perf_counter()
    _, raw = connection.timed(request)
    if instance.first_request_s is None:
        instance.first_request_s = perf_counter() - began
    return raw
