"""assets.extra/openvino/ run by OpenVINO: the answers of TensorFlow, and a clear refusal of other requests."""
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openvino_models
import pytest
from openvino_models import images, loaded, scores

from export.runtime import tf
from serving.engines.openvino import OpenVINOModel
from serving.errors import Code, ServingError

ROOT = Path(__file__).resolve().parents[3]
v1 = tf.compat.v1


@pytest.fixture(scope="module")
def model(path: Path) -> Iterator[OpenVINOModel]:
    made = loaded(path, 2)
    yield made
    made.close()


@pytest.mark.parametrize("batch", [1, 2, 3, 8, 257])
def test_answers_are_those_of_tensorflow_at_every_batch_size(model: OpenVINOModel, batch: int) -> None:
    np.testing.assert_allclose(scores(model, images(batch)), openvino_models.answers(images(batch)), atol=1e-6)
    np.testing.assert_allclose(scores(model, images(batch), 60), openvino_models.answers(images(batch)), atol=1e-6)


def test_values_that_openvino_cannot_read_in_place_are_copied(model: OpenVINOModel) -> None:
    x = images(4)
    wanted = openvino_models.answers(x)
    x.flags.writeable = False  # as arrays that are views of a message
    np.testing.assert_allclose(scores(model, x), wanted, atol=1e-6)
    turned = np.ascontiguousarray(images(4).transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
    np.testing.assert_allclose(scores(model, turned), wanted, atol=1e-6)


def test_answers_stay_as_they_are_when_the_next_request_runs(model: OpenVINOModel) -> None:
    first = scores(model, images(3, 1))
    kept = first.copy()
    scores(model, images(3, 2))
    np.testing.assert_array_equal(first, kept)


def test_an_empty_batch_has_an_empty_answer(model: OpenVINOModel) -> None:
    """Although OpenVINO itself refuses to pool no images."""
    answer = scores(model, images(0))
    assert (answer.shape, answer.dtype) == ((0, 5), np.float32)


def test_the_shape_of_an_empty_answer_follows_the_other_sizes(tmp_path: Path) -> None:
    def nodes() -> None:
        x = v1.placeholder(tf.float32, (None, None, 4), "x")
        tf.reshape(x, [-1, 2], name="flat")
        tf.concat([x, x], 1, name="twice")
        tf.reduce_sum(x, name="total")
    made = loaded(openvino_models.write(tmp_path / "1", nodes, {
        "serving_default": ({"x": "x"}, {"flat": "flat", "twice": "twice", "total": "total"})}))
    empty = np.zeros((0, 7, 4), np.float32)
    assert [one.shape for one in made.run(["x:0"], [empty], ["twice:0", "flat:0"])] == [(0, 14, 4), (0, 2)]
    with pytest.raises(ServingError, match="an empty batch has no 'total:0': its shape is \\[\\]") as refused:
        made.run(["x:0"], [empty], ["total:0"])
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert made.run(["x:0"], [np.ones((2, 7, 4), np.float32)], ["total:0"])[0].tolist() == 56
    made.close()


TWO: openvino_models.Signatures = {
    "serving_default": ({"image": "x"}, {"scores": "y"}), "maps": ({"image": "x"}, {"maps": "pooled"}),
    "both": ({"image": "x"}, {"maps": "pooled", "scores": "y"})}


def test_each_signature_is_run_by_the_graph_that_has_its_tensors(tmp_path: Path) -> None:
    made = loaded(openvino_models.write(tmp_path / "1", signatures=TWO, left=["both"]))
    x = images(3)
    y, pooled = (openvino_models.answers(x, name) for name in ("y", "pooled"))
    np.testing.assert_allclose(made.run(["x:0"], [x], ["pooled:0"])[0], pooled, atol=1e-6)
    # No graph has both, but two have one each: no other engine is needed.
    found = made.run(["x:0"], [x], ["pooled:0", "y:0"], 60)
    np.testing.assert_allclose(found[0], pooled, atol=1e-6)
    np.testing.assert_allclose(found[1], y, atol=1e-6)
    assert made.left() == []
    made.close()


def test_some_outputs_of_a_graph_are_given_without_the_others(tmp_path: Path) -> None:
    made = loaded(openvino_models.write(tmp_path / "1", signatures={"serving_default": TWO["both"]}))
    np.testing.assert_allclose(scores(made, images(2)), openvino_models.answers(images(2)), atol=1e-6)
    made.close()


def test_signatures_are_those_of_saved_model_pb(model: OpenVINOModel) -> None:
    signature = model.signatures["serving_default"]
    assert [(alias, spec.name, spec.shape) for alias, spec in signature.inputs.items()] == [
        ("image", "x:0", (-1, 6, 6, 3))]
    assert [(alias, spec.name, spec.shape) for alias, spec in signature.outputs.items()] == [("scores", "y:0", (-1, 5))]
    assert (signature.method_name, model.engine) == ("tensorflow/serving/predict", "openvino")
    assert list(model.metadata.signature_def) == ["serving_default"]


def test_requests_at_once_get_their_own_answers(model: OpenVINOModel) -> None:
    requests = [images(1 + index % 4, index) for index in range(12)]
    expected = [openvino_models.answers(x) for x in requests]
    together = threading.Barrier(6)

    def ask(first: int) -> None:
        together.wait()
        for turn in range(30):
            index = (first + turn) % len(requests)
            np.testing.assert_allclose(scores(model, requests[index], 60), expected[index], atol=1e-6)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, range(6)))


