"""assets.extra/openvino/ run by OpenVINO: the answers of TensorFlow, and a clear refusal of everything else."""
import hashlib
import json
import os
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
from graph_session import seeded

from export.runtime import tf
from serving.engines import openvino_graph
from serving.engines.openvino import OpenVINOModel, load
from serving.engines.openvino_graph import Resources
from serving.errors import Code, ServingError
from serving.memory import MemoryLimit

ROOT = Path(__file__).resolve().parents[3]
v1 = tf.compat.v1


def loaded(path: Path, streams: int = 1, memory: MemoryLimit | None = None, beside: Any = None,
           threads: int = 2) -> OpenVINOModel:
    return load("m", 1, path, ["serve"], Resources(threads, streams, memory or MemoryLimit(-1)), beside)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return openvino_models.write(tmp_path_factory.mktemp("openvino") / "1")


@pytest.fixture(scope="module")
def model(path: Path) -> Iterator[OpenVINOModel]:
    made = loaded(path, 2)
    yield made
    made.close()


def images(batch: int, seed: int = 1) -> Any:
    return seeded((batch, 6, 6, 3), seed)


def scores(model: OpenVINOModel, x: Any, timeout_s: float | None = None) -> Any:
    return model.run(["x:0"], [x], ["y:0"], timeout_s)[0]


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


def test_a_request_waits_for_its_turn_until_its_deadline(path: Path) -> None:
    made = loaded(path)
    graph = made._graphs[0]
    with graph._pool.worker(None), pytest.raises(ServingError, match="Timed out") as refused:
        scores(made, images(1), timeout_s=0.01)
    assert refused.value.code is Code.DEADLINE_EXCEEDED
    assert scores(made, images(1), timeout_s=60).shape == (1, 5)
    made.close()


def slow() -> None:
    x = v1.placeholder(tf.float32, (None, 64), "x")
    y = x
    for index in range(300):
        y = tf.nn.relu(tf.matmul(y, tf.constant(seeded((64, 64), index) / 8)))
    tf.identity(y, "y")


def test_a_run_ends_at_its_deadline(tmp_path: Path) -> None:
    made = loaded(openvino_models.write(tmp_path / "1", slow, {"s": ({"x": "x"}, {"y": "y"})}))
    x = seeded((20_000, 64))
    with pytest.raises(ServingError, match="Timed out") as refused:
        scores(made, x, timeout_s=1e-6)
    assert refused.value.code is Code.DEADLINE_EXCEEDED
    with pytest.raises(ServingError, match="Timed out"):
        scores(made, x, timeout_s=0.02)
    np.testing.assert_allclose(scores(made, x[:2], 60), openvino_models.answers(x[:2], nodes=slow), rtol=1e-3)
    made.close()


@pytest.mark.parametrize("threads", [1, 2])
def test_with_a_timeout_of_zero_only_what_is_known_to_be_quick_is_run(path: Path, threads: int) -> None:
    made = loaded(path, threads=threads)
    with pytest.raises(ServingError, match="Timed out"):
        scores(made, images(1), timeout_s=0)
    made._graphs[0]._pace.quick_bytes = images(1).nbytes
    assert scores(made, images(1), timeout_s=0).shape == (1, 5)
    made.close()


def test_a_graph_whose_work_depends_on_values_is_never_quick(tmp_path: Path) -> None:
    def nodes() -> None:
        tf.tile(v1.placeholder(tf.float32, (None, 4), "x"), v1.placeholder(tf.int32, (2,), "n"), name="y")
    tiled = loaded(openvino_models.write(tmp_path / "1", nodes, {"s": ({"x": "x", "n": "n"}, {"y": "y"})}))
    x, n = np.ones((1, 4), np.float32), np.array([2, 1], np.int32)
    for _ in range(20):
        assert tiled.run(["x:0", "n:0"], [x, n], ["y:0"])[0].shape == (2, 4)
    assert tiled._graphs[0]._pace.quick_bytes == -1
    tiled.close()


# -- memory


def test_a_request_that_memory_has_no_room_for_is_refused(path: Path) -> None:
    made = loaded(path, memory=MemoryLimit(100_000))
    assert scores(made, images(64)).shape == (64, 5)
    with pytest.raises(ServingError, match="a request of 4096 examples would take some") as refused:
        scores(made, images(4096))
    assert refused.value.code is Code.RESOURCE_EXHAUSTED
    made.close()


def test_what_a_very_large_request_took_is_given_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = loaded(path)
    wanted = openvino_models.answers(images(60_000))
    scores(made, images(2))  # the first run of a process takes memory that has nothing to do with the request
    monkeypatch.setattr(openvino_graph, "_LARGEST_KEPT", 4 << 20)
    graph, released = made._graphs[0], []
    real = graph._compiled.release_memory
    monkeypatch.setattr(type(graph._compiled), "release_memory", lambda self: released.append(real()))
    scores(made, images(3))
    assert not released
    np.testing.assert_allclose(scores(made, images(60_000)), wanted, atol=1e-6)
    assert len(released) == 1
    np.testing.assert_allclose(scores(made, images(3)), openvino_models.answers(images(3)), atol=1e-6)
    assert len(released) == 1
    made.close()


