"""The whole server: ports, flags, health, TLS, deadlines."""
import json
import re
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import op_library
import pytest
from running_server import (
    PREDICT,
    call,
    free_port,
    get,
    half,
    listens,
    request,
    serving,
)
from waiting import until

from serving.config import Flags
from serving.server import start
from user_error import UserError

TLS = Path(__file__).parent / "tls"
ROOT = Path(__file__).resolve().parents[2]


def test_a_port_in_use_is_one_line_that_says_what_to_do(models: Path) -> None:
    with serving(models) as (_, flags):
        for taken in ({"port": flags.port}, {"port": free_port(), "rest_api_port": flags.rest_api_port}):
            with pytest.raises(UserError, match=r"is the port taken\? Stop what uses it, or choose another"):
                start(Flags(model_name="half", model_base_path=str(models / "half"), **taken))
        assert call(flags.port, half()) == [[2.5]]


@pytest.mark.parametrize(("flags", "message"), [
    ({"port": 0}, "At least one of"), ({"port": 70000}, "0 to 65535"),
    ({"use_alts_credentials": True}, "use --ssl_config_file"), ({"grpc_max_threads": 0}, "must be at least 1"),
    ({"num_load_threads": -1}, "must not be negative"), ({"drain_seconds": float("nan")}, "must not be negative"),
    ({"ssl_config_file": "/none"}, "NOT_FOUND: /none; No such file or directory"),
    ({"monitoring_config_file": "/"}, "NOT_FOUND: /; No such device: it is a directory"),
    ({"tensorflow_session_parallelism": -1}, "must not be negative"),
    ({"grpc_channel_arguments": "x"}, "name=value is wanted"),
    ({"grpc_channel_arguments": "grpc.x=99999999999"}, "at most 32 bits"),
    ({"drain_seconds": float("inf")}, "--drain_seconds must be at most 86400"),
    ({"access_log": "/none/x"}, "--access_log=/none/x: No such file or directory; it takes a file"),
    ({"access_log": "/"}, "--access_log=/: Is a directory"),
    ({"bind_address": "999.1.1.1"}, "--bind_address takes an address of this machine"),
    ({"bind_address": "192.0.2.1"}, "--bind_address takes an address of this machine"),
    ({"grpc_socket_path": "/none/x"}, "--grpc_socket_path=/none/x: there is no directory /none"),
    ({"grpc_socket_path": "/tmp/" + "x" * 200}, "a Unix socket has at most 107 bytes"),
    ({"grpc_socket_path": __file__}, "a file of that name which is no socket"),
    ({"saved_model_tags": "gpu", "max_num_load_retries": 0}, r"The version has \{ serve \}; --saved_model_tags takes"),
    ({"batching_parameters_file": "/none"}, "without setting"),
    ({"use_tflite_model": True}, "--use_tflite_model: use --prefer_tflite_model"),
    ({"tensorflow_op_libraries": "/none.so"}, "there is no file /none.so"),
])
def test_flags_that_contradict_each_other(models: Path, flags: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        start(Flags(**{"model_name": "half", "model_base_path": str(models / "half"), **flags}))


def test_liveness_readiness_and_metrics(models: Path, tmp_path: Path) -> None:
    monitoring, log = tmp_path / "monitoring.txt", tmp_path / "access.log"
    monitoring.write_text("prometheus_config { enable: true }")
    with serving(models, monitoring_config_file=str(monitoring), access_log=str(log)) as (_, flags):
        assert get(flags, "/health/live")[0] == 200
        assert get(flags, "/health/ready")[0] == 200
        call(flags.port, half())
        assert get(flags, "/v1/models/nope")[0] == 404
        _, text = get(flags, "/monitoring/prometheus/metrics")
        assert ':tensorflow:serving:request_count{model_name="half",status="OK"} 1' in text
        assert 'entrypoint="GRPC",model_name="half",signature_name="serving_default",status="OK",version="1"} 1' in text
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(e["entrypoint"], e["api"], e["model"], e["version"], e["status"]) for e in entries] == [
        ("GRPC", "Predict", "half", 1, "OK"), ("REST", "status", "nope", None, "NOT_FOUND")]


