"""python -m benchmark profile: where the time of a server and of its model goes, and on which CPU instructions."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import psutil

from benchmark import report
from benchmark.issuing import runner
from benchmark.issuing.interleaved import duration
from benchmark.issuing.warm import open_connections
from benchmark.options import announce, protocol_option, source_options
from benchmark.reports import flame
from benchmark.reports.environment import cpu_flags
from benchmark.reports.head import head
from benchmark.reports.profile import Instructions, Operation, ProfileResult, Sampled
from benchmark.targets.child import python_module
from benchmark.targets.inputs import Inputs
from benchmark.targets.source import Source, distinct, protocol_for
from benchmark.targets.starting import alive, start
from benchmark.targets.target import Target
from benchmark.verdicts.arrivals import Closed
from benchmark.verdicts.scenario import Scenario
from commandline import json_option, step
from serving.client.payloads import Arrays
from user_error import FailedError, UserError
from whole_file import write_text

# What TensorFlow names in its log, and /proc/cpuinfo's word for it.
INSTRUCTIONS = {"SSE4.2": "sse4_2", "AVX": "avx", "AVX2": "avx2", "FMA": "fma", "AVX512F": "avx512f",
                "AVX512_VNNI": "avx512_vnni", "AVX_VNNI": "avx_vnni", "AVX512_BF16": "avx512_bf16",
                "AVX512_FP16": "avx512_fp16", "AMX_TILE": "amx_tile", "AMX_INT8": "amx_int8", "AMX_BF16": "amx_bf16"}
# Samples per second. Each stops every thread of the server and unwinds its native frames, for up to 50 ms on a busy
# machine: at 20 a second it answered 10 requests in 6 s, at 10 a second 106.
RATE = 10
# A server's start under py-spy, or writing its stacks, or TensorFlow's in the trace: roughly.
OTHER_S = 20.0
REBUILD = re.compile(r"To enable the following instructions: ([\w. ]+), in other operations")
FORBIDDEN = re.compile("permission denied|not permitted", re.IGNORECASE)
ISA = re.compile(r"onednn_verbose.*cpu,isa:(.+)")


@click.command(epilog="""\b
Examples:
  python -m benchmark profile original
  python -m benchmark profile original optimized --batch 100 --out reports/profile
