"""python -m benchmark sweep: measures a server's throughput and latency under growing load."""
import click

from benchmark.issuing.growing import grow, load_of
from benchmark.options import (
    Output,
    batch_option,
    numbers,
    output_options,
    positive_list,
    protocol_option,
    source_options,
)
from benchmark.reports.head import head
from benchmark.reports.sweep import Curve, SweepResult
from benchmark.targets.source import Source, protocol_for
from benchmark.verdicts import capacity
from benchmark.verdicts.arrivals import Arrivals, Closed, Poisson
from benchmark.verdicts.capacity import CURVE_PERCENTILE, Point
from benchmark.verdicts.measurement import Measurement
from benchmark.verdicts.scenario import Scenario
from user_error import FailedError, UserError


@click.command(epilog="""\b
Examples:
  python -m benchmark sweep original optimized --clients 1,2,4,8 --protocol grpc
  python -m benchmark sweep optimized optimized@litert --clients 4
  python -m benchmark sweep optimized --rates 5,10,20,40 --seconds 10 --html reports/sweep.html
\b
Several targets run side by side and are measured alternately at each load (A B B A), so that a busy machine slows all
of them alike.
""")
@click.argument("variants", nargs=-1, metavar="[VARIANT ...]")
@source_options()
@protocol_option
@batch_option
@click.option("--clients", type=positive_list, help="Numbers of clients, each in a closed loop (default: 1,2,4,8).")
@click.option("--rates", type=numbers, help="Requests per second of open loops (Poisson), instead of --clients.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=5.0, show_default=True,
              help="Seconds per load and target.")
@output_options
def command(variants: tuple[str, ...], source: Source, protocol: str | None, batch: int,
            clients: tuple[int, ...] | None, rates: tuple[float, ...] | None, seconds: float, output: Output) -> None:
    """Measures VARIANTs under growing load: the throughput-latency curve and its knee."""
    if clients and rates:
        raise UserError("a sweep needs either --clients or --rates, not both: leave one out")
    loads: list[Arrivals] = [Poisson(rate, source.inputs.seed) for rate in rates] if rates else [
        Closed(count) for count in clients or (1, 2, 4, 8)]
    found = source.targets(variants)
    chosen = Scenario("sweep", protocol=protocol_for(found, protocol, "grpc"), batch=batch, measure_s=seconds,
                      percentile=CURVE_PERCENTILE)
    taken: dict[str, list[Measurement]] = {target.name: [] for target in found}
    result: SweepResult = {**head("sweep", found, source.inputs.seed), "scenario": chosen.to_json(),
                           "over": "rate" if rates else "clients", "curves": []}
    for measurements, result["inputs"] in grow(chosen, loads, found, source.inputs):
        for name, measurement in measurements.items():
            taken[name].append(measurement)
        result["curves"] = [curve(name, own) for name, own in taken.items()]
        output.save(result)
    output.deliver(result)


def curve(name: str, measurements: list[Measurement]) -> Curve:
    """The points of one target, its knee, and the measurements that the points come from."""
    points = [_point(measurement) for measurement in measurements]
    return {"target": name, "knee": capacity.knee(points).to_json(),
            "points": [point.to_json() for point in points],
            "runs": [measurement.to_json() for measurement in measurements]}


def _point(measurement: Measurement) -> Point:
    if not measurement.answered:
        raise FailedError(f"no request was answered: {measurement.recorder.errors.most_common(1)[0][0]}")
    return Point(load_of(measurement.scenario.arrivals), measurement.rate_per_s,
                 measurement.recorder.intended.percentile(CURVE_PERCENTILE) * 1e3)
