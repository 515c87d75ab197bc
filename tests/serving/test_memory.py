"""Batches that do not fit into free memory are refused; the error has the number of examples that fit."""
import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from serving.config import Flags
from serving.engines.tensorflow import LoadedModel, load
from serving.errors import Code, ServingError
from serving.memory import MemoryLimit, bytes_per_example, free_bytes, longest_message, used_bytes, worth_keeping
from serving.protos import predict_pb2
from serving.servable import ModelSpec
from serving.server import Server, start
from serving.tensor_proto import to_proto

PREDICT = "/tensorflow.serving.PredictionService/Predict"
MB = 1 << 20
WIDTH = 1 << 14  # two tensors of 64 KB an example


def test_memory_per_example_is_the_growth_of_the_two_tensors_that_grow_most() -> None:
    one = {"weights": 1000, "conv": 70, "relu": 60, "out": 4, "gone": 9}
    two = {"weights": 1000, "conv": 140, "relu": 120, "out": 8, "new": 99}
    assert bytes_per_example(one, two) == 130
    assert bytes_per_example({"a": 5}, {"a": 5}) == 0
    assert bytes_per_example({}, {}) == 0


def take(limit: MemoryLimit, examples: int, each: int = MB) -> None:
    with limit.reserved(examples, each):
        pass


def test_the_limit_is_the_flag_or_a_share_of_the_free_memory() -> None:
    with pytest.raises(ServingError, match="send 100 examples at most in one request") as error:
        take(MemoryLimit(100 * MB), 101)
    assert error.value.code is Code.RESOURCE_EXHAUSTED
    take(MemoryLimit(100 * MB), 100)
    take(MemoryLimit(-1), 10**9)
    free = MemoryLimit(0, lambda: 400 * MB)
    take(free, 300)
    with pytest.raises(ServingError, match="send 300 examples at most"):
        take(free, 301)
    take(MemoryLimit(0, lambda: 0), 60)  # small requests are not limited
    take(MemoryLimit(0, lambda: None), 10**9)


def test_requests_that_run_at_the_same_time_are_added_up() -> None:
    limit = MemoryLimit(100 * MB)
    with limit.reserved(60, MB):
        take(limit, 40)
        with pytest.raises(ServingError, match="40 MB may be taken beside the 60 MB of the requests that run; send it "
                                               "again when they have ended"):
            take(limit, 41)
        with limit.reserved(40, MB), pytest.raises(ServingError):
            take(limit, 1)
    take(limit, 100)
    with pytest.raises(ValueError, match="the run failed"), limit.reserved(60, MB):
        raise ValueError("the run failed")
    take(limit, 100)


@pytest.mark.parametrize("allocated", [0, 150, 300])
def test_what_a_running_request_has_allocated_is_not_counted_twice(allocated: int) -> None:
    """1000 MB are free, of which 750 may be taken: 300 run, however many of these are allocated by now."""
    now = 0
    limit = MemoryLimit(0, lambda: (1000 - now) * MB, lambda: (5000 + now) * MB)
    with limit.reserved(300, MB):
        now = allocated
        take(limit, 450)
        with pytest.raises(ServingError, match="450 MB may be taken beside the 300 MB"):
            take(limit, 451)


def test_memory_that_others_take_meanwhile_is_not_free() -> None:
    now = 0
    limit = MemoryLimit(0, lambda: (1000 - now) * MB, lambda: 5000 * MB)
    with limit.reserved(300, MB):
        now = 200  # another process
        with pytest.raises(ServingError):
            take(limit, 301)
        take(limit, 300)


def test_the_memory_of_this_process(tmp_path: Path) -> None:
    before = used_bytes()
    block = np.ones(64 * MB, np.uint8)
    assert used_bytes() - before > 60 * MB
    del block
    assert used_bytes(tmp_path / "none") == 0


