"""Whether a signature's answers are equal: by the strictest scales; if not, by the size of the summands."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from export.loaded import DiedError, RunError
from export.rounding import measuring
from export.saved_model import SavedModel
from export.tensors import Array
from serving.client.answers import Answer, Budget, Comparison, combine, compare, prove, strict_scales
from user_error import UserError

Pairs: TypeAlias = Sequence[tuple[Answer, Answer]]  # the reference's answer, and the other model's

# Smaller probabilities count as this: they are close to underflow.
_LEAST = np.float32(1e-30)


def judge(pairs: Pairs, budget: Budget | None, varies: bool, advice: str) -> Comparison:
    """The comparison by the strictest scales. If it is not equal, `judge_by_rounding` decides.

    varies: whether the reference must change with its inputs; if it must and does not, the comparison is not equal,
      and `advice` says what to do.
    """
    scales = strict_scales([expected for expected, _ in pairs]) if budget is None else None
    if varies:
        return prove(pairs, budget, scales, advice)
    return combine([compare(*pair, budget, scales[index] if scales else None) for index, pair in enumerate(pairs)])


def judge_by_rounding(model: SavedModel, key: str, found: Comparison, pairs: Pairs, inputs: Sequence[dict[str, Array]],
                      softmaxes: Sequence[str]) -> Comparison:
    """An equal comparison if the differences in `found` are within the rounding errors of the summands; else `found`.

    The summands are measured only for answers that are not equal, and only until one is outside of these bounds, too.
    """
    if any(not reason.startswith("output '") for reason in found.reasons):
        return found
    scales = strict_scales([expected for expected, _ in pairs])
    each = [compare(*pair, None, own) for pair, own in zip(pairs, scales, strict=True)]
    try:
        with measuring(model, key, lambda answer: with_logits(answer, softmaxes)) as measured:
            for index, (expected, actual) in enumerate(pairs):
                if not each[index].equal:
                    each[index] = compare(expected, actual, None, scales[index], measured(inputs[index]))
                if not each[index].equal:
                    return found
    except (UserError, RunError, DiedError):
        # If the summands cannot be measured, the scale is the largest magnitude in the output.
        each = [compare(*pair) for pair in pairs]
    return replace(combine(each), constant=found.constant)


def with_logits(answer: Answer, softmaxes: Sequence[str]) -> Answer:
    """The answer and, for each softmax output, its logits (up to a constant): the logarithms of the probabilities."""
    logits = {f"{name} (logits)": np.log(np.maximum(answer[name], _LEAST)) for name in softmaxes
              if answer[name].dtype == np.float32 and answer[name].ndim}
    return {**answer, **{name: value - value.mean(-1, keepdims=True) for name, value in logits.items()}}
