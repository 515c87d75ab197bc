"""Tries rates on one target until the highest that keeps a promise is known."""
from dataclasses import replace

from benchmark.issuing import runner
from benchmark.issuing.warm import warm
from benchmark.targets.connections import PreparedConnection
from benchmark.targets.inputs import Inputs
from benchmark.targets.target import Target
from benchmark.verdicts import capacity
from benchmark.verdicts.arrivals import Poisson
from benchmark.verdicts.capacity import Bracket, Decision
from benchmark.verdicts.records import ProbeRecord
from benchmark.verdicts.scenario import Scenario, Slo
from commandline import step
from user_error import FailedError

MOST_PROBES = 20


def bracket(scenario: Scenario, promise: Slo, target: Target, inputs: Inputs, tolerance: float, most_s: float
            ) -> tuple[Bracket, list[ProbeRecord], str]:
    """(the bracket, every rate tried, in words where the inputs are from); the scenario's own rate is the first."""
    probes: list[ProbeRecord] = []
    widest = replace(scenario, arrivals=Poisson(runner.MAX_WORKERS))
    start = scenario.rate_per_s or 1.0
    refuse_too_long(start, promise, most_s)
    with warm(widest, target, inputs) as (_, connections, words):
        def probe(rate: float) -> Decision:
            with step(f"{target.name}: {rate:.1f}/s"):
                probes.append(tried(scenario, promise, connections, rate, len(probes), most_s))
            decision: Decision = probes[-1]["decision"]
            return decision
        found = capacity.search(probe, start, tolerance, MOST_PROBES)
    return found, probes, words


def enough_s(rate: float, promise: Slo) -> float:
    """Seconds at a rate in which a promise is shown when no request at all is slow."""
    return 3.1 / (1 - promise.percentile / 100) / rate


def refuse_too_long(rate: float, promise: Slo, most_s: float) -> None:
    enough = enough_s(rate, promise)
    if enough > most_s:
        raise FailedError(f"at {rate:g} requests/s p{promise.percentile:g} takes {enough:.0f} s to show: allow it "
                          f"with --most-s {enough:.0f}, or promise a lower percentile")


def tried(scenario: Scenario, promise: Slo, connections: list[PreparedConnection], rate: float, seed: int, most_s: float
          ) -> ProbeRecord:
    """Measures one rate until the promise is decided, at most most_s: the decision and what it was made from."""
    refuse_too_long(rate, promise, most_s)
    enough, beyond, requests = enough_s(rate, promise), 0, 0
    decision: Decision = "undecided"
    # Long enough that no slow request at all would decide it, then twice as long as that where it did not.
    for seconds in (max(1.0, enough), max(3.0, 2 * enough)):
        each = replace(scenario, arrivals=Poisson(rate, seed), measure_s=min(seconds, most_s))
        measurement = runner.run(each, connections[:runner.workers_for(each)])
        # A request that failed or was never sent was not answered in time either.
        lost = measurement.failed + measurement.recorder.dropped
        beyond += measurement.recorder.intended.count_above(promise.latency_ms / 1e3) + lost
        requests += measurement.answered + lost
        decision = capacity.slo_decision(beyond, requests, promise.percentile)
        if decision != "undecided":
            break
    return {"rate_per_s": rate, "decision": decision, "requests": requests, "beyond": beyond,
            "latency_ms": measurement.recorder.intended.percentile(promise.percentile) * 1e3}
