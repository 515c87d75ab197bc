"""Requests are checked in the original's order and answered from any servable."""
import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from fake_servable import FakeServable, signature

from serving.errors import Code, ServingError, invalid
from serving.predictor import Predictor
from serving.protos import input_pb2, types_pb2
from serving.servable import (
    CLASSIFY_METHOD,
    PREDICT_METHOD,
    REGRESS_METHOD,
    Array,
    ModelSpec,
    Signature,
    TensorSpec,
)

ONE = np.ones(1, np.float32)


class Store:
    """Always the same servable."""

    def __init__(self, servable: FakeServable) -> None:
        self._servable = servable

    def pin(self, spec: ModelSpec) -> Any:
        return nullcontext(self._servable)

    def status(self, spec: ModelSpec) -> list[Any]:
        return []

    def models(self) -> list[str]:
        return ["m"]


def served(*signatures: Signature, compute: Any = None) -> tuple[Predictor, FakeServable]:
    fake = FakeServable(signatures={s.name: s for s in signatures}, **({"compute": compute} if compute else {}))
    return Predictor(Store(fake)), fake


def examples(count: int) -> Any:
    message = input_pb2.Input()
    for n in range(count):
        message.example_list.examples.add().features.feature["x"].float_list.value.append(n)
    return message


def raised(predictor: Predictor, fake: FakeServable, name: str, inputs: Mapping[str, Array],
           output_filter: Sequence[str] = ()) -> ServingError:
    with pytest.raises(ServingError) as error:
        predictor.predict(fake, name, inputs, output_filter)
    return error.value


def test_every_output_by_alias() -> None:
    predictor, fake = served(signature(outputs=("b", "a")))
    assert {k: v.tolist() for k, v in predictor.predict(fake, "", {"x": ONE}).items()} == {"a": [2.0], "b": [2.0]}


def test_an_output_filter_computes_only_the_named_outputs() -> None:
    asked: list[Sequence[str]] = []

    def compute(feeds: Sequence[str], values: Sequence[Array], fetches: Sequence[str]) -> list[Array]:
        asked.append(fetches)
        return [values[0]] * len(fetches)

    predictor, fake = served(signature(outputs=("a", "b", "c")), compute=compute)
    assert list(predictor.predict(fake, "", {"x": ONE}, ["c", "a"])) == ["a", "c"]
    assert asked == [["a:0", "c:0"]]


def test_default_inputs_replace_inputs_that_are_not_sent() -> None:
    predictor, fake = served(signature(("x", "z"), defaults={"z": 3 * ONE}))
    predictor.predict(fake, "", {"x": ONE})
    assert [value.tolist() for value in fake.runs[0]] == [[1.0], [3.0]]
    predictor.predict(fake, "", {"x": ONE, "z": 5 * ONE})
    assert [value.tolist() for value in fake.runs[1]] == [[1.0], [5.0]]


@pytest.mark.parametrize(("name", "inputs", "output_filter", "code", "message"), [
    ("nope", {}, [], Code.FAILED_PRECONDITION, 'Serving signature key "nope" not found.'),
    ("", {}, [], Code.INVALID_ARGUMENT, "input size does not match signature: 0!=1 len({}) != len({x}). "
     "Sent extra: {}. Missing but required: {x}."),
    ("", {"x": ONE, "y": ONE}, [], Code.INVALID_ARGUMENT, "input size does not match signature: 2!=1 len({x,y}) != "
     "len({x}). Sent extra: {y}. Missing but required: {}."),
    ("", {"y": ONE}, [], Code.INVALID_ARGUMENT, "Signature input alias: x(feed name: x:0) not found in request and no "
     "default value provided. Inputs expected to be in the request {y}, or default input alias set: "),
    ("", {"x": ONE}, ["q"], Code.INVALID_ARGUMENT, "output tensor alias not found in signature: q Outputs expected to "
     "be in the set {y}."),
    ("", {"x": ONE}, ["y", "y"], Code.INVALID_ARGUMENT, "duplicate output tensor alias: y"),
])
def test_wrong_requests(name: str, inputs: Mapping[str, Array], output_filter: list[str], code: Code,
                        message: str) -> None:
    predictor, fake = served(signature())
    error = raised(predictor, fake, name, inputs, output_filter)
    assert (error.code, error.message) == (code, message)
    assert fake.runs == []


def test_an_empty_model_name_is_refused() -> None:
    predictor, _ = served(signature())
    with pytest.raises(ServingError, match="ModelSpec has no name specified"):
        predictor.pin(ModelSpec(""))


def test_method_names_are_checked_on_request() -> None:
    fake = FakeServable(signatures={"serving_default": signature(method="made/up")})
    Predictor(Store(fake)).predict(fake, "", {"x": ONE})
    error = raised(Predictor(Store(fake), check_method_names=True), fake, "", {"x": ONE})
    assert error.code is Code.INTERNAL
    assert error.message.endswith("Was: made/up")


