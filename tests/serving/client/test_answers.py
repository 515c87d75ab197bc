"""The tolerance table, from both sides of every bound."""
import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from serving.client.answers import Budget, combine, compare, prove, strict_scales

RANDOM = np.random.default_rng(3)
LOGITS = RANDOM.normal(size=(5, 10)).astype(np.float32) * 7
SOFTMAX = (np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)).astype(np.float32)


def one(expected: Any, actual: Any, **options: Any) -> Any:
    comparison = compare({"y": np.asarray(expected)}, {"y": np.asarray(actual)}, **options)
    assert comparison.equal == comparison.outputs["y"].equal == (not comparison.reasons)
    return comparison.outputs["y"]


def nudged(array: Any, index: tuple[int, ...], by: float) -> Any:
    changed = array.copy()
    changed[index] += by
    return changed


def test_float32_is_bounded_by_the_largest_magnitude_of_its_output() -> None:
    bound = 1e-4 * np.abs(LOGITS).max()
    assert one(LOGITS, nudged(LOGITS, (2, 3), bound * 0.99)).equal
    refused = one(LOGITS, nudged(LOGITS, (2, 3), bound * 1.01))
    assert not refused.equal
    assert refused.row == "float32, |a-b| <= 0.0001 * max|a|"
    assert refused.worst == (2, 3)
    assert refused.max_rel == pytest.approx(1.01e-4, rel=1e-2)
    assert refused.max_abs == pytest.approx(bound * 1.01, rel=1e-2)
    assert "y[2,3] is" in refused.reason


def test_an_example_near_zero_is_judged_by_the_others() -> None:
    """Two-class logits: 2e-4 where the others are about 5, and the seventh digit differs."""
    expected = np.array([[4.8, -4.8], [2e-4, -2e-4], [-3.1, 3.1]], np.float32)
    assert one(expected, nudged(expected, (1, 0), 6e-8)).equal
    assert not one(expected, nudged(expected, (1, 0), 4.8e-3)).equal


def test_strict_scales_do_not_allow_larger_differences_because_of_another_example_or_column() -> None:
    expected = np.abs(RANDOM.normal(size=(20, 3)) + 5).astype(np.float32) * np.float32([1e6, 1, 1e-3])
    expected[7] *= 1e-2
    [scales] = strict_scales([{"y": expected}])
    for at in ((0, 1), (0, 2), (7, 0)):
        error = float(expected[at]) * 1e-3
        wrong = {"y": nudged(expected, at, error)}
        assert not compare({"y": expected}, wrong, scales=scales).equal, at
        assert compare({"y": expected}, {"y": nudged(expected, at, error * 1e-3)}, scales=scales).equal, at


def test_columns_of_few_rows_have_no_separate_scale() -> None:
    expected = np.array([[5.0, 1e-6]], np.float32)
    [scales] = strict_scales([{"y": expected}])
    assert compare({"y": expected}, {"y": nudged(expected, (0, 1), 1e-6)}, scales=scales).equal


def test_a_difference_outside_of_the_scale_may_be_within_the_rounding_of_the_summands() -> None:
    expected = np.array([[1e-3, 2.0]], np.float32)
    actual, scales = {"y": nudged(expected, (0, 0), 1e-2)}, {"y": np.array([[1e-3, 2.0]])}
    assert not compare({"y": expected}, actual, scales=scales).equal
    granted = compare({"y": expected}, actual, scales=scales, added_up={"y": np.array([[1e4, 0.0]])})
    assert granted.equal
    assert granted.outputs["y"].row == "float32, |a-b| <= 1e-05 * what was added up"
    assert not compare({"y": expected}, actual, scales=scales, added_up={"y": np.array([[9e2, 1e4]])}).equal
    # A difference within the scale is accepted, whatever the summands are.
    other = {"y": nudged(nudged(expected, (0, 0), 1e-2), (0, 1), 1e-4)}
    assert compare({"y": expected}, other, scales=scales, added_up={"y": np.array([[1e4, 0.0]])}).equal


def test_one_number_per_example_is_bounded_by_the_whole_output() -> None:
    expected = np.array([[5.0], [1e-6]], np.float32)
    assert one(expected, nudged(expected, (1, 0), 4e-4)).equal
    assert not one(expected, nudged(expected, (1, 0), 6e-4)).equal


