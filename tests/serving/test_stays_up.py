"""No message from a client, and no replacement of versions, ends the server or causes an internal error."""
import json
import shutil
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import half_model
import numpy as np
import pytest
from contract_servers import free_port
from hot_swaps import Swaps
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as with_seed
from hypothesis import strategies as st
from proof import Proof
from waiting import until

from serving.config import Flags
from serving.grpc_service import MODEL_SERVICE, PREDICTION_SERVICE, _methods, _Service
from serving.protos import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
    tensor_pb2,
)
from serving.servable import CLASSIFY_METHOD, PREDICT_METHOD, REGRESS_METHOD
from serving.server import Server, start
from serving.tensor_proto import to_proto

NAMES = st.sampled_from(["", "echo", "example", "strings", "nope", "m\u00f6\0"])
SIGNATURES = st.sampled_from(["", "serving_default", "float32", "string", "bool", "half", "wide", "classes_only",
                              "regress", "predict", "scalar", "matrix", "nope"])
SIZES = st.one_of(st.integers(-2, 4), st.sampled_from([2**31, 2**62, -2**63, 2**63 - 1]))
NUMBERS = st.lists(st.integers(0, 300), max_size=4)
TENSORS = st.builds(
    lambda dtype, sizes, unknown, content, floats, ints, texts, bools: tensor_pb2.TensorProto(
        dtype=dtype, tensor_shape={"dim": [{"size": size} for size in sizes], "unknown_rank": unknown},
        tensor_content=content, float_val=floats, int_val=ints, half_val=ints, int64_val=ints, string_val=texts,
        bool_val=bools),
    st.integers(0, 30), st.lists(SIZES, max_size=3), st.booleans(), st.binary(max_size=12),
    st.lists(st.floats(width=32), max_size=4), NUMBERS, st.lists(st.binary(max_size=4), max_size=3),
    st.lists(st.booleans(), max_size=3))
SPECS = st.builds(
    lambda name, signature, version, label: {"name": name, "signature_name": signature,
                                             **({} if version is None else {"version": {"value": version}}),
                                             **({"version_label": label} if label else {})},
    NAMES, SIGNATURES, st.sampled_from([None, 0, 1, -1, 2**62]), st.sampled_from(["", "", "a"]))
EXAMPLES = st.lists(st.builds(
    lambda floats, ints, texts: {"features": {"feature": {
        "x": {"float_list": {"value": floats}}, "n": {"int64_list": {"value": ints}},
        "s": {"bytes_list": {"value": texts}}}}},
    st.lists(st.floats(width=32), max_size=3), st.lists(st.integers(-9, 9), max_size=2),
    st.lists(st.binary(max_size=3), max_size=2)), max_size=3)
INPUTS = st.one_of(st.builds(lambda e: {"example_list": {"examples": e}}, EXAMPLES),
                   st.builds(lambda e: {"example_list_with_context": {"examples": e}}, EXAMPLES), st.just({}))
METHODS = st.sampled_from(["", CLASSIFY_METHOD, REGRESS_METHOD, PREDICT_METHOD])
REQUESTS = st.one_of(
    st.tuples(st.just("Predict"), st.builds(
        lambda spec, inputs, names: predict_pb2.PredictRequest(model_spec=spec, inputs=inputs, output_filter=names),
        SPECS, st.dictionaries(st.sampled_from(["x", "s", "examples", "q"]), TENSORS, max_size=2),
        st.lists(st.sampled_from(["y", "text", "total", ""]), max_size=2))),
    st.tuples(st.just("Classify"), st.builds(
        lambda spec, given: classification_pb2.ClassificationRequest(model_spec=spec, input=given), SPECS, INPUTS)),
    st.tuples(st.just("Regress"), st.builds(
        lambda spec, given: regression_pb2.RegressionRequest(model_spec=spec, input=given), SPECS, INPUTS)),
    st.tuples(st.just("MultiInference"), st.builds(
        lambda specs, method, given: inference_pb2.MultiInferenceRequest(
            tasks=[{"model_spec": spec, "method_name": method} for spec in specs], input=given),
        st.lists(SPECS, max_size=3), METHODS, INPUTS)),
    st.tuples(st.just("GetModelMetadata"), st.builds(
        lambda spec, fields: get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=fields),
        SPECS, st.lists(st.sampled_from(["signature_def", "", "x"]), max_size=2))),
    st.tuples(st.just("GetModelStatus"), st.builds(
        lambda spec: get_model_status_pb2.GetModelStatusRequest(model_spec=spec), SPECS)),
    st.tuples(st.just("HandleReloadConfigRequest"), st.builds(
        lambda names: model_management_pb2.ReloadConfigRequest(metric_names=names), st.lists(st.text(max_size=5)))),
)
# UNKNOWN and INTERNAL say that the server is at fault; the original gives INTERNAL to bytes that are no message.
FAULTS = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)


