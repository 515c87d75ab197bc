"""Answers -> JSON, byte for byte as TensorFlow Serving writes them.

Predictions and results are indented as RapidJSON's PrettyWriter does (four spaces; in row form an example is on one
line, and the first bracket on the line of the key); status and metadata have protobuf's JSON form (one space).
Floating-point numbers have six significant digits if these are read back as the same value, else nine (float) or
seventeen (double).
"""
import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf import json_format

from serving.errors import ServingError, invalid
from serving.json.text import string
from serving.json.values import data_type_name
from serving.readiness import Readiness
from serving.servable import Array, VersionStatus
from serving.tensor_proto import data_type

# The number of digits that always reads back as the same value, and the smallest number that is not flushed to zero.
_DIGITS = {np.dtype(np.float32): (9, float(np.finfo(np.float32).tiny)),
           np.dtype(np.float64): (17, float(np.finfo(np.float64).tiny))}
_MANY = 24
_POWERS = np.array([float(f"1e{power}") for power in range(309)] + [np.inf] * 92)
_HTML = {ord("<"): "\\u003c", ord(">"): "\\u003e", 0x7F: "\\u007f"}
_LINE = "\n    "


def predictions(outputs: Mapping[str, Array], row: bool) -> bytes:
    """The body of a predict answer. Raises INVALID_ARGUMENT if an output cannot be written in that form."""
    text = _row_form(outputs) if row else _column_form(outputs)
    return text.encode("utf-8", "surrogateescape")


def classifications(result: Any) -> bytes:
    """The body of a classify answer, from a ClassificationResult."""
    if not result.classifications:
        raise invalid("Cannot convert empty ClassificationResults to JSON")
    rows = [
        "[" + ", ".join(f"[{_text(c.label)}, {score}]"
                        for c, score in zip(row.classes, _scores(row.classes), strict=True)) + "]"
        for row in result.classifications]
    return f'{{{_LINE}"results": [{", ".join(rows)}{_LINE}]\n}}'.encode()


def regressions(result: Any) -> bytes:
    """The body of a regress answer, from a RegressionResult."""
    if not result.regressions:
        raise invalid("Cannot convert empty RegressionResults to JSON")
    values = decimals(np.array([r.value for r in result.regressions], np.float32))
    return f'{{{_LINE}"results": [{", ".join(values)}]\n}}'.encode()


def error(message: str) -> bytes:
    """The body of an error. Bytes of the message that are not UTF-8 become U+FFFD, so that the body is valid JSON."""
    text = message.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return f'{{{_LINE}"error": {string(text)}\n}}'.encode()


def status(versions: Sequence[VersionStatus]) -> bytes:
    """The body of a model status answer."""
    return _proto_json({"model_version_status": [
        {"version": str(v.version), "state": v.state,
         "status": {"error_code": v.code.name, "error_message": v.message}} for v in versions]})


def models(found: Mapping[str, Sequence[VersionStatus]], readiness: Readiness) -> bytes:
    """The body of the list of models, which is not part of TensorFlow Serving's API.

    `ready`: a version of the model answers. `engine`: what runs a loaded version. `missing`: the wanted versions that
    do not answer; a version of null means that none was found.
    """
    return _proto_json({"models": [
        {"name": name, "ready": readiness.models[name].answers,
         "versions": [{"version": v.version, "state": v.state, "engine": v.engine or None} for v in versions],
         "missing": [{"version": m.version, "reason": m.reason} for m in readiness.models[name].missing]}
        for name, versions in found.items()]})


def metadata(name: str, version: int, signatures: Any) -> bytes:
    """The body of a metadata answer, from a SignatureDefMap."""
    model = _proto_json({"name": name, "version": str(version), "signature_name": ""})
    defs = _proto_json(_whole_numbers(json_format.MessageToDict(
        signatures, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)))
    return b'{\n"model_spec":%s,\n"metadata": {"signature_def": %s}\n}\n' % (model, defs)


