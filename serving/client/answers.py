"""Compares two answers: are they equal, and how large is the difference? The project's only tolerance table.

    comparison = compare(expected, actual)              # two answers: name -> array
    comparison = prove(pairs_of_answers)                # many pairs; fails also if the reference is constant
    print(comparison.summary())

The reference selects the row of the table. Probabilities along the last axis (floats in 0..1, each row summing to 1)
have an absolute bound. Other floats have a bound relative to a scale: the largest magnitude in the output, or, if the
caller knows it, the size of the numbers whose sum the output is. Integers, strings, booleans, infinities and the
positions of NaNs must be equal. So must outputs of reduced precision, unless the caller states a Budget.
"""
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Answer: TypeAlias = Mapping[str, Array]

# With fewer rows than this, the scale of a column is not known.
_ENOUGH_ROWS = 8


@dataclass(frozen=True)
class Row:
    """One row of the table: |a-b| <= max(relative * scale, absolute), where the scale is max|a| of the output."""
    name: str
    relative: float = 0.0
    absolute: float = 0.0
    scale: str = "max|a|"

    def __str__(self) -> str:
        bounds = ([f"{self.relative:g} * {self.scale}"] * bool(self.relative)
                  + [f"{self.absolute:g}"] * bool(self.absolute))
        return f"{self.name}, |a-b| <= {' or '.join(bounds)}" if bounds else self.name


EXACT = Row("exact")
# The summands can be much larger than their sum; the rounding error of float32 is 6e-8 of the summands.
_SUMMANDS = "what was added up"
ADDED_UP = {"float32": Row("float32", relative=1e-5, scale=_SUMMANDS),
            "complex64": Row("float32", relative=1e-5, scale=_SUMMANDS),
            "float64": Row("float64", relative=1e-10, scale=_SUMMANDS),
            "complex128": Row("float64", relative=1e-10, scale=_SUMMANDS)}
PROBABILITIES = Row("probabilities", absolute=1e-5)
FLOAT32 = Row("float32", relative=1e-4)
FLOAT64 = Row("float64", relative=1e-9)


@dataclass(frozen=True)
class Budget:
    """The differences that a caller allows for reduced precision: bounds for all float outputs, instead of the table's.

    `disagreement` is the share (0..1) of an output's integers, strings or booleans that may differ; `outputs` has
    absolute bounds of single outputs by name; `name` is that of the row in reports.
    """
    relative: float = 0.0
    absolute: float = 0.0
    disagreement: float = 0.0
    outputs: Mapping[str, float] = field(default_factory=dict)
    name: str = "stated budget"

    def row(self, output: str) -> Row:
        return Row(self.name, self.relative, max(self.absolute, self.outputs.get(output, 0.0)))

    def __add__(self, other: "Budget") -> "Budget":
        """What two variants may differ by, if each may differ by its own budget from the same original."""
        outputs = {name: self.outputs.get(name, 0.0) + other.outputs.get(name, 0.0)
                   for name in {**self.outputs, **other.outputs}}
        return Budget(self.relative + other.relative, self.absolute + other.absolute,
                      self.disagreement + other.disagreement, outputs, f"{self.name} and {other.name}")

    @staticmethod
    def of_manifest(manifest: Mapping[str, Any], signature: str) -> "Budget | None":
        """The budget that a version's manifest states for its answers; None for a version in full precision."""
        stated = manifest.get("budget")
        if not isinstance(stated, Mapping):
            return None
        bounds = stated.get("signatures", {}).get(signature, {})
        return Budget(0.0, 0.0, float(stated.get("disagreement", 0.0)),
                      {name: float(bound) for name, bound in bounds.items()},
                      f"{manifest.get('precision', 'reduced precision')} by its manifest")


