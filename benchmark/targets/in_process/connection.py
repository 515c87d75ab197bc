"""The parent's side of benchmark.targets.in_process.engine: a child process that runs a model, as a connection."""
import pickle
import struct
import subprocess
from pathlib import Path
from typing import Any

from benchmark.targets.child import Child, python_module
from serving import tensor_proto
from serving.client.payloads import Array, Arrays, TensorSpec
from serving.client.protocol import Signature
from serving.protos import meta_graph_pb2
from user_error import FailedError

MEASURED_BY = {"session": "a v1 Session in a process of its own, timed around the run",
               "predictor": "the signature function in a process of its own, timed around the call"}


def start(kind: str, title: str, version: Path, signature_name: str, grappler: bool) -> Child:
    """An engine that loads the model; it answers frames once loaded."""
    argv = python_module("benchmark.targets.in_process.engine", kind, str(version), "--signature",
                         signature_name or "serving_default", "--grappler", "on" if grappler else "off")
    return Child(f"process of {title}", argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


class InProcessConnection:
    """Requests are kept by the child, so only a number goes over the pipe, and the child's own clock counts."""

    def __init__(self, child: Child, kind: str) -> None:
        self._child = child
        self.measured_by = MEASURED_BY[kind]

    def signature(self) -> Signature:
        definition = meta_graph_pb2.SignatureDef.FromString(self._call("signature", None))
        return Signature(definition.method_name, _specs(definition.inputs), _specs(definition.outputs))

    def prepare(self, inputs: Arrays) -> int:
        return int(self._call("prepare", dict(inputs)))

    def timed(self, request: int) -> tuple[float, dict[str, Array]]:
        seconds, outputs = self._call("run", request)
        return seconds, outputs

    def decode(self, raw: dict[str, Array]) -> dict[str, Array]:
        return raw

    def close(self) -> None:
        """The child ends with its instance: other connections may use it."""

    def _call(self, command: str, value: Any) -> Any:
        source, sink = self._child.process.stdout, self._child.process.stdin
        assert source is not None
        assert sink is not None
        frame = pickle.dumps((command, value), protocol=5)
        try:
            sink.write(struct.pack("<I", len(frame)) + frame)
            sink.flush()
            head = source.read(4)
        except BrokenPipeError:
            head = b""
        if not head:
            self._child.await_death("while it was asked", 5.0)
            raise FailedError(f"the {self._child.title} closed its pipe")
        return pickle.loads(source.read(struct.unpack("<I", head)[0]))


def _specs(tensors: Any) -> dict[str, TensorSpec]:
    return {name: TensorSpec(tensor_proto.numpy_dtype(tensor.dtype), None if tensor.tensor_shape.unknown_rank
                             else tuple(dim.size for dim in tensor.tensor_shape.dim))
            for name, tensor in tensors.items() if tensor.dtype}
