"""Tries rates on one target until the highest rate that meets an SLO is known."""
import math
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
from user_error import UserError

MOST_PROBES = 20


def bracket(scenario: Scenario, slo: Slo, target: Target, inputs: Inputs, tolerance: float, most_s: float
            ) -> tuple[Bracket, list[ProbeRecord], str]:
    """(the bracket, every rate tried, a description of the inputs); the scenario's own rate is tried first."""
    probes: list[ProbeRecord] = []
    widest = replace(scenario, arrivals=Poisson(runner.MAX_WORKERS))
    start = scenario.rate_per_s or 1.0
    refuse_too_long(start, slo, most_s)
    with warm(widest, target, inputs) as (_, connections, description):
        def probe(rate: float) -> Decision:
            with step(f"{target.name}: {rate:.1f}/s"):
                probes.append(measure_rate(scenario, slo, connections, rate, len(probes), most_s))
            decision: Decision = probes[-1]["decision"]
            return decision
        found = capacity.search(probe, start, tolerance, MOST_PROBES, least_s(1.0, slo) / most_s)
    return found, probes, description


def least_s(rate: float, slo: Slo) -> float:
    """The least seconds at a rate that can show that an SLO is met: enough if no request is slow."""
    return round(3.1 / (1 - slo.percentile / 100) / rate, 6)


def first_rate(slo: Slo, most_s: float) -> float:
    """The rate to try first, in requests per second: 10, or the lowest at which most_s is enough."""
    return max(10.0, math.ceil(least_s(1.0, slo) / most_s))


def refuse_too_long(rate: float, slo: Slo, most_s: float) -> None:
    """Raises UserError if most_s is not enough to measure the percentile at this rate."""
    enough = least_s(rate, slo)
    if enough > most_s:
        raise UserError(f"at {rate:g} requests/s p{slo.percentile:g} takes {math.ceil(enough)} s to measure: allow it "
                        f"with --seconds {math.ceil(enough)}, or give --slo a lower percentile")


def measure_rate(scenario: Scenario, slo: Slo, connections: list[PreparedConnection], rate: float, seed: int,
                 most_s: float) -> ProbeRecord:
    """Measures one rate until it is decided whether it meets the SLO, each time for at most most_s seconds."""
    enough, beyond, requests = least_s(rate, slo), 0, 0
    decision: Decision = "undecided"
    # First just long enough to decide if no request is slow; if that does not decide, twice as long again.
    for seconds in (max(1.0, enough), max(3.0, 2 * enough)):
        each = replace(scenario, arrivals=Poisson(rate, seed), measure_s=min(seconds, most_s))
        measurement = runner.run(each, connections[:runner.workers_for(each)])
        # Requests that failed or were never sent count as too slow.
        lost = measurement.failed + measurement.recorder.dropped
        beyond += measurement.recorder.intended.count_above(slo.latency_ms / 1e3) + lost
        requests += measurement.answered + lost
        decision = capacity.slo_decision(beyond, requests, slo.percentile)
        if decision != "undecided":
            break
    return {"rate_per_s": rate, "decision": decision, "requests": requests, "beyond": beyond,
            "latency_ms": measurement.recorder.intended.percentile(slo.percentile) * 1e3}