def _whole_numbers(value: Any) -> Any:
    """Turns whole floats into ints: C++ prints them without a decimal point, Python with one."""
    if isinstance(value, dict):
        return {key: _whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value


def _proto_json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False).translate(_HTML) + "\n").encode()


def _row_form(outputs: Mapping[str, Array]) -> str:
    if len(outputs) == 1 and (usual := _one_matrix(*outputs.values())):
        return usual
    size = -1
    for alias, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {alias} has no shape information ")
        if size not in (-1, len(array)):
            raise invalid(f"Tensor name: {alias} has inconsistent batch size: {len(array)} expecting: {size}")
        size = len(array)
    columns = {alias: _elements(alias, array, 3 + (len(outputs) > 1)) for alias, array in outputs.items()}
    rows = {alias: _nested(texts, outputs[alias].shape, lambda _, items: f"[{', '.join(items)}]", 1)
            for alias, texts in columns.items()}
    if len(rows) == 1:
        text = ", ".join(next(iter(rows.values())))
    else:
        keys = [string(alias) for alias in rows]
        text = ",".join(
            f"{_LINE}    {{" + ",".join(f"{_LINE}        {key}: {value}" for key, value in
                                        zip(keys, values, strict=True)) + f"{_LINE}    }}"
            for values in zip(*rows.values(), strict=True))
    end = _LINE if size else ""
    return f'{{{_LINE}"predictions": [{text}{end}]\n}}'


def _one_matrix(array: Array) -> str | None:
    """The row form of the most common answer, one output [batch, classes] of floats; None for any other."""
    if array.ndim != 2 or not array.size or array.dtype not in _DIGITS:
        return None
    texts, width = decimals(array.ravel()), array.shape[1]
    rows = [", ".join(texts[start:start + width]) for start in range(0, len(texts), width)]
    return f'{{{_LINE}"predictions": [[{"], [".join(rows)}]{_LINE}]\n}}'


def _column_form(outputs: Mapping[str, Array]) -> str:
    named = len(outputs) > 1
    values = {}
    for alias, array in outputs.items():
        base = 1 + named

        def lines(level: int, items: Sequence[str], base: int = base) -> str:
            indent = "\n" + "    " * (base + level)
            return f"[{','.join(f'{indent}    {item}' for item in items)}{indent if items else ''}]"

        (values[alias],) = _nested(_elements(alias, array, base + array.ndim + 1), array.shape, lines, 0)
    if not named:
        return f'{{{_LINE}"outputs": {next(iter(values.values()))}\n}}'
    text = ",".join(f"{_LINE}    {string(alias)}: {value}" for alias, value in values.items())
    return f'{{{_LINE}"outputs": {{{text}{_LINE}}}\n}}'


def _nested(texts: Sequence[str], shape: Sequence[int], enclose: Callable[[int, Sequence[str]], str],
            outer: int) -> Sequence[str]:
    """Joins elements into lists, from the innermost dimension out to dimension `outer`."""
    for level in range(len(shape) - 1, outer - 1, -1):
        size, count = shape[level], math.prod(shape[:level])
        texts = [enclose(level, texts[n * size:(n + 1) * size]) for n in range(count)]
    return texts


def _elements(alias: str, array: Array, depth: int) -> Sequence[str]:
    """The text of each element, in order; `depth` is how far a {"b64": ...} is indented."""
    kind = array.dtype
    if kind in _DIGITS:
        return decimals(array.ravel())
    if kind == np.uint16 or kind.kind not in "iubO":
        if not array.size:
            return []
        raise invalid(f"Failed to write JSON value for tensor type: {data_type_name(data_type(kind))}")
    values = array.ravel().tolist()
    if kind == np.bool_:
        return ["true" if value else "false" for value in values]
    if kind.kind != "O":
        return list(map(str, values))
    if alias.endswith("_bytes"):
        indent = "\n" + "    " * depth
        return [f'{{{indent}"b64": "{base64.b64encode(value).decode()}"{indent[:-4]}}}' for value in values]
    try:
        return [string(value.decode()) for value in values]
    except UnicodeDecodeError:
        raise _not_text(alias) from None


