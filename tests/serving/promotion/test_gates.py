"""Gates: what passes, what is refused, and what cannot be judged."""
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.promotion import gates
from serving.promotion.gates import NEW, OLD
from serving.promotion.golden import Golden
from serving.promotion.settings import Accuracy, Cost, Latency, Parity
from version_directory import MANIFEST

LIMITS = Parity(0.0, 0.0, 0.0, 0.99)
LATENCY = Latency(0.95, 20.0, 2, 1, "grpc")
SCORES = np.random.default_rng(0).normal(size=(50, 10)).astype(np.float32)


def _golden(scores: Any, signature: str = "") -> list[Golden]:
    return [Golden({"x": np.zeros((len(scores), 1), np.float32)}, signature, {"y": np.asarray(scores)})]


@pytest.fixture
def versions(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("old", "new"):
        (tmp_path / name / "assets.extra").mkdir(parents=True)
    return tmp_path / "old", tmp_path / "new"


def _manifest(version: Path, bound: float) -> None:
    (version / MANIFEST).write_text(json.dumps(
        {"precision": "int8", "budget": {"signatures": {"serving_default": {"y": bound}}}}))


def test_equal_answers_pass_with_their_figures(versions: tuple[Path, Path]) -> None:
    found = gates.parity(_golden(SCORES), _golden(SCORES * np.float32(1 + 1e-6)), versions, LIMITS)
    assert found.passed
    assert found.words.startswith("equal over 50 examples")
    assert found.figures["top1_agreement"] == 1
    assert 0 < found.figures["max_rel"] < 1e-4


@pytest.mark.parametrize("changed", [SCORES + 0.1, SCORES[:, :9], np.where(SCORES > 2, np.nan, SCORES)])
def test_other_answers_are_refused(changed: Any, versions: tuple[Path, Path]) -> None:
    found = gates.parity(_golden(SCORES), _golden(changed), versions, LIMITS)
    assert found.passed is False
    assert "not equal: output 'y'" in found.words


def test_a_version_in_reduced_precision_has_its_own_budget(versions: tuple[Path, Path]) -> None:
    other = _golden(SCORES + np.float32(0.05))
    assert gates.parity(_golden(SCORES), other, versions, LIMITS).passed is False
    _manifest(versions[1], 0.06)
    assert gates.parity(_golden(SCORES), other, versions, LIMITS).passed
    # Both may be off, each by its own.
    _manifest(versions[0], 0.03)
    _manifest(versions[1], 0.03)
    assert gates.parity(_golden(SCORES), other, versions, LIMITS).passed


def test_the_top_class_must_stay_where_values_may_differ(versions: tuple[Path, Path]) -> None:
    swapped = SCORES.copy()
    swapped[:5] = -swapped[:5]
    allowed = Parity(0.0, 100.0, 0.0, 0.99)
    found = gates.parity(_golden(SCORES), _golden(swapped), versions, allowed)
    assert found.passed is False
    assert "the top class is the same for 90.00% of 50 examples" in found.words
    assert gates.parity(_golden(SCORES), _golden(swapped), versions, Parity(0.0, 100.0, 0.0, 0.9)).passed


def test_without_golden_requests_nothing_is_judged(versions: tuple[Path, Path]) -> None:
    assert gates.parity([], [], versions, LIMITS).passed is None


def _result(typical: tuple[float | None, float | None], mean: tuple[float, float] = (0.98, 1.02),
            p99: tuple[float, float] = (0.5, 2.0), changed: dict[str, Any] | None = None) -> dict[str, Any]:
    def one(metric: str, ci95: Any) -> dict[str, Any]:
        return {"metric": metric, "ratio": 1.0, "ci95": list(ci95), "verdict": "cannot tell", "valid": True,
                "reasons": [], "least_effect": 0.1} | (changed or {}).get(metric, {})
    return {"comparisons": [one("typical", typical), one("mean", mean), one("p99", p99)]}


@pytest.mark.parametrize(("result", "passed", "words"), [
    (_result((0.97, 1.01)), True, "at least 0.95"), (_result((1.5, 1.6)), True, "at least 0.95"),
    (_result((0.951, 0.99)), True, "at least 0.95"),  # slower for certain, and not by too much
    (_result((0.93, 1.05)), False, "[0.930-1.050]"), (_result((0.8, 0.9)), False, "[0.800-0.900]"),
    (_result((None, None)), False, "at least 0.95"),
    (_result((0.97, 1.01), mean=(0.7, 0.9)), False, "average latency is worse"),
    (_result((0.97, 1.01), p99=(0.4, 0.94)), False, "p99 latency is worse"),
    (_result((0.97, 1.01), p99=(0.4, 0.94), changed={"p99": {"valid": False}}), True, "at least 0.95"),
    (_result((0.97, 1.01), changed={"typical": {"valid": False, "reasons": ["3 of 9 requests failed"]}}), False,
     "3 of 9 requests failed")])
def test_latency_must_not_be_worse_than_allowed_for_certain(result: dict[str, Any], passed: bool, words: str) -> None:
    found = gates.latency(result, LATENCY)
    assert found.passed is passed
    assert words in found.words
    assert found.figures["p99"]["least_effect"] == 0.1


@pytest.mark.parametrize(("right", "passed"), [(97, True), (96, True), (95, False), (100, True)])
def test_labelled_samples_must_be_as_right_as_before(right: int, passed: bool) -> None:
    result = {"accuracy": {"gRPC batch 1": {OLD: {"right": 97, "examples": 100}, NEW: {"right": right,
                                                                                       "examples": 100}}}}
    assert gates.accuracy(result, Accuracy(0.0101)).passed is passed
    assert gates.accuracy({}, Accuracy(0.01)).passed is None


def test_size_memory_and_load_time_have_limits() -> None:
    def result(new: float) -> dict[str, Any]:
        return {"environment": {"models": {OLD: {"bytes": 100}, NEW: {"bytes": 100 * new}}},
                "targets": {OLD: {"resident_bytes": 1000, "load_s": 1.0}, NEW: {"resident_bytes": 1000, "load_s": new}}}
    limits = Cost(2.0, 1.5, 3.0)
    assert gates.cost(result(1.9), limits).passed
    assert gates.cost(result(2.5), limits).words == "bytes 2.50 times, at most 2"
    assert gates.cost(result(4.0), limits).words == "bytes 4.00 times, at most 2; load_seconds 4.00 times, at most 3"
