"""How many labelled examples a target has right, from its answers: pure."""
from collections.abc import Sequence

import numpy as np

from benchmark.verdicts.records import AccuracyRecord
from serving.client.answers import Answer
from serving.client.payloads import Array


def accuracy(expected: Sequence[Answer], answers: Sequence[Answer], labels: Sequence[Array]) -> AccuracyRecord | None:
    """Counts the examples whose top class is their label; None if no output has classes.

    expected: the baseline's answers to the same requests. Of several outputs with classes (floats [n, classes]), the
    labels are of that which the baseline has right most often. labels: by request; a request may have fewer labels than
    examples, if its last ones repeat those of the first request.
    """
    examples = sum(map(len, labels))
    outputs = [name for name, array in expected[0].items()
               if array.dtype.kind == "f" and array.ndim == 2 and array.shape[1] > 1]
    if not outputs or not examples:
        return None
    output = max(outputs, key=lambda name: _right(expected, labels, name))
    return {"output": output, "right": _right(answers, labels, output), "examples": examples}


def _right(answers: Sequence[Answer], labels: Sequence[Array], output: str) -> int:
    return sum(int((np.argmax(answer[output], 1)[:len(own)] == own).sum())
               for answer, own in zip(answers, labels, strict=True))
