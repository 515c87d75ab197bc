"""A program that loads a model.tflite from its standard input and runs it, and says in a line of JSON how far it came.

    python -P litert_apart.py SECONDS BYTES < model.tflite        {"failed": "build", "reason": "..."} or {}

The server starts it for a file without a checksum: such a file can end the process that runs it. SECONDS: of CPU time
that it may take; BYTES: of memory, beyond what Python and LiteRT take (0: any). It imports nothing else, since each
load waits for it.
"""
import contextlib
import json
import resource
import sys
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

# One example, and another number: LiteRT then lays out its memory anew.
_BATCHES = 1, 3


def _limit(seconds: int, room: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    if not room:
        return
    with open("/proc/self/statm", encoding="ascii") as file:
        most = int(file.read().split()[0]) * resource.getpagesize() + room
    _, allowed = resource.getrlimit(resource.RLIMIT_AS)
    if allowed == resource.RLIM_INFINITY or most < allowed:
        resource.setrlimit(resource.RLIMIT_AS, (most, allowed))


def _failed(stage: str, error: Exception) -> dict[str, str]:
    return {"failed": stage, "reason": str(error)}


def _tried(content: bytes) -> dict[str, str]:
    try:
        interpreter = Interpreter(model_content=content, num_threads=1)
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    except (RuntimeError, ValueError) as error:
        return _failed("build", error)
    try:
        interpreter.allocate_tensors()
    except RuntimeError as error:
        return _failed("allocate", error)
    if any(one["dtype"] in (np.bytes_, np.str_, np.object_) for one in (*inputs, *outputs)):
        return {}  # the server runs no strings
    for batch in _BATCHES:
        # Not a reason to refuse the file: the server meets the same error in its own first run, and reports it.
        with contextlib.suppress(RuntimeError, ValueError):
            _run(interpreter, inputs, outputs, batch)
    return {}


def _run(interpreter: Any, inputs: Any, outputs: Any, batch: int) -> None:
    shapes = [[1 if size < 0 else int(size) for size in one["shape_signature"]] for one in inputs]
    for one, shape in zip(inputs, shapes, strict=True):
        if shape and batch != shape[0]:
            interpreter.resize_tensor_input(one["index"], [batch, *shape[1:]])
    interpreter.allocate_tensors()
    for one, shape in zip(inputs, shapes, strict=True):
        interpreter.set_tensor(one["index"], np.zeros([batch, *shape[1:]] if shape else shape, one["dtype"]))
    interpreter.invoke()
    for one in outputs:
        interpreter.get_tensor(one["index"])


if __name__ == "__main__":
    given = sys.stdin.buffer.read()
    _limit(int(sys.argv[1]), int(sys.argv[2]))
    try:
        found = _tried(given)
    except MemoryError as error:
        found = _failed("memory", error)
    print(json.dumps(found), flush=True)