def test_many_batch_sizes_do_not_take_memory_each(path: Path) -> None:
    """In a process of its own. Without a limit each size would keep its kernels: 0.2 MB with these few layers."""
    code = ("import sys; sys.path.insert(0, 'tests/support')\n"
            "import json, psutil, numpy as np; from pathlib import Path\n"
            "from serving.engines import openvino_graph\n"
            "from serving.engines.openvino_files import read_openvino_files\n"
            "from serving.memory import MemoryLimit\n"
            "openvino_graph._SIZES_KEPT = int(sys.argv[2])\n"
            "graph = openvino_graph.Graph(read_openvino_files(Path(sys.argv[1])).graphs[0], 'float32',\n"
            "                             openvino_graph.Resources(1, 1, MemoryLimit(-1)))\n"
            "big, process, found = np.ones((500, 6, 6, 3), np.float32), psutil.Process(), []\n"
            "for last in (500, 200, 350, 500):\n"
            "    for size in range(last - 149, last + 1): graph.run([big[:size]], [0], None, None)\n"
            "    found.append(process.memory_info().rss)\n"
            "print(json.dumps(found))\n")

    def grown(kept: int) -> int:
        done = subprocess.run([sys.executable, "-c", code, str(path), str(kept)], cwd=ROOT, capture_output=True,
                              text=True, check=True)
        first, *_, last = json.loads(done.stdout)
        return int(last - first)
    limited, unlimited = grown(openvino_graph._SIZES_KEPT), grown(100_000)
    assert limited < 0.7 * unlimited, (limited, unlimited)


def wide() -> None:
    x = v1.placeholder(tf.float32, (None, 32, 32, 3), "x")
    y = tf.nn.relu(tf.nn.conv2d(x, seeded((3, 3, 3, 64)), 1, "SAME"))
    tf.reduce_mean(tf.nn.conv2d(y, seeded((3, 3, 64, 8)), 4, "SAME"), [1, 2], name="y")


@pytest.mark.parametrize("threads", ["1", "2"])
def test_after_a_request_without_memory_others_are_answered(tmp_path: Path, threads: str) -> None:
    """In a process of its own, whose address space ends soon, and without the limit that would refuse the request."""
    path = openvino_models.write(tmp_path / "1", wide, {"s": ({"x": "x"}, {"y": "y"})})
    code = ("import resource, sys; from pathlib import Path; import numpy as np\n"
            "from serving.engines.openvino_files import read_openvino_files\n"
            "from serving.engines.openvino_graph import Graph, Resources\n"
            "from serving.errors import Code, ServingError\n"
            "from serving.memory import MemoryLimit\n"
            "graph = Graph(read_openvino_files(Path(sys.argv[1])).graphs[0], 'float32',\n"
            "              Resources(int(sys.argv[2]), 1, MemoryLimit(-1)))\n"
            "x = np.ones((3000, 32, 32, 3), np.float32)\n"
            "before = graph.run([x[:2]], [0], None, None)[0]\n"
            "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
            "resource.setrlimit(resource.RLIMIT_AS, (used + (300 << 20),) * 2)\n"
            "for timeout_s in (None, 60, None):\n"
            "    try: graph.run([x], [0], timeout_s, None)\n"
            "    except ServingError as error: assert error.code is Code.RESOURCE_EXHAUSTED, error\n"
            "    else: raise AssertionError('there was memory, or the error was hidden')\n"
            "    assert (graph.run([x[:2]], [0], timeout_s, None)[0] == before).all()\n"
            "print('answered')\n")
    done = subprocess.run([sys.executable, "-c", code, str(path), threads], cwd=ROOT, capture_output=True,
                          text=True, check=False)
    assert (done.stdout, done.returncode) == ("answered\n", 0), done.stderr


# -- files


def listing(path: Path) -> Path:
    return path / "assets.extra" / "openvino" / "engine.json"


def refusal(path: Path) -> ServingError:
    with pytest.raises(ServingError) as refused:
        loaded(path)
    assert "\n" not in refused.value.message
    return refused.value


@pytest.fixture
def own(path: Path, tmp_path: Path) -> Path:
    import shutil
    return Path(shutil.copytree(path, tmp_path / "own"))