@dataclass(frozen=True)
class OutputComparison:
    """One output: `max_abs` is max|a-b|, `max_rel` that divided by the scale, `ulps` the same in float steps.

    `worst` is the index of the element with the largest difference in relation to its bound; None if nothing differs.
    """
    name: str
    row: str
    equal: bool
    max_abs: float = 0.0
    max_rel: float = 0.0
    ulps: int | None = 0
    differing: int = 0
    worst: tuple[int, ...] | None = None
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """All outputs of one or more answers. `constant`: the outputs whose reference was the same for all examples."""
    outputs: Mapping[str, OutputComparison]
    reasons: tuple[str, ...] = ()
    examples: int = 0
    constant: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        return not self.reasons

    @property
    def worst_output(self) -> OutputComparison | None:
        return max(self.outputs.values(), key=_badness, default=None)

    def summary(self) -> str:
        """One line: "equal", with the row and the difference of the worst output; or the reasons why not."""
        if self.reasons:
            return f"not equal: {'; '.join(self.reasons)}"
        worst = self.worst_output
        if worst is None:
            return "equal: no outputs"
        return (f"equal over {self.examples} examples; "
                f"furthest: '{worst.name}' ({worst.row}), {_distance(worst)}")

    def to_json(self) -> dict[str, Any]:
        return {
            "equal": self.equal, "examples": self.examples, "reasons": list(self.reasons),
            "constant": list(self.constant),
            "outputs": {name: {"row": o.row, "equal": o.equal, "max_abs": _finite(o.max_abs),
                               "max_rel": _finite(o.max_rel), "ulps": o.ulps, "differing": o.differing,
                               "worst": o.worst and list(o.worst)} for name, o in self.outputs.items()},
        }


def compare(expected: Answer, actual: Answer, budget: Budget | None = None, scales: Answer | None = None,
            added_up: Answer | None = None) -> Comparison:
    """Compares two answers to one request, output by output; axis 0 of an output counts its examples.

    scales: by name, the scale of a float output's elements; it broadcasts against the output. The default is max|a| of
      the output: an element near zero is assumed to be a sum of numbers as large as the other examples' elements.
    added_up: by name, the known size of the numbers whose sum each element is. An element that fails with `scales`
      passes if it is within the bound for this scale.
    """
    outputs = {name: _compare_output(name, np.asarray(expected[name]), np.asarray(actual[name]), budget,
                                     (scales or {}).get(name), (added_up or {}).get(name))
               for name in expected if name in actual}
    reasons = [f"output '{name}' is missing" for name in expected if name not in actual]
    reasons += [f"output '{name}' was not expected" for name in actual if name not in expected]
    reasons += [output.reason for output in outputs.values() if output.reason]
    examples = max((len(array) for array in expected.values() if np.ndim(array)), default=1)
    return Comparison(outputs, tuple(reasons), examples)


def prove(pairs: Iterable[tuple[Answer, Answer]], budget: Budget | None = None,
          scales: Sequence[Answer] | None = None,
          advice: str = "use other inputs, or weights that are not at their initial state") -> Comparison:
    """Compares (expected, actual) pairs; not equal if the whole reference is constant.

    Each output of the result is the worst among the pairs. A constant reference proves nothing: a model that ignores
    its input would also be equal to it. `scales`: one for each pair, as `compare` takes them.
    `advice`: what to do about a constant reference.
    """
    total = Comparison({})
    first: dict[str, Array] = {}
    varying: set[str] = set()
    for index, (expected, actual) in enumerate(pairs):
        total = combine((total, compare(expected, actual, budget, scales[index] if scales else None)))
        for name, array in expected.items():
            examples = np.atleast_1d(array)
            if len(examples) and name not in varying:
                # Slices, not items: an item of a string array is not an array.
                one = first.setdefault(name, examples[:1])
                same_shape = one.shape[1:] == examples.shape[1:]
                if not same_shape or not _identical(np.broadcast_to(one, examples.shape), examples):
                    varying.add(name)
    constant = tuple(name for name in first if name not in varying)
    if not total.outputs:
        return replace(total, reasons=(*total.reasons, "nothing was compared"))
    if not varying:
        reason = f"the reference is constant over {total.examples} examples, which proves nothing: {advice}"
        return replace(total, reasons=(*total.reasons, reason), constant=constant)
    return replace(total, constant=constant)