def test_probabilities_have_an_absolute_bound() -> None:
    at = tuple(int(i) for i in np.unravel_index(SOFTMAX.argmax(), SOFTMAX.shape))
    accepted = one(SOFTMAX, nudged(SOFTMAX, at, -9e-6))
    assert accepted.equal
    assert accepted.row == "probabilities, |a-b| <= 1e-05"
    assert not one(SOFTMAX, nudged(SOFTMAX, at, -1.2e-5)).equal


def test_zeros_do_not_pass_for_small_numbers_nor_the_reverse() -> None:
    zeros = np.zeros((2, 3), np.float32)
    assert one(zeros, zeros).equal
    assert not one(zeros, nudged(zeros, (0, 0), 1e-30)).equal
    assert not one(nudged(zeros, (0, 0), 1e-30), zeros).equal


def test_float64_has_a_stricter_bound() -> None:
    wide = LOGITS.astype(np.float64)
    assert one(wide, wide * (1 + 1e-10)).equal
    assert not one(wide, wide * (1 + 1e-8)).equal


@pytest.mark.parametrize(("expected", "actual"), [
    ([np.nan, 1], [1, np.nan]), ([np.nan, 1], [np.nan, np.nan]), ([1.0, 1], [np.nan, 1]),
    ([np.inf, 1], [-np.inf, 1]), ([np.inf, 1], [3e38, 1]), ([1.0, 1], [np.inf, 1]),
])
def test_nan_and_infinity_must_be_equal(expected: Any, actual: Any) -> None:
    a, b = np.array([expected], np.float32), np.array([actual], np.float32)
    assert one(a, a.copy()).equal
    assert not one(a, b).equal


def test_finite_values_beside_infinity_keep_their_own_scale() -> None:
    a = np.array([[np.inf, 1.0]], np.float32)
    assert not one(a, nudged(a, (0, 1), 1e-2)).equal


@pytest.mark.parametrize(("expected", "actual"), [
    (np.array([3, 4]), np.array([3, 5])), (np.array([True, False]), np.array([True, True])),
    (np.array([b"a", b"b"], object), np.array([b"a", b"c"], object)),
    (np.array([2**63], np.uint64), np.array([2**63 + 1], np.uint64)),
], ids=["int", "bool", "string", "uint64"])
def test_discrete_outputs_must_be_equal(expected: Any, actual: Any) -> None:
    assert one(expected, expected.copy()).equal
    refused = one(expected, actual)
    assert not refused.equal
    assert refused.row == "exact"
    assert refused.differing == 1
    assert refused.worst == (len(expected) - 1,)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2], ids=str)
def test_reduced_precision_must_be_equal_unless_a_budget_is_stated(dtype: Any) -> None:
    expected = LOGITS.astype(dtype)
    actual = nudged(LOGITS, (0, 0), float(np.abs(LOGITS[0]).max()) * 0.3).astype(dtype)
    refused = one(expected, actual)
    assert not refused.equal
    assert "has no budget stated" in refused.row
    accepted = one(expected, actual, budget=Budget(relative=0.5))
    assert accepted.equal
    assert accepted.row == "stated budget, |a-b| <= 0.5 * max|a|"


def test_a_budget_replaces_the_table_and_can_allow_disagreement() -> None:
    actual = nudged(SOFTMAX, (0, 0), 0.01)
    assert not one(SOFTMAX, actual).equal
    assert one(SOFTMAX, actual, budget=Budget(absolute=0.02)).equal
    assert not one(SOFTMAX, actual, budget=Budget(absolute=0.005)).equal
    labels, other = np.arange(100), nudged(np.arange(100), (7,), 1)
    assert not one(labels, other, budget=Budget(absolute=5)).equal
    assert one(labels, other, budget=Budget(disagreement=0.01)).equal
    assert not one(labels, nudged(other, (8,), 1), budget=Budget(disagreement=0.01)).equal


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64], ids=str)
def test_ulps_count_representable_steps_across_zero(dtype: Any) -> None:
    tiny = np.array([1], f"u{np.dtype(dtype).itemsize}").view(dtype)[0]
    assert one(np.array([tiny], dtype), np.array([-tiny], dtype)).ulps == 3  # -tiny, -0, 0, tiny
    up = np.nextafter(np.array([1], dtype), np.array([2], dtype))
    assert one(np.array([1, 5], dtype), np.array([up[0], 5], dtype)).ulps == 1
    assert one(np.array([0.0], dtype), np.array([-0.0], dtype)).ulps == 0


