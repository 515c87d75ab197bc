"""Shares of noise on made-up recordings, of which it is known what is in them."""
from typing import Any

import numpy as np
import pytest
from noise_shares import explained, felt_by_all, logarithms, of_processes, of_requests, part, share, spread, within

SWEEPS, PROCESSES, REQUESTS = 400, 4, 12


def recording(common: float = 0.0, alone: float = 0.0, apart: float = 0.0, requests: float = 0.0) -> dict[str, Any]:
    """10 ms requests; standard deviations of what a sweep, a block, a process and a request add."""
    random = np.random.default_rng(0)
    shape = (SWEEPS, 1, PROCESSES, REQUESTS)
    logs = sum(size * random.normal(size=own) for size, own in (
        (common, (SWEEPS, 1, 1, 1)), (alone, (*shape[:3], 1)), (apart, (1, 1, PROCESSES, 1)), (requests, shape)))
    return {"names": np.array(["usual"]), "seconds": 0.01 * np.exp(logs + np.zeros(shape))}


def test_the_spread_of_blocks_is_what_is_added_to_them() -> None:
    values = logarithms(recording(common=0.03, alone=0.04), "usual")
    assert spread(within(values)) == pytest.approx(0.05, rel=0.1)


def test_what_all_feel_is_told_from_what_each_block_has_alone() -> None:
    assert felt_by_all(logarithms(recording(common=0.03, alone=0.03), "usual")) == pytest.approx(0.5, abs=0.08)
    assert felt_by_all(logarithms(recording(alone=0.03), "usual")) < 0.05
    assert felt_by_all(logarithms(recording(), "usual")) == 0


def test_processes_that_are_apart_are_told_from_noise() -> None:
    found = recording(alone=0.02, apart=0.05)
    assert of_processes(logarithms(found, "usual")) == pytest.approx(
        np.median(logarithms(found, "usual"), axis=0).var(ddof=1), rel=0.05)
    assert of_processes(logarithms(recording(alone=0.02), "usual")) < 0.002 ** 2


def test_requests_that_differ_make_blocks_differ() -> None:
    found = recording(requests=0.1)
    assert of_requests(found, "usual") == pytest.approx(spread(logarithms(found, "usual")) ** 2, rel=0.25)
    assert of_requests(recording(alone=0.03), "usual") == 0


def test_what_goes_along_with_another_figure_is_explained_by_it() -> None:
    values, random = logarithms(recording(alone=0.03), "usual"), np.random.default_rng(1)
    assert explained(values, values) == pytest.approx(1)
    assert explained(values, values + 0.03 * random.normal(size=values.shape)) == pytest.approx(0.5, abs=0.1)
    assert explained(values, random.normal(size=values.shape)) < 0.02
    assert explained(values, np.zeros(values.shape)) == 0


def test_a_part_of_the_time_has_its_share_of_the_variance() -> None:
    random = np.random.default_rng(1)
    client, server = (0.03 * random.normal(size=(SWEEPS, PROCESSES)) for _ in range(2))
    assert part(client + server, client) == pytest.approx(0.5, abs=0.08)
    assert part(server, client) == pytest.approx(0, abs=0.08)


def test_a_share_has_an_interval_by_resampled_sweeps() -> None:
    value, low, high = share(recording(common=0.03, alone=0.03), lambda found: felt_by_all(logarithms(found, "usual")))
    assert low < value < high
    assert (low, high) == pytest.approx((0.4, 0.6), abs=0.12)