def string_signature(name: str, outputs: Sequence[str], method: str) -> Signature:
    return signature(("inputs",), outputs, types_pb2.DT_STRING, method, name)


def outputs(**arrays: Array) -> Any:
    return lambda feeds, values, fetches: [arrays[fetch.partition(":")[0]] for fetch in fetches]


def test_classes_and_scores() -> None:
    predictor, fake = served(string_signature("c", ("classes", "scores"), CLASSIFY_METHOD), compute=outputs(
        classes=np.array([[b"a", b"\xff"]], object), scores=np.array([[0.5, 1.0]], np.float32)))
    result = predictor.classify(fake, "c", examples(1))
    assert [(c.label, c.score) for c in result.classifications[0].classes] == [("a", 0.5), ("\ufffd", 1.0)]
    assert [e.count(b"x") for e in fake.runs[0][0]] == [1]


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_regressions(shape: tuple[int, ...]) -> None:
    predictor, fake = served(string_signature("r", ("outputs",), REGRESS_METHOD),
                             compute=outputs(outputs=np.array([1.5, 2.5], np.float32).reshape(shape)))
    assert [r.value for r in predictor.regress(fake, "r", examples(2)).regressions] == [1.5, 2.5]


def test_a_context_is_put_before_each_example() -> None:
    predictor, fake = served(string_signature("r", ("outputs",), REGRESS_METHOD),
                             compute=outputs(outputs=np.zeros(2, np.float32)))
    message = input_pb2.Input()
    message.example_list_with_context.context.features.feature["c"].bytes_list.value.append(b"ctx")
    for _ in range(2):
        message.example_list_with_context.examples.add().features.feature["e"].bytes_list.value.append(b"ex")
    predictor.regress(fake, "r", message)
    for serialized in fake.runs[0][0]:
        assert serialized.index(b"ctx") < serialized.index(b"ex")


@pytest.mark.parametrize(("method", "array", "message"), [
    ("classify", np.zeros(2, np.float32), "Expected Tensor shape: [batch_size num_classes] but got [2]"),
    ("classify", np.zeros((2, 3)), "Expected scores Tensor of DT_FLOAT. Got: DT_DOUBLE"),
    ("classify", np.zeros((4, 3), np.float32), "Expected scores output batch size of 2. Got: 4"),
    ("regress", np.zeros((2, 2), np.float32),
     "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [2,2]"),
    ("regress", np.zeros(3, np.float32), "Input batch size did not match output batch size: 2 vs. 3"),
    ("regress", np.zeros(2), "Expected output Tensor of DT_FLOAT.  Got: DT_DOUBLE"),
])
def test_outputs_that_cannot_be_a_result(method: str, array: Array, message: str) -> None:
    predictor, fake = served(string_signature("classify", ("scores",), CLASSIFY_METHOD),
                             string_signature("regress", ("outputs",), REGRESS_METHOD),
                             compute=outputs(scores=array, outputs=array))
    with pytest.raises(ServingError) as error:
        getattr(predictor, method)(fake, method, examples(2))
    assert error.value.message == message


@pytest.mark.parametrize(("method", "made", "message"), [
    ("classify", signature(("inputs", "more"), ("scores",), name="s"), "Expected one input Tensor."),
    ("classify", signature(("inputs",), ("scores", "classes", "more"), name="s"),
     "Expected one or two output Tensors, found 3"),
    ("classify", signature(("x",), ("scores",), name="s"), "No classification inputs found in SignatureDef: "),
    ("classify", signature(("inputs",), ("y",), name="s"), 'Expected classification signature outputs to contain at '),
    ("regress", signature(("inputs",), ("a", "b"), name="s"), "Expected one output Tensor."),
    ("regress", signature(("x",), ("outputs",), name="s"), "No regression inputs found in SignatureDef: "),
    ("regress", signature(("inputs",), ("y",), name="s"), "No regression outputs found in SignatureDef: "),
    ("regress", signature(name="other"), "No signature was found with the name: s"),
])
def test_signatures_that_give_no_result(method: str, made: Signature, message: str) -> None:
    predictor, fake = served(made)
    with pytest.raises(ServingError) as error:
        getattr(predictor, method)(fake, "s", examples(1))
    assert error.value.code is Code.INVALID_ARGUMENT
    assert error.value.message.startswith(message)


def test_no_examples() -> None:
    predictor, fake = served(string_signature("r", ("outputs",), REGRESS_METHOD))
    for message in (input_pb2.Input(), examples(0)):
        with pytest.raises(ServingError, match=r"Input is empty\."):
            predictor.regress(fake, "r", message)


