"""HDR histograms keep three digits, merge exactly, and are decoded to what was encoded."""
import numpy as np
import pytest

from benchmark.verdicts.histogram import Histogram


def _lognormal(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).lognormal(-5, 0.5, count)


@pytest.mark.parametrize("percentile", [50, 90, 99, 99.9])
def test_percentiles_are_within_two_thousandths(percentile: float) -> None:
    values = _lognormal(20_007, 1)  # no rank is an integer: there the definitions of a percentile differ
    exact = np.percentile(values, percentile, method="inverted_cdf")
    assert Histogram.of(values).percentile(percentile) == pytest.approx(exact, rel=2e-3)


def test_merged_parts_equal_the_whole() -> None:
    values = _lognormal(6_000, 2)
    merged = Histogram.of(values[:1000])
    merged.merge(Histogram.of(values[1000:]))
    whole = Histogram.of(values)
    assert merged.count == whole.count == 6_000
    assert [merged.percentile(p) for p in (1, 50, 99, 100)] == [whole.percentile(p) for p in (1, 50, 99, 100)]


def test_encoding_keeps_everything() -> None:
    histogram = Histogram.of(_lognormal(3_000, 3))
    again = Histogram.decode(histogram.encode())
    assert again.to_json() == histogram.to_json()
    assert again.count == 3_000


def test_counting_beyond_a_limit() -> None:
    values = _lognormal(5_000, 4)
    limit = float(np.percentile(values, 95))
    assert Histogram.of(values).count_above(limit) == pytest.approx((values > limit).sum(), abs=8)
    assert Histogram.of(values).count_above(10) == 0


def test_values_outside_the_range_are_counted_at_its_ends() -> None:
    histogram = Histogram.of([0.0, 1e-9, 10_000.0])
    assert histogram.count == 3
    assert histogram.max == pytest.approx(3600, rel=1e-3)


def test_an_empty_histogram_has_no_percentiles() -> None:
    assert Histogram().to_json() == {"count": 0, "mean": None, "hdr": Histogram().encode()}
    assert Histogram().curve() == []
