"""`optimize` on every kind of SavedModel: for a client the result is the same as the source."""
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import saved_models
import tensorflow as tf

from export import equivalence, saved_model
from export.samples import MANNERS, Maker
from serving.client import answers

KINDS = sorted(saved_models.BUILDERS)
BATCHES = (1, 3)


class Optimized:
    """A source's answers, taken before it was deleted, and the version that `optimize` made of it."""

    def __init__(self, kind: str, base: Path, signatures: Mapping[str, Any]) -> None:
        self.kind, self.base, self.signatures = kind, base, signatures
        self.asked: list[tuple[str, dict[str, np.ndarray], dict[str, np.ndarray]]] = []


@pytest.fixture(scope="module")
def optimized(source: Callable[[str], Path], run: Callable[..., object],
              tmp_path_factory: pytest.TempPathFactory) -> dict[str, Optimized]:
    root = tmp_path_factory.mktemp("optimized")
    made = {}
    for kind in KINDS:
        copy = shutil.copytree(source(kind), root / "source" / kind)
        run("optimize", copy, "--to", root / kind, "--batch", "1,3,8")
        model = saved_model.read(copy)
        made[kind] = Optimized(kind, root / kind, model.signatures)
        maker = Maker(model)
        with saved_model.session(model) as session:
            for key in model.signatures:
                for batch in BATCHES:
                    # The size of a partitioned embedding is not known from the graph: smaller ids are tried then.
                    for manner in (MANNERS[0], MANNERS[1]):
                        inputs = maker.make(key, batch, seed=batch + 40, manner=manner)
                        with suppress(tf.errors.InvalidArgumentError):
                            made[kind].asked.append((key, inputs, ask(session, model.signatures[key], inputs)))
                            break
                assert [name for name, _, _ in made[kind].asked].count(key) == len(BATCHES)
        shutil.rmtree(copy)
    return made


