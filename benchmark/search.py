"""python -m benchmark search: finds the highest rate at which a latency objective (SLO) is met."""
import click

from benchmark.issuing.bracketing import MOST_PROBES, bracket, first_rate, refuse_too_long
from benchmark.issuing.progress import duration
from benchmark.options import Output, announce, batch_option, output_options, protocol_option, source_options
from benchmark.reports.head import head
from benchmark.reports.search import SearchResult
from benchmark.targets.source import Source, protocol_for
from benchmark.verdicts import scenario
from benchmark.verdicts.arrivals import Poisson
from benchmark.verdicts.scenario import Scenario


@click.command(epilog="""\b
Examples:
  python -m benchmark search optimized --slo p99=50ms
  python -m benchmark search original optimized --slo p95=20ms --protocol rest --start 20
  python -m benchmark search optimized optimized@litert --slo p99=50ms
\b
A rate counts as met only if, with 95 % confidence, no more requests are too slow than the SLO allows.
""")
@click.argument("variants", nargs=-1, metavar="[VARIANT ...]")
@source_options()
@click.option("--slo", required=True, metavar="pP=Nms", help="Latency objective, such as p99=50ms.")
@protocol_option
@batch_option
@click.option("--start", type=click.FloatRange(0, min_open=True),
              help="The first rate tried, in requests per second (default: 10, or the lowest that --seconds allows).")
@click.option("--tolerance", type=click.FloatRange(0, 1, min_open=True), default=0.05, show_default=True,
              help="End when the highest rate met and the lowest rate missed are this close, as a fraction.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=30.0, show_default=True,
              help="The longest time to measure a rate, in seconds (twice if the first time does not decide).")
@output_options
def command(variants: tuple[str, ...], source: Source, slo: str, protocol: str | None, batch: int, start: float | None,
            tolerance: float, seconds: float, output: Output) -> None:
    """Finds the highest rate (Poisson arrivals) at which each VARIANT meets a latency objective (SLO)."""
    objective = scenario.parse_percentile_slo(slo)
    assert objective is not None
    start = start or first_rate(objective, seconds)
    refuse_too_long(start, objective, seconds)
    found = source.targets(variants)
    chosen = Scenario("search", protocol=protocol_for(found, protocol, "grpc"), batch=batch, slo=objective,
                      percentile=objective.percentile, arrivals=Poisson(start))
    result: SearchResult = {**head("search", found, source.inputs.seed), "scenario": chosen.to_json(), "searches": []}
    # A rate is measured twice if the first measurement does not decide.
    announce(f"up to {MOST_PROBES} rates per target, usually 5 to 10; each at most {duration(2 * seconds)}, so at most "
             f"{duration(2 * seconds * MOST_PROBES * len(found))} in all (--seconds)")
    for target in found:
        found_rates, probes, result["inputs"] = bracket(chosen, objective, target, source.inputs, tolerance, seconds)
        result["searches"].append({"target": target.name, "met": found_rates.met, "missed": found_rates.missed,
                                   "probes": probes})
        output.save(result)
    output.deliver(result)
