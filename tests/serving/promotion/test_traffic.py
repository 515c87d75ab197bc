"""Traffic by version, from metrics in Prometheus' text format."""
import pytest

from serving.errors import Code
from serving.metrics import Call, Metrics
from serving.promotion import traffic


def test_requests_errors_and_latency_of_each_version() -> None:
    metrics = Metrics()
    for version, codes in ((1, [Code.OK, Code.OK, Code.INTERNAL]), (2, [Code.OK])):
        for code in codes:
            call = Call("REST", "predict", 0.0, "m", version=version)
            metrics.answered(call, code)
    metrics.answered(Call("GRPC", "Predict", 0.0, 'm"2', version=1), Code.OK)
    metrics.answered(Call("GRPC", "Predict", 0.0, "m"), Code.NOT_FOUND)
    found = traffic.of_text(metrics.text(), "m")
    assert {version: (one.requests, one.errors, one.answered) for version, one in found.items()} == {
        1: (3, 1, 2), 2: (1, 0, 1)}
    assert found[1].mean_ms == pytest.approx(found[1].microseconds / 2e3)
    assert found[1].mean_ms


def test_a_server_without_metrics_reports_none() -> None:
    assert traffic.of_server("http://127.0.0.1:1", "m") == {}
    assert traffic.of_server(None, "m") == {}
    assert traffic.of_text("", "m") == {}
