"""Counts and times in Prometheus' format, and the access log."""
import io
import json
import threading
from time import perf_counter

import pytest

from serving.errors import Code
from serving.metrics import AccessLog, Call, Counter, Histogram, Metrics


def call(api: str = "Predict", model: str = "m", entrypoint: str = "GRPC", examples: int = 0) -> Call:
    return Call(entrypoint, api, perf_counter(), model, "sig", 3, examples)


def test_requests_are_counted_under_the_originals_names() -> None:
    metrics = Metrics()
    metrics.answered(call(), Code.OK)
    metrics.answered(call("predict", entrypoint="REST"), Code.OK)
    metrics.answered(call(model="x"), Code.NOT_FOUND)
    metrics.answered(call("MultiInference", examples=2), Code.OK)
    metrics.answered(call("GetModelStatus"), Code.OK)
    metrics.answered(call("status", "y", "REST"), Code.OK)
    metrics.answered(call("malformed", "", "REST"), Code.INVALID_ARGUMENT)
    lines = metrics.text().splitlines()
    assert ':tensorflow:serving:request_count{model_name="m",status="OK"} 2' in lines
    assert ':tensorflow:serving:request_count{model_name="x",status="NOT_FOUND"} 1' in lines
    assert ':tensorflow:serving:request_count{model_name="y",status="OK"} 1' in lines
    assert ':tensorflow:serving:request_count{model_name="",status="INVALID_ARGUMENT"} 1' in lines
    assert ':tensorflow:serving:request_latency_count{API="",entrypoint="REST",model_name="y"} 1' in lines
    assert ':tensorflow:serving:request_latency_count{API="Predict",entrypoint="GRPC",model_name="m"} 1' in lines
    assert ':tensorflow:serving:request_latency_count{API="predict",entrypoint="REST",model_name="m"} 1' in lines
    assert ':tensorflow:serving:request_example_count_total{model="m"} 2' in lines
    assert ('embedded_serving_requests{api="GetModelStatus",entrypoint="GRPC",model_name="m",signature_name="sig",'
            'status="OK",version="3"} 1') in lines


def test_failed_requests_have_no_latency() -> None:
    metrics = Metrics()
    metrics.answered(call(), Code.INTERNAL)
    assert "request_latency" not in metrics.text()


def test_loads_and_runs() -> None:
    metrics = Metrics()
    metrics.loaded("/m/1", 0.5, True)
    metrics.loaded("/m/2", 0.25, False)
    metrics.warmed_up("/m/1", 0.125, 3)
    metrics.ran("Predict", "m", 0.000015)
    lines = metrics.text().splitlines()
    assert ':tensorflow:cc:saved_model:load_attempt_count{model_path="/m/1",status="success"} 1' in lines
    assert ':tensorflow:cc:saved_model:load_attempt_count{model_path="/m/2",status="fail"} 1' in lines
    assert ':tensorflow:cc:saved_model:load_latency{model_path="/m/1"} 500000' in lines
    assert ':tensorflow:cc:saved_model:load_latency{model_path="/m/2"} 250000' in lines
    assert ':tensorflow:serving:model_warmup_latency_sum{model_path="/m/1",status="OK"} 125000' in lines
    assert ':tensorflow:serving:model_warmup_records_read{model_path="/m/1",status="OK"} 3' in lines
    assert ':tensorflow:serving:runtime_latency_bucket{API="Predict",le="10",model_name="m",runtime="TF1"} 0' in lines
    assert ':tensorflow:serving:runtime_latency_bucket{API="Predict",le="18",model_name="m",runtime="TF1"} 1' in lines


@pytest.mark.parametrize(("value", "below_two"), [(1.0, 1), (1.9, 1), (2.0, 0), (9.0, 0)])
def test_histogram_bounds_are_exclusive(value: float, below_two: int) -> None:
    histogram = Histogram("h", "", (), [1.0, 2.0])
    histogram.observe((), value)
    assert list(histogram.lines()) == [
        'h_bucket{le="1"} 0', f'h_bucket{{le="2"}} {below_two}', 'h_bucket{le="+Inf"} 1', f"h_sum{{}} {value:g}",
        "h_count{} 1"]


def test_labels_are_escaped() -> None:
    counter = Counter("c", "", ("name",))
    counter.add(('a"b\\c\nd',))
    assert list(counter.lines()) == ['c{name="a\\"b\\\\c\\nd"} 1']


def test_unknown_model_names_do_not_fill_the_memory() -> None:
    metrics = Metrics()
    for n in range(6000):
        metrics.answered(call(model=f"m{n}"), Code.OK)
    text = metrics.text()
    assert text.count(":tensorflow:serving:request_count{") == 5001
    assert ':tensorflow:serving:request_count{model_name="other",status="other"} 1000' in text


def test_counting_from_many_threads_loses_nothing() -> None:
    metrics = Metrics()
    threads = [threading.Thread(target=lambda: [metrics.answered(call(), Code.OK) for _ in range(500)])
               for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ':tensorflow:serving:request_count{model_name="m",status="OK"} 2000' in metrics.text()


def test_the_access_log_has_a_json_line_for_each_request() -> None:
    file = io.StringIO()
    log = AccessLog(file)
    log.answered(call(model="m\n{"), Code.NOT_FOUND)
    [line] = file.getvalue().splitlines()
    entry = json.loads(line)
    assert entry.pop("ms") >= 0
    assert entry.pop("time").endswith("Z")
    assert entry == {"entrypoint": "GRPC", "api": "Predict", "model": "m\n{", "version": 3, "signature": "sig",
                     "status": "NOT_FOUND"}