\b
py-spy starts the server as its child, since attaching to a process needs privileges on most machines, and samples
native frames too: without them all time is one line, Session.run. It sees threads that Python knows; the share of
TensorFlow's own worker threads is in the table by operation. In a container it needs --cap-add SYS_PTRACE.
""")
@click.argument("variants", nargs=-1, required=True, metavar="VARIANT [CANDIDATE]")
@source_options(addresses=False)
@protocol_option
@click.option("--batch", type=click.IntRange(1), default=100, show_default=True, help="Examples per request.")
@click.option("--seconds", type=click.FloatRange(1), default=12.0, show_default=True, help="How long to sample.")
@click.option("--repeat", type=click.IntRange(1), default=20, show_default=True, help="Traced runs of the model.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("reports/profile"),
              show_default=True, help="Folder for the page, the stacks and TensorFlow's timelines.")
@json_option
def command(variants: tuple[str, ...], source: Source, protocol: str | None, batch: int, seconds: float, repeat: int,
            out: Path, json_path: str | None) -> None:
    """Profiles VARIANT (and CANDIDATE beside it): flame graph, time by operation, CPU instructions."""
    # Not source.targets: --grappler is for the trace of the model, which runs in process whatever the target.
    found = distinct([source.target(text) for text in variants])
    if any(target.backend != "embedded" for target in found):
        raise UserError("profile starts the embedded server; in a container py-spy needs --cap-add SYS_PTRACE: run "
                        "'py-spy record --native --pid 1' in it")
    out.mkdir(parents=True, exist_ok=True)
    began, samples = head("profile", found, source.inputs.seed), list[Sampled]()
    chosen = Scenario("profile", protocol=protocol_for(found, protocol, "grpc"), batch=batch, arrivals=Closed(2),
                      measure_s=seconds, warmup_s=1)
    announce(f"{seconds:g} s of samples per variant, a start and the writing of its stacks of about {duration(OTHER_S)}"
             f", {repeat} traced runs: about {duration((seconds + OTHER_S) * len(found) + OTHER_S)}")
    for target in found:
        sample, inputs, began["inputs"] = sampled(chosen, target, source.inputs, out)
        samples.append(sample)
    with step(f"TensorFlow's trace of {repeat} runs of {' and '.join(target.name for target in found)}, in turns"):
        operations, log = traced(found, source.inputs.signature, inputs, repeat, source.grappler, out)
    result: ProfileResult = {
        **began, "batch": batch, "instructions": instructions(log),
        "profiles": [{**sample, "operations": ops} for sample, ops in zip(samples, operations, strict=True)]}
    report.deliver(result, str(out / "profile.html"), json_path)
    write_text(out / "profile.json", json.dumps(result, indent=1))


def sampled(chosen: Scenario, target: Target, inputs: Inputs, out: Path
            ) -> tuple[Sampled, Arrays, str]:
    """The stacks of one variant under load; the inputs sent, and in words where they are from."""
    stacks = out / f"{target.name}.stacks.txt"
    with ExitStack() as stack:
        # The tracer goes on until the server ends, and slows its draining: it is the server that is ended, at once.
        spied = replace(target, prefix=(spy(), "record", "--native", "--rate", str(RATE), "--format", "raw", "--output",
                                        str(stacks), "--"))
        instance = start(spied)
        stack.callback(instance.stop)
        with step(f"Start {target.name} under py-spy"):
            try:
                instance.wait()
            except UserError as error:
                if not FORBIDDEN.search(str(error)):
                    raise
                raise FailedError(f"{error}: py-spy may not trace here; in a container, run it with "
                                  "--cap-add SYS_PTRACE") from None
        with (alive(instance, "while it was profiled"),
              open_connections(chosen, instance, inputs) as (connections, words)):
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
                raise FailedError(f"py-spy did not finish within 120 s: {instance.child.last_words()}") from None
    lines = stacks.read_text(encoding="utf-8", errors="replace").splitlines()
    tree = flame.tree(lines)
    if not tree.samples:
        raise FailedError(f"py-spy saw no request of {target.name}: sample longer, --seconds {2 * chosen.measure_s:g}")
    return {"target": target.name, "stacks": str(stacks), "hottest": flame.hottest(tree),
            "flame": flame.svg(tree)}, batches[0], words


def traced(found: Sequence[Target], signature: str, inputs: Arrays, runs: int, grappler: bool, out: Path
           ) -> tuple[list[list[Operation]], str]:
    """TensorFlow's time by operation of each target, and what it said on stderr while it ran."""
    with tempfile.TemporaryDirectory() as directory:
        np.savez(Path(directory, "inputs.npz"), allow_pickle=True, **inputs)
        argv = python_module("benchmark.targets.in_process.trace", *(str(target.version_directory) for target in found),
                             "--signature", signature or "serving_default", "--samples",
                             str(Path(directory, "inputs.npz")), "--runs", str(runs), "--grappler",
                             "on" if grappler else "off", "--timeline",
                             *(str(out / f"{target.name}.timeline.json") for target in found))
        env = {**os.environ, "ONEDNN_VERBOSE": "1", "TF_CPP_MIN_LOG_LEVEL": "0"}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it printed nothing"
        raise FailedError(f"{' and '.join(target.name for target in found)} could not be traced: {last}")
    operations: list[list[Operation]] = json.loads(done.stdout)
    return operations, done.stderr


def instructions(log: str) -> Instructions:
    """What the CPU has, what TensorFlow's general code was not built with, and what oneDNN's kernels use."""
    rebuild, isa, flags = REBUILD.search(log), ISA.search(log), cpu_flags()
    unused = set(rebuild[1].split()) if rebuild else set()
    return {"cpu": [name for name, flag in INSTRUCTIONS.items() if flag in flags],
            "not_in_tensorflow_build": sorted(unused), "onednn": isa[1].strip() if isa else None}


def spy() -> str:
    """py-spy, beside this Python or on PATH."""
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.is_file() else shutil.which("py-spy")
    if found is None:
        raise UserError("profile needs py-spy: pip install py-spy")
    return found
