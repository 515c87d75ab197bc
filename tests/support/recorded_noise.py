"""Blocks of equal processes, recorded: what noise is made of, and the noise that estimators are chosen by.

A sweep measures each process under each condition once, in random order, so that what happens on the machine meets all
conditions alike. A recording is kept as an .npz file: `seconds` [sweeps, conditions, processes, requests], and of each
block [sweeps, conditions, processes]: `at` (its start, seconds), `host` (seconds of a fixed loop, just before it on the
same core), `stolen` (CPU seconds that other virtual machines took meanwhile), `client` (CPU seconds of the client).
"""
import gc
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np

import cores
import dies_with_parent
from benchmark.reports.environment import steal_s
from benchmark.targets.inputs import Inputs
from benchmark.targets.starting import Instance, start_all
from benchmark.targets.target import Target
from benchmark.verdicts.block import Block

BLOCK_S, LEAD_S = 0.1, 0.01
_WAVES = """
import random, time
random.seed({seed})
while True:
    ends = time.perf_counter() + 10 ** random.uniform(-1, 0.7)
    while time.perf_counter() < ends:
        pass
    time.sleep(10 ** random.uniform(-1, 0.7))
"""


@dataclass(frozen=True)
class Condition:
    """How blocks are measured: `target` names the processes; `core` is that of all of them and of the client, None
    where the system puts them; `lead_s` and `pause_s` (before each request) are seconds; `collects`: the client's
    garbage is collected meanwhile."""

    target: str
    core: int | None = None
    lead_s: float = LEAD_S
    pause_s: float = 0.0
    collects: bool = True


@contextmanager
def waves(seed: int) -> Iterator[None]:
    """A process that loads one core, now and then for 0.1 to 5 s."""
    child = subprocess.Popen(dies_with_parent.argv([sys.executable, "-c", _WAVES.format(seed=seed)]))
    try:
        yield
    finally:
        child.kill()
        child.wait()


def record(targets: Sequence[Target], conditions: Mapping[str, Condition], protocol: str, batch: int, processes: int,
           seconds: float, seed: int = 0) -> dict[str, Any]:
    """Measures sweeps for so many seconds; the names of the conditions are `names` of what is returned."""
    random, measured = np.random.default_rng(seed), Inputs(seed=seed)
    with ExitStack() as stack:
        instances = stack.enter_context(start_all(targets, processes))
        stack.callback(cores.pin, os.getpid(), cores.allowed())
        connected: dict[str, list[tuple[Instance, Any, list[Any]]]] = {}
        for name, own in instances.items():
            for instance in own:
                connection = instance.connect(protocol)
                stack.callback(connection.close)
                inputs, _ = measured.batches(connection.signature(), batch, instance.target.version_directory, 4)
                prepared = [connection.prepare(one) for one in inputs]
                connection.turn(prepared, 0, 10, 0.0)
                connected.setdefault(name, []).append((instance, connection, prepared))
        usual = [value for own in connected.values() for _, connection, prepared in own
                 for value in connection.turn(prepared, 0, 5, LEAD_S).seconds]
        count = max(2, round(BLOCK_S / float(np.median(usual))))
        gc.collect()
        places = [(name, process) for name in conditions for process in range(processes)]
        sweeps: list[dict[tuple[str, int], dict[str, Any]]] = []
        ends = perf_counter() + seconds
        while perf_counter() < ends:
            sweep = {}
            for which in random.permutation(len(places)):
                name, process = places[which]
                sweep[name, process] = _block(conditions[name], *connected[conditions[name].target][process], count)
            sweeps.append(sweep)
    return {"names": np.array(list(conditions)), "requests": count} | {
        key: np.array([[[sweep[name, process][key] for process in range(processes)] for name in conditions]
                       for sweep in sweeps]) for key in ("seconds", "at", "host", "stolen", "client")}


def _block(condition: Condition, instance: Instance, connection: Any, prepared: list[Any], count: int
           ) -> dict[str, Any]:
    assert instance.child is not None
    chosen = cores.allowed() if condition.core is None else (condition.core,)
    assert cores.pin(instance.child.server(), chosen)
    assert cores.pin(os.getpid(), chosen)
    host = _fixed_loop()
    if not condition.collects:
        gc.disable()
    at, stolen = perf_counter(), steal_s()
    if condition.pause_s:
        took, client = [], 0.0
        for number in range(count):
            sleep(condition.pause_s)
            one = connection.turn(prepared, number, 1, 0.0)
            took, client = [*took, *one.seconds], client + one.cpu_s
    else:
        turn = connection.turn(prepared, 0, count, condition.lead_s)
        took, client = turn.seconds, turn.cpu_s
    stolen = steal_s() - stolen
    gc.enable()
    instance.child.settle()
    return {"seconds": took, "at": at, "host": host, "stolen": stolen, "client": client}


def _fixed_loop() -> float:
    began = perf_counter()
    sum(range(40_000))
    return perf_counter() - began


def keep(path: Path, recording: Mapping[str, Any]) -> None:
    """Latencies to 0.1 microseconds, as differences would be of noise alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = {key: np.round(np.asarray(value) * 1e7).astype(np.int32) if key == "seconds" else value
             for key, value in recording.items()}
    np.savez_compressed(path, **small)


def load(path: Path) -> dict[str, Any]:
    with np.load(path) as found:
        return {key: found[key] * 1e-7 if key == "seconds" else found[key] for key in found.files}


def as_blocks(seconds: Any, processes: Sequence[int], sweeps: Sequence[int], target: str, ratio: float = 1.0
              ) -> list[Block]:
    """Two blocks a round, as `compare` measures them: replica k of a target is process processes[k].

    seconds: [sweeps, processes, requests] of one condition. ratio: each request takes so many times as long.
    """
    made = []
    for round_, sweep in enumerate(sweeps):
        for replica in {round_ % len(processes), (round_ + 1) % len(processes)}:
            took = ratio * seconds[sweep, processes[replica]]
            made.append(Block(target, replica, "grpc", 1, round_, tuple(took), float(took.sum())))
    return made
