"""What the source is asked and how answers are measured against it: errors, top classes, labels, requests."""
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from saved_models import save_v1, signature

from export.job import Job
from export.precision.reduction import Reduction
from export.precision.reference import PIECE, Proof, Reference, Request, _error, _measured, _same
from export.prepared import prepared
from export.runtime import tf
from export.sources import Source
from export.tensors import Array
from user_error import UserError

v1 = tf.compat.v1
NAN, INF = np.nan, np.inf
Make = Callable[[Any], Mapping[str, Any]]


def floats(*rows: Any, dtype: Any = np.float32) -> Array:
    return np.asarray(rows, dtype)


def words(*rows: Any) -> Array:
    return np.asarray(rows, object)


@pytest.mark.parametrize(("a", "b", "same"), [
    (floats([1, 2], [3, 1], [1, 3]), floats([1, 3], [1, 3], [3, 1]), [True, False, False]),
    (floats([NAN, 1], [NAN, 1]), floats([NAN, 2], [0, 1]), [True, False]),
    (floats([1, 2], [3, 1], dtype=ml_dtypes.bfloat16), floats([1, 3], [1, 3], dtype=ml_dtypes.bfloat16), [True, False]),
    (floats([1], [2]), floats([1], [2]), None),
    (floats(1, 2), floats(1, 2), None),
    (floats([[1, 2]]), floats([[1, 2]]), None),
    (floats([1j, 2], dtype=np.complex64), floats([1j, 2], dtype=np.complex64), None),
    (np.array([[1, 2], [3, 4]]), np.array([[1, 2], [3, 5]]), [True, False]),
    (np.array([1, 2], ml_dtypes.int4), np.array([1, 3], ml_dtypes.int4), [True, False]),
    (np.array([True, False]), np.array([True, True]), [True, False]),
    (words([b"a", b"b"], [b"c", b"d"]), words([b"a", b"b"], [b"c", b"e"]), [True, False]),
    (words(b"a", b""), words(b"a", b"\0"), [True, False]),
    (np.array(7), np.array(7), [True]),
    (np.array(7), np.array(8), [False]),
    (np.array(7), np.array([7]), [False]),
    (floats([1, 2], [3, 1]), floats([1, 2, 0], [3, 1, 0]), [False, False]),
    (floats(1, 2, 3), floats(1, 2), [False, False, False]),
    (np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), []),
    (np.zeros(0, np.int32), np.zeros(0, np.int32), []),
    (np.zeros((2, 0), np.float32), np.zeros((2, 0), np.float32), None),
    (np.zeros((2, 0), np.int32), np.zeros((2, 0), np.int32), [True, True]),
], ids=["classes", "NaN", "bfloat16", "one column", "a number each", "more axes", "complex", "integers", "int4",
        "booleans", "strings", "strings that end in zeros", "a scalar", "another scalar", "another rank",
        "another width", "another length", "no example", "no integers", "no classes", "no integers each"])
def test_the_same_top_class_or_value_for_each_example(a: Array, b: Array, same: list[bool] | None) -> None:
    found = _same(a, b)
    assert (found if found is None else found.tolist()) == same


@pytest.mark.parametrize(("a", "b", "scale", "error"), [
    (floats(1, -4), floats(1, -3), 4.0, 0.25),
    (floats(3 + 4j, 1, dtype=np.complex64), floats(0, 1, dtype=np.complex64), 10.0, 0.5),
    (floats(1j, 1, dtype=np.complex64), floats(complex(0, NAN), 1, dtype=np.complex64), 1.0, INF),
    (floats(2, 1, dtype=ml_dtypes.bfloat16), floats(2, 1.5, dtype=ml_dtypes.bfloat16), 2.0, 0.25),
    (floats(NAN, 2), floats(NAN, 1), 2.0, 0.5),
    (floats(NAN, 2), floats(1, 2), 2.0, INF),
    (floats(1, 2), floats(NAN, 2), 2.0, INF),
    (floats(INF, -INF, 1), floats(INF, -INF, 1), 1.0, 0.0),
    (floats(INF), floats(-INF), 1.0, INF),
    (floats(INF), floats(3e38), 1.0, INF),
    (floats(1), floats(INF), 1.0, INF),
    (floats(0, 0), floats(0, -0.0), 0.0, 0.0),
    (floats(0, 0), floats(0, 1e-30), 0.0, INF),
    (floats(), floats(), 1.0, 0.0),
], ids=["real", "complex", "complex NaN", "bfloat16", "NaN in both", "NaN before", "NaN after", "infinities in both",
        "another sign", "finite after", "infinite after", "zeros", "no zeros after", "empty"])
