"""Samples a server's stacks under load with py-spy, and traces its model's operations in a separate process."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil

from benchmark.issuing import runner
from benchmark.issuing.warm import open_connections
from benchmark.targets.child import python_module
from benchmark.targets.inputs import Inputs
from benchmark.targets.starting import alive, start
from benchmark.targets.target import Target
from benchmark.verdicts.records import Instructions, Traced
from benchmark.verdicts.scenario import Scenario
from commandline import step
from serving.client.payloads import Arrays
from user_error import FailedError, UserError

# {instruction set as TensorFlow's log names it: the flag in /proc/cpuinfo}
INSTRUCTIONS = {"SSE4.2": "sse4_2", "AVX": "avx", "AVX2": "avx2", "FMA": "fma", "AVX512F": "avx512f",
                "AVX512_VNNI": "avx512_vnni", "AVX_VNNI": "avx_vnni", "AVX512_BF16": "avx512_bf16",
                "AVX512_FP16": "avx512_fp16", "AMX_TILE": "amx_tile", "AMX_INT8": "amx_int8", "AMX_BF16": "amx_bf16"}
# Samples per second. Each sample stops all threads of the server, for up to 50 ms on a busy machine: with 20 samples a
# second the server answered 10 requests in 6 s, with 10 samples a second 106.
RATE = 10
REBUILD = re.compile(r"To enable the following instructions: ([\w. ]+), in other operations")
FORBIDDEN = re.compile("permission denied|not permitted", re.IGNORECASE)
ISA = re.compile(r"onednn_verbose.*cpu,isa:(.+)")


def sampled(chosen: Scenario, target: Target, inputs: Inputs, stacks: Path) -> tuple[list[str], Arrays, str]:
    """(collapsed stacks of one variant under load, the inputs sent, their description). Writes the stacks to `stacks`.

    Raises FailedError if py-spy is not allowed to trace, or does not finish.
    """
    with ExitStack() as stack:
        # py-spy samples until the server ends, and would slow its graceful shutdown: so the server is killed below.
        sampler = (find_py_spy(), "record", "--native", "--rate", str(RATE), "--format", "raw", "--output", str(stacks),
                   "--")
        instance = start(replace(target, prefix=sampler))
        stack.callback(instance.stop)
        with step(f"Start {target.name} under py-spy"):
            try:
                instance.wait()
            except UserError as error:
                if not FORBIDDEN.search(str(error)):
                    raise
                raise FailedError(f"{error}: py-spy is not allowed to trace processes here; in a container, start it "
                                  "with --cap-add SYS_PTRACE") from None
        with (alive(instance, "while it was profiled"),
              open_connections(chosen, instance, inputs) as (connections, description)):
            with step(f"{target.name}: sample its stacks under load, {chosen.measure_s:g} s"):
                runner.run(chosen, connections)
            signature = connections[0].connection.signature()
            batches, _ = inputs.batches(signature, chosen.batch, target.version_directory, 1)
        with step(f"{target.name}: write the stacks"):
            assert instance.child is not None
            for process in psutil.Process(instance.child.process.pid).children(recursive=True):
                process.kill()
            try:
                instance.child.process.wait(120)
            except subprocess.TimeoutExpired:
                raise FailedError(f"py-spy did not finish within 120 s: {instance.child.last_message()}") from None
    lines = stacks.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines, batches[0], description


def traced(found: Sequence[Target], signature: str, inputs: Arrays, runs: int, grappler: bool, out: Path,
           verbose: bool = True) -> tuple[list[Traced], str]:
    """TensorFlow's time by operation and by scope of each target, and what it said on stderr while it ran.

    verbose: oneDNN says which instructions it uses, and writes a line for each kernel, which takes time.
    """
    with tempfile.TemporaryDirectory() as directory:
        np.savez(Path(directory, "inputs.npz"), allow_pickle=True, **inputs)
        argv = python_module("benchmark.targets.in_process.trace", *(str(target.version_directory) for target in found),
                             "--signature", signature or "serving_default", "--samples",
                             str(Path(directory, "inputs.npz")), "--runs", str(runs), "--grappler",
                             "on" if grappler else "off", "--timeline",
                             *(str(out / f"{target.name}.timeline.json") for target in found))
        env = {**os.environ, "ONEDNN_VERBOSE": str(int(verbose)), "TF_CPP_MIN_LOG_LEVEL": "0"}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it printed nothing"
        raise FailedError(f"{' and '.join(target.name for target in found)} could not be traced: {last}")
    traces: list[Traced] = json.loads(done.stdout)
    return traces, done.stderr


def instructions(log: str, flags: Collection[str]) -> Instructions:
    """The instruction sets of a CPU with these flags; which of them TensorFlow was not built with and which oneDNN's
    kernels use, both from TensorFlow's log."""
    rebuild, isa = REBUILD.search(log), ISA.search(log)
    unused = set(rebuild[1].split()) if rebuild else set()
    return {"cpu": [name for name, flag in INSTRUCTIONS.items() if flag in flags],
            "not_in_tensorflow_build": sorted(unused), "onednn": isa[1].strip() if isa else None}


def find_py_spy() -> str:
    """The path of py-spy: beside this Python or on PATH. Raises UserError if it is not installed."""
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.is_file() else shutil.which("py-spy")
    if found is None:
        raise UserError("profile needs py-spy: pip install py-spy")
    return found
