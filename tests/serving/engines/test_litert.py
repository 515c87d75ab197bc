"""model.tflite run by LiteRT: the answers of TensorFlow, and a clear refusal of everything else."""
import hashlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite_models
from graph_session import seeded

from export.engines.tflite_file import with_signatures
from export.runtime import tf
from serving.engines.litert import LiteRTModel, load
from serving.errors import Code, ServingError
from user_error import UserError


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tflite_models.write(tmp_path_factory.mktemp("lite") / "1")


@pytest.fixture(scope="module")
def model(path: Path) -> Iterator[LiteRTModel]:
    made = load("m", 1, path, 2, 1)
    yield made
    made.close()


def images(batch: int, seed: int = 1) -> Any:
    return seeded((batch, 6, 6, 3), seed)


def scores(model: LiteRTModel, x: Any, timeout_s: float | None = None) -> Any:
    return model.run(["x"], [x], ["y"], timeout_s)[0]


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 8, 100, 257])
def test_answers_are_those_of_tensorflow_at_every_batch_size(model: LiteRTModel, batch: int) -> None:
    np.testing.assert_allclose(scores(model, images(batch)), tflite_models.answers(images(batch)), atol=1e-6)


def test_int8_answers_each_example_alike_at_every_batch_size(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(tflite_models.quantized())
    model = load("m", 1, tmp_path, 1, 1)
    each = np.concatenate([scores(model, images(257)[index:index + 1]) for index in range(257)])
    assert len(np.unique(each, axis=0)) > 20  # eight bits of softmax: few are between 0 and 1
    for batch in (3, 7, 100, 257):
        np.testing.assert_array_equal(scores(model, images(257)[:batch]), each[:batch])
    assert scores(model, images(0)).shape == (0, 5)


def test_an_empty_batch_has_an_empty_answer(model: LiteRTModel) -> None:
    assert scores(model, images(0)).shape == (0, 5)


def test_a_file_that_was_made_for_one_example_takes_any_number(tmp_path: Path) -> None:
    def nodes() -> None:
        tf.multiply(tf.compat.v1.placeholder(tf.float32, (1, 4), "x"), 2.0, name="y")
    model = load("m", 1, tflite_models.write(tmp_path / "1", nodes, {"s": ({"x": "x"}, {"y": "y"})}), 1, 1)
    for batch in (1, 3, 0):
        assert model.run(["x"], [np.ones((batch, 4), np.float32)], ["y"])[0].tolist() == [[2.0] * 4] * batch


def test_sizes_of_one_may_be_left_out(tmp_path: Path) -> None:
    """As in requests to the original, whose own tests send [1] to a model of [1, 1]; what cannot run is an error."""
    def scaled() -> None:
        tf.multiply(tf.compat.v1.placeholder(tf.float32, (None, 1), "x"), 2.0, name="y")

    def convolved() -> None:
        x = tf.compat.v1.placeholder(tf.float32, (None, 6, 6, 1), "x")
        tf.nn.conv2d(x, seeded((3, 3, 1, 4)), 1, "SAME", name="y")
    signature: tflite_models.Signatures = {"s": ({"x": "x"}, {"y": "y"})}
    model = load("m", 1, tflite_models.write(tmp_path / "1", scaled, signature), 1, 1)
    assert scores(model, np.array([3, 4], np.float32)).tolist() == [6, 8]
    with pytest.raises(ServingError, match=r"Shape of tensor x \[\] is not compatible"):
        scores(model, np.float32(3) * np.ones((), np.float32))
    model = load("m", 1, tflite_models.write(tmp_path / "2", convolved, signature), 1, 1)
    with pytest.raises(ServingError, match="Failed to invoke TfLite interpreter") as failed:
        scores(model, seeded((2, 6, 6)))
    assert failed.value.code is Code.INTERNAL
    assert scores(model, seeded((2, 6, 6, 1))).shape == (2, 6, 6, 4)


def test_a_shape_of_many_dimensions_is_refused(model: LiteRTModel, tmp_path: Path) -> None:
    """LiteRT ends the process at a shape of 11 dimensions, though all but two of them are 1."""
    def scaled() -> None:
        tf.multiply(tf.compat.v1.placeholder(tf.float32, (None, 3), "x"), 2.0, name="y")
    small = load("m", 1, tflite_models.write(tmp_path / "1", scaled, {"s": ({"x": "x"}, {"y": "y"})}), 1, 1)
    assert scores(small, np.ones((2, 1, 1, 3), np.float32)).shape == (2, 1, 1, 3)
    for ones in (3, 9):
        with pytest.raises(ServingError, match=r"tensor x \[2,1,1,1,.*3\] is not compatible with expected shape"):
            scores(small, np.ones((2, *[1] * ones, 3), np.float32))


def any_rank() -> None:
    x = tf.compat.v1.placeholder(tf.float32, None, "x")
    tf.add(x, 1.0, name="y")
    tf.shape(x, name="sizes")


def test_an_input_of_unknown_rank_takes_up_to_four_dimensions(tmp_path: Path) -> None:
    """In the file it looks like a scalar; the signature says that it is none."""
    model = load("m", 1, tflite_models.write(tmp_path / "1", any_rank, {"s": ({"x": "x"}, {"y": "y"})}), 1, 1)
    model.try_out()
    assert model.answers
    for shape in ((3,), (2, 2), (1, 2, 2), (2, 1, 3, 1)):
        np.testing.assert_array_equal(scores(model, seeded(shape)), seeded(shape) + 1)
    with pytest.raises(ServingError, match=r"tensor x \[1,1,1,1,2\] is not compatible with expected shape <unknown>"):
        scores(model, seeded((1, 1, 1, 1, 2)))


def test_no_examples_have_the_shape_that_follows_from_one_and_two(tmp_path: Path) -> None:
    def nodes() -> None:
        x = tf.compat.v1.placeholder(tf.float32, (None, 4), "x")
        tf.reshape(tf.transpose(x), [4, -1, 1], name="turned")
        tf.reduce_sum(x, name="total")
    path = tflite_models.write(tmp_path / "1", nodes, {
        "turned": ({"x": "x"}, {"y": "turned"}), "total": ({"x": "x"}, {"y": "total"})})
    model, nothing = load("m", 1, path, 1, 1), np.zeros((0, 4), np.float32)
    assert model.run(["x"], [nothing], ["turned"])[0].shape == (4, 0, 1)
    with pytest.raises(ServingError, match=r"an empty batch has no 'total': its shape is \[\]") as refused:
        model.run(["x"], [nothing], ["total"])
    assert refused.value.code is Code.INVALID_ARGUMENT
    model = load("m", 1, tflite_models.write(tmp_path / "2", any_rank, {
        "s": ({"x": "x"}, {"y": "y", "sizes": "sizes"})}), 1, 1)
    assert model.run(["x"], [np.zeros((2, 0), np.float32)], ["y"])[0].shape == (2, 0)
    with pytest.raises(ServingError, match=r"an empty batch has no 'sizes'"):
        model.run(["x"], [np.zeros((2, 0), np.float32)], ["sizes"])


def test_metadata_has_the_names_that_the_file_states(model: LiteRTModel) -> None:
    message = model.metadata.signature_def["serving_default"]
    assert (message.inputs["image"].name, message.outputs["scores"].name) == ("x:0", "y:0")


def test_the_name_of_a_signature_may_have_any_letter(tmp_path: Path) -> None:
    path = tflite_models.write(tmp_path / "1", signatures={"größe / é": tflite_models.ONE["serving_default"]})
    assert list(load("m", 1, path, 1, 1).signatures) == ["größe / é"]


def test_signatures_are_those_of_the_file(model: LiteRTModel) -> None:
    signature = model.signatures["serving_default"]
    assert [(alias, spec.name, spec.shape) for alias, spec in signature.inputs.items()] == [
        ("image", "x:0", (-1, 6, 6, 3))]
    assert [(alias, spec.name, spec.shape) for alias, spec in signature.outputs.items()] == [("scores", "y:0", (-1, 5))]
    assert signature.method_name == "tensorflow/serving/predict"
    assert list(model.metadata.signature_def) == ["serving_default"]


def test_a_file_without_signatures_gets_one_with_the_names_of_its_tensors(tmp_path: Path) -> None:
    content = tflite_models.converted(tflite_models.layers, ["x"], ["y"])
    (tmp_path / "model.tflite").write_bytes(content)
    made = load("m", 1, tmp_path, 1, 1)
    signature = made.signatures["serving_default"]
    assert (list(signature.inputs), list(signature.outputs)) == (["x"], ["y"])
    assert signature.inputs["x"].shape == (1, 6, 6, 3)  # as the original says, though any batch is taken
    assert scores(made, images(3)).shape == (3, 5)


def test_requests_at_once_get_their_own_answers(model: LiteRTModel) -> None:
    requests = [images(1 + index % 4, index) for index in range(12)]
    expected = [tflite_models.answers(x) for x in requests]
    together = threading.Barrier(6)

    def ask(first: int) -> None:
        together.wait()
        for turn in range(30):
            index = (first + turn) % len(requests)
            np.testing.assert_allclose(scores(model, requests[index]), expected[index], atol=1e-6)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, range(6)))