def ask(session: Any, signature: Any, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    fetched = session.run({key: info.name for key, info in signature.outputs.items()},
                          {signature.inputs[key].name: value for key, value in inputs.items()})
    return {key: np.asarray(value) for key, value in fetched.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_signatures_are_the_same(optimized: dict[str, Optimized], kind: str) -> None:
    after = saved_model.read(optimized[kind].base)
    assert equivalence.interface(optimized[kind].signatures, after.signatures) == []
    assert after.tags == ("serve",)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_the_same_with_the_source_gone(optimized: dict[str, Optimized], kind: str) -> None:
    model = saved_model.read(optimized[kind].base)
    with saved_model.session(model) as session:
        pairs = [(expected, ask(session, model.signatures[key], inputs)) for key, inputs, expected in
                 optimized[kind].asked]
    comparison = answers.combine([answers.compare(*pair) for pair in pairs])
    assert comparison.equal, comparison.summary()


@pytest.mark.parametrize("kind", KINDS)
def test_tf_saved_model_load_answers_the_same(optimized: dict[str, Optimized], kind: str) -> None:
    loaded = tf.saved_model.load(str(saved_model.read(optimized[kind].base).path))
    for key, inputs, expected in optimized[kind].asked:
        answer = loaded.signatures[key](**{name: tf.constant(value) for name, value in inputs.items()})
        comparison = answers.compare(expected, {name: value.numpy() if value.shape.rank else np.asarray(value.numpy())
                                                for name, value in answer.items()})
        assert comparison.equal, comparison.summary()


@pytest.mark.parametrize("kind", sorted({*KINDS} - {"counter", "tf1_counter"}))
def test_frozen_models_have_no_variables(optimized: dict[str, Optimized], kind: str) -> None:
    version = saved_model.read(optimized[kind].base).path
    assert not (version / "variables").exists()


@pytest.mark.parametrize("kind", ["counter", "tf1_counter"])
def test_only_variables_that_requests_change_stay_variables(optimized: dict[str, Optimized], kind: str) -> None:
    from tensorflow.python.training import py_checkpoint_reader
    version = saved_model.read(optimized[kind].base).path
    there = py_checkpoint_reader.NewCheckpointReader(str(version / "variables" / "variables"))
    assert there.get_variable_to_shape_map() == {"calls": []}


@pytest.fixture(scope="module")
def server(optimized: dict[str, Optimized], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """The embedded server with all models; returns its REST and gRPC ports."""
    config = tmp_path_factory.mktemp("server") / "models.config"
    config.write_text("model_config_list {" + "".join(
        f'config {{ name: "{kind}" base_path: "{one.base}" model_platform: "tensorflow" }}'
        for kind, one in optimized.items()) + "}")
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        port, grpc_port = one.getsockname()[1], other.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "serving", "serve", f"--model_config_file={config}",
                                f"--port={grpc_port}", f"--rest_api_port={port}"], stderr=subprocess.PIPE, text=True)
    try:
        wait_until_available(process, port)
        yield port, grpc_port
    finally:
        process.terminate()
        process.communicate(timeout=60)


def wait_until_available(process: subprocess.Popen[str], port: int) -> None:
    import time

    import requests
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        try:
            states = [requests.get(f"http://127.0.0.1:{port}/v1/models/{kind}", timeout=60).json() for kind in KINDS]
        except requests.ConnectionError:
            select_nothing(0.1)
            continue
        if all(one.get("model_version_status", [{}])[0].get("state") == "AVAILABLE" for one in states):
            return
        select_nothing(0.1)
    raise AssertionError(states)


def select_nothing(seconds: float) -> None:
    import select
    select.select([], [], [], seconds)


@pytest.mark.parametrize("kind", KINDS)
def test_our_server_answers_the_same(optimized: dict[str, Optimized], server: tuple[int, int], kind: str) -> None:
    import requests
    expected_by_key = [(key, inputs, expected) for key, inputs, expected in optimized[kind].asked
                       if optimized[kind].signatures[key].method_name == saved_models.PREDICT]
    for key, inputs, expected in expected_by_key:
        body = {"signature_name": key, "inputs": {name: plain(value) for name, value in inputs.items()}}
        answer = requests.post(f"http://127.0.0.1:{server[0]}/v1/models/{kind}:predict", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        outputs = answer.json()["outputs"]
        if len(expected) == 1:
            outputs = {next(iter(expected)): outputs}
        for name, value in expected.items():
            if value.dtype == object:
                assert plain(value) == outputs[name]
            else:
                np.testing.assert_allclose(np.asarray(outputs[name], value.dtype), value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["tf_example", "half_plus_two"])
def test_our_server_classifies_and_regresses_the_same(optimized: dict[str, Optimized], server: tuple[int, int],
                                                      kind: str) -> None:
    import grpc

    from serving.protos import classification_pb2, example_pb2, prediction_service_pb2_grpc, regression_pb2
    methods = set()
    with grpc.insecure_channel(f"127.0.0.1:{server[1]}") as channel:
        service = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for key, inputs, expected in optimized[kind].asked:
            method = optimized[kind].signatures[key].method_name
            if method == saved_models.PREDICT or inputs["inputs"].dtype != object:
                continue  # a client cannot send float tensors to classify
            methods.add(method)
            request = (classification_pb2.ClassificationRequest() if method == saved_models.CLASSIFY
                       else regression_pb2.RegressionRequest())
            request.model_spec.name, request.model_spec.signature_name = kind, key
            request.input.example_list.examples.extend(map(example_pb2.Example.FromString, inputs["inputs"]))
            if method == saved_models.REGRESS:
                answer = service.Regress(request, timeout=60).result.regressions
                actual = {"outputs": np.asarray([one.value for one in answer], np.float32)}
            else:
                rows = [one.classes for one in service.Classify(request, timeout=60).result.classifications]
                actual = {"scores": np.asarray([[one.score for one in row] for row in rows], np.float32),
                          "classes": np.asarray([[one.label.encode() for one in row] for row in rows], object)}
            for name, value in expected.items():
                assert answers.compare({name: value.reshape(actual[name].shape)}, {name: actual[name]}).equal, key
    assert methods == {saved_models.CLASSIFY, saved_models.REGRESS}


def plain(value: np.ndarray) -> Any:
    if value.dtype == object:
        return [plain(one) if isinstance(one, np.ndarray) else one.decode() for one in value] if value.ndim else (
            value.item().decode())
    return value.tolist()