def test_the_error_is_the_largest_difference_over_the_scale(a: Array, b: Array, scale: float, error: float) -> None:
    assert _error([(a, b)], scale) == error
    assert _error([(a, a), (a, b), (a, a)], scale) == error  # the worst of all requests


def request(expected: Mapping[str, Array], counted: bool = True, labels: Array | None = None) -> Request:
    return Request({}, expected, max(len(value) for value in expected.values()), True, counted, labels)


def test_errors_are_of_all_requests_and_the_rest_of_the_counted_ones() -> None:
    found = _measured([(request({"y": floats([4, 1], [1, 2])}), {"y": floats([4, 1], [2, 1])}),
                       (request({"y": floats([8, 1])}, counted=False), {"y": floats([2, 3])})])
    assert (found.examples, found.errors, found.scales, found.agreement) == (2, {"y": 0.75}, {"y": 8.0}, {"y": 0.5})
    assert found.accuracy is None


@pytest.mark.parametrize("answer", [
    {}, {"y": floats([1, 2], [2, 1], dtype=np.float64)}, {"y": floats([[1, 2]], [[2, 1]])}, {"y": floats([1, 2])},
    {"y": floats(1, 2)}], ids=["no output", "dtype", "rank", "examples", "rank below"])
def test_an_answer_that_does_not_fit_is_as_wrong_as_can_be(answer: Mapping[str, Array]) -> None:
    """And it has no accuracy, whatever the labels are."""
    found = _measured([(request({"y": floats([1, 2], [2, 1])}, labels=np.array([1, 0])), answer)])
    assert found.errors == {"y": INF}
    assert found.accuracy is None


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.bfloat16, np.float16, np.complex64])
def test_every_float_has_an_error(dtype: Any) -> None:
    found = _measured([(request({"y": floats([2, 1], dtype=dtype)}), {"y": floats([2, 2], dtype=dtype)})])
    assert (found.errors, found.scales) == ({"y": 0.5}, {"y": 2.0})


def test_labels_are_of_the_output_that_is_right_most_often_in_the_source() -> None:
    right, wrong = floats([0, 1], [1, 0], [0, 1]), floats([1, 0], [0, 1], [0, 1])
    one = request({"other": wrong, "scores": right, "ids": np.array([1, 0, 1])}, labels=np.array([1, 0, 1]))
    more = request({"other": wrong, "scores": right, "ids": np.array([1, 0, 1])})  # without labels, as in made-up ones
    answer = {"other": right, "scores": floats([0, 1], [1, 0], [1, 0]), "ids": np.array([1, 0, 1])}
    accuracy = _measured([(one, answer), (more, answer)]).accuracy
    assert accuracy is not None
    assert (accuracy.output, accuracy.before, accuracy.after, accuracy.examples) == ("scores", 1.0, 2 / 3, 3)


def write(path: Path, make: Make, **shapes: Any) -> Path:
    """A version with a signature for each of `shapes`, named as its input: make(input) gives the outputs."""
    with v1.Graph().as_default(), v1.Session() as session:
        there = {}
        for name, shape in (shapes or {"serving_default": [None, 2]}).items():
            x = v1.placeholder(tf.float32, shape, f"{name}_x")
            there[name] = signature({f"{name}_x": x}, make(x))
        save_v1(path, session, there)
    return path


@contextmanager
def reference(source: Path, arrays: Mapping[str, Any] | None = None, **options: Any) -> Iterator[Reference]:
    file = None
    if arrays is not None:
        file = source.parent / "samples.npz"
        np.savez(file, **arrays)
    job = Job(Source(str(source)), source.parent / "to", sample_file=file, batches=(1, 3),
              reduction=Reduction("int8", **options))
    with prepared(job) as ready:
        yield Reference(ready)