@pytest.mark.parametrize(("value", "words"), [
    (np.zeros((1, 6, 6, 3)), r"Expects arg\[0\] to be float but double is provided"),
    (np.full((1, 6, 6, 3), b"a", object), r"Expects arg\[0\] to be float but string is provided"),
    (np.zeros((1, 6, 6), np.float32), r"tensor x \[1,6,6\] is not compatible with expected shape \[\?,6,6,3\]\."),
    (np.zeros((1, 6, 7, 3), np.float32), r"Shape of tensor x \[1,6,7,3\] is not compatible"),
    (np.zeros((), np.float32), r"Shape of tensor x \[\] is not compatible"),
])
def test_another_type_or_shape_is_refused(model: LiteRTModel, value: Any, words: str) -> None:
    with pytest.raises(ServingError, match=words) as refused:
        scores(model, value)
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert scores(model, images(2)).shape == (2, 5)


def test_unknown_tensors_are_refused(model: LiteRTModel) -> None:
    for feeds, fetches in (("z", "y"), ("x", "z")):
        with pytest.raises(ServingError, match="Unknown tensor 'z'"):
            model.run([feeds], [images(1)], [fetches])


def test_a_request_waits_for_an_interpreter_until_its_deadline(path: Path) -> None:
    model = load("m", 1, path, 1, 1)
    with model._pool.worker(None), pytest.raises(ServingError, match="Timed out") as refused:
        scores(model, images(1), timeout_s=0.01)
    assert refused.value.code is Code.DEADLINE_EXCEEDED
    assert scores(model, images(1), timeout_s=60).shape == (1, 5)


