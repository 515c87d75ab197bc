"""The client side of benchmark.targets.in_process.engine: starts the process that runs a model, and connects to it."""
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmark.targets.child import python_module
from benchmark.targets.socket_child import SocketChild
from benchmark.targets.turns import Turn
from serving.client.payloads import Array, Arrays, specs_of
from serving.client.protocol import AnswerError, Signature
from serving.protos import meta_graph_pb2
from user_error import FailedError

MEASURED_BY = {"session": "a v1 Session in a separate process, timed around the run",
               "predictor": "the signature function in a separate process, timed around the call",
               "litert": "LiteRT in a separate process, timed around the run",
               "openvino": "OpenVINO in a separate process, timed around the run",
               "client-loop": "a loop of runs of a v1 Session in a separate process, timed around the whole loop",
               "onnxruntime": "ONNX Runtime in a separate process, timed around the run",
               "keras": "Keras' predict in a separate process, timed around the call"}
ROOT = Path(__file__).resolve().parents[3]


class EngineError(AnswerError):
    """The model refused a request."""

    def __init__(self, reason: str) -> None:
        super().__init__("", reason)
        self.args = (f"the model refused the request: {reason}",)


class Engine(SocketChild):  # decision 109
    """A process that loads the model, then accepts connections and answers them in parallel. `kind`: see MEASURED_BY.
    """

    def __init__(self, kind: str, title: str, version: Path, signature_name: str, grappler: bool, threads: int = 0,
                 env: Iterable[tuple[str, str]] = (), prefix: Sequence[str] = (), python: str = "") -> None:
        self.kind = kind
        argv = python_module("benchmark.targets.in_process.engine", kind, str(version), "{socket}", "--signature",
                             signature_name or "serving_default", "--grappler", "on" if grappler else "off",
                             "--threads", str(threads))
        # Another environment has this project's code by its path only.
        own = dict(env) | ({"PYTHONPATH": str(ROOT)} if python else {})
        super().__init__(f"process of {title}", [*prefix, python or argv[0], *argv[1:]], own)


class InProcessConnection:
    """A connection to an engine, which stores prepared requests and times each run: only requests' numbers are sent.

    Each connection has its own channel and its own thread in the engine, so that workers run in parallel.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._channel = engine.open()
        self.measured_by = MEASURED_BY[engine.kind]

    def signature(self) -> Signature:
        definition = meta_graph_pb2.SignatureDef.FromString(self._call("signature", None))
        return Signature(definition.method_name, specs_of(definition.inputs), specs_of(definition.outputs))

    def prepare(self, inputs: Arrays) -> int:
        return int(self._call("prepare", dict(inputs)))

    def timed(self, request: int) -> tuple[float, dict[str, Array]]:
        found = self.turn([request], 0, 1, 0.0)
        return found.seconds[0], found.answers[0]

    def turn(self, requests: Sequence[int], first: int, count: int, lead_s: float) -> Turn:  # decision 233
        """The whole turn runs in the engine: nothing is sent between its requests."""
        found = self._call("turn", (requests, first, count, lead_s))
        if isinstance(found, str):
            raise EngineError(found)
        return found

    def decode(self, raw: dict[str, Array]) -> dict[str, Array]:
        return raw

    def close(self) -> None:
        self._channel.close()

    def _call(self, command: str, value: Any) -> Any:
        try:
            self._channel.send((command, value))
            return self._channel.recv()
        except (EOFError, ConnectionError):
            self._engine.await_death("during a request", 5.0)
            raise FailedError(f"the {self._engine.title} closed its connection") from None