def combine(comparisons: Sequence[Comparison]) -> Comparison:
    """The worst of each output, all reasons once, and the sum of examples."""
    outputs: dict[str, OutputComparison] = {}
    for comparison in comparisons:
        for name, output in comparison.outputs.items():
            outputs[name] = max(outputs.get(name, output), output, key=_badness)
    reasons = dict.fromkeys(reason for comparison in comparisons for reason in comparison.reasons)
    return Comparison(outputs, tuple(reasons), sum(comparison.examples for comparison in comparisons))


def strict_scales(references: Sequence[Answer]) -> list[Answer]:
    """For each of one model's answers, the strictest scales that can be chosen without knowing the graph.

    An element's scale is that of its example or, if that is smaller and all answers together have enough rows, that of
    its column (the last axis). So large numbers in one example or column do not allow larger differences in another. An
    element whose summands cancel may fail this by rounding alone: measure its summands before calling the answer wrong.
    """
    found: list[dict[str, Array]] = [{} for _ in references]
    for name in references[0] if references else ():
        arrays = [np.asarray(one[name]) for one in references if name in one]
        if len(arrays) < len(references) or not all(one.dtype.kind in "fc" and one.ndim for one in arrays):
            continue
        columns = _columns(arrays)
        for scales, array in zip(found, arrays, strict=True):
            if array.size:
                scale = _scale(array, per_example=True)
                scales[name] = scale if columns is None else np.minimum(scale, columns)
    return list(found)


def _columns(arrays: Sequence[Array]) -> Array | None:
    """max|a| of each column over all arrays; None if they have no columns, or too few rows to know their scale."""
    widths = {array.shape[-1] for array in arrays}
    if len(widths) != 1 or any(array.ndim < 2 for array in arrays) or widths == {0}:
        return None
    width = widths.pop()
    rows = np.concatenate([array.reshape(-1, width) for array in arrays])
    if len(rows) < _ENOUGH_ROWS:
        return None
    return np.asarray(np.where(np.isfinite(rows), np.abs(rows), 0.0).max(axis=0), np.float64)


def row_for(expected: Array, budget: Budget | None = None, output: str = "") -> Row:  # decision 50
    """The table's row for a reference output; `output` is its name."""
    if not is_float(expected.dtype):
        return EXACT
    if budget is not None:
        return budget.row(output)
    if expected.dtype in (np.float32, np.float64) and _are_probabilities(expected):
        return PROBABILITIES
    return {"float32": FLOAT32, "complex64": FLOAT32, "float64": FLOAT64, "complex128": FLOAT64}.get(
        expected.dtype.name, Row(f"exact, since {expected.dtype.name} has no budget stated"))


def _compare_output(name: str, expected: Array, actual: Array, budget: Budget | None, scale: Array | None,
                    added_up: Array | None) -> OutputComparison:
    row = row_for(expected, budget, name)
    for what, a, b in (("dtype", expected.dtype, actual.dtype), ("shape", expected.shape, actual.shape)):
        if a != b:
            return OutputComparison(name, str(row), False, np.inf, np.inf, None, expected.size,
                                    reason=f"output '{name}' has {what} {b} where {a} was expected")
    if _identical(expected, actual):
        return OutputComparison(name, str(row), True)
    if not is_float(expected.dtype):
        return _compare_exact(name, row, expected, actual, budget)
    found = _compare_floats(name, row, expected, actual, scale)
    wider = ADDED_UP.get(expected.dtype.name)
    if found.equal or added_up is None or wider is None or budget is not None:
        return found
    granted = np.maximum(np.maximum(row.relative * (_scale(expected) if scale is None else scale), row.absolute),
                         wider.relative * np.abs(added_up)) / wider.relative
    return _compare_floats(name, wider, expected, actual, granted)


def _compare_exact(
        name: str, row: Row, expected: Array, actual: Array, budget: Budget | None) -> OutputComparison:
    different = np.asarray(expected != actual)
    share = float(different.mean())
    worst = tuple(int(i) for i in np.argwhere(different)[0])
    if budget is not None:
        row = Row(f"{budget.name}, {budget.disagreement:.2%} may differ")
    within = budget is not None and share <= budget.disagreement
    output = OutputComparison(name, str(row), within, ulps=None, differing=int(different.sum()), worst=worst)
    if expected.dtype.kind in "iu":
        distance = np.abs(expected.astype(object) - actual.astype(object))
        output = replace(output, max_abs=float(distance.max()))
    return output if within else replace(output, reason=_reason(output, expected[worst], actual[worst]))


