"""What charts show, and what they leave out."""
import json
import re
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from benchmark.reports import charts, compare, kinds, latencies, run, search, stored, sweep
from benchmark.reports.compare import compared
from benchmark.reports.head import head
from benchmark.targets.target import Target
from benchmark.verdicts.block import Block

DATA = Path(__file__).with_name("data")


def _stored(name: str) -> Any:
    return stored.load(DATA / f"{name}.json")


def _blocks(rounds: int) -> list[Block]:
    random = np.random.default_rng(5)
    return [Block(target, replica, "rest", 1, round_, tuple(random.gamma(20, cost / 20, 4)), cost * 4)
            for round_ in range(rounds) for replica in (0, 1) for target, cost in (("a", 0.01), ("b", 0.008))]


def _compared(rounds: int) -> compare.CompareResult:
    return {**head("compare", [Target("a", "m", "address")], 0), **compared(["a", "b"], _blocks(rounds)),
            "inputs": "made", "measured_by": {}}


@pytest.mark.parametrize(("rounds", "points", "words"), [
    (1, 1, "one round"), (50, 50, "one round"), (450, 57, "the mean of 8 rounds")])
def test_a_run_of_many_rounds_stays_readable(rounds: int, points: int, words: str) -> None:
    chart = latencies.charts_of(_blocks(rounds), ["a", "b"])[-1]
    assert chart.count("<circle") == 2 * points
    assert f"Each point is {words}" in chart


def test_points_are_the_means_of_consecutive_rounds() -> None:
    points = latencies.binned([1.0, 3.0, 5.0, 7.0, 10.0], 2)
    assert points == [(0.5, 2.0), (2.5, 6.0), (4.0, 10.0)]


def test_a_missing_interval_is_neither_drawn_nor_written() -> None:
    result = _compared(1)
    assert result["comparisons"][0]["ci95"] == [None, None] or not result["comparisons"][0]["valid"]
    unknown = cast(Any, {**result, "comparisons": [{**each, "ci95": [None, None], "least_effect": None}
                                                   for each in result["comparisons"]]})
    page, table = compare.html(unknown), compare.tables(unknown)[0]
    assert '<path class="span' not in page
    assert '<circle class="span' in page
    assert "no interval" in page
    assert not re.search(r"\?|None|nan|inf\b", "".join(map(str, table.columns[6].cells)))
    assert '<path class="span' in compare.html(_compared(20))
    assert charts.drawable(1.0, 1.0) is charts.drawable(None, 2.0) is charts.drawable(1.0, float("inf")) is None
    assert 'class="whisker"' not in charts.bars([charts.Bar("mean", "a", 2.0, None, 0)], "ms")
    assert 'class="whisker"' in charts.bars([charts.Bar("mean", "a", 2.0, (1.0, 3.0), 0)], "ms")


def test_a_colour_means_the_same_variant_in_every_chart() -> None:
    """In every chart the second target, and nothing else, has the second colour."""
    for name in ("compare", "run", "sweep"):
        result = _stored(name)
        second = list(dict.fromkeys(re.findall(r"http://127.0.0.1:\d+", json.dumps(result.get("runs") or result.get(
            "curves") or result["summaries"]))))[1]
        page = kinds.of(result).html(result)
        legends = re.findall(r'<path class="line (c\d) d\d" d="M0 4H26"/></svg>([^<]*)<', page)
        assert {colour for colour, words in legends if second in words} == {"c1"}, name
        assert {colour for colour, words in legends if second not in words} == {"c0"}, name
    assert not re.search(r'class="(?:bar|ring) c', kinds.KINDS["split"].html(_stored("split")))


def test_repeats_and_starts_of_one_variant_differ_in_their_dashes() -> None:
    result = _stored("run")
    first = result["runs"][0]
    late = json.loads(json.dumps(result["runs"][1]))
    late["target"] = first["target"]
    late["latency_ms"]["p50"] = 2 * late["latency_from_send_ms"]["p50"]
    result["runs"] = [first, late]
    drawn = re.findall(r'<path class="line (c\d d\d)" d="M0 4H26"/></svg>([^<]*)<', run.html(result))
    assert [style for style, _ in drawn[:3]] == ["c0 d0", "c0 d2", "c0 d3"]
    assert drawn[1][1].endswith("2, from the intended start")
    assert drawn[2][1].endswith("2, from the actual send")


def test_the_chart_of_a_search_shows_the_slo() -> None:
    assert "SLO: 60 ms</text>" in search.html(_stored("search"))


def test_a_knee_is_marked_without_a_verdict() -> None:
    page = sweep.html(_stored("sweep"))
    assert page.count('class="mark"') == 4  # two targets in two charts
    assert "1 clients, the least load measured" in page
    assert 'class="verdict faster' not in page
    assert "p99 is not drawn: it needs 662 requests at a load" in page


def test_a_sweep_shows_p99_where_there_are_enough_requests() -> None:
    result = _stored("sweep")
    for measured in result["curves"][1]["runs"]:
        measured["requests"] = 700
    page = sweep.html(result)
    assert re.findall(r'<path class="line (c\d d\d)" d="M0 4H26"/></svg>([^<]*), p99<', page) == [
        ("c1 d1", result["curves"][1]["target"])]
    assert "p99 needs" not in page.split("<h2>Figures</h2>")[0]
