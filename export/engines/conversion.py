"""Runs a converter in a process of its own: it may crash, never end, or take all memory.

    folder/task.json        what to convert: engine, precision, tensors, how many requests for ranges
    folder/graph.pb         the part of the graph that is converted
    folder/0.npz ...        requests by input tensor, for int8
    folder/said             what the converter printed
    folder/reason.json      why it could not be done, if it could not
"""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic

import numpy as np
import psutil

import dies_with_parent
from export.engines.convertible import Ends
from export.engines.limits import Limits
from export.graph import Graph, normal
from export.graph_file import served, write_graph_def
from export.tensors import Array
from user_error import UserError

ROOT = Path(__file__).resolve().parents[2]
# Of the memory that is free when the converter starts: the rest is for this process and the system.
_SHARE = 0.8
_LOOK_S = 0.2


class ConversionError(Exception):
    """The converter could not do it; the message is the reason in one sentence."""


@dataclass(frozen=True)
class Task:
    """`kind`: the engine; inputs and outputs: tensors of the graph; requests: how many there are for ranges."""

    kind: str
    precision: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    marks: tuple[str, ...] = ()  # other names of the outputs
    requests: int = 0
    transformer: bool = False


@contextmanager
def converted(home: Path, kind: str, precision: str, graph: Graph, ends: Ends, requests: Sequence[Mapping[str, Array]],
              limits: Limits, marks: Sequence[str] = (), transformer: bool = False) -> Iterator[Path]:  # decision 213
    """A folder in `home` with what the converter made, which is deleted at the end. Raises ConversionError.

    requests: arrays by input tensor, for the ranges of int8; those with other inputs are not used.
    """
    with tempfile.TemporaryDirectory(prefix=".convert-", dir=home) as name:
        folder = Path(name)
        try:
            write_graph_def(folder / "graph.pb", served(graph))
        except UserError as error:
            raise ConversionError(str(error)) from None
        taken = [normal(name) for name in ends.inputs]
        fitting = [request for request in requests if request.keys() >= set(taken)]
        if precision == "int8" and not fitting:  # the converter would write float32
            raise ConversionError(f"no example has all of its inputs ({', '.join(ends.inputs)}), from which the ranges "
                                  "of int8 are measured")
        for index, request in enumerate(fitting):
            np.savez(folder / f"{index}.npz", *(request[name] for name in taken))
        task = Task(kind, precision, ends.inputs, ends.outputs, tuple(marks), len(fitting), transformer)
        (folder / "task.json").write_text(json.dumps(asdict(task)))
        _run(folder, limits)
        yield folder


def _run(folder: Path, limits: Limits) -> None:
    most = limits.most_bytes or int(_SHARE * psutil.virtual_memory().available)
    argv = [sys.executable, "-m", "export.engines.converter", str(folder)]
    with (folder / "said").open("wb") as said:
        child = subprocess.Popen(dies_with_parent.argv(argv), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=said,
                                 stderr=said, start_new_session=True, env=_environment(folder))
    try:
        _watch(child, limits.max_s, most)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    reason = folder / "reason.json"
    if reason.exists():
        raise ConversionError(json.loads(reason.read_text()))
    if child.returncode:
        code = child.returncode
        raise ConversionError("the converter's process ended with "
                              f"{signal.Signals(-code).name if code < 0 else f'status {code}'}")


def _watch(child: subprocess.Popen[bytes], max_s: float, most: int) -> None:
    """Waits for the process. Raises ConversionError at the limits; the caller ends it."""
    ends, process = monotonic() + max_s, psutil.Process(child.pid)
    while True:
        with suppress(subprocess.TimeoutExpired):
            child.wait(_LOOK_S)
            return
        if monotonic() > ends:
            raise ConversionError(f"the converter was not done in {max_s:g} s (--max-convert-time)")
        with suppress(psutil.Error):
            if process.memory_info().rss > most:
                raise ConversionError(f"the converter took over {most / 1e9:.1f} GB of memory, most of what was free")


def _environment(folder: Path) -> dict[str, str]:
    # NNCF sends no usage data where this is set. A file of TensorFlow's converter goes into the folder.
    return {**os.environ, "NNCF_CI": "1", "TMPDIR": str(folder), "TF_CPP_MIN_LOG_LEVEL": "3"}
