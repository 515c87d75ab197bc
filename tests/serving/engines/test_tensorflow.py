"""Loading SavedModels; those that cannot be loaded give TensorFlow Serving's error."""
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import contract_models
import numpy as np
import pytest
from google.protobuf import text_format

from serving.engines import tensorflow
from serving.engines.tensorflow import LoadedModel, load
from serving.errors import Code, ServingError
from serving.protos import config_pb2, saved_model_pb2

OPTIONS = config_pb2.ConfigProto()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    contract_models.save(root / "half" / "1", lambda: contract_models.half_plus(2))
    for name in ("strings", "slow", "fails", "echo", "odd", "example"):
        contract_models.save(root / name / "1", contract_models.MODELS[name])
    return root


@pytest.fixture(scope="module")
def loaded(models: Path) -> Iterator[dict[str, LoadedModel]]:
    made = {path.name: load(path.name, 1, path / "1", ["serve"], OPTIONS) for path in models.iterdir()}
    yield made
    for model in made.values():
        model.close()


def test_signatures_are_values(loaded: dict[str, LoadedModel]) -> None:
    signature = loaded["half"].signatures["regress_x_to_y"]
    assert signature.method_name == "tensorflow/serving/regress"
    assert signature.inputs["inputs"].shape is None
    assert 'name: "tf_example:0"' in signature.text
    assert loaded["echo"].signatures["wide"].inputs["x"].shape == (-1, 3)
    assert loaded["odd"].signatures["defaults"].defaults["z"].tolist() == [100.0]
    assert set(loaded["half"].metadata.signature_def) == set(loaded["half"].signatures)


def test_a_version_without_its_variables_is_refused(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "half" / "1", tmp_path / "1")
    shutil.rmtree(tmp_path / "1" / "variables")
    with pytest.raises(ServingError, match=r"variables/variables.index is missing, but the graph has variables"):
        load("half", 1, tmp_path / "1", ["serve"], OPTIONS)
    (tmp_path / "2").mkdir()
    shutil.copy(models / "echo" / "1" / "saved_model.pb", tmp_path / "2")
    load("echo", 2, tmp_path / "2", ["serve"], OPTIONS).close()


@pytest.mark.parametrize(("file", "content", "code", "message"), [
    ("variables/variables.data-00000-of-00001", None, Code.NOT_FOUND,
     "{}/variables/variables.data-00000-of-00001; No such file or directory\n\t [[{{{{node save/RestoreV2}}}}]]"),
    ("variables/variables.data-00000-of-00001", b"x", Code.OUT_OF_RANGE,
     "Read less bytes than requested\n\t [[{{{{node save/RestoreV2}}}}]]"),
    ("variables/variables.index", b"nonsense" * 9, Code.DATA_LOSS,
     "not an sstable (bad magic number)\n\t [[{{{{node save/RestoreV2}}}}]]"),
])
def test_the_error_for_damaged_variables_has_tensorflows_message(
        models: Path, tmp_path: Path, file: str, content: bytes | None, code: Code, message: str) -> None:
    path = shutil.copytree(models / "half" / "1", tmp_path / "1")
    (path / file).unlink()
    if content is not None:
        (path / file).write_bytes(content)
    with pytest.raises(ServingError) as error:
        load("m", 1, path, ["serve"], OPTIONS)
    assert (error.value.code, error.value.message) == (code, message.format(path))


def test_a_version_in_text_form(models: Path, tmp_path: Path) -> None:
    message = saved_model_pb2.SavedModel.FromString((models / "echo" / "1" / "saved_model.pb").read_bytes())
    (tmp_path / "saved_model.pbtxt").write_text(text_format.MessageToString(message))
    model = load("echo", 1, tmp_path, ["serve"], OPTIONS)
    assert model.run(["in_int32:0"], [np.ones(1, np.int32)], ["out_int32:0"])[0].tolist() == [1]
    model.close()