class EndedError(Exception):
    """The exception that a handler's abort raises."""


class Context:
    """The part of a gRPC call's context that the handlers use."""

    def __init__(self) -> None:
        self.code, self.text = grpc.StatusCode.OK, ""

    def time_remaining(self) -> float:
        return 5.0

    def is_active(self) -> bool:
        return True

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def abort(self, code: grpc.StatusCode, text: str) -> None:
        self.code, self.text = code, text
        raise EndedError


class Target:
    """The handlers of a real server over real models, called as grpcio calls them."""

    def __init__(self, server: Server) -> None:
        service = _Service(server._predictor, lambda models: None, False)
        methods = _methods(service, lambda call, code: None, threading.Event(), set())
        self._handlers = {**methods[PREDICTION_SERVICE], **methods[MODEL_SERVICE]}

    def ask(self, method: str, data: bytes) -> Context:
        context = Context()
        with suppress(EndedError):
            self._handlers[method].unary_unary(data, context)
        return context


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    import contract_models
    root = tmp_path_factory.mktemp("models")
    for name in ("echo", "example", "strings"):
        contract_models.save(root / name / "1", contract_models.MODELS[name])
    config = root / "models.config"
    config.write_text("model_config_list {" + "".join(
        f'config {{ name: "{name}" base_path: "{root / name}" model_platform: "tensorflow" }} '
        for name in ("echo", "example", "strings")) + "}")
    server = start(Flags(model_config_file=str(config), port=free_port()))
    yield Target(server)
    server.stop()


def fuzz(target: Target, count: int, seed: int = 0) -> Counter[str]:
    """Sends `count` messages, and the same again with bytes changed; returns how the calls ended."""
    ends: Counter[str] = Counter()

    @with_seed(seed)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(REQUESTS, st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3))
    def one(request: tuple[str, Any], changes: list[tuple[int, int]]) -> None:
        method, message = request
        whole = message.SerializeToString()
        data = bytearray(whole)
        for at, byte in changes:
            if data:
                data[at % len(data)] = byte
        for sent in dict.fromkeys((whole, bytes(data))):
            context = target.ask(method, sent)
            ends[context.code.name] += 1
            if sent != whole and context.code is grpc.StatusCode.INTERNAL:
                assert context.text == ""
            else:
                assert context.code not in FAULTS, context.text

    one()
    return ends


def test_no_message_causes_an_internal_error(target: Target) -> None:
    ends = fuzz(target, 400)
    assert ends["OK"]
    assert ends["INVALID_ARGUMENT"]
    ok = predict_pb2.PredictRequest(model_spec={"name": "echo"}, inputs={"x": to_proto(np.ones(1, np.float32))})
    assert target.ask("Predict", ok.SerializeToString()).code is grpc.StatusCode.OK


KEPT: list[Any] = []


def misbehaving() -> dict[str, Any]:
    """Signatures that raise, ask for more memory than there is, or never end."""
    import contract_models as models
    import tensorflow as tf
    x = models.feed("x")
    with tf.control_dependencies([tf.raw_ops.Assert(condition=tf.reduce_all(x < 10.0), data=["too much:", x])]):
        checked = tf.identity(x)
    called = tf.numpy_function(lambda value: 1 / 0, [x], tf.float32)
    KEPT.append(x.graph)  # a Python function lives as long as the graph that it was made for
    huge = tf.fill([tf.cast(x[0] * 1e6, tf.int64), 1_000_000], 1.0)
    endless = tf.while_loop(lambda value: tf.reduce_all(value < 10.0), lambda value: [value * 1.0], [x])[0]
    return {"serving_default": models.predict({"x": x}, {"y": tf.identity(x)}),
            "assert": models.predict({"x": x}, {"y": checked}), "python": models.predict({"x": x}, {"y": called}),
            "huge": models.predict({"x": x}, {"y": huge}), "endless": models.predict({"x": x}, {"y": endless})}