def proofs(folder: Path, source: Make, *others: Make, arrays: Mapping[str, Any] | None = None,
           **options: Any) -> list[Proof]:
    """What is said of each other version, held to the source."""
    with reference(write(folder / "source", source), arrays, **options) as asked:
        return [asked.prove(write(folder / str(index), other)) for index, other in enumerate(others)]


def scores(x: Any) -> Any:
    return {"y": x @ tf.constant([[1.0, -1, 0], [0, 2, 1]])}


def numbered(examples: int, *sizes: int) -> Array:
    """Examples that each hold their own number."""
    return np.arange(examples, dtype=np.float32).reshape(-1, *[1] * len(sizes)) + np.zeros(sizes, np.float32)


def numbers(requests: Any) -> list[list[int]]:
    """The numbers of the examples in each request."""
    return [next(iter(one.values()))[:, 0].astype(int).tolist() for one in requests]


def test_real_examples_are_asked_in_pieces_and_the_first_again_at_the_batch_sizes(tmp_path: Path) -> None:
    labels = np.arange(70) % 3
    with reference(write(tmp_path / "source", scores), {"serving_default_x": numbered(70, 2), "labels": labels}) as one:
        asked = one.requests["serving_default"]
        assert [(each.batch, each.counted, each.real) for each in asked] == [
            (PIECE, True, True), (6, True, True), (1, False, True), (3, False, True)]
        assert numbers(each.inputs for each in asked)[1:] == [list(range(64, 70)), [0], [0, 1, 2]]
        assert [None if each.labels is None else each.labels.tolist() for each in asked[1:]] == [
            labels[64:].tolist(), None, None]
        assert one.some_real
        assert len(one.examples("serving_default")["serving_default_x"]) == 70
        # Each example once in requests of the size that is asked for, and evenly spaced ones of too many.
        assert [len(each["serving_default_x"]) for each in one.feeds(32, 512)] == [32, 32, 6]
        assert [number for each in numbers(one.feeds(32, 512)) for number in each] == list(range(70))
        assert numbers(one.feeds(1, 10)) == [[number] for number in range(0, 70, 7)]
        assert len(one.feeds(32, 1)) == 1


def test_made_up_examples_are_fed_if_there_are_no_real_ones(tmp_path: Path) -> None:
    with reference(write(tmp_path / "source", scores)) as one:
        assert not one.some_real
        assert [(each.batch, each.counted, each.real) for each in one.requests["serving_default"]] == [
            (1, True, False), (3, True, False)]
        assert [len(each["serving_default_x"]) for each in one.feeds(2, 512)] == [1, 2, 1]
        assert one.examples("serving_default")["serving_default_x"].shape == (3, 2)


@pytest.mark.parametrize(("examples", "batches"), [
    (10, [[0, 1, 2, 3], [4, 5, 6, 7]]), (3, [[0, 1, 2, 0]])], ids=["two and a rest", "fewer than one"])
def test_a_fixed_batch_size_is_the_only_one_asked_and_fed(examples: int, batches: list[list[int]],
                                                          tmp_path: Path) -> None:
    source = write(tmp_path / "source", scores, fixed=[4, 2])
    with reference(source, {"fixed_x": numbered(examples, 2), "labels": np.arange(examples) % 3}) as one:
        asked = one.requests["fixed"]
        assert [(each.batch, each.counted) for each in asked] == [(4, True)] * len(batches)
        assert numbers(each.inputs for each in asked) == batches
        assert [each.labels.tolist() for each in asked if each.labels is not None] == [
            [number % 3 for number in batch] for batch in batches]
        for piece in (1, 2, 32):
            assert numbers(one.feeds(piece, 512)) == batches
        assert numbers(one.feeds(1, 4)) == batches[:1]


