"""Are a signature's answers equal: by the strictest scales, then, where those refuse, by what was added up."""
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

Pairs: TypeAlias = Sequence[tuple[Answer, Answer]]  # what the reference answers, and the other model

# Probabilities below it are zeros that underflowed, more or less.
_LEAST = np.float32(1e-30)


def judge(pairs: Pairs, budget: Budget | None, varies: bool, advice: str) -> Comparison:
    """The comparison by the smallest scales; `judge_by_rounding` has the last word on what they refuse.

    varies: whether the reference has to change with its inputs; if it need not, being constant is nothing against it;
      if it has to and does not, `advice` says what to do.
    """
    scales = strict_scales([expected for expected, _ in pairs]) if budget is None else None
    if varies:
        return prove(pairs, budget, scales, advice)
    return combine([compare(*pair, budget, scales[index] if scales else None) for index, pair in enumerate(pairs)])


def judge_by_rounding(model: SavedModel, key: str, found: Comparison, pairs: Pairs, inputs: Sequence[dict[str, Array]],
                      softmaxes: Sequence[str]) -> Comparison:
    """`found`, or a comparison in which elements out of their row are held against what was added up to make them.

    Measured only for what is out of its row, and no longer than until one is out of this, too.
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
        # What cannot be measured is held against the largest of its output.
        each = [compare(*pair) for pair in pairs]
    return replace(combine(each), constant=found.constant)


def with_logits(answer: Answer, softmaxes: Sequence[str]) -> Answer:
    """The answer and, for each softmax, the logits behind it: their differences are those of the logarithms."""
    logits = {f"{name} (logits)": np.log(np.maximum(answer[name], _LEAST)) for name in softmaxes
              if answer[name].dtype == np.float32 and answer[name].ndim}
    return {**answer, **{name: value - value.mean(-1, keepdims=True) for name, value in logits.items()}}
