"""Base paths and files with a scheme: read through TensorFlow's file systems, here its own ram:// and gs://."""
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import contract_models
import grpc
import numpy as np
import pytest
import tensorflow as tf

from serving import tfrecord
from serving.config import Flags, Model
from serving.errors import Code, ServingError
from serving.protos import predict_pb2, prediction_log_pb2
from serving.remote_path import RemotePath, StorageError, is_uri, path_of
from serving.server import Server, start
from serving.tensor_proto import to_ndarray, to_proto
from serving.version_files import on_disk
from user_error import UserError
from version_directory import WARMUP

ROOT = Path(__file__).resolve().parents[2]
PREDICT = "/tensorflow.serving.PredictionService/Predict"
WAIT_S = 100


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], object], seconds: float = WAIT_S) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def upload(folder: Path, uri: str) -> None:
    """Copies a directory to a remote path; saved_model.pb last, as its readers need."""
    for file in sorted(folder.rglob("*"), key=lambda file: file.name == "saved_model.pb"):
        if file.is_file():
            target = f"{uri}/{file.relative_to(folder)}"
            tf.io.gfile.makedirs(target.rpartition("/")[0])
            tf.io.gfile.copy(str(file), target, overwrite=True)


def remove(uri: str) -> None:
    """gfile.rmtree, which ram:// refuses at its root."""
    for folder, _, files in tf.io.gfile.walk(uri, topdown=False):
        for file in files:
            tf.io.gfile.remove(f"{folder}/{file}")
        tf.io.gfile.rmtree(folder)


def write(uri: str, text: str) -> str:
    tf.io.gfile.makedirs(uri.rpartition("/")[0])
    if tf.io.gfile.exists(uri):
        tf.io.gfile.remove(uri)  # ram:// would append
    with tf.io.gfile.GFile(uri, "w") as file:
        file.write(text)
    return uri


