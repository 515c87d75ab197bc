"""The TypedDicts of records have exactly the keys that the values write."""
from dataclasses import fields
from typing import Any

import pytest

from benchmark.verdicts import records
from benchmark.verdicts.block import Block
from benchmark.verdicts.capacity import Point
from benchmark.verdicts.comparison import Comparison
from benchmark.verdicts.histogram import Histogram
from benchmark.verdicts.measurement import Measurement, Recorder
from benchmark.verdicts.scenario import CATALOGUE, Scenario, Slo


@pytest.mark.parametrize(("made", "record"), [
    (Block, records.BlockRecord), (Comparison, records.ComparisonRecord), (Slo, records.SloRecord),
    (Scenario, records.ScenarioRecord), (Point, records.PointRecord)])
def test_a_record_has_the_fields_of_its_value(made: Any, record: Any) -> None:
    assert {field.name for field in fields(made)} == set(record.__annotations__)


def test_a_measurement_writes_its_record() -> None:
    recorder = Recorder()
    recorder.record(0.0, 0.001, 0.02)
    written = Measurement(CATALOGUE["server"], recorder, 1, 1.0, 0.1).to_json()
    assert set(written) == set(records.MeasurementRecord.__annotations__)
    assert set(written["latency_ms"]) == set(records.LatencyRecord.__annotations__)
    assert set(Histogram().to_json()) == records.LatencyRecord.__required_keys__


def test_a_block_is_read_back_from_its_record() -> None:
    block = Block("a", 1, "grpc", 4, 3, (0.001, 0.002), 0.003, 0.001, 1, 2)
    assert Block.from_json(block.to_json()) == block