@pytest.mark.parametrize(("limit", "free"), [("max", 8192 << 10), (str(6 * MB), 3 * MB)])
@pytest.mark.parametrize("version", [1, 2])
def test_free_memory_is_the_smaller_of_the_machines_and_the_cgroups(
        tmp_path: Path, limit: str, free: int, version: int) -> None:
    group = tmp_path / "sys/fs/cgroup" / ("" if version == 2 else "memory")
    group.mkdir(parents=True)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 8192 kB\n")
    names = ("memory.max", "memory.current", "") if version == 2 else (
        "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
    (group / names[0]).write_text(f"{limit}\n")
    (group / names[1]).write_text(f"{4 * MB}\n")
    (group / "memory.stat").write_text(f"anon 5\n{names[2]}inactive_file {MB}\n")
    assert free_bytes(tmp_path) == free


def test_what_a_request_took_is_kept_if_much_more_is_free() -> None:
    assert worth_keeping(256 * MB, lambda: 0)
    assert worth_keeping(400 * MB, lambda: 1200 * MB)
    assert not worth_keeping(400 * MB, lambda: 1199 * MB)
    assert not worth_keeping(400 * MB, lambda: None)


def test_the_longest_message_leaves_room_for_its_copies() -> None:
    assert longest_message(10 * MB) == 10 * MB
    assert longest_message(0, lambda: 500 * MB) == 100 * MB
    assert longest_message(0, lambda: 1 << 40) == longest_message(0, lambda: None) == 2**31 - 1
    assert longest_message(-1, lambda: 500 * MB) == -1


def test_a_limit_of_address_space_counts() -> None:
    script = ("import resource\n"
              "from serving.memory import free_bytes\n"
              "resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
              "before = free_bytes()\n"
              "block = bytearray(1 << 29)\n"
              "assert before < 3 << 30 and (1 << 29) <= before - free_bytes() < 1 << 30, before\n")
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).resolve().parents[2])


def test_without_memory_files_there_is_no_limit(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) is None


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Flags, Server]]:
    import tensorflow as tf

    class Wide(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, "x")])
        def serve(self, x: Any) -> Any:
            wide = tf.matmul(x, tf.constant(np.ones((1, WIDTH), np.float32)))
            return {"y": tf.reduce_sum(tf.nn.softmax(wide), axis=1)}

    base = tmp_path_factory.mktemp("wide")
    module = Wide()
    tf.saved_model.save(module, str(base / "1"), signatures=module.serve)
    ports = [0, 0]
    for index in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports[index] = probe.getsockname()[1]
    flags = Flags(model_name="wide", model_base_path=str(base), port=ports[0], rest_api_port=ports[1],
                  max_request_memory_mb=10)
    server = start(flags)
    yield flags, server
    server.stop()


def rest(flags: Flags, examples: int) -> Any:
    body = json.dumps({"instances": [[1.0]] * examples}).encode()
    url = f"http://127.0.0.1:{flags.rest_api_port}/v1/models/wide:predict"
    with urllib.request.urlopen(url, body, 60) as answer:
        return json.loads(answer.read())["predictions"]


def test_a_batch_too_large_for_memory_is_refused_over_rest_and_grpc_and_a_smaller_one_is_answered(
        served: tuple[Flags, Server]) -> None:
    flags, _ = served
    # 10 MB are 80 examples of 128 KB.
    assert len(rest(flags, 70)) == 70
    with pytest.raises(urllib.error.HTTPError) as refused:
        rest(flags, 100)
    with refused.value as answer:
        assert answer.code == 429
        assert "send 80 examples at most in one request" in json.loads(answer.read())["error"]
    message = predict_pb2.PredictRequest()
    message.model_spec.name = "wide"
    message.inputs["x"].CopyFrom(to_proto(np.ones((100, 1), np.float32)))
    with (closing(grpc.insecure_channel(f"127.0.0.1:{flags.port}")) as channel,
          pytest.raises(grpc.RpcError) as error):
        channel.unary_unary(PREDICT)(message.SerializeToString(), timeout=60)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(rest(flags, 70)) == 70


def test_a_request_beside_a_running_one_is_refused_and_answered_when_that_has_ended(
        served: tuple[Flags, Server]) -> None:
    flags, server = served
    assert len(rest(flags, 70)) == 70
    with server._store.pin(ModelSpec("wide")) as model, model.memory.reserved(64, MB // 8):  # type: ignore[attr-defined]
        with pytest.raises(urllib.error.HTTPError) as refused:
            rest(flags, 70)
        with refused.value as answer:
            assert answer.code == 429
            assert "beside the 8 MB of the requests that run" in json.loads(answer.read())["error"]
        assert len(rest(flags, 16)) == 16
    assert len(rest(flags, 70)) == 70


def loaded(path: Path, module: Any, limit: MemoryLimit) -> LoadedModel:
    import tensorflow as tf
    tf.saved_model.save(module, str(path), signatures=module.serve)
    made = load("m", 1, path, ["serve"], None)
    made.memory = limit
    return made


def run(model: LoadedModel, *values: Any) -> Any:
    signature = model.signatures["serving_default"]
    [result] = model.run([spec.name for spec in signature.inputs.values()], values,
                         [spec.name for spec in signature.outputs.values()])
    return result


def test_examples_of_another_size_are_measured_anew(tmp_path: Path) -> None:
    import tensorflow as tf

    class Convolution(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 1], tf.float32, "x")])
        def serve(self, x: Any) -> Any:
            return {"y": tf.reduce_sum(tf.nn.relu(tf.nn.conv2d(x, tf.ones([3, 3, 1, 8]), 1, "SAME")), [1, 2, 3])}

    model = loaded(tmp_path / "1", Convolution(), MemoryLimit(10 * MB))
    with pytest.raises(ServingError, match=r"send .* examples at most"):
        run(model, np.ones((32, 100, 100, 1), np.float32))
    assert run(model, np.ones((32, 30, 30, 1), np.float32)).shape == (32,)
    with pytest.raises(ServingError, match=r"send .* examples at most"):
        run(model, np.ones((32, 100, 100, 1), np.float32))


