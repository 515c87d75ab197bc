"""Measures several targets alternately under growing load, so that a busy machine slows all of them alike."""
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

from benchmark.issuing import runner
from benchmark.issuing.warm import warm
from benchmark.targets.inputs import Inputs
from benchmark.targets.target import Target
from benchmark.verdicts.arrivals import Arrivals, Poisson
from benchmark.verdicts.measurement import Measurement, merged
from benchmark.verdicts.scenario import Scenario
from commandline import step


def grow(scenario: Scenario, loads: Sequence[Arrivals], targets: Sequence[Target], inputs: Inputs
         ) -> Iterator[tuple[dict[str, Measurement], str]]:
    """Yields ({target: measurement}, description of the inputs) after each load.

    Each target is measured twice per load, for half of the seconds each time (A B B A). All targets run throughout and
    are idle while another is measured.
    """
    widest = replace(scenario, arrivals=max(loads, key=load_of))
    with ExitStack() as stack:
        started = {target.name: stack.enter_context(warm(widest, target, inputs)) for target in targets}
        description = next(iter(started.values())).inputs
        for arrivals in loads:
            each = replace(scenario, arrivals=arrivals)
            taken: dict[str, list[Measurement]] = {name: [] for name in started}
            # A single target is measured once, for all the seconds.
            turns = [*started, *reversed(started)] if len(started) > 1 else list(started)
            with step(f"{load_of(arrivals):g} {'requests/s' if isinstance(arrivals, Poisson) else 'clients'}: "
                      f"{' and '.join(started)}{' alternately' if len(started) > 1 else ''}"):
                for name in turns:
                    connections = started[name].connections[:runner.workers_for(each)]
                    taken[name].append(runner.run(each, connections, each.measure_s * len(started) / len(turns)))
            yield {name: merged(parts) for name, parts in taken.items()}, description


def load_of(arrivals: Arrivals) -> float:
    """Requests per second of an open loop, or the number of clients of a closed loop."""
    return arrivals.rate_per_s if isinstance(arrivals, Poisson) else getattr(arrivals, "clients", 0)
