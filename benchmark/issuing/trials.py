"""Measures candidate settings of a server, each on its own server, and then the best compared with the defaults."""
import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.issuing import runner
from benchmark.issuing.progress import progress_bar
from benchmark.issuing.warm import Warm, warm
from benchmark.targets.configuration import Configuration
from benchmark.targets.connections import PreparedConnection
from benchmark.targets.inputs import Inputs
from benchmark.targets.target import Target
from benchmark.verdicts import halving
from benchmark.verdicts.comparison import round_order
from benchmark.verdicts.halving import Score
from benchmark.verdicts.records import GainRecord
from benchmark.verdicts.scenario import Scenario
from benchmark.verdicts.statistics import Array, bootstrap_ratio, least_effect, noise_floor, verdict
from commandline import step
from whole_file import write_json, write_text

FINAL_ROUNDS = 12
FINAL_S = 1.0
# Roughly the seconds to start a server and warm it up: for the estimate that is printed beforehand.
START_S = 8.0


class Checkpoint:
    """Finished measurements in a file, so that an interrupted run can continue: they are used again only if `question`
    (load, inputs, versions and settings) is the same."""

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


@dataclass(frozen=True)
class Trials:
    """One load on one target with different settings; `out` is the folder for a trial's temporary files."""

    target: Target
    scenario: Scenario
    inputs: Inputs
    out: Path

    def best(self, arms: list[Configuration], seconds: float, checkpoint: Checkpoint) -> Configuration:
        """The best arm by successive halving; `seconds` is the length of the first, shortest measurements."""
        def measure(settings: Configuration, length: float) -> Score:
            key = f"{settings.name} for {length:g} s"
            known = checkpoint.get(key)
            if known is None:
                with self.warm(settings) as found, step(key):
                    known = score(self.scenario, found.connections, length)
                checkpoint.put(key, known)
                checkpoint.put("inputs", found.inputs)
            return Score(**known)
        return halving.successive_halving(arms, measure, seconds)[0][0]

    def gain(self, best: Configuration, seed: int) -> GainRecord:
        """Measures the defaults and the best settings alternately: the gain in throughput with its interval."""
        costs: dict[tuple[str, int], list[Array]] = {}
        with ExitStack() as stack, progress_bar(f"{best.name} against the defaults", 4 * FINAL_ROUNDS) as done:
            connections = {settings.name: stack.enter_context(self.warm(settings)).connections
                           for settings in (Configuration(), best)}
            for round_ in range(FINAL_ROUNDS):
                for name, replica in round_order(list(connections), round_):
                    rate = runner.run(self.scenario, connections[name], FINAL_S).rate_per_s
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

    @contextmanager
    def warm(self, settings: Configuration) -> Iterator[Warm]:
        """A server of the target with these settings, with connections to it."""
        # One file name is enough: trials with batching never run simultaneously. A file that a killed run left behind
        # is overwritten.
        batching = (self.out / ".trial.txt").resolve()
        with ExitStack() as stack:
            if settings.batching:
                write_text(batching, settings.batching.text())
                stack.callback(batching.unlink)
            tuned = replace(self.target, name=settings.name, flags=(*self.target.flags, *settings.flags(batching)),
                            env=settings.environment())
            yield stack.enter_context(warm(self.scenario, tuned, self.inputs))

    def question(self) -> list[Any]:
        """All that scores depend on beside the settings, for a `Checkpoint`."""
        inputs = self.inputs
        return [asdict(self.scenario), self.target.flags, inputs.signature, inputs.samples, inputs.seed]


def seconds_needed(count: int, seconds: float) -> float:
    """Estimated seconds for `count` candidates, including the last comparison."""
    trials = sum(arms * (each + START_S) for arms, each in halving.rungs(count, seconds))
    return trials + 2 * START_S + 4 * FINAL_ROUNDS * FINAL_S


def score(scenario: Scenario, connections: list[PreparedConnection], length: float) -> dict[str, float]:
    """The fields of a Score: throughput, latency at the scenario's percentile, and the SLO's limit."""
    measurement = runner.run(scenario, connections, length)
    if measurement.failed or measurement.recorder.wrong or not measurement.answered:
        # Settings under which requests fail get the worst score, however fast they are.
        return {"rate_per_s": 0.0, "latency_ms": 1e9, "limit_ms": 1e-9}
    return {"rate_per_s": measurement.rate_per_s,
            "latency_ms": measurement.recorder.intended.percentile(scenario.percentile) * 1e3,
            "limit_ms": scenario.slo.latency_ms if scenario.slo else 0.0}