def test_a_loop_that_keeps_nothing_is_measured_too(tmp_path: Path) -> None:
    import tensorflow as tf

    class Recurrent(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 5, 1], tf.float32, "x")])
        def serve(self, x: Any) -> Any:
            def step(n: Any, state: Any) -> Any:
                return n + 1, tf.tanh(state + tf.matmul(x[:, n], tf.ones([1, WIDTH])))

            _, state = tf.while_loop(lambda n, _: n < 5, step, (0, tf.zeros([tf.shape(x)[0], WIDTH])))
            return {"y": tf.reduce_sum(state, 1)}

    model = loaded(tmp_path / "1", Recurrent(), MemoryLimit(10 * MB))
    assert run(model, np.ones((64, 5, 1), np.float32)).shape == (64,)
    with pytest.raises(ServingError, match=r"send .* examples at most"):
        run(model, np.ones((200, 5, 1), np.float32))


def test_a_graph_that_counts_its_requests_is_not_run_to_measure_it(tmp_path: Path) -> None:
    import tensorflow as tf

    class Counter(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.count = tf.Variable(0.0)

        @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, "x")])
        def serve(self, x: Any) -> Any:
            wide = tf.matmul(x, tf.ones([1, WIDTH]))
            return {"y": tf.reduce_sum(wide, 1) * 0.0 + self.count.assign_add(1.0)}

    model = loaded(tmp_path / "1", Counter(), MemoryLimit(MB))
    assert [run(model, np.ones((64, 1), np.float32))[0] for _ in range(3)] == [1.0, 2.0, 3.0]


def predict_bytes(examples: int) -> bytes:
    message = predict_pb2.PredictRequest()
    message.model_spec.name = "wide"
    message.inputs["x"].CopyFrom(to_proto(np.ones((examples, 1), np.float32)))
    return message.SerializeToString()


def test_a_message_too_long_for_memory_is_refused_and_the_next_is_answered(served: tuple[Flags, Server]) -> None:
    flags, _ = served
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"localhost:{flags.port}", options) as channel:
        ask = channel.unary_unary(PREDICT)
        with pytest.raises(grpc.RpcError) as refused:
            ask(predict_bytes(3 * MB), timeout=60)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in refused.value.details()
        ask(predict_bytes(2), timeout=60)


_FAILING = """
import ctypes, sys, threading, time
from serving import server
from serving.config import parse_flags
usual = server.start
def start(flags):
    made = usual(flags)
    [thread] = made._grpc._serving_threads
    def fail():
        while threading.excepthook is threading.__excepthook__:
            time.sleep(0.01)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(MemoryError))
    threading.Thread(target=fail, daemon=True).start()
    return made
server.start = start
server._serve(parse_flags(sys.argv[1:]))
"""


def test_a_server_whose_grpc_thread_fails_ends_with_1(served: tuple[Flags, Server]) -> None:
    """As it does if it finds no memory for a message; it would never answer a call again."""
    flags, _ = served
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-c", _FAILING, "--model_name=wide", f"--port={port}",
         f"--model_base_path={flags.model_base_path}"],
        cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 1, done.stderr
    assert "the gRPC API has failed (MemoryError): the server ends" in done.stderr


def test_a_rest_body_that_memory_is_not_left_for_is_answered_413(
        served: tuple[Flags, Server], monkeypatch: pytest.MonkeyPatch) -> None:
    flags, server = served
    monkeypatch.setattr("serving.memory.free_bytes", lambda: 5 * MB)
    monkeypatch.setattr(server, "_flags", replace(flags, max_request_memory_mb=0))
    rest_server = server._rest_server("127.0.0.1", 0)
    rest_server.start()
    try:
        for size, status in ((2 * MB, b"413"), (1000, b"400")):
            with socket.create_connection(("127.0.0.1", rest_server.port), 60) as client:
                client.sendall(b"POST /v1/models/wide:predict HTTP/1.1\r\nHost: x\r\n"
                               b"Content-Length: %d\r\n\r\n" % size + b" " * 1000)
                assert client.recv(100).split()[1] == status
    finally:
        rest_server.stop(1)