@pytest.mark.parametrize("name", ["0.xml", "0.bin"])
@pytest.mark.parametrize("damage", ["cut", "altered", "empty"])
def test_a_file_that_was_cut_or_altered_is_refused(own: Path, name: str, damage: str) -> None:
    file = listing(own).parent / name
    whole = file.read_bytes()
    altered = bytearray(whole)
    altered[len(whole) // 2] ^= 1
    file.write_bytes({"cut": whole[:-1], "altered": bytes(altered), "empty": b""}[damage])
    error = refusal(own)
    assert error.message == f"{file} cannot be used: it was cut or altered (its SHA-256 is not the one in engine.json)"
    assert error.code is Code.DATA_LOSS
    assert "python -m export optimize ... --engine openvino" in error.advice


def test_a_missing_file_is_named(own: Path) -> None:
    (listing(own).parent / "0.bin").unlink()
    assert refusal(own).message.endswith("openvino/0.bin; No such file or directory")


@pytest.mark.parametrize(("change", "words"), [
    ("{", "it is not JSON"), ("[]", "it has another form"), ({"precision": "int4"}, "its precision is 'int4', not one"),
    ({"graphs": []}, "it has another form"), ({"graphs": [{"model": "0.xml"}]}, "it has no 'weights'"),
    ({"left": []}, "it has another form"), ({"sha256": {}}, "it has no checksum of a file '0.xml'"),
    ({"graphs": [{"model": "../0.xml", "weights": "0.bin", "inputs": ["x:0"], "outputs": ["y:0"]}],
      "sha256": {"../0.xml": "", "0.bin": ""}}, "it has no checksum of a file '../0.xml'"),
    ({"graphs": [{"model": "0.xml", "weights": "0.bin", "inputs": "x:0", "outputs": ["y:0"]}]}, "it has another form"),
    ({"graphs": [{"model": "0.xml", "weights": "0.bin", "inputs": [], "outputs": ["y:0"]}]},
     "it has 1 inputs, and engine.json names 0"),
    ({"graphs": [{"model": "0.xml", "weights": "0.bin", "inputs": ["q:0"], "outputs": ["y:0"]}]},
     "its tensor 'q:0' is in no signature of saved_model.pb"),
])
def test_a_listing_that_is_not_as_it_should_be_is_refused(own: Path, change: Any, words: str) -> None:
    file = listing(own)
    file.write_text(change if isinstance(change, str) else json.dumps({**json.loads(file.read_text()), **change}))
    error = refusal(own)
    assert words in error.message
    assert error.message.startswith(str(file.parent))
    assert error.code is Code.DATA_LOSS


def test_a_graph_that_openvino_does_not_take_is_refused_in_one_line(own: Path) -> None:
    file = listing(own)
    (file.parent / "0.xml").write_text("<net></net>")
    content = json.loads(file.read_text())
    content["sha256"]["0.xml"] = hashlib.sha256(b"<net></net>").hexdigest()
    file.write_text(json.dumps(content))
    error = refusal(own)
    assert error.message.startswith(f"{file.parent}/0.xml cannot be used: OpenVINO does not take it: Unable to read")
    assert "src/" not in error.message


def test_a_graph_with_another_type_than_the_signature_is_refused(own: Path, tmp_path: Path) -> None:
    def nodes() -> None:
        x = v1.placeholder(tf.float64, (None, 6, 6, 3), "x")
        tf.reduce_sum(x, [1, 2], name="y")
    import shutil
    other = openvino_models.write(tmp_path / "other", nodes)
    shutil.rmtree(listing(own).parent)
    shutil.copytree(listing(other).parent, listing(own).parent)
    assert "its tensor 'x:0' is DT_DOUBLE, and DT_FLOAT in saved_model.pb" in refusal(own).message


# -- int8, bfloat16, the first run, TensorFlow beside


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


def test_threads_are_those_that_it_is_given(path: Path) -> None:
    """OpenVINO alone would take all CPUs of the machine. A stream has one thread at least."""
    for threads, streams, wanted in ((1, 1, 1), (2, 1, 2), (2, 2, 2), (1, 2, 2)):
        made = loaded(path, streams, threads=threads)
        graph = made._graphs[0]
        assert graph._settings["INFERENCE_NUM_THREADS"] == wanted
        assert graph._compiled.get_property("INFERENCE_NUM_THREADS") == min(wanted, len(os.sched_getaffinity(0)))
        assert scores(made, images(2)).shape == (2, 5)
        made.close()


def test_with_one_cpu_nothing_runs_where_errors_are_hidden(path: Path) -> None:
    """However many threads are asked for, OpenVINO then has one."""
    code = ("import os, sys; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
            "from pathlib import Path\n"
            "from serving.engines.openvino_files import read_openvino_files\n"
            "from serving.engines.openvino_graph import Graph, Resources\n"
            "from serving.memory import MemoryLimit\n"
            "files = read_openvino_files(Path(sys.argv[1])).graphs[0]\n"
            "print(Graph(files, 'float32', Resources(2, 1, MemoryLimit(-1)))._may_run_here)\n")
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
