"""What is within a budget, from made-up measurements."""

from export.precision.budget import (
    Accuracy,
    Measured,
    for_random_weights,
    outside,
    row,
    stated,
    told,
    undecided,
)
from export.precision.reduction import Reduction

INT8 = Reduction("int8")


def reasons(measured: Measured, allowed: Reduction) -> list[str]:
    return [sentence for _, sentence in outside(measured, allowed)]


def accuracy(before: float, after: float) -> Accuracy:
    return Accuracy(before, after, 400, "scores")


def test_accuracy_decides_where_there_are_labels() -> None:
    lost = Measured(400, {"scores": 0.4}, {"scores": 1.0}, {"scores": 0.9}, accuracy(0.972, 0.950))
    assert reasons(lost, INT8) == ["accuracy 97.2 -> 95.0 on 400 examples, over 0.5 points"]
    assert reasons(lost, Reduction("int8", max_accuracy_drop=2.5)) == []
    kept = Measured(400, {"scores": 0.4}, {"scores": 1.0}, {"scores": 0.9}, accuracy(0.972, 0.974))
    assert reasons(kept, INT8) == []  # a tenth has another class, but as many are right


def test_half_a_point_is_allowed_and_more_is_not() -> None:
    assert reasons(Measured(200, agreement={"y": 0.995}, errors={"y": 0.1}), INT8) == []
    assert reasons(Measured(200, agreement={"y": 0.99}, errors={"y": 0.1}), INT8) == [
        "'y' has another top class or value for 1.0 % of 200 examples, over 0.5 points"]


def test_every_other_output_with_classes_is_judged_by_its_own_agreement() -> None:
    found = Measured(400, {"scores": 0.1, "other": 0.1}, {}, {"scores": 0.9, "other": 0.9, "ids": 1.0},
                     accuracy(0.9, 0.9))
    assert reasons(found, INT8) == [
        "'other' has another top class or value for 10.0 % of 400 examples, over 0.5 points"]


def test_a_stated_error_holds_for_all_outputs() -> None:
    allowed = Reduction("int8", max_error=0.05)
    found = Measured(8, {"boxes": 0.06, "scores": 0.04, "more": 0.3}, {}, {"scores": 1.0})
    assert reasons(found, allowed) == ["'boxes' is off by 0.06 of max|a|, over 0.05",
                                       "'more' is off by 0.3 of max|a|, over 0.05"]
    assert reasons(found, Reduction("int8", max_error=0.3)) == []


def test_an_output_without_classes_needs_a_stated_error() -> None:
    found = Measured(8, {"scores": 0.04, "boxes": 0.06}, {}, {"scores": 1.0})
    assert undecided("serving_default", found, INT8) == (
        "signature 'serving_default': output 'boxes' has no classes of which the top one could be compared: state with "
        "--max-error X how far it may be off (max|a-b| / max|a|, such as 0.05)")
    assert undecided("serving_default", found, Reduction("int8", max_error=0.0)) == ""
    assert undecided("serving_default", Measured(8, {"scores": 0.04}, {}, {"scores": 1.0, "ids": 0.5}), INT8) == ""


def test_a_row_names_what_decided() -> None:
    found = Measured(8, {"scores": 0.04, "boxes": 0.06}, {}, {"scores": 1.0, "ids": 1.0}, accuracy(0.9, 0.9))
    both = Reduction("int8", max_accuracy_drop=1, max_error=0.1)
    assert row("scores", found, INT8) == "reduced precision, at most 0.5 points of accuracy lost"
    assert row("scores", found, both) == (
        "reduced precision, at most 1 points of accuracy lost and |a-b| <= 0.1 * max|a|")
    assert row("boxes", found, both) == "reduced precision, |a-b| <= 0.1 * max|a|"
    assert row("ids", found, both) == "reduced precision, at most 1 points of agreement lost"


def test_a_manifest_states_absolute_bounds() -> None:
    found = {"a": Measured(8, {"y": 0.04}, {"y": 10.0}, {"y": 1.0, "ids": 1.0}),
             "b": Measured(8, {"z": 0.01}, {"z": 2.0})}
    assert stated(found, INT8) == {"signatures": {"a": {"y": 0.8}, "b": {"z": 0.04}}, "disagreement": 0.01,
                                   "max_accuracy_drop": 0.5, "max_error": None}
    assert stated(found, Reduction("int8", max_error=0.1))["signatures"] == {"a": {"y": 1.0}, "b": {"z": 0.2}}
    assert stated({"b": found["b"]}, INT8)["disagreement"] == 0.0


def test_random_weights_may_lose_any_class_unless_something_was_stated() -> None:
    lost = Measured(16, {"y": 0.6}, {"y": 1.0}, {"y": 0.1})
    assert reasons(lost, for_random_weights(INT8)) == []
    assert reasons(lost, for_random_weights(Reduction("int8", max_error=0.5))) == [
        "'y' is off by 0.6 of max|a|, over 0.5"]
    assert len(reasons(lost, for_random_weights(Reduction("int8", max_accuracy_drop=50)))) == 1


def test_the_worst_of_several_signatures_is_told() -> None:
    one, other = Measured(8, {"y": 0.1}, {}, {"y": 0.75}), Measured(8, {"z": 0.2}, {}, {"z": 0.5})
    assert told([one, other]) == "top class the same for 50.00%, max error 0.2"
    labelled = Measured(400, {"scores": 0.1}, {}, {"scores": 0.9}, accuracy(0.972, 0.95))
    assert told([labelled, Measured(400, {}, {}, {}, accuracy(0.97, 0.97))]) == (
        "accuracy 97.20% -> 95.00%, max error 0.1")