def test_an_input_of_the_whole_request_is_fed_whole(tmp_path: Path) -> None:
    """Also where it happens to have as many entries as there are examples."""
    source = tmp_path / "source"
    with v1.Graph().as_default(), v1.Session() as session:
        x, limits = v1.placeholder(tf.float32, [None, 3], "x"), v1.placeholder(tf.float32, [3], "limits")
        save_v1(source, session, {"serving_default": signature({"x": x, "limits": limits}, {"y": x - limits})})
    with reference(source, {"x": numbered(3, 3), "limits": floats(1, 2, 3)}) as one:
        assert [{name: value.shape for name, value in each.items()} for each in one.feeds(1, 512)] == [
            {"x": (3, 3), "limits": (3,)}]


@pytest.mark.parametrize(("labels", "said"), [
    (np.float32([0, 1, 2, 0]), "float32 [4]"), (np.array(["a", "b", "c", "d"]), "object [4]"),
    (np.array([[0], [1], [2], [0]]), "int64 [4, 1]"), (np.array([0, 1, 2]), "int64 [3]"),
    (np.array([True, False, True, True]), "bool [4]")], ids=["floats", "words", "a column", "too few", "booleans"])
def test_labels_are_one_integer_for_each_example(labels: Array, said: str, tmp_path: Path) -> None:
    source = write(tmp_path / "source", scores, few=[None, 2], many=[None, 2])
    arrays = {"few_x": numbered(2, 2), "many_x": numbered(4, 2), "labels": labels}
    key, examples = ("many", 4) if labels.ndim == 1 and labels.dtype.kind == "i" else ("few", 2)
    with pytest.raises(UserError) as refused, reference(source, arrays):
        pass
    assert str(refused.value) == (
        f"the samples' array 'labels' is {said}: for the {examples} examples of signature '{key}' it needs one integer "
        "each, the number of the class")


def test_labels_belong_to_every_signature_with_real_examples(tmp_path: Path) -> None:
    def turned(x: Any) -> Any:
        return {"y": scores(x)["y"][:, ::-1]}
    shapes: dict[str, Any] = {"few": [None, 2], "made": [None, 2], "many": [None, 2]}
    source = write(tmp_path / "source", scores, **shapes)
    examples = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    before, after = (np.argmax(examples @ weights, 1) for weights in (
        np.array([[1, -1, 0], [0, 2, 1]]), np.array([[0, -1, 1], [1, 2, 0]])))
    with reference(source, {"few_x": examples[:4], "many_x": examples, "labels": before}) as one:
        measured = one.prove(write(tmp_path / "turned", turned, **shapes)).measured
    assert {key: each.examples for key, each in measured.items()} == {"few": 4, "made": 4, "many": 6}
    assert {key: (each.accuracy.before, each.accuracy.after, each.accuracy.examples)
            for key, each in measured.items() if each.accuracy} == {
        "few": (1.0, (before == after)[:4].mean(), 4), "many": (1.0, (before == after).mean(), 6)}


def test_no_budget_allows_nan(tmp_path: Path) -> None:
    def with_nan(x: Any) -> Any:
        return {"y": tf.where(scores(x)["y"] > 0.5, NAN, scores(x)["y"])}
    loose = {"max_error": 1e20, "max_accuracy_drop": 100.0}
    bad, = proofs(tmp_path / "one", scores, with_nan, **loose)
    assert bad.fault.startswith("signature 'serving_default': output 'y' is out of its row")
    assert bad.measured["serving_default"].errors == {"y": INF}
    both, none = proofs(tmp_path / "both", with_nan, with_nan, scores, **loose)
    assert (both.fault, both.outside, both.measured["serving_default"].errors) == ("", [], {"y": 0.0})
    assert none.fault


