"""python -m benchmark tune: finds a server's settings for a load, and proves their gain over the defaults."""
import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from benchmark.issuing import runner
from benchmark.issuing.interleaved import alive, start_all
from benchmark.issuing.progress import counted
from benchmark.options import source_options
from benchmark.reports import stored
from benchmark.reports.environment import cpu_quota, environment
from benchmark.run import open_connections
from benchmark.targets.configuration import Configuration, candidates
from benchmark.targets.connections import Measured
from benchmark.targets.target import PROTOCOLS, Target, find_target
from benchmark.verdicts import halving, scenario
from benchmark.verdicts.arrivals import Closed
from benchmark.verdicts.comparison import round_order
from benchmark.verdicts.halving import Score
from benchmark.verdicts.scenario import Scenario
from benchmark.verdicts.statistics import Array, bootstrap_ratio, least_effect, noise_floor, verdict
from commandline import json_option, step
from user_error import UserError
from whole_file import write_json, write_text

FINAL_ROUNDS = 12
FINAL_S = 1.0


@click.command(epilog="""\b
Examples:
  python -m benchmark tune mnist --variant optimized --slo p99=50ms
  python -m benchmark tune mnist --slo p90=20ms --clients 8 --batch 4 --candidates 32
  ./tfserving.sh optimized -- $(cat reports/tuned/server.flags)
\b
Stopped and started again with the same arguments, it goes on where it was. It never gives a pool more threads than
the CPU quota of its cgroup.
""")
@click.argument("model")
@source_options
@click.option("--variant", default="original", show_default=True, help="The variant of MODEL to tune.")
@click.option("--slo", metavar="pP=Nms", help="Only settings that keep this promise, such as p99=50ms.")
@click.option("--protocol", type=click.Choice(PROTOCOLS), default="grpc", show_default=True, help="How to ask.")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Examples per request.")
@click.option("--clients", type=click.IntRange(1), default=4, show_default=True, help="Clients that ask at once.")
@click.option("--candidates", "count", type=click.IntRange(2), default=16, show_default=True,
              help="Settings tried, the defaults among them.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=2.0, show_default=True,
              help="Of the first, shortest measurement of each.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("reports/tuned"),
              show_default=True, help="Folder for server.flags, batching_parameters.txt, and what was measured.")
@json_option
def command(model: str, models: Path, signature: str, samples: Path | None, seed: int, grappler: str,
            server_flags: tuple[str, ...], variant: str, slo: str | None, protocol: str, batch: int, clients: int,
            count: int, seconds: float, out: Path, json_path: str | None) -> None:
    """Tunes threads, oneDNN, batching and front-end threads of the server of MODEL by successive halving."""
    target = find_target(variant, models, model, server_flags)
    if target.backend != "embedded":
        raise UserError("tune starts embedded servers: name a variant without a backend")
    promise = scenario.parse_slo(slo)
    chosen = Scenario("tune", protocol="rest" if protocol == "rest" else "grpc", batch=batch, slo=promise,
                      percentile=promise.percentile if promise else 50, arrivals=Closed(clients), warmup_s=1)
    out.mkdir(parents=True, exist_ok=True)
    version = target.version_directory
    assert version is not None
    conditions = environment({target.name: version}, seed)
    memory = Memory(out / "measured.json", [asdict(chosen), conditions["models"], seed, count, seconds, server_flags])

    def measure(settings: Configuration, length: float) -> Score:
        key = f"{settings.name} for {length:g} s"
        known = memory.get(key)
        if known is None:
            with warm(target, settings, chosen, signature, samples, seed, out) as connections, step(key):
                known = score(chosen, connections, length)
            memory.put(key, known)
        return Score(**known)

    arms = candidates(cpu_quota(), count, seed)
    best = halving.successive_halving(arms, measure, seconds)[0][0]
    gain = memory.get("gain") if best != Configuration() else {"verdict": "the defaults were best"}
    if gain is None:
        gain = compared(target, best, chosen, signature, samples, seed, out)
        memory.put("gain", gain)
    kept = best if gain["verdict"] == "faster" else Configuration()
    written = write_settings(kept, variant, out)
    result = {"kind": "tune", "format": stored.FORMAT, "model": model, "variant": variant, "best": best.name,
              "kept": kept.name, "gain": gain, "measured": memory.values, "files": written, "environment": conditions}
    console = Console(stderr=json_path == "-", highlight=False)
    console.print(f"Best of {len(arms)} within {conditions['cpu_quota']:g} CPUs: {best.name}", soft_wrap=True)
    console.print(gain_line(gain), soft_wrap=True)
    console.print(f"Written: {', '.join(written)}", soft_wrap=True)
    if json_path:
        write_json(json_path, result)


class Memory:
    """What was measured so far, in a file: read again only if it is about the same question."""

    def __init__(self, path: Path, question: Any) -> None:
        self._path = path
        self._question = hashlib.sha256(json.dumps(question, default=str).encode()).hexdigest()[:16]
        stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self.values: dict[str, Any] = stored["values"] if stored.get("question") == self._question else {}

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def put(self, key: str, value: Any) -> None:
        self.values[key] = value
        write_json(self._path, {"question": self._question, "values": self.values})


