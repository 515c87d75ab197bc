"""Published benchmarks that loop a number of times: an article's inference_test and Intel's throughput benchmark."""
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmark.targets.connections import PreparedConnection, Workload
from benchmark.targets.first_answers import first_answers
from benchmark.targets.inputs import Inputs
from benchmark.targets.starting import alive, start_all
from benchmark.targets.target import Target
from benchmark.verdicts.block import Block
from benchmark.verdicts.histogram import Histogram
from commandline import step
from user_error import FailedError


@dataclass(frozen=True)
class Loop:
    """A loop over an in-process model: `iterations` measured runs after `warmup` unmeasured ones."""

    name: str
    batch: int
    iterations: int
    warmup: int
    backend: str


LOOPS = {loop.name: loop for loop in (
    # inference_test: a predictor, 100 images a batch, repeated 100 times, all of them in the total.
    Loop("article", batch=100, iterations=100, warmup=1, backend="predictor"),
    # Intel's: a session, --num_iter iterations after --num_warmup, reported in images per second.
    Loop("throughput", batch=32, iterations=500, warmup=50, backend="session"))}


def run(loop: Loop, target: Target, inputs: Inputs) -> tuple[Block, str]:
    """One block of the loop's iterations, and in words where its inputs are from.

    Every answer is checked against the first to the same request.
    """
    with ExitStack() as stack:
        with step(f"Start {target.name}"):
            instance = stack.enter_context(start_all([target], 1))[target.name][0]
        protocol = "in-process" if target.backend in ("session", "predictor") else target.protocols[0]
        with alive(instance, "while it was measured"), step(f"{loop.name}: {loop.iterations} batches of {loop.batch}"):
            connect = partial(instance.connect, protocol, target.signature)
            first = first_answers(inputs, instance, connect, loop.batch, target.version_directory)
            stack.callback(first.connection.close)
            measured = PreparedConnection(first.connection, Workload(loop.batch, first.batches, first.expected))
            measured.block(loop.warmup, target=target.name, replica=0, protocol="in-process", round=-1)
            block = measured.block(loop.iterations, target=target.name, replica=0, protocol="in-process", round=0)
    if block.wrong:
        raise FailedError(f"{block.wrong} answers differ from the first answer to the same request: "
                          f"{measured.checker.first_wrong}")
    return block, first.inputs


def lines(loop: Loop, block: Block) -> list[str]:
    """The lines that the original prints: the article's three, or Intel's with latency and throughput."""
    total = sum(block.latencies)
    mean = total / len(block.latencies)
    if loop.name == "article":
        return [f"Total elapsed time: {total:.3f} seconds",
                f"Batch size {block.batch}, repeated {len(block.latencies)} times",
                f"Average latency per batch: {mean * 1e3:.3f} ms"]
    return [f"Iterations: {len(block.latencies)} of batch size {block.batch}, after {loop.warmup} to warm up",
            f"Latency: {mean / block.batch * 1e3:.3f} ms per example, {mean * 1e3:.3f} ms per batch",
            f"Throughput: {block.batch / mean:.2f} examples/s"]


def to_json(loop: Loop, block: Block, inputs: str, environment: Mapping[str, Any]) -> dict[str, Any]:
    total = sum(block.latencies)
    return {"loop": loop.name, "target": block.target, "inputs": inputs, "batch": block.batch,
            "iterations": len(block.latencies), "total_s": total, "mean_ms": total / len(block.latencies) * 1e3,
            "examples_per_s": block.batch * len(block.latencies) / total,
            "latency_ms": Histogram.of(block.latencies).to_json(), "environment": environment}