def _not_text(alias: str) -> ServingError:  # decision 41
    return invalid(f"Output {alias} holds bytes that are not UTF-8 text, which JSON cannot carry; an output whose "
                   "name ends in _bytes is sent as base64")


def _text(label: str | bytes) -> str:
    if isinstance(label, bytes):
        label = label.decode("utf-8", "replace")
    return string(label)


def _scores(classes: Sequence[Any]) -> Sequence[str]:
    return decimals(np.array([c.score for c in classes], np.float32))


def decimal(value: float, dtype: np.dtype[Any]) -> str:
    """A floating-point number as the original prints it: 0.1, 1.0, 1e+20, NaN, -Infinity."""
    if not math.isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    digits, smallest = _DIGITS[dtype]
    if abs(value) < smallest:
        value = math.copysign(0.0, value)
    text = f"{value:.6g}"
    if dtype.type(float(text)) != value:
        text = f"{value:.{digits}g}"
    return text if "." in text or "e" in text else text + ".0"


def decimals(values: Array) -> list[str]:
    """`decimal` of each number of an array of rank 1; vectorized for long arrays."""
    dtype = values.dtype
    if values.size < _MANY:
        return _few_decimals(values)
    digits, smallest = _DIGITS[dtype]
    flushed = np.where(np.abs(values) < smallest, np.copysign(dtype.type(0), values), values)
    with np.errstate(all="ignore"):
        magnitudes = np.abs(flushed.astype(np.float64))
        short = _has_six_digits(flushed, magnitudes)
        whole = (flushed == np.rint(flushed)) & (magnitudes < np.where(short, 1e6, 10.0 ** digits))
    formats = np.where(whole, "%.1f", np.where(short, "%.6g", f"%.{digits}g")).tolist()
    texts = (" ".join(formats) % tuple(flushed.tolist())).split(" ")
    for n in np.flatnonzero(~np.isfinite(magnitudes)).tolist():
        texts[n] = decimal(float(values[n]), dtype)
    return texts


def _few_decimals(values: Array) -> list[str]:
    """`decimals` for short arrays, for which numpy's overhead is larger than the work."""
    numbers, dtype = values.tolist(), values.dtype
    digits, smallest = _DIGITS[dtype]
    magnitudes = list(map(abs, numbers))
    if not numbers or min(magnitudes) < smallest or not math.isfinite(sum(magnitudes)):
        return [decimal(number, dtype) for number in numbers]
    texts = [f"{number:.6g}" for number in numbers]
    given_back = (np.array(list(map(float, texts)), dtype) == values).tolist()
    texts = [text if same else f"{number:.{digits}g}"
             for number, text, same in zip(numbers, texts, given_back, strict=True)]
    return [text if "." in text or "e" in text else text + ".0" for text in texts]


def _has_six_digits(values: Array, magnitudes: Array) -> Array:
    """Which values are read back unchanged from their text of six digits."""
    exponents = np.floor(np.log10(np.where((magnitudes > 0) & np.isfinite(magnitudes), magnitudes, 1.0)))
    places = 5 - exponents.astype(np.int64)
    # Next to a power of ten the logarithm may be off by one; one digit more or less gives the same result there.
    powers = _POWERS[np.abs(places)]
    rounded = np.where(places >= 0, np.rint(magnitudes * powers) / powers, np.rint(magnitudes / powers) * powers)
    short = rounded.astype(values.dtype) == np.abs(values)
    if values.dtype == np.float64:
        # In the same precision, scaling by a power of ten is not exact: values that come close are formatted and read.
        close = np.flatnonzero((np.abs(rounded - magnitudes) <= 4 * np.spacing(magnitudes)) | (magnitudes < 1e-300))
        short = np.zeros(len(values), np.bool_)
        short[close] = [float(f"{v:.6g}") == v for v in values[close].tolist()]
    return short
