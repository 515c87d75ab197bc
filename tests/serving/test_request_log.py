"""logging_config: requests and answers are written as they come, and nobody waits for that."""
import threading
from collections import Counter
from pathlib import Path
from typing import Any, cast

import half_model
import numpy as np
import pytest
import requests
from running_server import call, half, serving
from waiting import until

from serving import recording, request_log
from serving.config import Model, models_of
from serving.protos import model_server_config_pb2
from serving.request_log import RequestLogs

X, Y = {"x": np.array([1.0, 2.0], np.float32)}, {"y": np.array([3.0, 4.0], np.float32)}


class Logs(RequestLogs):
    """With what was counted."""

    def __init__(self, most_bytes: int, most_files: int) -> None:
        self.seen = Counter[tuple[str, str]]()
        super().__init__(most_bytes, most_files, lambda model, outcome: self.seen.update([(model, outcome)]))

    @property
    def written(self) -> int:
        return self.seen["m", request_log.WRITTEN]

    @property
    def dropped(self) -> int:
        return self.seen["m", request_log.DROPPED]


def _logs(prefix: Path, rate: float = 1.0, most_bytes: int = 1 << 20, most_files: int = 4) -> Logs:
    made = Logs(most_bytes, most_files)
    made.configure([Model("m", "/m", log_prefix=str(prefix), sampling_rate=rate), Model("other", "/o")])
    return made


def test_requests_are_read_back_as_they_were_answered(tmp_path: Path) -> None:
    logs = _logs(tmp_path / "logs/m")
    for version in (1, 2):
        logs.answered("m", version, "serving_default", X, Y)
    logs.answered("other", 1, "serving_default", X, Y)
    logs.close()
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["m-000001.tfrecord"]
    found = list(recording.read(tmp_path / "logs/m-000001.tfrecord"))
    assert [(one.model, one.version, one.signature_name) for one in found] == [
        ("m", 1, "serving_default"), ("m", 2, "serving_default")]
    assert found[0].inputs["x"].tolist() == [1, 2]
    assert found[0].outputs["y"].tolist() == [3, 4]
    assert (logs.written, logs.dropped) == (2, 0)


def test_files_have_a_size_and_the_oldest_go(tmp_path: Path) -> None:
    logs = _logs(tmp_path / "m[1]", most_bytes=300, most_files=3)
    for version in range(1, 31):
        logs.answered("m", version, "", X, Y)
        until(lambda wanted=version: logs.written == wanted)
    logs.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 3
    assert all(name.startswith("m[1]-0000") for name in names)
    last = [one.version for name in names for one in recording.read(tmp_path / name)]
    assert last == list(range(31 - len(last), 31))
    # A server that starts again goes on with the next number, and keeps what others have written there.
    (tmp_path / "m[1]-notes.tfrecord").touch()
    again = _logs(tmp_path / "m[1]", most_files=3)
    again.answered("m", 99, "", X, Y)
    again.close()
    assert [one.version for one in recording.read(max(tmp_path.glob("*-0*.tfrecord")))] == [99]
    assert (tmp_path / "m[1]-notes.tfrecord").exists()


def test_a_share_of_the_requests_is_logged(tmp_path: Path) -> None:
    logs = _logs(tmp_path / "m", rate=0.3)
    for _ in range(1000):
        logs.answered("m", 1, "", X, Y)
        until(lambda: logs._waiting.qsize() < 100)
    logs.close()
    assert 200 < logs.written < 400


def test_what_cannot_be_written_as_fast_as_it_comes_is_dropped_and_counted(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = threading.Event()
    real = RequestLogs._append

    def append(self: RequestLogs, prefix: str, record: bytes) -> None:
        slow.wait(60)
        real(self, prefix, record)
    monkeypatch.setattr(RequestLogs, "_append", append)
    monkeypatch.setattr(request_log, "_WAITING", 4)
    logs = _logs(tmp_path / "m")
    for _ in range(20):
        logs.answered("m", 1, "", X, Y)  # returns at once
    assert logs.dropped >= 15
    slow.set()
    logs.close()
    assert logs.written + logs.dropped == 20


def test_a_full_disk_drops_requests_and_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                     caplog: pytest.LogCaptureFixture) -> None:
    full = True
    real = RequestLogs._append

    def append(self: RequestLogs, prefix: str, record: bytes) -> None:
        if full:
            raise OSError(28, "No space left on device")
        real(self, prefix, record)
    monkeypatch.setattr(RequestLogs, "_append", append)
    logs = _logs(tmp_path / "m")
    for _ in range(3):
        logs.answered("m", 1, "", X, Y)
    until(lambda: logs.dropped == 3)
    full = False
    logs.answered("m", 7, "", X, Y)
    logs.close()
    assert [one.version for one in recording.read(tmp_path / "m-000001.tfrecord")] == [7]
    assert len([one for one in caplog.records if "No space left" in one.message]) == 1


