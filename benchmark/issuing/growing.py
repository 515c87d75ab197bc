"""Growing load on several targets, in turns: what slows the machine down for a while slows down all of them."""
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
    """Yields {target: measurement} after each load, and in words where the inputs are from.

    Each target gets half of the seconds there and half back (A B B A). All of them are up throughout; those that are
    not asked wait.
    """
    widest = replace(scenario, arrivals=max(loads, key=load_of))
    with ExitStack() as stack:
        started = {target.name: stack.enter_context(warm(widest, target, inputs)) for target in targets}
        words = next(iter(started.values())).inputs
        for arrivals in loads:
            each = replace(scenario, arrivals=arrivals)
            taken: dict[str, list[Measurement]] = {name: [] for name in started}
            # With one target there is nobody to take turns with.
            turns = [*started, *reversed(started)] if len(started) > 1 else list(started)
            with step(f"{load_of(arrivals):g} {'requests/s' if isinstance(arrivals, Poisson) else 'clients'}: "
                      f"{' and '.join(started)}{' in turns' if len(started) > 1 else ''}"):
                for name in turns:
                    open_ = started[name].connections[:runner.workers_for(each)]
                    taken[name].append(runner.run(each, open_, each.measure_s * len(started) / len(turns)))
            yield {name: merged(parts) for name, parts in taken.items()}, words


def load_of(arrivals: Arrivals) -> float:
    """Requests per second of an open loop, clients of a closed one."""
    return arrivals.rate_per_s if isinstance(arrivals, Poisson) else getattr(arrivals, "clients", 0)
