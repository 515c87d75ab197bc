"""Charts of latencies: bars of mean and percentiles, the distribution, the tail, and the rounds of a run."""
import math
from collections.abc import Sequence

import numpy as np

from benchmark.reports import charts
from benchmark.reports.page import figure
from benchmark.verdicts.block import Block, latencies
from benchmark.verdicts.histogram import Histogram
from benchmark.verdicts.statistics import bootstrap_value

PERCENTILES = (50.0, 90.0, 99.0, 99.9, 99.99)
SHOWN = ("mean", "p50", "p90", "p99")
MOST_POINTS = 60


def charts_of(blocks: Sequence[Block], names: Sequence[str]) -> list[str]:
    """The charts of blocks of one protocol and batch size; a target's place in `names` decides its colour."""
    bars, shares, tails, course, count = [], [], [], [], 0
    for series, name in enumerate(names):
        own = [block for block in blocks if block.target == name]
        values = latencies(own) * 1e3
        rounds = by_round(own)
        for metric in SHOWN:
            value, low, high = bootstrap_value([np.array(each) for each in rounds], metric)
            bars.append((SHOWN.index(metric), series,
                         charts.Bar(metric, name, value, charts.drawable(low, high), series)))
        ranked = sorted(values)
        shares.append(charts.Line(name, [(value, (i + 1) / len(ranked)) for i, value in _thinned(ranked)], series))
        tails.append(tail(name, Histogram.of(values / 1e3), series))
        count = max(count, math.ceil(len(rounds) / MOST_POINTS))
        course.append((name, series, rounds))
    least = min(sum(len(block.latencies) for block in blocks if block.target == name) for name in names)
    lines = [charts.Line(name, binned([sum(r) / len(r) for r in rounds], count), series)
             for name, series, rounds in course]
    of = "one round" if count == 1 else f"the mean of {count} rounds"
    return [
        figure("Before and after", charts.bars([bar for _, _, bar in sorted(bars, key=lambda b: b[:2])], "ms"),
               "Whiskers: 95 % interval from resampled rounds."),
        figure("Share of requests answered within a time",
               charts.lines(shares, "latency, ms", "share of requests", step=True), key=shares),
        figure("Latency by percentile", charts.lines(tails, "percentile", "latency, ms", ticks(least)), key=tails),
        figure("Over the run", charts.lines(lines, "round", "mean latency, ms", dots=True),
               f"Each point is {of}. Each round measures all targets: if all are slower in a round, the machine was.",
               lines)]


def by_round(blocks: Sequence[Block]) -> list[list[float]]:
    """The milliseconds of each round, in the order of rounds."""
    rounds: dict[int, list[float]] = {}
    for block in blocks:
        rounds.setdefault(block.round, []).extend(value * 1e3 for value in block.latencies)
    return [rounds[key] for key in sorted(rounds)]


def binned(values: Sequence[float], count: int) -> list[tuple[float, float]]:
    """(mean index, mean value) of each `count` consecutive values."""
    parts = [values[first:first + count] for first in range(0, len(values), count)]
    return [(index * count + (len(part) - 1) / 2, sum(part) / len(part)) for index, part in enumerate(parts)]


def tail(name: str, histogram: Histogram, series: int, dash: int = 0) -> charts.Line:
    """Milliseconds over `nines`, without the percentiles above 100 - 50/n, which n requests cannot show."""
    points = [(nines(p), s * 1e3) for p, s in histogram.curve() if p < 100 - 50 / histogram.count]
    return charts.Line(name, points, series, dash)


def ticks(requests: int) -> list[tuple[float, str]]:
    """The percentiles that this number of requests can show, as ticks."""
    return [(nines(p), f"p{p:g}") for p in PERCENTILES if p < 100 - 50 / requests]


def nines(percentile: float) -> float:
    return -math.log10(max(1 - percentile / 100, 1e-7))


def _thinned(ranked: Sequence[float], most: int = 400) -> list[tuple[int, float]]:
    stride = max(1, len(ranked) // most)
    return [(i, value) for i, value in enumerate(ranked) if i % stride == 0 or i == len(ranked) - 1]