def _compare_floats(name: str, row: Row, expected: Array, actual: Array, scale: Array | None) -> OutputComparison:
    wide = np.complex128 if expected.dtype.kind == "c" else np.float64
    a, b = expected.astype(wide), actual.astype(wide)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.where(same, 0.0, np.abs(a - b))
    error[np.isnan(error)] = np.inf  # NaN in only one of the two
    scale = _scale(a) if scale is None else np.asarray(scale, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(error == 0, 0.0, error / scale)
        bound = np.maximum(row.relative * scale, row.absolute)
        excess = np.where(error == 0, 0.0, error / bound)
    worst = tuple(int(i) for i in np.unravel_index(np.argmax(excess), excess.shape))
    output = OutputComparison(name, str(row), bool((error <= bound).all()), float(error.max()),
                              float(relative.max()), _ulps(expected, actual), int((~same).sum()), worst)
    return output if output.equal else replace(output, reason=_reason(output, expected[worst], actual[worst]))


def _scale(a: Array, per_example: bool = False) -> Array:
    """max|a| of the output, or of each example, over finite values, shaped to broadcast against `a`.

    If an example has only one number, the scale is that of the whole output: the number may be a sum that cancels.
    """
    magnitude = np.where(np.isfinite(a), np.abs(a), 0.0)
    whole = not per_example or a.ndim == 0 or a.size == len(a)
    axes = tuple(range(a.ndim)) if whole else tuple(range(1, a.ndim))
    return np.asarray(magnitude.max(axis=axes, keepdims=True))


def _ulps(expected: Array, actual: Array) -> int | None:
    """The largest distance between two finite elements in representable steps; None for complex and float4."""
    if expected.dtype.kind == "c" or "float4" in expected.dtype.name:
        return None
    counted = np.isfinite(expected) & np.isfinite(actual) & (expected != actual)
    if not counted.any():
        return 0
    a, b = (_ordered(array[counted]) for array in (expected, actual))
    return int((np.maximum(a, b) - np.minimum(a, b)).max())


def _ordered(floats: Array) -> Array:
    """Unsigned integers in the order of the floats; adjacent floats become adjacent integers."""
    bits = floats.view(f"u{floats.dtype.itemsize}")
    sign = bits.dtype.type(1 << (8 * bits.itemsize - 1))
    return np.where(bits & sign, ~bits, bits | sign)


def _are_probabilities(a: Array) -> bool:
    if a.ndim == 0 or a.shape[-1] < 2 or a.size == 0:
        return False
    return bool((a >= 0).all() and (a <= 1).all() and (np.abs(a.sum(axis=-1) - 1) < 1e-3).all())


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether it is of real or complex numbers, also narrow ones."""
    # ml_dtypes' floats are of kind 'f' or 'V', its integers of kind 'V'.
    return dtype.kind in "fc" or "float" in dtype.name


def _identical(a: Array, b: Array) -> bool:
    """Whether shapes and values are equal; NaN equals NaN."""
    if a.shape != b.shape:
        return False
    return bool(np.all((a == b) | ((a != a) & (b != b))))


def _reason(output: OutputComparison, expected: Any, actual: Any) -> str:
    where = f"{output.name}[{','.join(map(str, output.worst or ()))}]"
    return (f"output '{output.name}' is out of its row ({output.row}): {_distance(output)}, "
            f"{where} is {_show(actual)} where {_show(expected)} was expected")


def _distance(output: OutputComparison) -> str:
    if not output.differing:
        return "identical"
    if output.ulps is None and not output.max_abs:
        return f"{output.differing} differ"
    steps = "" if output.ulps is None else f", {output.ulps} ULP"
    return f"max|a-b| {output.max_abs:.3g}, relative {output.max_rel:.3g}{steps}"


def _show(value: Any) -> str:
    return repr(value[:40]) if isinstance(value, bytes | str) else f"{value}"


def _badness(output: OutputComparison) -> tuple[bool, float, float, int]:
    return not output.equal, output.max_rel, output.max_abs, output.differing


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