def test_a_model_that_misbehaves_leaves_the_rest_serving(tmp_path: Path) -> None:
    import contract_models
    half_model.save(tmp_path / "source")
    shutil.copytree(tmp_path / "source", tmp_path / "half" / "1")
    shutil.copytree(tmp_path / "source", tmp_path / "damaged" / "1")
    (tmp_path / "damaged" / "1" / "variables" / "variables.data-00000-of-00001").write_bytes(b"x")
    contract_models.save(tmp_path / "wild" / "1", misbehaving)
    config = tmp_path / "models.config"
    config.write_text("model_config_list {" + "".join(
        f'config {{ name: "{name}" base_path: "{tmp_path / name}" model_platform: "tensorflow" }} '
        for name in ("half", "damaged", "wild")) + "}")
    flags = Flags(model_config_file=str(config), port=free_port(), rest_api_port=free_port(),
                  rest_api_timeout_in_ms=4_000, max_num_load_retries=0)
    server = start(flags)
    url = f"http://127.0.0.1:{flags.rest_api_port}/v1/models"

    def rest(model: str, signature: str = "serving_default", value: float = 50.0) -> int:
        body = json.dumps({"signature_name": signature, "instances": [value]}).encode()
        try:
            with urllib.request.urlopen(f"{url}/{model}:predict", body, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def over_grpc(signature: str, value: float, timeout_s: float) -> Any:
        message = predict_pb2.PredictRequest(model_spec={"name": "wild", "signature_name": signature},
                                             inputs={"x": to_proto(np.array([value], np.float32))})
        return predict.future(message.SerializeToString(), timeout=timeout_s)

    def others_answer() -> None:
        # TensorFlow runs graphs on as many threads as the machine has cores: on a small machine a graph that never
        # ends may hold all of them until its deadline.
        for model in ("half", "wild"):
            until(lambda name=model: rest(name) == 200)

    with (grpc.insecure_channel(f"127.0.0.1:{flags.port}", [("grpc.enable_http_proxy", 0)]) as channel,
          ThreadPoolExecutor(1) as threads):
        predict = channel.unary_unary(f"/{PREDICTION_SERVICE}/Predict")
        # For four seconds, while the others are answered.
        endless = threads.submit(rest, "wild", "endless", 1.0)
        for signature, value, status, code in (
                ("assert", 50.0, 400, grpc.StatusCode.INVALID_ARGUMENT), ("python", 1.0, 500, grpc.StatusCode.UNKNOWN)):
            until(lambda name=signature, x=value, wanted=status: rest("wild", name, x) == wanted)
            assert over_grpc(signature, value, 60).code() is code
            others_answer()
        assert over_grpc("endless", 1.0, 0.5).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        others_answer()
        assert endless.result(60) == 504
        # With oneDNN TensorFlow itself tries for ten seconds to get the memory, and starts no other run meanwhile.
        assert over_grpc("huge", 1e3, 60).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        others_answer()
    assert rest("damaged") == 404
    with urllib.request.urlopen(f"{url}/damaged", timeout=60) as answer:
        assert b"OUT_OF_RANGE" in answer.read()
    server.stop()


def test_swapping_versions_under_load_fails_no_request(tmp_path: Path) -> None:
    swaps = Swaps(tmp_path, half_model.save)
    for version in range(2, 8):
        swaps.swap(version)
    swaps.close()
    assert set(swaps.answers) == {"REST 200 [2.5]", "gRPC OK"}


@pytest.mark.proof
@pytest.mark.timeout(1800)
def test_fuzz_grpc(target: Target) -> None:
    """100,000 messages: seeds 1 to 20, 5,000 each."""
    proof = Proof("fuzz_grpc", seed=1, about=[
        f"serving/{name}.py" for name in (
            "errors", "grpc_service", "inference", "engines/tensorflow", "messages", "predictor", "servable",
            "tensor_proto")])
    for number in range(1, 21):
        row = proof.row(f"seed {number}", lambda number=number: dict(fuzz(target, 5000, number)))  # type: ignore[misc]
        assert row["OK"]


@pytest.mark.proof
@pytest.mark.timeout(900)
def test_hot_swaps(tmp_path: Path) -> None:
    """200 swaps under load: no failed request, and memory that does not grow with their number."""
    def measure() -> dict[str, Any]:
        return Swaps(tmp_path, half_model.save).counted(200)

    row = Proof("hot_swaps", seed=0, about=[f"serving/{name}.py" for name in (
        "grpc_service", "engines/tensorflow", "model_store", "versions")]).row("200 swaps", measure)
    assert set(row["answers"]) == {"REST 200 [2.5]", "gRPC OK"}
    assert row["resident_mb_after_swaps"]["200"] < 1.15 * row["resident_mb_after_swaps"]["100"]
