"""Requests are combined into batches by the parameters, and each gets its own rows back."""
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fake_servable import FakeServable
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import until

from serving.batch_scheduler import Parameters, Scheduler, read_parameters
from serving.batching import PER_MODEL_FILE, Batching, BatchingServable
from serving.errors import Code, ServingError
from serving.metrics import Metrics
from serving.servable import Array


class Bench:
    """A batching servable, and threads that send requests to it."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(64)
        self._schedulers: list[Scheduler] = []

    def make(self, servable: FakeServable | None = None, **parameters: object) -> BatchingServable:
        self._schedulers.append(Scheduler(Parameters(**parameters)))  # type: ignore[arg-type]
        return BatchingServable(servable or FakeServable(), self._schedulers[-1])

    def ask(self, servable: BatchingServable, *values: Sequence[object] | Array, timeout_s: float | None = None,
            feeds: Sequence[str] = ("x:0",), fetches: Sequence[str] = ("y:0",)) -> Future[list[Array]]:
        arrays = [np.asarray(value, np.float32) for value in values]
        return self._threads.submit(servable.run, feeds, arrays, fetches, timeout_s)

    def close(self) -> None:
        for scheduler in self._schedulers:
            scheduler.stop()
        self._threads.shutdown()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_four_requests_make_one_batch(bench: Bench) -> None:
    fake = FakeServable()
    servable = bench.make(fake, max_batch_size=4, max_execution_batch_size=4, batch_timeout_s=60.0)
    answers = [bench.ask(servable, [float(n)]) for n in range(4)]
    assert sorted(float(answer.result(60)[0][0]) for answer in answers) == [0.0, 2.0, 4.0, 6.0]
    assert [len(values[0]) for values in fake.runs] == [4]


def test_each_request_gets_its_own_rows(bench: Bench) -> None:
    servable = bench.make(max_batch_size=6, max_execution_batch_size=6, batch_timeout_s=60.0)
    first, second = bench.ask(servable, [1, 2]), bench.ask(servable, [3, 4, 5, 6])
    assert first.result(60)[0].tolist() == [2, 4]
    assert second.result(60)[0].tolist() == [6, 8, 10, 12]


def test_a_batch_that_is_not_full_runs_after_the_timeout(bench: Bench) -> None:
    fake = FakeServable()
    servable = bench.make(fake, max_batch_size=4, max_execution_batch_size=4, batch_timeout_s=0.05)
    began = time.monotonic()
    assert bench.ask(servable, [1]).result(60)[0].tolist() == [2]
    assert time.monotonic() - began >= 0.05


def test_a_request_that_does_not_fit_goes_into_the_next_batch(bench: Bench) -> None:
    fake = FakeServable()
    servable = bench.make(fake, max_batch_size=4, max_execution_batch_size=4, batch_timeout_s=60.0)
    first = bench.ask(servable, [1, 1, 1])
    until(lambda: any(queue.batches for queue in servable._queues.values()))
    second = bench.ask(servable, [2, 2])
    assert len(first.result(60)[0]) == 3
    assert not second.done()
    bench.ask(servable, [3, 3]).result(60)
    assert second.result(60)[0].tolist() == [4, 4]
    assert [len(values[0]) for values in fake.runs] == [3, 4]


def test_too_big_a_request_is_refused(bench: Bench) -> None:
    servable = bench.make(max_batch_size=4, max_execution_batch_size=4)
    with pytest.raises(ServingError, match="Task size 5 is larger than maximum input batch size 4"):
        bench.ask(servable, np.ones(5)).result(60)


def test_a_full_queue_is_unavailable(bench: Bench) -> None:
    gate = threading.Event()

    def slow(feeds: Sequence[str], values: Sequence[Array], fetches: Sequence[str]) -> list[Array]:
        assert gate.wait(60)
        return [values[0]]

    fake = FakeServable(compute=slow)
    servable = bench.make(fake, max_batch_size=1, max_execution_batch_size=1, max_enqueued_batches=1,
                          num_batch_threads=1)
    running = bench.ask(servable, [1])
    until(lambda: fake.runs)
    waiting = bench.ask(servable, [2])
    until(lambda: any(queue.batches for queue in servable._queues.values()))
    with pytest.raises(ServingError) as error:
        bench.ask(servable, [3]).result(60)
    assert error.value.code is Code.UNAVAILABLE
    assert "full; currently 1 batches enqueued and max_enqueued_batches is 1" in error.value.message
    gate.set()
    assert [running.result(60), waiting.result(60)] == [[1], [2]]


def test_as_many_batches_run_simultaneously_as_there_are_threads(bench: Bench) -> None:
    together, running, most = threading.Barrier(2, timeout=60), [], []

    def meet(feeds: Sequence[str], values: Sequence[Array], fetches: Sequence[str]) -> list[Array]:
        running.append(1)
        most.append(len(running))
        together.wait()  # breaks, and fails the run, unless two batches run
        running.pop()
        return [values[0]]

    servable = bench.make(FakeServable(compute=meet), max_batch_size=1, max_execution_batch_size=1, num_batch_threads=2)
    for answer in [bench.ask(servable, [n]) for n in range(6)]:
        answer.result(60)
    assert max(most) == 2


def test_big_requests_are_split_and_put_together_again(bench: Bench) -> None:
    fake = FakeServable()
    servable = bench.make(fake, max_batch_size=10, max_execution_batch_size=4, split=True)
    assert bench.ask(servable, np.arange(10)).result(60)[0].tolist() == list(range(0, 20, 2))
    assert sorted(len(values[0]) for values in fake.runs) == [2, 4, 4]


def test_batches_are_padded_to_an_allowed_size_with_a_valid_row(bench: Bench) -> None:
    fake = FakeServable()
    servable = bench.make(fake, max_batch_size=8, max_execution_batch_size=8, allowed_batch_sizes=(3, 8))
    assert bench.ask(servable, [5, 6]).result(60)[0].tolist() == [10, 12]
    assert fake.runs[0][0].tolist() == [5, 6, 5]


def test_inner_sizes_are_padded_with_the_first_element(bench: Bench) -> None:
    fake = FakeServable()
    servable = bench.make(fake, max_batch_size=2, max_execution_batch_size=2, batch_timeout_s=60.0,
                          pad_variable_length_inputs=True)
    first, second = bench.ask(servable, [[1, 2]]), bench.ask(servable, [[3, 4, 5]])
    assert first.result(60)[0].tolist() == [[2, 4, 2]]
    assert second.result(60)[0].tolist() == [[6, 8, 10]]


def test_without_padding_unequal_inner_sizes_fail(bench: Bench) -> None:
    servable = bench.make(max_batch_size=2, max_execution_batch_size=2, batch_timeout_s=60.0)
    for answer in [bench.ask(servable, [[1, 2]]), bench.ask(servable, [[3, 4, 5]])]:
        with pytest.raises(ServingError, match="padding is turned off"):
            answer.result(60)


def test_requests_for_other_tensors_never_share_a_batch(bench: Bench) -> None:
    fake = FakeServable()
    servable = bench.make(fake, max_batch_size=2, max_execution_batch_size=2, batch_timeout_s=0.2)
    answers = [bench.ask(servable, [1]), bench.ask(servable, [2], fetches=("z:0",))]
    assert [answer.result(60)[0].tolist() for answer in answers] == [[2], [4]]
    assert [len(values[0]) for values in fake.runs] == [1, 1]


def test_requests_without_rows_or_of_wrong_types_do_not_wait_for_a_batch(bench: Bench) -> None:
    fake = FakeServable()
    servable = bench.make(fake, max_batch_size=4, max_execution_batch_size=4, batch_timeout_s=60.0)
    assert servable.run(["x:0"], [np.empty(0, np.float32)], ["y:0"])[0].shape == (0,)
    assert servable.run(["x:0"], [np.ones(1, np.int32)], ["y:0"])[0].tolist() == [2]


@pytest.mark.parametrize(("values", "message"), [
    ([1.0], "must have at least one dimension"),
    ([[1.0], [1.0, 2.0]], "must have equal 0th-dimension size"),
    ([], "must have at least one input tensor"),
])
def test_what_cannot_be_batched(bench: Bench, values: list[object], message: str) -> None:
    servable = bench.make()
    with pytest.raises(ServingError, match=message):
        servable.run([f"{n}:0" for n in range(len(values))], [np.asarray(v, np.float32) for v in values], ["y:0"])


@pytest.mark.parametrize(("output", "message"), [
    (np.float32(1), "Batched output tensor has 0 dimensions"),
    (np.ones(3, np.float32), "does not equal the sum of the 0th dimension sizes"),
])
def test_outputs_that_cannot_be_split(bench: Bench, output: Array, message: str) -> None:
    servable = bench.make(FakeServable(compute=lambda *_: [np.asarray(output)]))
    with pytest.raises(ServingError, match=message) as error:
        bench.ask(servable, [1, 2]).result(60)
    assert error.value.code is Code.FAILED_PRECONDITION


def test_an_error_reaches_every_request_of_the_batch(bench: Bench) -> None:
    def fail(*_: object) -> list[Array]:
        raise ServingError(Code.INVALID_ARGUMENT, "no")

    servable = bench.make(FakeServable(compute=fail), max_batch_size=2, max_execution_batch_size=2,
                          batch_timeout_s=60.0)
    for answer in [bench.ask(servable, [1]), bench.ask(servable, [2])]:
        with pytest.raises(ServingError, match="no"):
            answer.result(60)


def test_an_internal_error_is_reported_and_ends_no_thread(bench: Bench) -> None:
    servable = bench.make(FakeServable(compute=lambda *_: [1 // 0]), num_batch_threads=1)  # type: ignore[list-item]
    for _ in range(2):
        with pytest.raises(ServingError, match="ZeroDivisionError") as error:
            bench.ask(servable, [1]).result(60)
        assert error.value.code is Code.INTERNAL


def test_a_batch_has_its_latest_deadline_and_a_request_past_its_deadline_gets_an_error(bench: Bench) -> None:
    fake = FakeServable()
    servable = bench.make(fake, max_batch_size=2, max_execution_batch_size=2, batch_timeout_s=60.0)
    for answer in [bench.ask(servable, [1], timeout_s=5.0), bench.ask(servable, [2], timeout_s=50.0)]:
        answer.result(60)
    assert fake.timeouts[0] is not None
    assert 5.0 < fake.timeouts[0] <= 50.0
    late = bench.make(max_batch_size=2, max_execution_batch_size=2, batch_timeout_s=0.05)
    with pytest.raises(ServingError, match=r"Run\(\) timeout exceeded while waiting in batching queue") as error:
        bench.ask(late, [1], timeout_s=0.001).result(60)
    assert error.value.code is Code.RESOURCE_EXHAUSTED


def test_closing_frees_the_servable_and_its_queues(bench: Bench) -> None:
    fake = FakeServable()
    servable = bench.make(fake)
    bench.ask(servable, [1]).result(60)
    servable.close()
    assert fake.closed
    assert not servable._scheduler._queues


@settings(derandomize=True, max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=24), st.integers(1, 8), st.booleans(), st.booleans())
def test_any_mix_of_requests_is_answered_row_by_row(sizes: list[int], size: int, split: bool, allowed: bool) -> None:
    bench = Bench()
    try:
        fake = FakeServable()
        servable = bench.make(
            fake, max_batch_size=12, max_execution_batch_size=size if split else 12, split=split,
            batch_timeout_s=0.001, max_enqueued_batches=1000, num_batch_threads=3,
            allowed_batch_sizes=(5, 12) if allowed else ())
        values = [np.arange(n, dtype=np.float32) + 100 * k for k, n in enumerate(sizes)]
        answers = [bench.ask(servable, value) for value in values]
        for value, answer in zip(values, answers, strict=True):
            np.testing.assert_array_equal(answer.result(60)[0], value * 2)
        assert all(len(run[0]) <= 12 for run in fake.runs)
    finally:
        bench.close()


@pytest.mark.parametrize(("text", "message"), [
    ("num_batch_threads { value: 0 }", "num_batch_threads must be positive; was 0"),
    ("max_batch_size { value: 0 }", "max_batch_size must be positive; was 0"),
    ("batch_timeout_micros { value: -1 }", "batch_timeout_micros must be non-negative; was -1"),
    ("max_batch_size { value: 4 } enable_large_batch_splitting { value: true } max_execution_batch_size { value: 8 }",
     "max_execution_batch_size must not be more than max_batch_size; was 8, not 4"),
    ("enable_large_batch_splitting { value: true } max_execution_batch_size { value: -1 }",
     "max_execution_batch_size must not be more than max_batch_size; was -1, not 1000"),
    ("max_batch_size { value: 0 } enable_large_batch_splitting { value: true }",
     "max_batch_size must be positive; was 0"),
])
def test_parameters_that_make_no_sense_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "b.txt"
    file.write_text(text)
    with pytest.raises(ServingError) as error:
        read_parameters(str(file))
    assert error.value.message == message


def test_all_parameters_are_read(tmp_path: Path) -> None:
    file = tmp_path / "b.txt"
    file.write_text("""
        max_batch_size { value: 8 } batch_timeout_micros { value: 5000 } max_enqueued_batches { value: 3 }
        num_batch_threads { value: 2 } allowed_batch_sizes: 4 allowed_batch_sizes: 8 pad_variable_length_inputs: true
        enable_large_batch_splitting { value: true } max_execution_batch_size { value: 4 }
        thread_pool_name { value: "x" }""")
    assert read_parameters(str(file)) == Parameters(8, 0.005, 3, 2, (4, 8), True, True, 4)


def test_each_version_may_have_its_own_parameters(tmp_path: Path) -> None:
    batching, fake = Batching("", per_model=True), FakeServable()
    assert batching.wrap(fake, tmp_path) is fake
    (tmp_path / PER_MODEL_FILE).write_text("max_batch_size { value: 2 }")
    wrapped = batching.wrap(fake, tmp_path)
    with pytest.raises(ServingError, match="Task size 3 is larger than maximum input batch size 2"):
        wrapped.run(["x:0"], [np.ones(3, np.float32)], ["y:0"])
    wrapped.close()


@pytest.mark.parametrize(("sizes", "message"), [
    ("allowed_batch_sizes: 8", "last entry was 8; expected 4"),
    ("allowed_batch_sizes: 4 allowed_batch_sizes: 2", "last entry was 2; expected 4"),
])
def test_allowed_sizes_are_checked_when_a_model_is_loaded(tmp_path: Path, sizes: str, message: str) -> None:
    (tmp_path / PER_MODEL_FILE).write_text(f"max_batch_size {{ value: 4 }} {sizes}")
    with pytest.raises(ServingError, match=message):
        Batching("", per_model=True).wrap(FakeServable(), tmp_path)


@pytest.mark.parametrize("sizes", [(2, 2, 4), (4, 4), (4, 2, 4), (0, 4), (-1, 4)])
def test_only_the_last_allowed_size_is_checked_and_the_first_that_fits_is_used(
        bench: Bench, sizes: tuple[int, ...]) -> None:
    fake = FakeServable()
    servable = bench.make(fake, max_batch_size=4, max_execution_batch_size=4, allowed_batch_sizes=sizes)
    assert bench.ask(servable, [1.0]).result(60)[0].tolist() == [2.0]
    assert [len(run[0]) for run in fake.runs] == [next(size for size in sizes if size >= 1)]


@pytest.mark.parametrize("text", [
    "max_batch_size { value: -1 }", "max_enqueued_batches { value: 0 }", "max_enqueued_batches { value: -1 }",
    "max_batch_size { value: -1 } allowed_batch_sizes: -1",
    "max_batch_size { value: -1 } enable_large_batch_splitting { value: true }",
    "max_batch_size { value: -3 } enable_large_batch_splitting { value: true } max_execution_batch_size { value: 2 }"])
def test_sizes_below_the_least_that_the_original_starts_with(tmp_path: Path, text: str) -> None:
    file = tmp_path / "b.txt"
    file.write_text(text)
    scheduler = Scheduler(read_parameters(str(file)))
    servable = BatchingServable(FakeServable(), scheduler)
    try:
        assert servable.run(["x:0"], [np.ones(7, np.float32)], ["y:0"])[0].tolist() == [2.0] * 7
    finally:
        scheduler.stop()


def test_with_an_execution_size_of_zero_the_server_starts_but_refuses_all_requests(tmp_path: Path) -> None:
    file = tmp_path / "b.txt"
    file.write_text("enable_large_batch_splitting { value: true } max_execution_batch_size { value: 0 }")
    scheduler = Scheduler(read_parameters(str(file)))
    servable = BatchingServable(FakeServable(), scheduler)
    with pytest.raises(ServingError) as error:
        servable.run(["x:0"], [np.ones(1, np.float32)], ["y:0"])
    scheduler.stop()
    assert error.value.code is Code.UNAVAILABLE
    assert error.value.message == (
        "The batch scheduling queue to which this task was submitted is full; task size is 1 but scheduling capacity "
        "is only 0 (num_enqueued_batches=1, max_enqueued_batches=10, open_batch_size=0, max_execution_batch_size=0)")


def test_splitting_without_sizes_takes_the_default_size(tmp_path: Path) -> None:
    file, fake = tmp_path / "b.txt", FakeServable()
    file.write_text("enable_large_batch_splitting { value: true }")
    scheduler = Scheduler(read_parameters(str(file)))
    result = BatchingServable(fake, scheduler).run(["x:0"], [np.ones(1000, np.float32)], ["y:0"])[0]
    scheduler.stop()
    assert result.tolist() == [2.0] * 1000
    assert [len(run[0]) for run in fake.runs] == [1000]


def test_a_queue_of_no_batches_cannot_be_split_over(tmp_path: Path) -> None:
    file = tmp_path / "b.txt"
    file.write_text("enable_large_batch_splitting { value: true } max_enqueued_batches { value: 0 }")
    with pytest.raises(ServingError, match="max_enqueued_batches must be positive; was 0"):
        read_parameters(str(file))


def test_the_number_of_threads_in_a_models_own_file_is_ignored(tmp_path: Path) -> None:
    (tmp_path / PER_MODEL_FILE).write_text("num_batch_threads { value: 0 }")
    wrapped = Batching("", per_model=True).wrap(FakeServable(), tmp_path)
    assert wrapped.run(["x:0"], [np.ones(1, np.float32)], ["y:0"])[0].tolist() == [2.0]
    wrapped.close()


def test_a_mistake_in_the_servers_file_is_reported_even_if_each_model_has_its_own(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("nonsense")
    with pytest.raises(ServingError, match="Invalid protobuf file"):
        Batching(str(tmp_path / "b.txt"), per_model=True)


def test_batches_are_counted_under_the_originals_names(bench: Bench) -> None:
    metrics = Metrics()
    scheduler = Scheduler(Parameters(max_batch_size=4, max_execution_batch_size=4, allowed_batch_sizes=(4,)))
    servable = BatchingServable(FakeServable(), scheduler, metrics=metrics.batching)
    servable.run(["x:0"], [np.ones(3, np.float32)], ["y:0"])
    scheduler.stop()
    lines, name = metrics.text().splitlines(), ":tensorflow:serving:batching_session:"
    assert f"# TYPE {name}wrapped_run_count counter" in lines
    assert f"{name}wrapped_run_count{{}} 1" in lines
    for histogram in ("queuing_latency", "padding_size", "input_batch_size", "processed_batch_size"):
        assert f"# TYPE {name}{histogram} histogram" in lines
    assert f'{name}queuing_latency_count{{thread_pool_name=""}} 1' in lines
    assert f'{name}queuing_latency_bucket{{le="100",thread_pool_name=""}} ' in metrics.text()
    assert f'{name}padding_size_sum{{execution_batch_size="4"}} 1' in lines
    assert f"{name}input_batch_size_sum{{}} 3" in lines
    assert f"{name}processed_batch_size_sum{{}} 4" in lines
    assert f'{name}processed_batch_size_bucket{{le="8192"}} 1' in lines
