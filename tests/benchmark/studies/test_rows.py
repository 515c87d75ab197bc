"""From a comparison to the rows of a part, the opening chart and the goals."""
from typing import Any

import numpy as np
import pytest

from benchmark.reports.compare import compared
from benchmark.studies.rows import goal, limit, milliseconds, rows, way
from benchmark.studies.study import Goal, Way
from benchmark.verdicts.block import Block

TARGETS = {"original": "session:original", "one thread": "session:original", "fast": "session:optimized"}
ROUNDS, REQUESTS = 12, 10


def result(**means_ms: float) -> Any:
    """A comparison whose targets take these mean times, with a little noise."""
    random, blocks = np.random.default_rng(0), []
    for round_ in range(ROUNDS):
        for replica in (0, 1):
            for name, mean in means_ms.items():
                seconds = mean / 1e3 * random.uniform(0.98, 1.02, REQUESTS)
                blocks.append(Block(target=name.replace("_", " "), replica=replica, protocol="grpc", batch=8,
                                    round=round_, latencies=tuple(seconds), wall_s=float(seconds.sum()), cpu_s=0.0,
                                    wrong=0))
    names = [name.replace("_", " ") for name in means_ms]
    return {**compared(names, blocks), "environment": {"cpu_class": "avx512"},
            "accuracy": {"gRPC batch 8": {names[0]: {"right": 9, "examples": 10, "output": "y"}}},
            "answers": {f"gRPC batch 8 {names[-1]}": "equal within 1e-4"}}


def test_a_row_for_each_target() -> None:
    original, fast = rows(result(original=10.0, fast=2.0), TARGETS)
    assert (original["label"], original["target"], original["protocol"], original["batch"]) == (
        "original", "session:original", "gRPC", 8)
    assert original["ratio"] is None
    assert original["ci95"] is None
    assert original["right"] == 0.9
    assert original["requests"] == 2 * ROUNDS * REQUESTS
    assert original["mean_ms"] == pytest.approx(10, rel=0.02)
    assert original["total_s"] == pytest.approx(2.4, rel=0.02)
    assert original["examples_per_s"] == pytest.approx(800, rel=0.02)
    assert fast["ratio"] == pytest.approx(5, rel=0.02)
    assert fast["verdict"] == "faster"
    assert fast["answers"] == "equal within 1e-4"
    assert fast["cpu_class"] == "avx512"


def test_ratios_are_to_the_fastest_setting_of_the_original() -> None:
    made = {row["label"]: row for row in rows(result(original=10.0, one_thread=6.0, fast=2.0), TARGETS, ["one thread"])}
    assert made["one thread"]["ratio"] is None
    assert made["original"]["ratio"] == pytest.approx(0.6, rel=0.02)
    assert made["original"]["verdict"] == "slower"
    assert made["fast"]["ratio"] == pytest.approx(3, rel=0.02)
    slower = {row["label"]: row
              for row in rows(result(original=4.0, one_thread=6.0, fast=2.0), TARGETS, ["one thread"])}
    assert slower["original"]["ratio"] is None
    assert slower["fast"]["ratio"] == pytest.approx(2, rel=0.02)


def test_the_opening_chart_has_the_labels_in_order() -> None:
    own = rows(result(original=10.0, fast=2.0), TARGETS)
    steps = way(Way("served", "grpc", 8, "", ("original", "absent", "fast")), own)
    assert [step["label"] for step in steps] == ["original", "fast"]
    assert steps[0]["ratio"] == 1
    assert steps[0]["ci95"] == [1.0, 1.0]
    assert steps[1]["note"].endswith("ms")
    assert way(Way("served", "grpc", 1, ""), own) == []


def test_the_opening_chart_begins_with_what_the_others_are_compared_with() -> None:
    own = rows(result(original=10.0, one_thread=6.0, fast=2.0), TARGETS, ["one thread"])
    assert [step["label"] for step in way(Way("served", "grpc", 8, "", ("original", "fast")), own)] == [
        "one thread", "original", "fast"]


def test_a_goal_is_met_by_the_whole_interval_of_the_fastest() -> None:
    own = rows(result(original=10.0, fast=2.0), TARGETS)
    low = own[1]["ci95"]
    assert low is not None
    assert low[0] is not None
    assert goal(Goal("4 times", "served", "grpc", 8, ("fast", "absent"), 4.0), own)["met"]
    # The ratio itself is over it, and a part of its interval is not.
    assert own[1]["ratio"] is not None
    assert low[0] < own[1]["ratio"]
    assert not goal(Goal("", "served", "grpc", 8, ("fast",), (low[0] + own[1]["ratio"]) / 2), own)["met"]
    assert goal(Goal("x", "served", "grpc", 1, ("fast",), 1.0), own) == {
        "goal": "x", "seen": "not measured", "met": False}


def test_speed_as_a_share_of_the_ceiling() -> None:
    own = rows(result(original=10.0, fast=2.0), TARGETS)[1]
    found = limit("mine", own, "int8", gflop=0.1, ceiling=1000)
    assert found["gflop"] == pytest.approx(0.8)
    assert found["gflop_per_s"] == pytest.approx(400, rel=0.02)
    assert found["share"] == pytest.approx(0.4, rel=0.02)


@pytest.mark.parametrize(("value", "text"), [(0.41234, "0.412 ms"), (19.08, "19.1 ms"), (1234.5, "1230 ms"),
                                             (2.0, "2 ms")])
def test_milliseconds(value: float, text: str) -> None:
    assert milliseconds(value) == text