def test_several_inferences_are_one_run() -> None:
    predictor, fake = served(string_signature("c", ("scores",), CLASSIFY_METHOD),
                             string_signature("r", ("outputs",), REGRESS_METHOD),
                             compute=outputs(scores=np.ones((1, 2), np.float32), outputs=np.zeros(1, np.float32)))
    tasks = [(ModelSpec("m", signature_name=name), method)
             for name, method in (("r", REGRESS_METHOD), ("c", CLASSIFY_METHOD))]
    regression, classification = predictor.multi_inference(fake, tasks, examples(1))
    assert regression.regressions[0].value == 0
    assert len(classification.classifications[0].classes) == 2
    assert len(fake.runs) == 1


@pytest.mark.parametrize(("tasks", "code", "message"), [
    ([("", "c", CLASSIFY_METHOD)], Code.INVALID_ARGUMENT, "Found ModelSpec with an empty model name."),
    ([("m", "c", CLASSIFY_METHOD), ("n", "r", REGRESS_METHOD)], Code.INVALID_ARGUMENT,
     "All ModelSpecs in a MultiInferenceRequest must access the same model name."),
    ([("m", "c", CLASSIFY_METHOD), ("m", "c", CLASSIFY_METHOD)], Code.INVALID_ARGUMENT,
     "Duplicate evaluation of signature: c"),
    ([("m", "q", CLASSIFY_METHOD)], Code.INVALID_ARGUMENT, "Requested signature not found in model graph: q"),
    ([("m", "c", "tensorflow/serving/predict")], Code.UNIMPLEMENTED,
     "Unsupported signature method_name: tensorflow/serving/predict"),
])
def test_several_inferences_that_cannot_be_combined(
        tasks: list[tuple[str, str, str]], code: Code, message: str) -> None:
    predictor, fake = served(string_signature("c", ("scores",), CLASSIFY_METHOD),
                             string_signature("r", ("outputs",), REGRESS_METHOD))
    with pytest.raises(ServingError) as error:
        predictor.multi_inference(fake, [(ModelSpec(m, signature_name=s), method) for m, s, method in tasks],
                                  examples(1))
    assert (error.value.code, error.value.message) == (code, message)


def test_runs_are_timed() -> None:
    told: list[tuple[str, str]] = []
    fake = FakeServable(signatures={"serving_default": signature()})
    predictor = Predictor(Store(fake), ran=lambda api, model, seconds: told.append((api, model)))
    predictor.predict(fake, "", {"x": ONE})
    assert told == [("Predict", "m")]


def test_signatures_with_different_input_tensors_get_the_same_examples() -> None:
    base = string_signature("other", ("scores",), CLASSIFY_METHOD)
    other = dataclasses.replace(base, inputs={"inputs": dataclasses.replace(base.inputs["inputs"], name="elsewhere:0")})
    runs: list[tuple[Sequence[str], list[Any]]] = []

    def compute(feeds: Sequence[str], values: Sequence[Array], fetches: Sequence[str]) -> list[Array]:
        runs.append((feeds, [value.tolist() for value in values]))
        return [np.full((2, 1), len(feeds), np.float32) for _ in fetches]

    predictor, fake = served(string_signature("c", ("scores",), CLASSIFY_METHOD), other, compute=compute)
    results = predictor.multi_inference(fake, [(ModelSpec("m", signature_name="c"), CLASSIFY_METHOD),
                                               (ModelSpec("m", signature_name="other"), CLASSIFY_METHOD)], examples(2))
    [(feeds, values)] = runs
    assert len(set(feeds)) == 2
    assert values[0] == values[1]
    assert [len(result.classifications) for result in results] == [2, 2]


def test_class_labels_that_are_not_utf8_can_be_read() -> None:
    labels = np.array([[b"a\xff", b"b"]], object)
    predictor, fake = served(string_signature("c", ("classes",), CLASSIFY_METHOD), compute=lambda *_: [labels])
    [row] = predictor.classify(fake, "c", examples(1)).classifications
    assert [made.label for made in row.classes] == ["a\ufffd", "b"]


@pytest.mark.parametrize("dtype", [types_pb2.DT_RESOURCE, types_pb2.DT_VARIANT, types_pb2.DT_INVALID])
def test_a_failed_run_of_a_signature_without_numpy_types_keeps_its_error(dtype: int) -> None:
    def fail(feeds: Sequence[str], values: Sequence[Array], fetches: Sequence[str]) -> list[Array]:
        raise invalid("the runtime's own text")

    made = Signature("serving_default", PREDICT_METHOD, {"x": TensorSpec("x:0", dtype, (2,))},
                     {"y": TensorSpec("y:0", types_pb2.DT_FLOAT, None)})
    servable = FakeServable(signatures={"serving_default": made}, compute=fail)
    with pytest.raises(ServingError, match=r"^the runtime's own text$"):
        Predictor(None).predict(servable, "", {"x": np.ones(3, np.float32)})  # type: ignore[arg-type]