def predict(port: int, model: str = "half") -> float:
    message = predict_pb2.PredictRequest()
    message.model_spec.name = model
    message.inputs["x"].CopyFrom(to_proto(np.array([[1.0]], np.float32)))
    with closing(grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.enable_http_proxy", 0)])) as channel:
        answer = channel.unary_unary(PREDICT)(message.SerializeToString(), timeout=60)
    return float(to_ndarray(predict_pb2.PredictResponse.FromString(answer).outputs["y"]).item())


def get(flags: Flags, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{flags.rest_api_port}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@contextmanager
def serving(**flags: Any) -> Iterator[tuple[Server, Flags]]:
    made = Flags(port=free_port(), rest_api_port=free_port(), **flags)
    server = start(made)
    try:
        yield server, made
    finally:
        server.stop()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base path with version 1, y = x / 2 + 2, and beside it one with version 2, y = x / 2 + 3."""
    root = tmp_path_factory.mktemp("local")
    contract_models.save(root / "half" / "1", lambda: contract_models.half_plus(2))
    contract_models.save(root / "next" / "2", lambda: contract_models.half_plus(3))
    return root


@pytest.fixture
def ram(request: pytest.FixtureRequest) -> str:
    return f"ram://{request.node.name.partition('[')[0]}"


@pytest.mark.parametrize(("text", "path"), [
    ("/models/m", "/models/m"), ("file:///models/m", "/models/m"), ("file://host/models/m/", "/models/m"),
    ("models/m", "models/m"), ("gs://bucket/m/", "gs://bucket/m"), ("ram://m", "ram://m"),
    ("hdfs:///m/n", "hdfs:///m/n"), ("s3://b", "s3://b"), ("/a://b", "/a:/b")])
def test_paths_and_uris(text: str, path: str) -> None:
    found = path_of(text)
    assert str(found) == path
    assert str(found / "1" / "saved_model.pb") == f"{path}/1/saved_model.pb"
    assert isinstance(found, RemotePath) is (is_uri(text) and not text.startswith("file://"))
    assert str((found / "1" / "variables" / "variables").with_suffix(".index")) == f"{path}/1/variables/variables.index"


def test_what_a_remote_path_reads(ram: str) -> None:
    base = path_of(ram)
    assert not base.exists()
    with pytest.raises(StorageError) as missing:
        list(base.iterdir())
    assert missing.value.code is Code.NOT_FOUND
    write(f"{ram}/1/file.txt", "text")
    assert [str(entry) for entry in base.iterdir()] == [f"{ram}/1"]
    folder, file = base / "1", base / "1" / "file.txt"
    assert (folder.is_dir(), folder.is_file(), file.is_dir(), file.is_file()) == (True, False, False, True)
    assert (file.read_text(), file.read_bytes(), file.open("rb").read()) == ("text", b"text", b"text")
    with pytest.raises(StorageError):
        (base / "none").read_bytes()


def test_a_model_on_a_remote_path_is_served_with_its_warm_up_and_replaced(local: Path, ram: str,
                                                                         caplog: pytest.LogCaptureFixture) -> None:
    upload(local / "half", ram)
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.name = "half"
    log.predict_log.request.inputs["x"].CopyFrom(to_proto(np.array([[1.0]], np.float32)))
    tfrecord.write(local / "records", [log.SerializeToString()])
    tf.io.gfile.makedirs(f"{ram}/1/assets.extra")
    tf.io.gfile.copy(str(local / "records"), f"{ram}/1/{WARMUP}")
    monitoring = write("ram://files/monitoring.txt", "prometheus_config { enable: true }")
    config = write("ram://files/models.config", "model_config_list { config { name: 'half' base_path: '" + ram +
                   "' model_platform: 'tensorflow' } }")
    with caplog.at_level("INFO", "serving"), serving(model_config_file=config, monitoring_config_file=monitoring) as (
            _, flags):
        assert predict(flags.port) == 2.5
        assert f"version 1 of model half is loaded from {ram}/1, in" in caplog.text
        _, metrics = get(flags, "/monitoring/prometheus/metrics")
        assert f'model_path="{ram}/1"' in metrics
        assert "warmup" in metrics
        upload(local / "next", ram)
        until(lambda: predict(flags.port) == 3.5)
        remove(ram)
        until(lambda: "NOT_FOUND: Could not find base path" in get(flags, "/health/ready")[1])
        assert get(flags, "/health/ready")[0] == 200
        assert predict(flags.port) == 3.5


def test_a_version_reads_its_own_batching_parameters_from_a_remote_path(local: Path, ram: str) -> None:
    upload(local / "half", ram)
    write(f"{ram}/1/batching_params.pbtxt", "max_batch_size { value: 4 } allowed_batch_sizes: 3")
    with pytest.raises(UserError, match="Last entry in allowed_batch_sizes must match max_batch_size"):
        start(Flags(model_base_path=ram, port=free_port(), enable_batching=True, max_num_load_retries=0,
                    enable_per_model_batching_parameters=True))
    write(f"{ram}/1/batching_params.pbtxt", "max_batch_size { value: 4 } allowed_batch_sizes: 4")
    with serving(model_name="half", model_base_path=ram, enable_batching=True,
                 enable_per_model_batching_parameters=True) as (_, flags):
        assert predict(flags.port) == 2.5


@pytest.mark.parametrize(("spoil", "message"), [
    (lambda ram: tf.io.gfile.remove(f"{ram}/1/saved_model.pb"), "does not appear to contain a SavedModel"),
    (lambda ram: write(f"{ram}/1/saved_model.pb", "\7broken"), "Can't parse ram://"),
    (lambda ram: tf.io.gfile.remove(f"{ram}/1/variables/variables.index"), "/variables/variables.index is missing"),
    (lambda ram: remove(f"{ram}/1"), "No versions of servable half found under base path ram://"),
    (lambda ram: remove(ram), "Could not find base path ram://"),
])
def test_what_is_wrong_with_a_remote_model_is_said(
        local: Path, ram: str, spoil: Callable[[str], object], message: str) -> None:
    if tf.io.gfile.exists(ram):
        remove(ram)
    upload(local / "half", ram)
    spoil(ram)
    with pytest.raises(UserError, match=message) as error:
        start(Flags(model_name="half", model_base_path=ram, port=free_port(), max_num_load_retries=0))
    assert "\n" not in str(error.value).replace("\nSpecified file path", "")


@pytest.mark.parametrize("scheme", ["s3", "hdfs", "nope"])
def test_a_scheme_that_tensorflow_does_not_know_is_refused(scheme: str) -> None:
    with pytest.raises(UserError) as error:
        start(Flags(model_name="half", model_base_path=f"{scheme}://bucket/half", port=free_port()))
    assert (f"Could not find base path {scheme}://bucket/half for servable half with error UNIMPLEMENTED: File system "
            f"scheme '{scheme}' not implemented") in str(error.value)
    assert "s3 and hdfs come with the package tensorflow-io, which this server does not load" in str(error.value)
    with pytest.raises(UserError, match=r"not implemented.*tensorflow-io"):
        start(Flags(model_config_file=f"{scheme}://bucket/models.config", port=free_port()))


def test_a_configuration_file_on_a_remote_path_that_is_missing(ram: str) -> None:
    with pytest.raises(UserError, match=f"NOT_FOUND: {ram}/models.config; no such file"):
        start(Flags(model_config_file=f"{ram}/models.config", port=free_port()))


class Proxy:
    """What TensorFlow's gs:// reaches instead of Google: a proxy that hangs, or refuses."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.reached = threading.Event()
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def environment(self) -> dict[str, str]:
        address = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        return {"https_proxy": address, "http_proxy": address, "no_proxy": "localhost,127.0.0.1",
                "NO_GCE_CHECK": "true"}

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._connections.append(connection)
            self.reached.set()

    def close(self) -> None:
        self._server.close()
        for connection in self._connections:
            connection.close()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    made = Proxy()
    yield made
    made.close()


@contextmanager
def process(environment: dict[str, str], log: Path, *flags: str) -> Iterator[tuple["subprocess.Popen[str]", int, int]]:
    port, rest = free_port(), free_port()
    with log.open("w") as out, subprocess.Popen(
            [sys.executable, "-m", "serving", "serve", f"--port={port}", f"--rest_api_port={rest}", *flags],
            cwd=ROOT, stdout=out, stderr=out, text=True, env={**os.environ, **environment}) as running:
        try:
            yield running, port, rest
        finally:
            running.kill()


def test_a_storage_that_hangs_holds_up_no_other_model_and_no_probe(local: Path, tmp_path: Path, proxy: Proxy) -> None:
    def entry(name: str, base: object) -> str:
        return f'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" }}'

    base, config = tmp_path / "half", tmp_path / "models.config"
    shutil.copytree(local / "half", base)
    config.write_text(f"model_config_list {{ {entry('half', base)} }}")
    with process(proxy.environment(), tmp_path / "log", f"--model_config_file={config}",
                 "--model_config_file_poll_wait_seconds=1") as (_, port, rest):
        flags = Flags(rest_api_port=rest)

        def answers(value: float) -> bool:
            try:
                return predict(port) == value
            except grpc.RpcError:
                return False

        until(lambda: answers(2.5))
        config.write_text(f"model_config_list {{ {entry('half', base)} {entry('far', 'gs://bucket/far')} }}")
        assert proxy.reached.wait(WAIT_S)
        status, text = get(flags, "/health/ready")
        assert (status, "gs://bucket/far has not answered yet" in text) == (503, True)
        shutil.copytree(local / "next" / "2", tmp_path / "2")
        (tmp_path / "2").rename(base / "2")
        until(lambda: answers(3.5))


def test_a_start_waits_for_a_storage_that_is_away_unless_loads_are_not_tried_again(tmp_path: Path) -> None:
    environment = {"https_proxy": "http://nowhere.invalid:1", "http_proxy": "", "NO_GCE_CHECK": "true"}
    flags = ["--model_name=far", "--model_base_path=gs://bucket/far"]
    with process(environment, tmp_path / "log", *flags, "--max_num_load_retries=0") as (running, *_):
        assert running.wait(WAIT_S) == 255
    [line] = [line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("error: ")]
    assert "Could not find base path gs://bucket/far for servable far with error " in line
    assert "See whether this machine reaches the storage of gs://." in line
    with process(environment, tmp_path / "log", *flags) as (running, port, _):
        until(lambda: "nothing can be served yet, trying again: " in (tmp_path / "log").read_text())
        assert running.poll() is None
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), 5)


