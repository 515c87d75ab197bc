"""Batches that do not fit into free memory are refused; the error has the number of examples that fit."""
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from serving.config import Flags
from serving.errors import Code, ServingError
from serving.memory import MemoryLimit, bytes_per_example, free_bytes
from serving.protos import predict_pb2
from serving.server import start
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


def test_the_limit_is_the_flag_or_a_share_of_the_free_memory() -> None:
    with pytest.raises(ServingError, match="send 100 examples at most in one request") as error:
        MemoryLimit(100 * MB).check(101, MB)
    assert error.value.code is Code.RESOURCE_EXHAUSTED
    MemoryLimit(100 * MB).check(100, MB)
    MemoryLimit(-1).check(10**9, MB)
    free = MemoryLimit(0, lambda: 400 * MB)
    free.check(300, MB)
    with pytest.raises(ServingError, match="send 300 examples at most"):
        free.check(301, MB)
    MemoryLimit(0, lambda: 0).check(60, MB)  # small requests are not limited
    MemoryLimit(0, lambda: None).check(10**9, MB)


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


def test_without_memory_files_there_is_no_limit(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) is None


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flags]:
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
    yield flags
    server.stop()


def rest(flags: Flags, examples: int) -> Any:
    body = json.dumps({"instances": [[1.0]] * examples}).encode()
    url = f"http://127.0.0.1:{flags.rest_api_port}/v1/models/wide:predict"
    with urllib.request.urlopen(url, body, 60) as answer:
        return json.loads(answer.read())["predictions"]


def test_a_batch_too_large_for_memory_is_refused_over_rest_and_grpc_and_a_smaller_one_is_answered(
        served: Flags) -> None:
    # 10 MB are 80 examples of 128 KB.
    assert len(rest(served, 70)) == 70
    with pytest.raises(urllib.error.HTTPError) as refused:
        rest(served, 100)
    with refused.value as answer:
        assert answer.code == 429
        assert "send 80 examples at most in one request" in json.loads(answer.read())["error"]
    message = predict_pb2.PredictRequest()
    message.model_spec.name = "wide"
    message.inputs["x"].CopyFrom(to_proto(np.ones((100, 1), np.float32)))
    with (closing(grpc.insecure_channel(f"127.0.0.1:{served.port}")) as channel,
          pytest.raises(grpc.RpcError) as error):
        channel.unary_unary(PREDICT)(message.SerializeToString(), timeout=60)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(rest(served, 70)) == 70