@contextmanager
def warm(target: Target, settings: Configuration, chosen: Scenario, signature: str, samples: Path | None, seed: int,
         out: Path) -> Iterator[list[Measured]]:
    """Connections to a server of the target with these settings."""
    # One name for all: no two trials with batching run at once, and what a killed one left is written over.
    batching = (out / ".trial.txt").resolve()
    with ExitStack() as stack:
        if settings.batching:
            write_text(batching, settings.batching.text())
            stack.callback(batching.unlink)
        tuned = replace(target, name=settings.name, flags=(*target.flags, *settings.flags(batching)),
                        env=settings.environment())
        instance = stack.enter_context(start_all([tuned], 1))[tuned.name][0]
        stack.enter_context(alive(instance, "while it was measured"))
        connections, _ = stack.enter_context(open_connections(chosen, instance, signature, samples, seed))
        runner.run(chosen, connections, chosen.warmup_s)
        yield connections


def score(chosen: Scenario, connections: list[Measured], length: float) -> dict[str, float]:
    measurement = runner.run(chosen, connections, length)
    if measurement.failed or measurement.recorder.wrong or not measurement.answered:
        # Settings under which requests fail are no settings, however fast.
        return {"rate_per_s": 0.0, "latency_ms": 1e9, "limit_ms": 1e-9}
    return {"rate_per_s": measurement.rate_per_s,
            "latency_ms": measurement.recorder.intended.percentile(chosen.percentile) * 1e3,
            "limit_ms": chosen.slo.latency_ms if chosen.slo else 0.0}


def compared(target: Target, best: Configuration, chosen: Scenario, signature: str, samples: Path | None, seed: int,
             out: Path) -> dict[str, Any]:
    """Defaults against the best, in turns under the same clients: the gain in throughput with its interval."""
    costs: dict[tuple[str, int], list[Array]] = {}
    with ExitStack() as stack, counted(f"{best.name} against the defaults, in turns", 4 * FINAL_ROUNDS) as done:
        connections = {settings.name: stack.enter_context(warm(target, settings, chosen, signature, samples, seed, out))
                 for settings in (Configuration(), best)}
        for round_ in range(FINAL_ROUNDS):
            for name, replica in round_order(list(connections), round_):
                rate = runner.run(chosen, connections[name], FINAL_S).rate_per_s
                costs.setdefault((name, replica), []).append(np.array([1 / max(rate, 1e-9)]))
                done(1)
    names = list(connections)
    def both(name: str) -> list[Array]:
        return [np.concatenate(pair) for pair in zip(costs[name, 0], costs[name, 1], strict=True)]
    ratio = bootstrap_ratio(both(names[0]), both(names[1]), seed=seed)
    floor = noise_floor(*(bootstrap_ratio(costs[name, 0], costs[name, 1], seed=seed) for name in names))
    return {"ratio": ratio.value, "ci95": [ratio.low, ratio.high], "floor": floor, "verdict": verdict(ratio, floor),
            "least_effect": least_effect(ratio, floor), "metric": "throughput",
            "defaults_per_s": float(1 / np.mean(both(names[0]))), "best_per_s": float(1 / np.mean(both(names[1])))}


def gain_line(gain: dict[str, Any]) -> str:
    if "ratio" not in gain:
        return f"Gain: none, {gain['verdict']}"
    low, high = gain["ci95"]
    words = "" if gain["verdict"] == "faster" else ": cannot be told from the defaults, which are kept"
    return (f"Gain in throughput: {gain['ratio']:.2f}x [{low:.2f}, {high:.2f}], {gain['defaults_per_s']:.1f} -> "
            f"{gain['best_per_s']:.1f} requests/s, noise floor ±{gain['floor']:.1%}{words}")


def write_settings(settings: Configuration, variant: str, out: Path) -> list[str]:
    """server.flags and server.env for tfserving.sh, batching_parameters.txt, an override for docker-compose."""
    batching = out / "batching_parameters.txt"
    written = {out / "server.flags": "\n".join(settings.flags(batching.resolve())),
               out / "server.env": "\n".join(f"{name}={value}" for name, value in settings.environment())}
    if settings.batching:
        written[batching] = settings.batching.text().rstrip()
    inside = "/tuned/batching_parameters.txt"
    service: dict[str, Any] = {"command": list(settings.flags(inside)),
                               "environment": dict(settings.environment()),
                               "volumes": [f"{out.resolve()}:/tuned:ro"]}
    # JSON is YAML; docker-compose -f docker-compose.yml -f docker-compose.tuned.yml up
    written[out / "docker-compose.tuned.yml"] = json.dumps({"services": {variant: service}}, indent=2)
    for path, text in written.items():
        write_text(path, text + "\n")
    return [str(path) for path in written]