def test_health_and_reflection(models: Path) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
    with (serving(models, enable_grpc_healthcheck_service=True, enable_grpc_reflection=True) as (_, flags),
          grpc.insecure_channel(f"127.0.0.1:{flags.port}") as channel):
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "ModelService", "PredictionService"):
            assert health.Check(health_pb2.HealthCheckRequest(service=name), timeout=60).status == 1
        with pytest.raises(grpc.RpcError) as error:
            health.Check(health_pb2.HealthCheckRequest(service="x"), timeout=60)
        assert error.value.code() is grpc.StatusCode.NOT_FOUND
        watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(watch).status == 1
        watch.cancel()
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        answer = next(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(asked, timeout=60))
        assert {service.name for service in answer.list_services_response.service} == {
            "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService", "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection"}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux answers on all of 127.0.0.0/8")
@pytest.mark.parametrize(("address", "reached"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_only_loopback_is_bound_unless_asked_for(models: Path, address: str, reached: bool) -> None:
    assert Flags().bind_address == "127.0.0.1"
    with serving(models, bind_address=address) as (_, flags):
        for port in (flags.port, flags.rest_api_port):
            assert listens(port, "127.0.0.2") is reached
            assert listens(port)


@pytest.mark.parametrize("form", ["file://{}", "file://host{}", "file://{}/"])
def test_a_base_path_may_be_a_file_uri(models: Path, form: str) -> None:
    flags = Flags(model_name="half", model_base_path=form.format(models / "half"), port=free_port())
    server = start(flags)
    try:
        assert call(flags.port, half()) == [[2.5]]
    finally:
        server.stop()


@pytest.mark.parametrize("broken", [1, 2])
def test_a_model_whose_one_version_is_broken_at_the_start_is_served_with_the_other(
        models: Path, tmp_path: Path, broken: int) -> None:
    whole = 3 - broken
    shutil.copytree(models / "half" / "1", tmp_path / "m" / str(whole))
    shutil.copytree(models / "broken" / "1", tmp_path / "m" / str(broken))
    config = tmp_path / "models.config"
    config.write_text(f'model_config_list {{ config {{ name: "half" base_path: "{tmp_path / "m"}" '
                      'model_platform: "tensorflow" model_version_policy { all {} } } }')
    flags = Flags(model_config_file=str(config), port=free_port(), rest_api_port=free_port(), max_num_load_retries=0)
    server = start(flags)
    try:
        assert call(flags.port, half()) == [[2.5]]
        status, text = get(flags, "/health/ready")
        assert (status, f"version {broken}: " in text) == (200, True)
        _, text = get(flags, "/v1/models/half")
        assert {each["version"]: each["state"] for each in json.loads(text)["model_version_status"]} == {
            str(whole): "AVAILABLE", str(broken): "END"}
    finally:
        server.stop()


def test_an_op_library_is_loaded_before_the_models_and_without_it_the_error_says_so(tmp_path: Path) -> None:
    library, model = op_library.build(tmp_path), tmp_path / "model"
    op_library.save_model(library, model / "1")
    flags = ["--model_name=model", f"--model_base_path={model}", "--max_num_load_retries=0"]
    without = subprocess.run([sys.executable, "-m", "serving", "serve", *flags, f"--port={free_port()}"],
                             capture_output=True, text=True, timeout=150, check=False, cwd=ROOT)
    assert without.returncode == 255
    assert "Op type not registered 'KitIdentity'" in without.stderr
    assert "to --tensorflow_op_libraries" in without.stderr
    assert "Export or copy" not in without.stderr
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"no library")
    with pytest.raises(UserError, match=rf"--tensorflow_op_libraries: {broken} cannot be loaded: "):
        start(Flags(model_name="model", model_base_path=str(model), port=free_port(),
                    tensorflow_op_libraries=str(broken)))
    port = free_port()
    with subprocess.Popen([sys.executable, "-m", "serving", "serve", *flags, f"--port={port}",
                           f"--tensorflow_op_libraries={library}"], cwd=ROOT) as process:
        try:
            until(lambda: process.poll() is not None or listens(port), 150)
            import numpy as np
            assert call(port, request("model", x=np.array([1.5, 2.0], np.float32))) == [1.5, 2.0]
        finally:
            process.terminate()


def test_a_wrong_input_shape_is_in_the_log_once_and_in_every_clients_error(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import numpy as np
    import tensorflow as tf
    from click.testing import CliRunner

    from serving.client import predict
    from serving.client.grpc import GrpcClient
    from serving.client.protocol import AnswerError
    from serving.client.rest import RestClient

    class Product(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
        def serve(self, x: Any) -> Any:
            return {"y": tf.matmul(x, tf.ones([2, 2]))}

    module = Product()
    tf.saved_model.save(module, str(tmp_path / "product" / "1"), signatures=module.serve)
    said = "input 'x' is float32 [1, 3], and the signature has float32 [-1, 2]"
    wrong = {"x": np.ones((1, 3), np.float32)}
    with serving(tmp_path, "product") as (_, flags):
        rest, port = f"127.0.0.1:{flags.rest_api_port}", f"127.0.0.1:{flags.port}"
        with RestClient(rest, "product") as client, pytest.raises(AnswerError, match=re.escape(said)):
            client.predict(wrong)
        with GrpcClient(port, "product") as channel:
            with pytest.raises(AnswerError, match=re.escape(said)):
                channel.predict(wrong)
            # The answer itself is the original's: TensorFlow's text alone.
            with pytest.raises(AnswerError) as plain:
                channel.send(channel.prepare(wrong))
            assert "signature has" not in plain.value.message
            with pytest.raises(AnswerError, match="not found") as other:
                channel.predict(wrong, "nope")
            assert "signature has" not in other.value.message
        done = CliRunner().invoke(predict.command, ["--address", rest, "--model", "product", "--inputs",
                                                    '{"x": [[1.0, 2.0, 3.0]]}'])
        assert said in str(done.exception)
    [line] = [record.getMessage() for record in caplog.records if "a request failed" in record.getMessage()]
    assert line.startswith(f"a request failed: version 1 of model product, signature serving_default: {said}; "
                           "INVALID_ARGUMENT: ")


def test_a_ragged_output_is_named(tmp_path: Path) -> None:
    import numpy as np
    import tensorflow as tf

    class Ragged(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
        def serve(self, x: Any) -> Any:
            return {"rows": tf.RaggedTensor.from_row_lengths(x, [1, 2]), "y": x + 1.0}

    module = Ragged()
    tf.saved_model.save(module, str(tmp_path / "ragged" / "1"), signatures=module.serve)
    message = 'output "rows" of signature "serving_default" is ragged'
    with serving(tmp_path, "ragged") as (_, flags):
        with pytest.raises(grpc.RpcError) as error:
            call(flags.port, request("ragged", x=np.ones(3, np.float32)))
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert message in (error.value.details() or "")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{flags.rest_api_port}/v1/models/ragged:predict",
                                   b'{"inputs": [1.0, 2.0, 3.0]}', 60)
        with refused.value as answer:
            assert message in json.loads(answer.read())["error"]


def test_a_unix_socket(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with (serving(models, grpc_socket_path=str(path)),
          grpc.insecure_channel(f"unix:{path}") as channel):
        assert channel.unary_unary(PREDICT)(half(), timeout=60)


def test_mutual_tls(models: Path, tmp_path: Path) -> None:
    def pem(name: str) -> str:
        return (TLS / name).read_text()

    config = tmp_path / "ssl.txt"
    config.write_text("".join(f"{key}: {json.dumps(pem(name))}\n" for key, name in (
        ("server_key", "server.key"), ("server_cert", "server.pem"), ("custom_ca", "ca.pem"))) + "client_verify: true")
    with serving(models, ssl_config_file=str(config), rest_api_ssl_config_file=str(config)) as (_, flags):
        ca, key, cert = (pem(name).encode() for name in ("ca.pem", "client.key", "client.pem"))
        assert call(flags.port, half(), credentials=grpc.ssl_channel_credentials(ca, key, cert)) == [[2.5]]
        with pytest.raises(grpc.RpcError) as error:
            call(flags.port, half(), credentials=grpc.ssl_channel_credentials(ca))
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        context = ssl.create_default_context(cafile=str(TLS / "ca.pem"))
        with pytest.raises(OSError, match=r"(?i)certificate required|reset|closed|EOF"):
            get(flags, "/v1/models/half", context)
        context.load_cert_chain(TLS / "client.pem", TLS / "client.key")
        assert get(flags, "/v1/models/half", context)[0] == 200


@pytest.mark.parametrize(("fields", "message"), [
    ({"server_key": "x"}, "server_key is no PEM text; it takes the PEM text itself"),
    ({"server_key": ""}, "server_key is empty; it takes"),
    ({"server_key": "/etc/tls/tls.key"}, "server_key is the path /etc/tls/tls.key; it takes"),
    ({"server_cert": "server.pem"}, "server_cert is the path server.pem; it takes"),
    ({"custom_ca": "/etc/tls/ca.crt"}, "custom_ca is the path /etc/tls/ca.crt; it takes"),
    ({"server_key": "server.pem@"}, r"server_key is PEM text of another kind \(CERTIFICATE\); it takes"),
    ({"server_cert": "server.key@"}, r"server_cert is PEM text of another kind \(.*PRIVATE KEY\); it takes"),
    ({"server_key": "client.key@"}, "server_key is not the key of server_cert; give a pair"),
    ({"server_key": "server.key@spoilt"}, "server_key is PEM text that cannot be read"),
    ({"server_cert": "server.pem@spoilt"}, "server_cert is PEM text that cannot be read"),
    ({"custom_ca": "ca.pem@spoilt"}, "custom_ca is PEM text that cannot be read"),
    ({"client_verify": True}, "client_verify needs custom_ca"),
])
@pytest.mark.parametrize("flag", ["ssl_config_file", "rest_api_ssl_config_file"])
def test_tls_files_that_are_invalid(
        models: Path, tmp_path: Path, fields: dict[str, Any], message: str, flag: str) -> None:
    """`name@` stands for the text of a file, `name@spoilt` for its text without the middle."""
    def text(value: Any) -> Any:
        name, at, how = str(value).partition("@")
        if not at:
            return value
        pem = (TLS / name).read_text()
        return pem if not how else pem[:60] + pem[200:]

    config = tmp_path / "ssl.txt"
    config.write_text("\n".join(f"{field}: {json.dumps(text(value))}" for field, value in (
        {"server_key": "server.key@", "server_cert": "server.pem@"} | fields).items()))
    with pytest.raises(UserError, match=message):
        start(Flags(model_name="half", model_base_path=str(models / "half"), port=free_port(),
                    rest_api_port=free_port(), **{flag: str(config)}))


def test_a_deadline_ends_the_run_in_the_server_too(models: Path) -> None:
    import numpy as np
    # Hours, if nothing ended it.
    long = request("slow", "turns", turns=np.array([2_000_000_000], np.int32))
    with serving(models, "slow") as (server, flags):
        with pytest.raises(grpc.RpcError) as error:
            call(flags.port, long, timeout_s=0.3)
        assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        until(lambda: server._store._serving["slow"][1].pins == 0)


def test_a_request_that_its_client_cancelled_while_waiting_is_not_run(models: Path) -> None:
    import numpy as np
    long = request("slow", "turns", turns=np.array([100_000], np.int32))
    with (serving(models, "slow", grpc_max_threads=1) as (server, flags),
          grpc.insecure_channel(f"127.0.0.1:{flags.port}") as channel):
        runs: list[object] = []
        server._predictor._ran = lambda *told: runs.append(told)
        predict = channel.unary_unary(PREDICT)
        first = predict.future(long, timeout=60)
        until(lambda: server._store._serving["slow"][1].pins == 1)
        waiting = [predict.future(long, timeout=60) for _ in range(5)]
        for each in waiting:
            each.cancel()
        first.result()
        assert predict(long, timeout=60)
        assert len(runs) == 2
