"""Targets as running processes: starts them on free ports, waits until they are ready, and always stops them."""
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmark.targets import engines
from benchmark.targets.addresses import connect
from benchmark.targets.child import Child, Container, PortTakenError, free_ports, python_module
from benchmark.targets.client_loop import ClientLoop
from benchmark.targets.client_process import ClientProcess
from benchmark.targets.connections import ClientConnection, Connection
from benchmark.targets.in_process.connection import Engine, InProcessConnection
from benchmark.targets.target import CLIENT_LOOP, IN_PROCESS, Target
from other_engines import TENSORFLOW
from serving.client.payloads import Arrays
from serving.client.protocol import AnswerError, UnreachableError
from serving.client.rest import RestApi
from user_error import FailedError, UserError

ROOT = Path(__file__).resolve().parents[2]
READY_S = 180.0
PORT_ATTEMPTS = 4


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
        """Waits until the model is loaded; sets load_s, the seconds from the process's start until then.

        Raises UserError if a running server has no such model, FailedError if a started one does not load it, or runs
        it by another engine than the target names.
        """
        if isinstance(self.child, Engine):
            self.load_s = self.child.wait_until(self.child.loaded, READY_S, "while loading the model")
        elif self.child is not None:
            self.load_s = self.child.wait_until(self._available, READY_S, "while loading the model")
            self._refuse_other_engine()
        elif self.rest is not None and not self._available():
            raise UserError(f"{self.rest} has no model '{self.target.model}' that is AVAILABLE: {self._why}")

    def connect(self, protocol: str, signature_name: str = "") -> Connection:
        """A new connection. Raises UserError if this target has no address for the protocol."""
        if isinstance(self.child, Engine):
            return InProcessConnection(self.child)
        address = {"rest": self.rest, "grpc": self.grpc}.get(protocol)
        if address is None:
            raise UserError(f"{self.target.name} has no address for {protocol}: give --url for rest, --grpc for grpc")
        made = ClientConnection(connect(protocol, address, self.target.model, self.target.access), signature_name)
        return ClientLoop(made) if self.target.kind == CLIENT_LOOP else made

    def apart(self, connection: Connection, protocol: str, signature_name: str = "") -> Connection:
        """As the connection, which it takes over; its requests are sent from another process than this one."""
        address = self.rest if protocol == "rest" else self.grpc
        if isinstance(self.child, Engine) or self.target.kind == CLIENT_LOOP or address is None:
            return connection  # an engine has a process and sends its own requests
        return ClientProcess(connection, protocol, address, self.target.model, self.target.access, signature_name)

    def await_death(self, doing: str, timeout_s: float = 1.0) -> None:
        """Raises FailedError if the server's process has ended or ends within `timeout_s`.

        The wait is needed because a dying server's connections break before its process ends.
        """
        if self.child is not None:
            self.child.await_death(doing, timeout_s)

    def dies(self) -> bool:
        """Whether its process is gone, or goes within a second."""
        try:
            self.await_death("")
        except FailedError:
            return True
        return False

    def ready(self) -> None:
        """Waits, and starts again on other ports where another process was quicker to bind these."""
        for _ in range(PORT_ATTEMPTS - 1):
            try:
                return self.wait()
            except PortTakenError:
                self._start_again()
        return self.wait()

    def restart(self) -> None:
        """Starts a new process and waits for it; connections to the old one are of no use."""
        self._start_again()
        self.ready()

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop()

    def _start_again(self) -> None:
        self.stop()
        again = start(self.target)
        self.child, self.rest, self.grpc, self.first_request_s = again.child, again.rest, again.grpc, None

    def _refuse_other_engine(self) -> None:  # decision 210
        """TensorFlow Serving ignores flags that it does not know, and then runs the model by TensorFlow."""
        engine = self.target.engine
        if not engine:
            return
        with closing(self._client()) as client:
            said = client.engine()
        if said == engine or (not said and engine != "openvino"):  # stock servers do not say it, and have the others
            return
        why = (f"does {' '.join(self.target.flags) or 'the server'} choose it?" if said else
               f"only the embedded server has that engine, so leave '{self.target.backend}:' out")
        raise FailedError(f"the server of {self.target.name} runs the model by {said or TENSORFLOW}, not by "
                          f"{engine}: {why}")

    def _client(self) -> RestApi:
        assert self.rest is not None
        client = connect("rest", self.rest, self.target.model, self.target.access, answer_timeout_s=5)
        assert isinstance(client, RestApi)
        return client

    def _available(self) -> bool:
        client = self._client()
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
        kind = target.kind or (target.backend if target.by_tensorflow else target.engine)
        engine = Engine(kind, target.name, target.version_directory, target.signature, target.grappler, target.threads,
                        target.env, target.prefix, target.python)
        return Instance(target, engine, None, None)
    grpc_port, rest_port = free_ports(2)
    env, flags = dict(target.env), (*engines.flags(target.engine), *target.flags)
    if target.backend == "embedded":
        argv = python_module("serving", "serve", f"--model_name={target.model}",
                             f"--model_base_path={target.base_path}", f"--port={grpc_port}",
                             f"--rest_api_port={rest_port}", "--max_num_load_retries=0", *flags)
        argv = [*target.prefix, *argv]
    elif target.backend == "command":
        ports = {"{port}": str(grpc_port), "{rest_port}": str(rest_port)}
        argv = [ports.get(part, part) for part in target.argv]
    else:
        assert target.base_path is not None
        argv = [str(ROOT / "tfserving.sh"), target.base_path.name, "--backend", target.backend, "--", *flags]
        env |= {"MODELS": str(target.base_path.parents[1]), "MODEL": target.model, "PORT": str(grpc_port),
                "REST_PORT": str(rest_port)}
    kind_of_child = Container if target.backend == "container" else Child
    child = kind_of_child(f"server of {target.name}", argv, env=env)
    return Instance(target, child, f"http://127.0.0.1:{rest_port}", f"127.0.0.1:{grpc_port}")


def first_request(instance: Instance, connection: Connection, inputs: Arrays) -> Any:
    """Sends the cold first request to a process and stores its time in first_request_s; returns the raw answer."""
    request = connection.prepare(inputs)
    began = perf_counter()
    _, raw = connection.timed(request)
    if instance.first_request_s is None:
        instance.first_request_s = perf_counter() - began
    return raw


@contextmanager
def start_all(targets: Sequence[Target], each: int) -> Iterator[dict[str, list[Instance]]]:  # decision 60
    """`each` instances of every target, ready; all are stopped at the end, after an error too."""
    with ExitStack() as stack:
        instances: dict[str, list[Instance]] = {}
        for target in targets:
            for _ in range(each):
                instance = start(target)
                stack.callback(instance.stop)
                instances.setdefault(target.name, []).append(instance)
        for own in instances.values():
            for instance in own:
                instance.ready()
        yield instances


@contextmanager
def alive(instance: Instance, doing: str) -> Iterator[None]:
    """Turns a broken connection into a FailedError with its cause: the server's death if it died, else the error."""
    try:
        yield
    except (AnswerError, UnreachableError) as error:
        instance.await_death(doing)
        raise FailedError(f"{instance.target.name} failed {doing}: {error}") from error