def test_shape_dtype_and_names_must_match() -> None:
    assert "has dtype float64 where float32" in one(LOGITS, LOGITS.astype(np.float64)).reason
    assert "has shape (5, 9) where (5, 10)" in one(LOGITS, LOGITS[:, :9]).reason
    comparison = compare({"a": LOGITS, "b": LOGITS}, {"a": LOGITS, "c": LOGITS})
    assert comparison.reasons == ("output 'b' is missing", "output 'c' was not expected")


@settings(derandomize=True, deadline=None, max_examples=200)
@given(npst.arrays(st.one_of(npst.floating_dtypes(endianness="="), npst.integer_dtypes(endianness="="),
                             npst.complex_number_dtypes(endianness="=")).filter(lambda d: d.char not in "gG"),
                   npst.array_shapes(min_dims=0, min_side=0)))
def test_every_array_equals_itself(array: Any) -> None:
    comparison = compare({"y": array}, {"y": array.copy()})
    assert comparison.equal
    json.dumps(comparison.to_json(), allow_nan=False)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(npst.arrays(np.float32, (3, 4)), npst.arrays(np.float32, (3, 4)))
def test_the_comparison_of_any_two_arrays_can_be_written_as_json(a: Any, b: Any) -> None:
    comparison = compare({"y": a}, {"y": b})
    json.dumps(comparison.to_json(), allow_nan=False)
    assert comparison.summary().startswith("equal" if comparison.equal else "not equal")


def test_a_constant_reference_proves_nothing() -> None:
    same = {"y": np.full((3, 2), 0.5, np.float32), "label": np.zeros(3, np.int64)}
    proof = prove([(same, same), (same, same)])
    assert not proof.equal
    assert "constant over 6 examples" in proof.summary()
    assert proof.constant == ("y", "label")


def test_one_varying_output_is_proof_and_the_constant_ones_are_named() -> None:
    answer = {"y": LOGITS, "label": np.zeros(5, np.int64)}
    proof = prove([(answer, answer)])
    assert proof.equal
    assert proof.constant == ("label",)
    assert proof.to_json()["constant"] == ["label"]


def test_inputs_that_differ_only_between_requests_are_proof() -> None:
    first, second = {"y": np.zeros((1, 2), np.float32)}, {"y": np.ones((1, 2), np.float32)}
    assert prove([(first, first), (second, second)]).equal
    assert not prove([(first, first), (first, first)]).equal
    scalars = [{"y": np.float32(1)}, {"y": np.float32(2)}]
    assert prove([(scalar, scalar) for scalar in scalars]).equal


def test_strings_vary_or_not_like_numbers() -> None:
    words = np.array([[b"a", b"b"], [b"a", b"c"]], object)
    answer = {"words": words, "same": np.array([b"x", b"x"], object)}
    assert prove([(answer, answer)]).constant == ("same",)
    longer = {"words": np.array([[b"a"]], object)}
    same = {"words": words[:1]}
    assert prove([(same, same), (longer, longer)]).equal
    assert not prove([(same, same), (same, same)]).equal


def test_no_answers_prove_nothing() -> None:
    assert prove([]).reasons == ("nothing was compared",)


def test_a_proof_reports_the_worst_pair() -> None:
    bad = nudged(LOGITS, (4, 9), 1.0)
    proof = prove([({"y": LOGITS}, {"y": actual}) for actual in (LOGITS, bad, LOGITS)])
    assert not proof.equal
    assert proof.outputs["y"].worst == (4, 9)
    assert proof.examples == 15


def test_combine_keeps_each_reason_once() -> None:
    wrong = compare({"y": LOGITS}, {})
    assert combine([wrong, wrong]).reasons == ("output 'y' is missing",)


def test_summary_names_the_row_the_distance_and_the_unit() -> None:
    comparison = compare({"y": LOGITS}, {"y": np.nextafter(LOGITS, np.float32(100))})
    assert comparison.summary().startswith(
        "equal over 5 examples; furthest: 'y' (float32, |a-b| <= 0.0001 * max|a|), max|a-b| ")
    assert comparison.summary().endswith(", 1 ULP")
    assert compare({"y": LOGITS}, {"y": LOGITS}).summary().endswith("identical")