@pytest.mark.parametrize(("value", "words"), [
    (np.zeros((1, 6, 6, 3)), r"Expects arg\[0\] to be float but double is provided"),
    (np.full((1, 6, 6, 3), b"a", object), r"Expects arg\[0\] to be float but string is provided"),
    (np.zeros((1, 6, 6), np.float32), r"tensor x:0 \[1,6,6\] is not compatible with expected shape \[\?,6,6,3\]\."),
    (np.zeros((0, 6, 7, 3), np.float32), r"Shape of tensor x:0 \[0,6,7,3\] is not compatible"),
    (np.zeros((), np.float32), r"Shape of tensor x:0 \[\] is not compatible"),
])
def test_another_type_or_shape_is_refused(model: OpenVINOModel, value: Any, words: str) -> None:
    with pytest.raises(ServingError, match=words) as refused:
        scores(model, value)
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert scores(model, images(2)).shape == (2, 5)


def test_unknown_tensors_are_refused(model: OpenVINOModel) -> None:
    for feeds, fetches, words in ((["z:0"], ["y:0"], "Tensor z:0, specified in either feed_devices or fetch_devices"),
                                  (["x:0"], ["z:0"], "Tensor z:0, specified in either"),
                                  (["x:0", "x:0"], ["y:0"], "No graph of assets.extra/openvino takes x:0, x:0")):
        with pytest.raises(ServingError, match=words) as refused:
            model.run(feeds, [images(1)] * len(feeds), fetches)
        assert refused.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_while_running_is_one_line_and_leaves_the_next_request_alone(tmp_path: Path, threads: int) -> None:
    def nodes() -> None:
        x, z = (v1.placeholder(tf.float32, (None, 4), name) for name in "xz")
        tf.add(x, z, name="y")
    made = loaded(openvino_models.write(tmp_path / "1", nodes, {"s": ({"x": "x", "z": "z"}, {"y": "y"})}),
                  threads=threads)
    made._graphs[0]._pace.quick_bytes = 1 << 20

    def added(first: int, second: int, timeout_s: float | None) -> Any:
        return made.run(["z:0", "x:0"], [np.ones((second, 4), np.float32), np.ones((first, 4), np.float32)], ["y:0"],
                        timeout_s)[0]
    for timeout_s in (None, 60):
        with pytest.raises(ServingError, match=r"OpenVINO cannot run a request of x:0 \[2,4\], z:0 \[3,4\]: .*mismatch"
                           ) as failed:
            added(2, 3, timeout_s)
        assert failed.value.code is Code.INVALID_ARGUMENT
        assert "\n" not in failed.value.message
        assert "src/" not in failed.value.message
        assert added(2, 2, timeout_s).tolist() == [[2.0] * 4] * 2
    made.close()


def test_inputs_without_dimensions_and_of_every_type(tmp_path: Path) -> None:
    kinds = [np.float32, np.float64, np.float16, np.int8, np.int32, np.int64, np.uint8, np.bool_, tf.bfloat16]
    names = [f"x{index}" for index in range(len(kinds))]

    def nodes() -> None:
        for name, kind in zip(names, kinds, strict=True):
            x = v1.placeholder(kind, (), name)
            tf.stack([x, x], name=name.replace("x", "y"))
    made = loaded(openvino_models.write(tmp_path / "1", nodes, {
        name: ({"x": name}, {"y": name.replace("x", "y")}) for name in names}))
    for name, kind in zip(names, kinds, strict=True):
        dtype = np.dtype(getattr(kind, "as_numpy_dtype", kind))
        found = made.run([f"{name}:0"], [np.ones((), dtype)], [f"{name.replace('x', 'y')}:0"])[0]
        assert (found.dtype, found.tolist()) == (dtype, [1, 1])
    made.close()


# -- deadlines


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_reduced_precision_is_close_and_takes_every_batch(tmp_path: Path, precision: str) -> None:
    made = loaded(openvino_models.write(tmp_path / "1", precision=precision))
    for batch in (1, 3, 0, 8):
        found = scores(made, images(batch))
        assert found.shape == (batch, 5)
        if batch:
            np.testing.assert_allclose(found, openvino_models.answers(images(batch)), atol=0.1)
    made.close()


def test_a_version_shows_by_a_run_of_zeros_that_it_answers(path: Path, tmp_path: Path) -> None:
    made = loaded(path)
    made.answers = False
    made.try_out()
    assert made.answers
    made.close()


def test_what_openvino_runs_not_is_run_by_tensorflow_beside(tmp_path: Path) -> None:
    from serving.engines import tensorflow
    signatures: openvino_models.Signatures = {**openvino_models.ONE, "maps": ({"image": "x"}, {"maps": "pooled"})}
    path = openvino_models.write(tmp_path / "1", signatures=signatures, left=["maps"])
    asked = []

    def beside(name: str, version: int, where: Path) -> Any:
        asked.append((name, version, where))
        return tensorflow.load(name, version, where, ["serve"], None)
    made = loaded(path, beside=beside)
    made.try_out()
    assert asked == [("m", 1, path)]
    assert (made.answers, made.left()) == (True, ["maps"])
    np.testing.assert_allclose(made.run(["x:0"], [images(2)], ["pooled:0"])[0],
                               openvino_models.answers(images(2), "pooled"), atol=1e-6)
    np.testing.assert_allclose(scores(made, images(2)), openvino_models.answers(images(2)), atol=1e-6)
    made.close()


def test_openvino_reports_to_nobody(path: Path) -> None:
    code = ("import sys; from pathlib import Path\n"
            "from serving.engines import openvino_graph\n"
            "assert sys.modules['openvino_telemetry'] is None\n"
            "assert 'tensorflow' not in sys.modules\n")
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
