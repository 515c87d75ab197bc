"""Histograms of tensors, and the ranges chosen from them."""
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from export.precision.clipping import BINS, METHODS, SHARE, step_of
from export.precision.ranges import Histogram, Range, merged, ranges
from user_error import UserError

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
VALUES = arrays(np.float32, st.integers(1, 60), elements=FLOATS)


def histogram(*parts: Any) -> Histogram:
    made = Histogram("x")
    for part in parts:
        made.add(np.asarray(part, np.float32))
    return made


def state(one: Histogram) -> Any:
    spread = one.spread()
    return (one.minimum, one.maximum, one.values, one.zeros, one.nans, one.infinities, one.width,
            spread.edges.tolist(), spread.counts.tolist())


def normal(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(count).astype(np.float32)


def rounded(values: Any, chosen: Range) -> Any:
    """What 8 bits make of the values: computed value by value, not from a histogram."""
    step = step_of((chosen.low, chosen.high))
    return np.rint(np.clip(values, chosen.low, chosen.high) / step) * step


@given(st.lists(VALUES, min_size=1, max_size=5))
@settings(max_examples=150, deadline=None)
def test_the_split_into_requests_makes_no_difference(parts: list[Any]) -> None:
    whole = state(histogram(np.concatenate(parts)))
    assert state(histogram(*parts)) == whole
    assert state(histogram(*reversed(parts))) == whole
    into: dict[str, Histogram] = {}
    merged([histogram(part) for part in parts], into)
    assert state(into["x"]) == whole


@given(VALUES)
@settings(max_examples=150, deadline=None)
def test_each_value_is_counted_in_its_bin(values: Any) -> None:
    one = histogram(values)
    spread, wide = one.spread(), values.astype(np.float64)
    assert len(spread.counts) <= BINS
    expected = [int(((wide >= low) & (wide < high) & (wide != 0)).sum())
                for low, high in zip(spread.edges[:-1], spread.edges[1:], strict=True)]
    assert spread.counts.tolist() == expected
    assert spread.counts.sum() + spread.zeros == len(values)


@given(VALUES, st.sampled_from(sorted(METHODS)))
@settings(max_examples=150, deadline=None)
def test_a_range_lies_within_the_values_and_has_zero(values: Any, method: str) -> None:
    chosen = histogram(values).range(method)
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    if low == high == 0:
        assert chosen == Range(0.0, 1.0)
    else:
        assert low <= chosen.low <= 0 <= chosen.high <= high
        assert chosen.low < chosen.high
    if method == "minmax" and low != high:
        assert (chosen.low, chosen.high) == (low, high)


@given(arrays(np.float32, 20_000, elements=FLOATS, fill=st.floats(-100, 100, width=32)))
@settings(max_examples=40, deadline=None)
def test_percentile_clips_no_more_than_its_share(values: Any) -> None:
    chosen = histogram(values).range("percentile")
    outside = (values < chosen.low) | (values > chosen.high)
    assert outside.mean() <= (1 - SHARE) * 1.001


def test_percentile_clips_rare_outliers_on_both_sides() -> None:
    chosen = histogram(normal(200_000), [-900, -1000, 1000, 2000]).range("percentile")
    assert -8 < chosen.low < -3
    assert 3 < chosen.high < 8


@pytest.mark.parametrize("values", [
    np.abs(normal(100_000)), np.maximum(normal(100_000), 0), normal(100_000) + 1.5,
    np.random.default_rng(3).laplace(size=100_000)])
def test_mse_has_the_least_error_of_all_ranges_tried(values: Any) -> None:
    one = histogram(values)
    values = np.asarray(values, np.float32).astype(np.float64)

    def error(chosen: Range) -> float:
        return float(((values - rounded(values, chosen)) ** 2).mean())
    best, everything = one.range("mse"), one.range("minmax")
    assert error(best) < 0.95 * error(everything)
    for factor in np.linspace(0.4, 1.0, 25):
        scaled = Range(everything.low * factor, everything.high * factor)
        # 1 %: the histogram knows a value only to its bin.
        assert error(best) <= 1.01 * error(scaled)


def test_mse_weighs_what_is_clipped() -> None:
    """One outlier among few values is worth more than their rounding; among many it is not."""
    few, many = histogram(np.abs(normal(200)), [60]), histogram(np.abs(normal(2_000_000)), [60])
    assert few.range("mse").high > 55
    assert many.range("mse").high < 50


def test_kl_clips_a_long_tail_and_keeps_an_even_spread() -> None:
    even = histogram(np.linspace(0, 4, 100_000))
    assert even.range("kl").high > 3.9
    tail = histogram(np.random.default_rng(5).exponential(size=100_000))
    assert 0.3 * tail.maximum < tail.range("kl").high < 0.95 * tail.maximum


def test_kl_is_the_divergence_of_its_definition() -> None:
    """The threshold agrees with a slow computation, bin by bin, of D(P || Q) for each candidate."""
    one = histogram(np.random.default_rng(7).exponential(size=30_000))
    spread = one.spread()
    counts, levels = spread.counts, 256

    def divergence(kept: int) -> float:
        p = counts[:kept].copy()
        p[-1] += counts[kept:].sum()
        q = np.zeros(kept)
        for level in range(levels):
            members = range(level * kept // levels, (level + 1) * kept // levels)
            filled = [index for index in members if counts[index] > 0]
            for index in filled:
                q[index] = sum(counts[member] for member in members) / len(filled)
        p, q = p / p.sum(), q / q.sum()
        return sum(a * np.log(a / b) if b else np.inf for a, b in zip(p, q, strict=True) if a)
    tried = {kept: divergence(kept) for kept in range(levels, len(counts), 64)}
    chosen = int(np.searchsorted(spread.edges, one.range("kl").high))
    assert divergence(chosen) <= min(tried.values()) + 1e-12


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_that_is_always_zero_has_a_range(method: str) -> None:
    assert histogram(np.zeros(10)).range(method) == Range(0.0, 1.0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [3.0, -3.0, 1e-40, 3e38])
def test_a_constant_tensor_has_a_range(method: str, value: float) -> None:
    chosen = histogram(np.full(10, value)).range(method)
    assert chosen.largest == pytest.approx(abs(np.float32(value)), rel=1e-6)
    assert min(abs(chosen.low), chosen.high) == 0


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_values_that_are_not_finite_are_refused_by_name(value: float, word: str) -> None:
    one = histogram([1.0, value, 2.0])
    assert (one.values, one.maximum) == (2, 2.0)
    with pytest.raises(UserError, match=f"tensor 'x': the samples give {word}.*1 of 3 values.*keep its reader"):
        one.range()
    with pytest.raises(UserError, match=word):
        ranges({"x": one})


def test_a_tensor_without_values_is_refused_by_name() -> None:
    empty = histogram(np.zeros((0, 4)))
    with pytest.raises(UserError, match="tensor 'x': the samples give no values"):
        empty.range()
    assert ranges({"x": empty, "y": histogram([2.0])}) == {"y": Range(0.0, 2.0)}


def test_an_unknown_method_is_refused_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"'max'; there are: minmax, percentile, mse, kl"):
        histogram([1.0]).range("max")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_all_floating_point_types_are_counted(dtype: str) -> None:
    import ml_dtypes
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    one = Histogram("x")
    one.add(np.array([[-1.5, 0.0], [2.0, 8.0]]).astype(kind))
    assert (one.minimum, one.maximum, one.values, one.zeros) == (-1.5, 8.0, 4, 1)
