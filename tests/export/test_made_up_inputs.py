"""Models that need special inputs: `optimize` makes fitting inputs, or refuses them with a reason before they run."""
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward_models
import decoded_models
import numpy as np
import pytest
import tensorflow as tf

from commandline import status_of
from export import loaded, saved_model
from export.loaded import LoadedModel
from export.samples import Maker
from user_error import UserError

Run = Callable[..., object]


@pytest.fixture(scope="module")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("awkward")

    def make(kind: str) -> Path:
        if not (root / kind).exists():
            awkward_models.AWKWARD[kind](root / kind / "1")
        return root / kind
    return make


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, which must be empty afterwards."""
    loaded.prepare()  # imports from the current directory
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return here


def refused(run: Run, *args: object) -> str:
    with pytest.raises(UserError) as caught:
        run(*args)
    assert status_of(caught.value) == 2
    return str(caught.value)


@pytest.mark.parametrize(("kind", "op", "rest"), [
    ("trains_on_device", "RestoreV2", "--signatures infer"), ("writes_in_a_branch_of_a_loop", "WriteFile", "--allow"),
    ("prints_to_a_file", "PrintV2", "--allow PrintV2"), ("reads_in_a_dataset", "ReadFile", "--allow ReadFile"),
    ("reads_in_a_serialized_dataset", "DatasetFromGraph", "--allow DatasetFromGraph"),
    ("session_writes_before_it_answers", "WriteFile", "--signatures plain")])
def test_an_operation_that_touches_files_is_refused_before_anything_runs(
        awkward: Callable[[str], Path], run: Run, elsewhere: Path, tmp_path: Path, kind: str, op: str, rest: str,
        monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: LoadedModel, *_: object) -> None:
        raise AssertionError("it was run")
    monkeypatch.setattr(LoadedModel, "start", start)
    for command in (("optimize", awkward(kind), "--to", tmp_path / "to"), ("verify", awkward(kind), awkward(kind))):
        line = refused(run, *command)
        assert f"holds {op} '" in line
        assert "touches files" in line
        assert rest in line
    assert os.listdir(elsewhere) == []
    assert not (tmp_path / "to").exists()


def test_an_existing_file_is_never_overwritten(awkward: Callable[[str], Path], run: Run, elsewhere: Path,
                                               tmp_path: Path) -> None:
    """A file with the name that would be made up as input exists already."""
    model = saved_model.read(awkward("trains_on_device"))
    names = {str(Maker(model).make("save", 1, seed)["checkpoint_path"].item().decode()) for seed in range(3)}
    for name in names:
        (elsewhere / name).write_text("mine")
    refused(run, "optimize", awkward("trains_on_device"), "--to", tmp_path / "to")
    run("optimize", awkward("trains_on_device"), "--to", tmp_path / "to", "--signatures", "infer,save", "--allow",
        "Save", "--batch", "1,3", "--warmup")
    assert {path.name: path.read_text() for path in elsewhere.iterdir()} == dict.fromkeys(names, "mine")
    records = (tmp_path / "to" / "1" / "assets.extra" / "tf_serving_warmup_requests").read_bytes()
    assert b"infer" in records
    assert b"save" not in records  # a server would save under invented names each time it starts


def test_the_error_for_python_operations_does_not_advise_allow(
        awkward: Callable[[str], Path], run: Run, tmp_path: Path) -> None:
    line = refused(run, "optimize", awkward("python_beside"), "--to", tmp_path / "to")
    assert "signature 'postprocessed'" in line
    assert "EagerPyFunc 'EagerPyFunc', which calls Python: no server can run that: leave it out with --signatures " \
           "serving_default" in line
    assert "--allow" not in line
    run("optimize", awkward("python_beside"), "--to", tmp_path / "to", "--signatures", "serving_default", "--batch",
        "2")


def test_a_placeholder_that_no_signature_lists_is_named_and_can_be_fixed(
        awkward: Callable[[str], Path], run: Run, tmp_path: Path) -> None:
    line = refused(run, "optimize", awkward("forgotten_placeholder"), "--to", tmp_path / "to")
    assert "the placeholder 'dropout_keep_prob' (float), which is none of its inputs" in line
    assert line.endswith("give it its value with --fix dropout_keep_prob=1.0")
    run("optimize", awkward("forgotten_placeholder"), "--to", tmp_path / "to", "--fix", "dropout_keep_prob=1.0",
        "--batch", "1,3")
    with saved_model.session(saved_model.read(tmp_path / "to")) as session:
        x = np.ones((2, 6), np.float32)
        answer = session.run(saved_model.read(tmp_path / "to").signatures["serving_default"].outputs["y"].name,
                             {"x:0": x})
    np.testing.assert_allclose(answer, x @ awkward_models.random(6, 3), rtol=1e-5)
    ops = {node.op for node in saved_model.read(tmp_path / "to").meta_graph.graph_def.node}
    assert not ops & {"RandomUniform", "GreaterEqual", "Select", "SelectV2", "RealDiv"}


@pytest.mark.parametrize(("name", "fix"), [
    ("listed_keep_prob", "keep_prob=1.0"), ("listed_drop_rate", "drop_rate=0.0")])
def test_an_input_that_switches_a_dropout_can_be_fixed(awkward: Callable[[str], Path], run: Run, tmp_path: Path,
                                                       name: str, fix: str) -> None:
    with pytest.raises(UserError, match=rf"draws random .* or fix what switches them off \(--fix {fix}\)"):
        run("optimize", awkward(name), "--to", tmp_path / "to", "--batch", "3")
    run("optimize", awkward(name), "--to", tmp_path / "to", "--batch", "3", "--fix", fix)
    assert set(saved_model.read(tmp_path / "to").signatures["serving_default"].inputs) == {"x"}


@pytest.mark.parametrize(("given", "words"), [
    ("keep=1.0", r"has no such placeholder.*it has: x, dropout_keep_prob"), ("dropout_keep_prob=much", "no float32")])
def test_a_wrong_fix_is_refused(awkward: Callable[[str], Path], run: Run, tmp_path: Path, given: str,
                                words: str) -> None:
    with pytest.raises(UserError, match=words):
        run("optimize", awkward("forgotten_placeholder"), "--to", tmp_path / "to", "--fix", given)


@pytest.mark.parametrize(("kind", "words"), [
    ("waits_for_a_queue", r"waits at QueueDequeueV2 'fifo_queue_Dequeue' for elements that nothing adds.*--inputs"),
    ("list_output", "has the variant output 'steps', which no client can get"),
    ("list_input", "has the variant input 'steps', which no client can send"),
    ("resource_output", "has the resource output 'handle', which no client can get")])
def test_a_signature_that_no_client_can_call_is_refused_before_anything_runs(
        awkward: Callable[[str], Path], run: Run, tmp_path: Path, kind: str, words: str) -> None:
    line = refused(run, "optimize", awkward(kind), "--to", tmp_path / "to")
    assert re.search(words, line)
    assert "--samples" not in line


def test_a_model_that_never_answers_ends_the_run_with_its_name(
        awkward: Callable[[str], Path], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaded, "ANSWER_S", 2)
    line = refused(run, "optimize", awkward("never_ends"), "--to", tmp_path / "to", "--batch", "1")
    assert "never_ends/1 has no answer to the inputs made for it (no answer in 2 s); give real ones with --s" in line
    np.savez(tmp_path / "x.npz", x=np.arange(24, dtype=np.float32).reshape(4, 6) + 2)
    run("optimize", awkward("never_ends"), "--to", tmp_path / "to", "--samples", tmp_path / "x.npz", "--batch", "1,3")


def test_shuffled_rows_are_named_as_random(awkward: Callable[[str], Path], run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"draws random numbers \(RandomShuffle '.*'\)"):
        run("optimize", awkward("shuffles_rows"), "--to", tmp_path / "to", "--batch", "1,8")


def test_a_variable_without_a_value_is_named(awkward: Callable[[str], Path], run: Run, tmp_path: Path) -> None:
    line = refused(run, "optimize", awkward("untracked_variable"), "--to", tmp_path / "to")
    assert "its variable 'late" in line
    assert "has no value in the model" in line
    assert "--samples" not in line


@pytest.mark.parametrize(("kind", "key", "shape"), [
    ("any_rank", "x", (2, 16, 16, 3)), ("any_rank_volume", "x", (2, 16, 16, 16, 2)), ("any_rank_matrix", "x", (2, 7)),
    ("any_rank_einsum", "x", (2, 16, 5)), ("any_rank_sequence", "x", (2, 16, 4)),
    ("any_rank_squeezed", "x", (2, 1, 6)), ("any_rank_transposed", "x", (2, 5, 16)), ("any_rank_twice", "x", (2, 5)),
    ("any_rank_mean", "x", (2, 16, 16)), ("any_rank_sliced", "x", (2, 16, 16)), ("any_rank_steps", "x", (2, 16, 3)),
    ("turned_in_a_loop", "x", (2, 16))])
def test_the_rank_is_that_of_the_first_reader(awkward: Callable[[str], Path], run: Run, tmp_path: Path, kind: str,
                                              key: str, shape: tuple[int, ...]) -> None:
    made = Maker(saved_model.read(awkward(kind))).make("serving_default", 2, 0)
    assert made[key].shape == shape
    run("optimize", awkward(kind), "--to", tmp_path / "to", "--batch", "1,2")


def test_if_the_reference_dies_on_inputs_they_are_made_in_another_way(
        awkward: Callable[[str], Path], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str]) -> None:
    """Without the readers' demands, the first inputs end the process: oneDNN's kernel does not expect their rank."""
    from export.demands import Demand
    monkeypatch.setattr(Demand, "fill", lambda self, shape: shape)
    run("optimize", awkward("any_rank"), "--to", tmp_path / "to", "--batch", "1,2")
    assert "@ 0x" not in capfd.readouterr().err


@pytest.mark.parametrize("kind", ["ragged_ends", "sparse_answer", "sparse_parts", "for_each_request", "csv_lines",
                                  "raw_bytes", "sequence_examples", "one_sequence_example", "float_ids",
                                  "json_and_zlib"])
def test_inputs_are_made_that_the_model_accepts(
        awkward: Callable[[str], Path], run: Run, tmp_path: Path, kind: str) -> None:
    run("optimize", awkward(kind), "--to", tmp_path / "to", "--batch", "1,3")
    model = saved_model.read(awkward(kind))
    with LoadedModel(model.path, ["serve"]) as running:
        running.loaded()
        for key in model.signatures:
            running.run(key, Maker(model).make(key, 3, 5))


@pytest.mark.parametrize("kind", decoded_models.DECODED)
def test_inputs_are_made_in_the_form_that_the_graph_decodes(run: Run, tmp_path: Path, kind: str) -> None:
    serve, spec = decoded_models.DECODED[kind]
    awkward_models.serving(tmp_path / "from" / "1", serve, spec)
    model = saved_model.read(tmp_path / "from")
    with LoadedModel(model.path, ["serve"]) as running:
        running.loaded()
        answers = [running.run("serving_default", Maker(model).make("serving_default", 3, seed)) for seed in (0, 1)]
    assert any(not np.array_equal(answers[0][key], answers[1][key]) for key in answers[0])


def test_a_message_of_an_unknown_type_is_refused_with_the_reason(run: Run, tmp_path: Path) -> None:
    awkward_models.serving(tmp_path / "from" / "1", lambda data: {"y": tf.io.decode_proto(
        data, "example.Unknown", ["x"], [tf.float32])[1][0]}, decoded_models.ANY)
    line = refused(run, "optimize", tmp_path / "from", "--to", tmp_path / "to")
    assert "example.Unknown" in line, line


def test_parts_of_ragged_and_sparse_answers_are_compared(awkward: Callable[[str], Path], tmp_path: Path,
                                                         run: Run) -> None:
    from export.asking import Plan
    from export.equivalence import check
    path = saved_model.read(awkward("ragged_ends")).path
    report = check(path, path, ["serve"], Plan((1, 2)))
    assert {"tokens.values", "tokens.row_splits", "ids.values", "pooled"} <= set(
        report.signatures["serving_default"].comparison.outputs)
    other = saved_model.read(awkward("sparse_answer")).path
    assert {"found.indices", "found.values", "found.dense_shape", "total"} == set(
        check(other, other, ["serve"], Plan((1, 2))).signatures["serving_default"].comparison.outputs)


def test_ids_that_arrive_as_floats_cover_their_table(awkward: Callable[[str], Path]) -> None:
    ids = Maker(saved_model.read(awkward("float_ids"))).make("serving_default", 500, 0)["features"]
    assert set(np.unique(ids[:, 0]).astype(int)) == set(range(40))


def test_random_numbers_are_named_and_compared_with_seeds(awkward: Callable[[str], Path], run: Run,
                                                          tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"signature 'sample' draws random numbers \(Random\w+ '.*'\): compare it with "
                                        r"fixed seeds by --allow-random sample"):
        run("optimize", awkward("draws"), "--to", tmp_path / "to", "--batch", "1,3")
    run("optimize", awkward("draws"), "--to", tmp_path / "to", "--batch", "1,3", "--allow-random", "sample")
    with pytest.raises(UserError, match="--allow-random other: there is no such signature"):
        run("verify", awkward("draws"), tmp_path / "to", "--allow-random", "other")


def test_only_the_signatures_that_may_draw_get_fixed_seeds(
        awkward: Callable[[str], Path], run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("optimize", awkward("draws_in_all_ways"), "--to", tmp_path / "to", "--batch", "1,3")
    with pytest.raises(UserError, match=r"signature 'other' draws random numbers \(RandomStandardNormal '.*'\)"):
        run(*given, "--signatures", "sample,other", "--allow-random", "sample")
    run(*given, "--signatures", "sample,other", "--allow-random", "sample,other")
    run(*given, "--signatures", "stateless,sample", "--allow-random", "sample")
    told = capsys.readouterr().out
    assert told.rindex("\nsample: ") > 0
    assert told.rindex("\nstateless: ") > 0
    run(*given, "--signatures", "stateless")


def test_random_numbers_that_no_seed_fixes_are_named(awkward: Callable[[str], Path], run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"signature 'by_system' draws random numbers by NonDeterministicInts '.*', "
                                        "which takes no seed, so its answers cannot be compared; leave it out"):
        run("optimize", awkward("draws_in_all_ways"), "--to", tmp_path / "to", "--batch", "1,3", "--signatures",
            "by_system", "--allow-random", "by_system")


def test_random_numbers_are_named_even_if_noise_is_below_the_tolerance(
        awkward: Callable[[str], Path], run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="signature 'serving_default' draws random numbers"):
        run("optimize", awkward("draws_little"), "--to", tmp_path / "to", "--batch", "1,3")
    run("optimize", awkward("draws_for_nothing"), "--to", tmp_path / "to", "--batch", "1,3")


def test_real_samples_of_a_request_are_taken_whole(awkward: Callable[[str], Path], run: Run, tmp_path: Path,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(2)
    np.savez(tmp_path / "s.npz", image=rng.normal(size=(5, 8, 8, 3)).astype("f4"),
             image_shape=np.array([416, 300], "f4"), threshold=np.float32(0.1))
    run("optimize", awkward("for_each_request"), "--to", tmp_path / "to", "--samples", tmp_path / "s.npz", "--batch",
        "1,3")
    assert "serving_default: 3 real and 4 random examples" in capsys.readouterr().out
    np.savez(tmp_path / "parts.npz", indices=np.array([[0, 1], [2, 0]]), values=np.array([1.5, 2], "f4"),
             dense_shape=np.array([3, 2]))
    run("optimize", awkward("sparse_parts"), "--to", tmp_path / "parts", "--samples", tmp_path / "parts.npz",
        "--batch", "1,3")
    run("verify", awkward("sparse_parts"), tmp_path / "parts", "--samples", tmp_path / "parts.npz")
    assert "serving_default: 1 real and 0 random examples" in capsys.readouterr().out


def test_samples_that_match_no_input_are_an_error_that_lists_the_inputs(
        awkward: Callable[[str], Path], run: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", imag=np.zeros((2, 8, 8, 3), "f4"))
    for command in (("optimize", awkward("for_each_request"), "--to", tmp_path / "to"),
                    ("verify", awkward("for_each_request"), awkward("for_each_request"))):
        with pytest.raises(UserError, match=r"array 'imag' is no input \(did you mean 'image'\?\); the inputs are: "
                                            "anchors, image, image_shape, threshold, x"):
            run(*command, "--samples", tmp_path / "s.npz")


def test_verify_sends_only_the_samples(
        awkward: Callable[[str], Path], run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = awkward("for_each_request")
    np.savez(tmp_path / "s.npz", x=np.random.default_rng(0).normal(size=(9, 4)).astype("f4"),
             anchors=np.eye(4, dtype="f4")[:3])
    with pytest.raises(UserError, match=r"'serving_default' takes 'image', of which the samples have no "
                                        r"array \(they have: x, anchors\).*--signatures.*--random N"):
        run("verify", model, model, "--samples", tmp_path / "s.npz")
    run("verify", model, model, "--samples", tmp_path / "s.npz", "--signatures", "near", "--batch", "1,4")
    assert "near: 4 real and 0 random examples" in capsys.readouterr().out
    run("verify", model, model, "--samples", tmp_path / "s.npz", "--random", "7", "--batch", "1,4")
    told = capsys.readouterr().out
    assert "near: 4 real and 7 random examples" in told
    assert "serving_default: 0 real and 7 random examples" in told


def test_samples_command_writes_inputs_that_the_model_accepts(
        awkward: Callable[[str], Path], run: Run, tmp_path: Path) -> None:
    from serving.client import payloads
    run("samples", awkward("raw_bytes"), "--out", tmp_path / "x.npz", "--examples", "5", "--json", tmp_path / "x.json")
    arrays = payloads.load_samples(tmp_path / "x.npz")
    made = Maker(saved_model.read(awkward("raw_bytes"))).make("serving_default", 5, 0)
    assert arrays["data"].tolist() == made["data"].tolist()
    assert {len(one) for one in arrays["data"].tolist()} == {72}
    run("verify", awkward("raw_bytes"), awkward("raw_bytes"), "--samples", tmp_path / "x.npz", "--batch", "1,2")
    assert "holds Save" in refused(run, "samples", awkward("trains_on_device"), "--out", tmp_path / "y.npz",
                                   "--signature", "save")


def test_a_training_queue_becomes_an_input_of_any_batch_size(run: Run, tmp_path: Path) -> None:
    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        queue = v1.FIFOQueue(8, [tf.float32], shapes=[[4, 8, 8, 3]], name="prefetch")
        queue.enqueue([tf.random.normal([4, 8, 8, 3])])
        batch = tf.identity(queue.dequeue(), name="batch")
        training = v1.placeholder(tf.bool, [], name="is_training")
        y = tf.nn.conv2d(batch, v1.get_variable("c", initializer=awkward_models.random(3, 3, 3, 4)), 1, "SAME")
        y = v1.cond(training, lambda: y * 2, lambda: y)
        tf.identity(tf.reduce_mean(y, [1, 2]), name="scores")
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(tmp_path / "model.ckpt"), 7)
    given = ("optimize", tmp_path / "model.ckpt-7", "--from-checkpoint", "--outputs", "scores=scores:0", "--to",
             tmp_path / "to", "--batch", "1,3")
    line = refused(run, *given, "--inputs", "images=batch:0")
    assert line.startswith(f"signature 'serving_default' of {tmp_path / 'model.ckpt-7'} needs a value for the "
                           "placeholder 'is_training' (bool)")
    run(*given, "--inputs", "images=batch:0", "--fix", "is_training=false")
    run(*given, "--inputs", "images=batch:0,train=is_training:0")
    shape: Any = saved_model.read(tmp_path / "to" / "1").signatures["serving_default"].inputs["images"].tensor_shape
    assert [dim.size for dim in shape.dim] == [-1, 8, 8, 3]
    assert not any("Queue" in node.op for node in saved_model.read(tmp_path / "to" / "1").meta_graph.graph_def.node)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of Keras' .h5 writer with numpy 2
def test_errors_of_keras_files_that_need_code_name_the_class(run: Run, tmp_path: Path) -> None:
    import keras

    class MyScale(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x * 2
    start = keras.Input((4,))
    model = keras.Model(start, keras.layers.Dense(2)(MyScale()(start)))
    model.save(tmp_path / "custom.keras")
    model.save(tmp_path / "custom.h5")
    keras.Model(start, keras.layers.Lambda(lambda x: x * 2)(start)).save(tmp_path / "lambda.keras")
    for name in ("custom.keras", "custom.h5"):
        line = refused(run, "optimize", tmp_path / name, "--to", tmp_path / "to")
        assert "it needs the class 'MyScale', which is not part of Keras" in line, line
        assert "model.export(" in line
    assert "holds a Lambda layer" in refused(run, "optimize", tmp_path / "lambda.keras", "--to", tmp_path / "to")
