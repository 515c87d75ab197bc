"""python -m benchmark search: the highest rate at which a latency promise is kept."""
import click

from benchmark.issuing.bracketing import MOST_PROBES, bracket
from benchmark.issuing.interleaved import duration
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
\b
A rate is kept only when, with 95 % confidence, no more requests were slow than the promise allows.
""")
@click.argument("variants", nargs=-1, metavar="[VARIANT ...]")
@source_options()
@click.option("--slo", required=True, metavar="pP=Nms", help="The promise, such as p99=50ms.")
@protocol_option
@batch_option
@click.option("--start", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True,
              help="The first rate tried, in requests per second.")
@click.option("--tolerance", type=click.FloatRange(0, 1, min_open=True), default=0.05, show_default=True,
              help="How close the rates kept and broken must come, as a fraction.")
@click.option("--most-s", type=click.FloatRange(0, min_open=True), default=30.0, show_default=True,
              help="Seconds that one rate is measured at most.")
@output_options
def command(variants: tuple[str, ...], source: Source, slo: str, protocol: str | None, batch: int, start: float,
            tolerance: float, most_s: float, output: Output) -> None:
    """Finds the highest rate (Poisson arrivals) at which VARIANTs keep a latency promise."""
    promise = scenario.parse_percentile_slo(slo)
    assert promise is not None
    found = source.targets(variants)
    chosen = Scenario("search", protocol=protocol_for(found, protocol, "grpc"), batch=batch, slo=promise,
                      percentile=promise.percentile, arrivals=Poisson(start))
    result: SearchResult = {**head("search", found, source.inputs.seed), "scenario": chosen.to_json(), "searches": []}
    # A rate is measured twice where the first time does not decide it.
    announce(f"up to {MOST_PROBES} rates per target, usually 5 to 10; each at most {duration(2 * most_s)}, so at most "
             f"{duration(2 * most_s * MOST_PROBES * len(found))} in all (--most-s)")
    for target in found:
        kept, probes, result["inputs"] = bracket(chosen, promise, target, source.inputs, tolerance, most_s)
        result["searches"].append({"target": target.name, "met": kept.met, "missed": kept.missed, "probes": probes})
        output.save(result)
    output.deliver(result)
