"""Counting right answers, on made-up ones."""
import numpy as np

from benchmark.verdicts.accuracy import accuracy

SCORES = np.float32([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])


def test_the_examples_of_all_requests_are_counted() -> None:
    answer = {"scores": SCORES}
    assert accuracy([answer] * 2, [answer] * 2, [np.array([1, 0, 0]), np.array([1, 1, 1])]) == {
        "output": "scores", "right": 4, "examples": 6}


def test_repeated_examples_at_the_end_of_a_request_are_not_counted() -> None:
    answer = {"scores": SCORES}
    found = accuracy([answer] * 3, [answer] * 3, [np.array([1, 0, 1]), np.array([0]), np.array([], np.int64)])
    assert found == {"output": "scores", "right": 3, "examples": 4}


def test_the_labels_are_of_the_output_that_the_baseline_has_right() -> None:
    expected, answer = {"other": 1 - SCORES, "scores": SCORES}, {"other": SCORES, "scores": 1 - SCORES}
    assert accuracy([expected], [answer], [np.array([1, 0, 1])]) == {"output": "scores", "right": 0, "examples": 3}


def test_without_classes_or_labels_there_is_no_accuracy() -> None:
    numbers = {"y": np.float32([[1.0], [2.0]]), "n": np.array([1, 2]), "z": np.zeros((2, 3, 4), np.float32)}
    assert accuracy([numbers], [numbers], [np.array([0, 1])]) is None
    assert accuracy([{"scores": SCORES}], [{"scores": SCORES}], [np.array([], np.int64)]) is None
