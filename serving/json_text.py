"""Text that TensorFlow Serving's JSON writer makes: strings, and values quoted in error messages."""
import math
import re
from collections.abc import Iterator
from typing import Any

from serving.rapid_json import Value, members

_QUOTED = re.compile(r'["\\\x00-\x1f]')
_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_QUOTE_LIMIT = 256


def quote(value: Value) -> str:
    """The text of a value as error messages quote it: pretty, arrays on one line, cut after 256 characters."""
    text = ""
    for token in _tokens(value):
        text += token
        if len(text.encode("utf-8", "surrogateescape")) >= _QUOTE_LIMIT:
            break
    return text


def _tokens(value: Value) -> Iterator[str]:
    """The text in the steps in which RapidJSON's writer makes it: the limit is looked at between them."""
    stack: list[tuple[Iterator[Any], str, int]] = []
    prefix = ""
    while True:
        if isinstance(value, dict):
            yield prefix + "{"
            stack.append((iter(members(value)), "}", 0))
        elif isinstance(value, list):
            yield prefix + "["
            stack.append((iter(value), "]", 0))
        else:
            yield prefix + _scalar(value)
        while stack:
            inside, end, count = stack[-1]
            try:
                item = next(inside)
            except StopIteration:
                stack.pop()
                yield ("\n" + "    " * len(stack) if count and end == "}" else "") + end
                continue
            stack[-1] = (inside, end, count + 1)
            if end == "}":
                yield ("," if count else "") + "\n" + "    " * len(stack) + string(item[0])
                prefix, value = ": ", item[1]
            else:
                prefix, value = ", " if count else "", item
            break
        else:
            return


def _scalar(value: Value) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _double(value)
    return string(value)


def _double(value: float) -> str:
    """The shortest digits that give the value back, laid out as RapidJSON does: 1.0, 0.001, 1e30."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    sign = "-" if math.copysign(1, value) < 0 else ""
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(digits) - len(fraction) + int(exponent or 0)  # the value is 0.DIGITS * 10**point
    digits = digits.rstrip("0")
    if not digits:
        return sign + "0.0"
    if len(digits) <= point <= 21:
        return f"{sign}{digits.ljust(point, '0')}.0"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    return f"{sign}{digits[0]}{'.' if digits[1:] else ''}{digits[1:]}e{point - 1}"


def string(text: str) -> str:
    """A JSON string as RapidJSON writes it: only quotes, backslashes and control characters are escaped."""
    return f'"{_QUOTED.sub(_escaped, text)}"'


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    return _SHORT_ESCAPES.get(character) or f"\\u{ord(character):04X}"