def test_strings_and_integers_are_judged_by_their_share_and_complex_numbers_by_a_stated_error(tmp_path: Path) -> None:
    def outputs(x: Any, limit: float = 0.5) -> Any:
        return {"word": tf.where(x[:, 0] > limit, "high", "low"), "ids": tf.cast(x * 4, tf.int32)}

    def others(x: Any) -> Any:
        return outputs(x, 1.0) | {"word": tf.fill([tf.shape(x)[0]], "high")}
    arrays = {"serving_default_x": np.linspace(0, 0.99, 20, dtype=np.float32).reshape(10, 2)}
    same, wrong = proofs(tmp_path / "one", outputs, outputs, others, arrays=arrays)
    assert (same.fault, same.outside) == ("", [])
    assert (wrong.fault, wrong.outside) == (
        "", ["'word' has another top class or value for 50.0 % of 10 examples, over 0.5 points"])
    assert wrong.measured["serving_default"].agreement == {"word": 0.5, "ids": 1.0}

    def turned(x: Any, size: float = 1.0) -> Any:
        return {"z": tf.complex(x * size, -x)}
    with pytest.raises(UserError, match="output 'z' has no classes of which the top one could be compared"):
        proofs(tmp_path / "two", turned, arrays=arrays)
    off, = proofs(tmp_path / "three", turned, lambda x: turned(x, 1.1), arrays=arrays, max_error=0.05)
    assert off.outside == ["'z' is off by 0.071 of max|a|, over 0.05"]  # 0.1 of the real part


def test_an_output_without_elements_loses_nothing(tmp_path: Path) -> None:
    def empty(x: Any) -> Any:
        return scores(x) | {"boxes": x[:, :0]}
    with pytest.raises(UserError, match="output 'boxes' has no classes"):
        proofs(tmp_path / "one", empty)
    proof, = proofs(tmp_path / "two", empty, empty, max_error=0.0)
    assert (proof.fault, proof.outside) == ("", [])
    assert proof.measured["serving_default"].errors == {"y": 0.0, "boxes": 0.0}


def test_answers_of_another_shape_are_a_fault_and_not_an_exception(tmp_path: Path) -> None:
    def unknown(y: Any) -> Any:
        return {"y": v1.placeholder_with_default(y, None)}
    arrays = {"serving_default_x": numbered(6, 2) - 2, "labels": np.arange(6) % 3}
    kept, *others = proofs(
        tmp_path, lambda x: unknown(scores(x)["y"]), lambda x: unknown(scores(x)["y"]),
        lambda x: unknown(scores(x)["y"][:, None]), lambda x: unknown(scores(x)["y"][:, 0]),
        lambda x: unknown(scores(x)["y"][1:]), arrays=arrays)
    assert kept.fault == ""
    assert [other.fault for other in others] == [
        f"signature 'serving_default': output 'y' has shape {shape} where (6, 3) was expected"
        for shape in ("(6, 1, 3)", "(6,)", "(5, 3)")]


def test_a_version_that_is_no_answer_to_the_source_has_a_reason(tmp_path: Path) -> None:
    def named(x: Any) -> Any:
        return {"z": scores(x)["y"]}

    def fails(x: Any) -> Any:
        return {"y": tf.reshape(tf.reshape(scores(x)["y"], [-1, 9]), [-1, 3])}
    other, failing = proofs(tmp_path, scores, named, fails)
    assert other.fault == ("signature 'serving_default': output 'y' changed its type or shape, or is not in both; "
                           "signature 'serving_default': output 'z' changed its type or shape, or is not in both")
    assert other.measured == {}
    assert failing.fault.startswith("signature 'serving_default' at batch 1: ")
    with reference(tmp_path / "source") as one:
        assert "no such" in one.prove(tmp_path / "nowhere").fault


def test_a_constant_reference_proves_nothing(tmp_path: Path) -> None:
    arrays = {"serving_default_x": numbered(1, 2).repeat(4, 0), "labels": np.zeros(4, int)}
    proof, = proofs(tmp_path, scores, scores, arrays=arrays)
    assert proof.fault.endswith("which proves nothing: give real inputs with --samples, or --allow-constant "
                                "serving_default if its answer is the same for all inputs")


def test_samples_that_the_source_refuses_are_named_as_the_reason(tmp_path: Path) -> None:
    source = write(tmp_path / "source", lambda x: {"y": tf.reshape(x, [-1, 3])}, serving_default=[None, 2])
    arrays = {"serving_default_x": numbered(4, 2)}
    with pytest.raises(UserError, match=r"signature 'serving_default': .*/source refuses its samples \("), \
            reference(source, arrays):
        pass