def test_two_servers_and_a_killed_one_write_files_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "m-000003.tfrecord.part").write_bytes(b"of a process that was killed")
    servers = [_logs(tmp_path / "m"), _logs(tmp_path / "m")]
    for version, logs in enumerate(servers, 1):
        logs.answered("m", version, "", X, Y)
        until(lambda logs=logs: logs.written == 1)
    for logs in servers:
        logs.close()
    assert (tmp_path / "m-000003.tfrecord.part").read_bytes() == b"of a process that was killed"
    assert sorted(one.version or 0 for path in tmp_path.glob("*.tfrecord") for one in recording.read(path)) == [1, 2]


def test_half_a_record_on_a_full_disk_is_taken_away(tmp_path: Path) -> None:
    logs = _logs(tmp_path / "m")
    logs.answered("m", 1, "", X, Y)
    until(lambda: logs.written == 1)
    file = logs._files[str(tmp_path / "m")]
    whole = file.handle

    class Full:
        """Takes a part of what it is given."""

        def __getattr__(self, name: str) -> Any:
            return getattr(whole, name)

        def write(self, data: bytes) -> int:
            return whole.write(data[:10])
    file.handle = cast(Any, Full())
    logs.answered("m", 2, "", X, Y)
    until(lambda: logs.dropped == 1)
    logs.close()
    assert [one.version for one in recording.read(tmp_path / "m-000001.tfrecord")] == [1]


def test_a_configuration_that_does_not_ask_for_it_has_no_log(tmp_path: Path) -> None:
    logs = _logs(tmp_path / "m", rate=0.0)
    logs.answered("m", 1, "", X, Y)
    logs.close()
    assert list(tmp_path.iterdir()) == []


def test_the_fields_are_those_of_the_configuration() -> None:
    config: Any = model_server_config_pb2.ModelServerConfig()
    entry = config.model_config_list.config.add(name="m", base_path="/m")
    entry.logging_config.log_collector_config.filename_prefix = "/logs/m"
    entry.logging_config.sampling_config.sampling_rate = 0.25
    model, = models_of(config)
    assert (model.log_prefix, model.sampling_rate) == ("/logs/m", 0.25)


def test_a_server_logs_what_it_answers_and_not_what_it_warms_up_with(tmp_path: Path) -> None:
    half_model.save(tmp_path / "half/1")
    recording.write(tmp_path / "half/1/assets.extra/tf_serving_warmup_requests", [
        recording.Predicted("half", {"x": np.ones((1, 1), np.float32)})])
    config = tmp_path / "models.config"
    config.write_text(f"""model_config_list {{ config {{ name: "half" base_path: "{tmp_path / 'half'}"
        model_platform: "tensorflow" logging_config {{
            log_collector_config {{ filename_prefix: "{tmp_path / 'log/half'}" }}
            sampling_config {{ sampling_rate: 1.0 }} }} }} }}""")
    monitoring = tmp_path / "monitoring"
    monitoring.write_text("prometheus_config { enable: true }")
    with serving(tmp_path, model_config_file=str(config), monitoring_config_file=str(monitoring)) as (_, flags):
        for _ in range(3):
            call(flags.port, half())
        metrics = f"http://127.0.0.1:{flags.rest_api_port}/monitoring/prometheus/metrics"
        wanted = 'embedded_serving_logged_requests{model_name="half",outcome="written"} 3'
        until(lambda: wanted in requests.get(metrics, timeout=10).text)
    found = list(recording.read(tmp_path / "log/half-000001.tfrecord"))
    assert len(found) == 3
    assert found[0].outputs["y"].tolist() == [[2.5]]