@pytest.mark.parametrize(("content", "tags", "code", "message"), [
    (None, ["serve"], Code.NOT_FOUND, "Specified file path does not appear to contain a SavedModel bundle"),
    (b"", ["serve"], Code.NOT_FOUND, "Could not find meta graph def matching supplied tags: { serve }."),
    (b"", ["serve", "gpu"], Code.NOT_FOUND, "Could not find meta graph def matching supplied tags: { gpu serve }."),
    (b"broken", ["serve"], Code.OUT_OF_RANGE, "Read less bytes than requested"),
    (b"this is not a model", ["serve"], Code.DATA_LOSS, "Can't parse "),
    (b"\x12\x03\x0a\x05x", ["serve"], Code.DATA_LOSS, "Can't parse "),
])
def test_a_directory_that_is_not_a_saved_model(
        tmp_path: Path, content: bytes | None, tags: list[str], code: Code, message: str) -> None:
    if content is not None:
        (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(ServingError) as error:
        load("m", 1, tmp_path, tags, OPTIONS)
    assert error.value.code is code
    assert error.value.message.startswith(message)


def test_a_file_that_may_not_be_read(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ServingError, match=r"saved_model.pb; Permission denied$") as error:
        load("echo", 1, models / "echo" / "1", ["serve"], OPTIONS)
    assert error.value.code is Code.PERMISSION_DENIED


def test_a_graph_that_cannot_be_imported(models: Path, tmp_path: Path) -> None:
    message = saved_model_pb2.SavedModel.FromString((models / "echo" / "1" / "saved_model.pb").read_bytes())
    message.meta_graphs[0].graph_def.node[0].op = "NoSuchOp"
    (tmp_path / "saved_model.pb").write_bytes(message.SerializeToString())
    with pytest.raises(ServingError, match="NoSuchOp"):
        load("echo", 1, tmp_path, ["serve"], OPTIONS)


@pytest.mark.parametrize(("model", "feeds", "values", "fetches", "code", "message"), [
    ("half", ["x:0"], [np.ones(1)], ["y:0"], Code.INVALID_ARGUMENT,
     "Expects arg[0] to be float but double is provided"),
    ("half", ["x:0", "x:0"], [np.ones(1), np.ones(1)], ["y:0"], Code.INVALID_ARGUMENT, 'Endpoint "x:0" fed more than '),
    ("half", ["q:0"], [np.ones(1)], ["y:0"], Code.INVALID_ARGUMENT, "Tensor q:0, specified in either feed_devices or"),
    ("fails", ["i:0"], [np.array([7], np.int32)], ["pick:0"], Code.INVALID_ARGUMENT,
     "indices[0] = 7 is not in [0, 3)\n\t [[{{node pick}}]]"),
])
def test_runs_that_fail(loaded: dict[str, LoadedModel], model: str, feeds: list[str], values: list[np.ndarray],
                        fetches: list[str], code: Code, message: str) -> None:
    for _ in range(6):  # the later ones in the calling thread
        with pytest.raises(ServingError) as error:
            loaded[model].run(feeds, values, fetches, 5.0)
        assert error.value.code is code
        assert error.value.message.startswith(message)


def test_strings_of_every_rank(loaded: dict[str, LoadedModel]) -> None:
    for _ in range(6):  # the later ones in the calling thread
        scalar = loaded["strings"].run(["one:0"], [np.array(b"\xff", object)], ["scalar_same:0"])[0]
        assert (scalar.shape, scalar.item()) == ((), b"\xff")
    assert loaded["strings"].run(["s:0"], [np.array([b"ab"], object)], ["matrix:0"])[0].tolist() == [[b"ab", b"AB"]]


def test_a_deadline_interrupts_a_run(loaded: dict[str, LoadedModel]) -> None:
    with pytest.raises(ServingError) as error:
        loaded["slow"].run(["turns:0"], [np.array([50_000_000], np.int32)], ["done:0"], 0.1)
    assert error.value.code is Code.DEADLINE_EXCEEDED
    with pytest.raises(ServingError, match="Timed out"):
        loaded["slow"].run(["turns:0"], [np.array([1], np.int32)], ["done:0"], 0.0)


def test_quick_runs_move_into_the_calling_thread_and_loops_never(loaded: dict[str, LoadedModel]) -> None:
    for _ in range(50):
        loaded["half"].run(["x:0"], [np.ones((1, 1), np.float32)], ["y:0"], 5.0)
        loaded["slow"].run(["turns:0"], [np.array([1], np.int32)], ["done:0"], 5.0)
    assert loaded["half"].run(["x:0"], [np.ones((1, 1), np.float32)], ["y:0"], 0.0)[0].tolist() == [[2.5]]
    with pytest.raises(ServingError, match="Timed out"):
        loaded["half"].run(["x:0"], [np.ones((2, 1), np.float32)], ["y:0"], 0.0)
    assert loaded["half"]._plans[("x:0",), ("y:0",)].pace.quick_bytes == 4
    assert loaded["slow"]._plans[("turns:0",), ("done:0",)].pace.quick_bytes == -1


def quick(model: LoadedModel, times: int = 50) -> list[np.ndarray]:
    for _ in range(times):
        answer = model.run(["x:0"], [np.ones((1, 1), np.float32)], ["y:0"], 5.0)
    return answer


def made_by(monkeypatch: pytest.MonkeyPatch, model: LoadedModel, then: Callable[[], None] = lambda: None) -> list[int]:
    """Counts the callables that a model compiles."""
    made, real = [], model._callable

    def counted(*arguments: Any) -> Any:
        made.append(1)
        then()
        return real(*arguments)

    monkeypatch.setattr(model, "_callable", counted)
    return made


def test_one_thread_compiles_a_quick_graph_and_the_others_do_not_wait(
        models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, busy, go = load("half", 1, models / "half" / "1", ["serve"], OPTIONS), threading.Event(), threading.Event()

    def wait() -> None:
        busy.set()
        assert go.wait(60)

    made = made_by(monkeypatch, model, wait)
    compiling = threading.Thread(target=quick, args=(model,))
    compiling.start()
    assert busy.wait(60)
    assert quick(model)[0].tolist() == [[2.5]]
    go.set()
    compiling.join()
    assert len(made) == 1
    assert model._plans[("x:0",), ("y:0",)].call is not None
    model.close()


def test_a_graph_that_cannot_be_compiled_is_run_by_the_session(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load("half", 1, models / "half" / "1", ["serve"], OPTIONS)
    made = made_by(monkeypatch, model, lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    assert quick(model)[0].tolist() == [[2.5]]
    assert len(made) == 1
    model.close()


def test_a_large_graph_is_not_compiled(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorflow, "_SMALL_BYTES", 10)
    model = load("half", 1, models / "half" / "1", ["serve"], OPTIONS)
    made = made_by(monkeypatch, model)
    assert quick(model)[0].tolist() == [[2.5]]
    assert made == []
    assert model.run(["x:0"], [np.ones((1, 1), np.float32)], ["y:0"], 0.0)[0].tolist() == [[2.5]]
    model.close()


def test_memory_is_given_back_after_the_first_run_of_a_large_graph(
        models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given_back: list[int] = []
    monkeypatch.setattr(tensorflow, "give_back_memory", lambda: given_back.append(1))
    for most, calls in ((1 << 20, 0), (0, 1)):
        monkeypatch.setattr(tensorflow, "_SMALL_BYTES", most)
        model = load("half", 1, models / "half" / "1", ["serve"], OPTIONS)
        for _ in range(3):
            model.run(["x:0"], [np.zeros(1, np.float32)], ["y:0"])
        model.close()
        assert len(given_back) == calls


def test_with_a_timeout_of_zero_no_new_plan_is_made(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load("half", 1, models / "half" / "1", ["serve"], OPTIONS)
    monkeypatch.setattr(model, "_plan", lambda *_: pytest.fail("it walks the graph"))
    with pytest.raises(ServingError, match="Timed out"):
        model.run(["x:0"], [np.ones((1, 1), np.float32)], ["y:0"], 0.0)
    model.close()


def test_an_error_may_quote_bytes_that_are_not_utf8(loaded: dict[str, LoadedModel]) -> None:
    signature = loaded["example"].signatures["serving_default"]
    [feed], fetches = signature.inputs.values(), [spec.name for spec in signature.outputs.values()]
    with pytest.raises(ServingError, match="Could not parse example input, value: '\ufffd\ufffd'") as caught:
        loaded["example"].run([feed.name], [np.array([b"\x80\x80"], object)], fetches)
    assert caught.value.code is Code.INVALID_ARGUMENT


def _saved(path: Path, make: Callable[[Any], Any], shape: tuple[None, ...] | None = (None,)) -> Path:
    """A SavedModel without variables files or initialisers: x (float, any number of them) -> make(x)."""
    v1 = contract_models.v1
    with v1.Graph().as_default() as graph:
        x = v1.placeholder(contract_models.tf.float32, shape, "x")
        signature = contract_models.predict({"x": x}, {"y": make(x)})
        saved = saved_model_pb2.SavedModel(saved_model_schema_version=1)
        meta = saved.meta_graphs.add()
        meta.meta_info_def.tags.append("serve")
        meta.graph_def.MergeFromString(graph.as_graph_def().SerializeToString())
        meta.signature_def["serving_default"].MergeFromString(signature.SerializeToString())
    path.mkdir()
    (path / "saved_model.pb").write_bytes(saved.SerializeToString())
    return path


def _never_initialised(x: Any) -> Any:
    return x + contract_models.v1.get_variable("never_initialised", initializer=1.0, use_resource=False)


@pytest.mark.parametrize(("make", "answers"), [
    (lambda x: x + 1, True),
    # The model refuses an input of one zero, rightly: it needs two.
    (lambda x: contract_models.tf.reshape(x, [2]), True),
    (_never_initialised, False)])
def test_a_version_is_tried_out(make: Callable[[Any], Any], answers: bool, tmp_path: Path) -> None:
    model = load("m", 1, _saved(tmp_path / "1", make), ["serve"], OPTIONS)
    model.try_out()
    assert model.answers is answers
    model.close()


@pytest.mark.parametrize("stated", [None, ()])  # () is what old signatures state of a rank that is not known
def test_a_graph_whose_input_has_an_unknown_rank_is_not_tried_out(stated: tuple[()] | None, tmp_path: Path) -> None:
    """The convolution of a scalar ends the process."""
    tf = contract_models.tf
    path = _saved(tmp_path / "1", lambda x: tf.nn.conv2d(x, tf.ones((2, 2, 3, 4)), 1, "SAME"), None)
    if stated == ():
        file = path / "saved_model.pb"
        saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
        saved.meta_graphs[0].signature_def["serving_default"].inputs["x"].tensor_shape.Clear()
        file.write_bytes(saved.SerializeToString())
    model = load("m", 1, path, ["serve"], OPTIONS)
    model.try_out()
    assert model.answers
    y = model.signatures["serving_default"].outputs["y"].name
    answer, = model.run(["x:0"], [np.ones((1, 4, 4, 3), np.float32)], [y])
    assert answer.shape == (1, 4, 4, 4)
    model.close()


def test_a_version_that_could_not_answer_is_ready_once_it_answers(tmp_path: Path) -> None:
    model = load("m", 1, _saved(tmp_path / "1", _never_initialised), ["serve"], OPTIONS)
    model.try_out()
    model.run(["never_initialised:0", "x:0"], [np.float32(1), np.zeros(1, np.float32)], ["add:0"])
    assert model.answers
    model.close()


def test_a_graph_that_may_store_its_input_is_not_tried_out(tmp_path: Path) -> None:
    def count(x: Any) -> Any:
        v1 = contract_models.v1
        return x + v1.assign_add(v1.get_variable("calls", initializer=0.0, use_resource=False), 1.0)

    model = load("m", 1, _saved(tmp_path / "1", count), ["serve"], OPTIONS)
    model.try_out()  # would end in FAILED_PRECONDITION: nothing initialises the variable
    assert model.answers
    model.close()