def test_a_storage_that_does_not_answer_in_time_is_away(proxy: Proxy, local: Path) -> None:
    script = ("import sys\n"
              "from pathlib import Path\n"
              "from fake_servable import FakeServable\n"
              "from serving.config import Model\n"
              "from serving.model_store import ModelStore\n"
              "store = ModelStore(lambda name, number, path: FakeServable(name, number), look_s=0.3)\n"
              "print(store.configure([Model('far', 'gs://bucket/far'), Model('half', sys.argv[1])]))\n"
              "print(store.readiness().models['half'].answers)\n"
              "sys.stdout.flush()\n"
              "__import__('os')._exit(0)\n")
    done = subprocess.run(
        [sys.executable, "-c", script, str(local / "half")], capture_output=True, text=True, timeout=WAIT_S,
        check=True, cwd=ROOT, env={**os.environ, **proxy.environment(), "PYTHONPATH": "tests/support"})
    failures, half = done.stdout.splitlines()
    assert "gs://bucket/far for servable far with error UNAVAILABLE: no answer in 0.3 s" in failures
    assert half == "True"


def test_errors_of_a_storage_have_its_code_and_advice() -> None:
    for code, advice in ((Code.PERMISSION_DENIED, "GOOGLE_APPLICATION_CREDENTIALS"), (Code.NOT_FOUND, ""),
                         (Code.UNAVAILABLE, "reaches the storage of gs://")):
        error = StorageError(code, "Error\n\t when reading gs://b", path_of("gs://b/m"))  # type: ignore[arg-type]
        assert (error.strerror, error.filename) == ("Error when reading gs://b", "gs://b/m")
        assert advice in error.advice


def test_polling_plain_paths_leaves_tensorflow_unimported(local: Path) -> None:
    script = ("import sys\n"
              "from serving.config import Model\n"
              "from serving.version_files import on_disk\n"
              "assert on_disk(Model('m', sys.argv[1])) == {1: '1'}\n"
              "assert on_disk(Model('m', 'file://' + sys.argv[1])) == {1: '1'}\n"
              "assert 'tensorflow' not in sys.modules\n")
    subprocess.run([sys.executable, "-c", script, str(local / "half")], check=True, cwd=ROOT)


def test_no_versions_is_another_answer_than_no_base_path(ram: str) -> None:
    assert isinstance(on_disk(Model("m", ram)), ServingError)
    tf.io.gfile.makedirs(f"{ram}/temp")
    assert on_disk(Model("m", ram)) == {}
