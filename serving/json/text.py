"""Text as TensorFlow Serving's JSON writer makes it: strings, and values quoted in error messages."""
import math
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from serving.json.rapidjson import Value, members

_QUOTED = re.compile(r'["\\\x00-\x1f]')
_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_QUOTE_LIMIT = 256


def quote(value: Value) -> str:
    """The text of a value as error messages quote it: indented, arrays on one line, cut after 256 characters.

    It is also cut at a number that is not finite: RapidJSON's writer stops at NaN and infinities.
    """
    text = ""
    for token in _tokens(value):
        text += token
        if len(text.encode("utf-8", "surrogateescape")) >= _QUOTE_LIMIT:
            break
    return text


def _tokens(value: Value) -> Iterator[str]:
    """The text in the pieces in which RapidJSON's writer makes it; the limit is checked between pieces."""
    stack: list[tuple[Iterator[Any], str, int]] = []
    prefix = ""
    while True:
        if isinstance(value, dict):
            yield prefix + "{"
            stack.append((iter(members(value)), "}", 0))
        elif isinstance(value, list):
            yield prefix + "["
            stack.append((iter(value), "]", 0))
        elif isinstance(value, float) and not math.isfinite(value):
            yield prefix
            return
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
    """A finite number with enough digits to read it back unchanged, in RapidJSON's format: 1.0, 0.001, 1e30."""
    sign = "-" if math.copysign(1, value) < 0 else ""
    if value == 0:
        return sign + "0.0"
    digits, power = _grisu2(abs(value))
    point = len(digits) + power  # the value is 0.DIGITS * 10**point
    if power >= 0 and point <= 21:
        return f"{sign}{digits.ljust(point, '0')}.0"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    return f"{sign}{digits[0]}{'.' if digits[1:] else ''}{digits[1:]}e{point - 1}"


def _grisu2(value: float) -> tuple[str, int]:
    """Digits and power of ten of a positive double by Grisu2 (Loitsch 2010), which RapidJSON uses.

    Not repr(): Grisu2 works in 64 bits. Its digits always read back as the value, but are not always the closest to it.
    """
    fraction, exponent = math.frexp(value)
    whole, exponent = int(fraction * 2**53), exponent - 53
    # The boundaries to the adjacent doubles, and the value itself, scaled to 64 bits.
    shift = 64 - (2 * whole + 1).bit_length()
    high, exponent = (2 * whole + 1) << shift, exponent - 1 - shift
    low = (4 * whole - 1) << (shift - 1) if whole == 2**52 else (2 * whole - 1) << shift
    power = -348 + 8 * ((math.ceil((-61 - exponent) * 0.30102999566398114 + 347) >> 3) + 1)
    scale, scale_exponent = _power_of_ten(power)
    middle, high, low = (_upper_half(part * scale) for part in (whole << (shift + 1), high, low))
    unit = -(exponent + scale_exponent + 64)
    high, low = high - 1, low + 1
    delta, distance = high - low, high - middle
    digits = str(high >> unit)
    for left in range(len(digits) - 1, -1, -1):
        ten = 10**left << unit
        rest = high % ten
        if rest <= delta:
            return _rounded(digits[:len(digits) - left], delta, rest, ten, distance), left - power
    rest, left = high % (1 << unit), 0
    while True:
        rest, delta, left = rest * 10, delta * 10, left - 1
        digits += str(rest >> unit)
        rest %= 1 << unit
        if rest < delta:
            scaled = distance * 10**-left if left > -9 else 0
            return _rounded(digits, delta, rest, 1 << unit, scaled), left - power


def _rounded(digits: str, delta: int, rest: int, ten: int, distance: int) -> str:
    """Decreases the last digit as long as that brings the number closer to the value."""
    last = int(digits)
    while rest < distance and delta - rest >= ten and (
            rest + ten < distance or distance - rest > rest + ten - distance):
        last -= 1
        rest += ten
    return str(last)


def _upper_half(product: int) -> int:
    return (product + (1 << 63)) >> 64


def _power_of_ten(power: int) -> tuple[int, int]:
    """10**power as 64 bits and a binary exponent, rounded."""
    numerator, denominator = (10**power, 1) if power >= 0 else (1, 10**-power)
    exponent = numerator.bit_length() - denominator.bit_length() - 64
    scaled = Fraction(numerator, denominator) / Fraction(2) ** exponent
    while scaled >= 2**64:
        scaled, exponent = scaled / 2, exponent + 1
    return round(scaled), exponent


def string(text: str) -> str:
    """A JSON string as RapidJSON writes it: only quotes, backslashes and control characters are escaped."""
    return f'"{_QUOTED.sub(_escaped, text)}"'


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    return _SHORT_ESCAPES.get(character) or f"\\u{ord(character):04X}"