def test_with_a_timeout_of_zero_only_what_is_known_to_be_quick_is_run(path: Path) -> None:
    model = load("m", 1, path, 1, 1)
    with pytest.raises(ServingError, match="Timed out"):
        scores(model, images(1), timeout_s=0)
    model._pace.quick_bytes = images(1).nbytes
    assert scores(model, images(1), timeout_s=0).shape == (1, 5)


RESHAPING: tflite_models.Signatures = {"serving_default": ({"x": "x", "shape": "shape"}, {"y": "y"})}


def reshaping() -> None:
    tf.reshape(tf.compat.v1.placeholder(tf.float32, (None, 4), "x"), tf.compat.v1.placeholder(tf.int32, (2,), "shape"),
               name="y")


def test_an_error_while_running_leaves_the_next_request_alone(tmp_path: Path) -> None:
    model = load("m", 1, tflite_models.write(tmp_path / "1", reshaping, RESHAPING), 1, 1)
    x = np.arange(8, dtype=np.float32).reshape(2, 4)

    def reshaped(*shape: int) -> Any:
        return model.run(["x", "shape"], [x, np.array(shape, np.int32)], ["y"])[0]
    assert reshaped(4, 2).shape == (4, 2)
    with pytest.raises(ServingError, match="Failed to invoke TfLite interpreter") as failed:
        reshaped(3, 3)
    assert failed.value.code is Code.INTERNAL
    np.testing.assert_array_equal(reshaped(1, 8), x.reshape(1, 8))


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "altered"])
def test_a_damaged_file_is_refused(path: Path, tmp_path: Path, damage: str) -> None:
    whole = (path / "model.tflite").read_bytes()
    altered = bytearray(whole)
    altered[100:400] = bytes(300)
    (tmp_path / "model.tflite").write_bytes(
        {"empty": b"", "text": b"no model" * 50, "cut": whole[:len(whole) // 2], "altered": bytes(altered)}[damage])
    with pytest.raises(ServingError, match="Cannot build FlatBufferModel from buffer") as refused:
        load("m", 1, tmp_path, 1, 1)
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert "Convert the model again" in refused.value.advice


def test_an_altered_weight_is_found_by_the_checksum_in_the_manifest(path: Path, tmp_path: Path) -> None:
    """LiteRT itself would run it, and answer something else."""
    whole = (path / "model.tflite").read_bytes()
    at = whole.index(seeded((3, 3, 3, 4)).transpose(3, 0, 1, 2).tobytes())
    (tmp_path / "model.tflite").write_bytes(whole[:at] + bytes(4) + whole[at + 4:])
    load("m", 1, tmp_path, 1, 1).close()
    (tmp_path / "assets.extra").mkdir()
    manifest = {"engines": {"litert": {"sha256": {"model.tflite": hashlib.sha256(whole).hexdigest()}}}}
    (tmp_path / "assets.extra" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ServingError, match=r"model\.tflite cannot be used: it was cut or altered") as refused:
        load("m", 1, tmp_path, 1, 1)
    assert refused.value.code is Code.DATA_LOSS
    (tmp_path / "model.tflite").write_bytes(whole)
    load("m", 1, tmp_path, 1, 1).close()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match=r"model\.tflite; No such file"):
        load("m", 1, tmp_path, 1, 1)


def test_strings_are_refused_with_the_way_on(tmp_path: Path) -> None:
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    def nodes() -> None:
        tf.reshape(tf.compat.v1.placeholder(tf.float32, (None, 4), "x"), [-1, 2], name="y")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(tflite_models.converted(nodes, ["x"], ["y"]), 0))
    for tensor in model.subgraphs[0].tensors:
        if tensor.type == schema.TensorType.FLOAT32:
            tensor.type = schema.TensorType.STRING
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    (tmp_path / "model.tflite").write_bytes(builder.Output())
    with pytest.raises(ServingError, match=r"tensor 'x' of model\.tflite holds strings") as refused:
        load("m", 1, tmp_path, 1, 1)
    assert refused.value.code is Code.UNIMPLEMENTED
    assert "--prefer_tflite_model" in refused.value.advice


def test_a_signature_that_feeds_only_some_inputs_is_refused(tmp_path: Path) -> None:
    def nodes() -> None:
        x, z = (tf.compat.v1.placeholder(tf.float32, (None, 4), name) for name in "xz")
        tf.add(x, z, name="y")
    path = tflite_models.write(tmp_path / "1", nodes, {
        "serving_default": ({"x": "x", "z": "z"}, {"y": "y"}), "half": ({"x": "x"}, {"y": "y"})})
    with pytest.raises(ServingError, match="signature 'half' has 1 of the model's 2 inputs"):
        load("m", 1, path, 1, 1)


def test_a_version_that_cannot_run_zeros_does_not_answer(path: Path, tmp_path: Path) -> None:
    model = load("m", 1, path, 1, 1)
    model.try_out()
    assert model.answers

    model = load("m", 1, tflite_models.write(tmp_path / "1", reshaping, RESHAPING), 1, 1)
    model.try_out()
    assert not model.answers


def test_a_version_for_one_batch_size_only_is_refused(tmp_path: Path) -> None:
    def nodes() -> None:
        tf.reshape(tf.compat.v1.placeholder(tf.float32, (None, 4), "x"), [3, 8], name="y")
    path = tflite_models.write(tmp_path / "1", nodes, {"s": ({"x": "x"}, {"y": "y"})})
    with pytest.raises(ServingError, match="Failed to allocate tensors") as refused:
        load("m", 1, path, 1, 1)
    assert refused.value.code is Code.INTERNAL


def test_an_input_without_dimensions_survives_the_original_reading_of_signatures(tmp_path: Path) -> None:
    """The original reads a signature up to the first byte of zero, as which an empty shape would be written."""
    def nodes() -> None:
        x = tf.compat.v1.placeholder(tf.float32, (None, 4), "x")
        tf.multiply(x, tf.compat.v1.placeholder(tf.float32, (), "factor"), name="y")
    path = tflite_models.write(tmp_path / "1", nodes, {
        "serving_default": ({"x": "x", "factor": "factor"}, {"y": "y"})})
    model = load("m", 1, path, 1, 1)
    assert model.signatures["serving_default"].inputs["factor"].shape == ()
    assert b"\0" not in model.metadata.signature_def["serving_default"].SerializeToString()
    assert model.run(["factor", "x"], [np.float32(3) * np.ones((), np.float32), np.ones((2, 4), np.float32)],
                     ["y"])[0].tolist() == [[3.0] * 4] * 2


def test_a_signature_with_an_empty_name_cannot_be_written() -> None:
    from serving.protos import meta_graph_pb2
    message = meta_graph_pb2.SignatureDef()
    message.inputs["x"].tensor_shape.dim.add()
    content = tflite_models.converted(tflite_models.layers, ["x"], ["y"])
    with pytest.raises(UserError, match="signature 's' cannot be written into"):
        with_signatures(content, {"s": message})
