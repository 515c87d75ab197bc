"""Numbers as RapidJSON reads them: integers of 64 bits, everything else a double, rounded in up to three steps.

A double may differ from the nearest one by a unit in the last place, which shows in an answer that repeats an input.
For up to 15 digits without an exponent, all ways of rounding give the same double.
"""
import math
import sys

_MIN_INT64, _MAX_UINT64 = -2**63, 2**64 - 1
_TWO_53 = 2**53


class NumberTooBigError(Exception):
    """The number does not fit into a double, and RapidJSON notices it (where it does not, the value is infinity)."""


def number(token: bytes) -> int | float:
    """The value of a number as RapidJSON computes it. Raises NumberTooBigError."""
    if token.isdigit() or token[1:].isdigit():
        return _integer(token)
    if token[-1] in b"Nfy":
        return math.nan if token.endswith(b"NaN") else -math.inf if token[0] == 0x2D else math.inf
    if len(token) < 17 and b"e" not in token and b"E" not in token:
        return float(token)  # at most 15 digits: all ways of rounding give the same double
    mantissa, _, exponent = token.replace(b"E", b"e").partition(b"e")
    minus = token[0] == 0x2D
    significand, scale = _significand(mantissa.lstrip(b"-"), -_MIN_INT64 if minus else _MAX_UINT64)
    # Cut, since int() refuses thousands of digits; an exponent of nine digits is beyond every limit anyway.
    power = int(exponent.lstrip(b"+-0")[:9] or b"0") * (-1 if exponent.startswith(b"-") else 1)
    if power > max(308 - scale, 9):
        # RapidJSON checks the sum only from the exponent's second digit on.
        raise NumberTooBigError
    value = _scaled(significand, max(power, -10**6) + scale)
    return -value if minus else value


def _integer(token: bytes) -> int | float:
    if len(token) <= 20 and _MIN_INT64 <= (value := int(token)) <= _MAX_UINT64:
        return value
    return -_grown(token[1:], -_MIN_INT64) if token[0] == 0x2D else _grown(token, _MAX_UINT64)


def _grown(digits: bytes, limit: int) -> float:
    """An integer above the limit: RapidJSON continues in double precision, digit by digit."""
    whole = used = 0
    while whole * 10 + digits[used] - 0x30 <= limit:
        whole = whole * 10 + digits[used] - 0x30
        used += 1
    value = float(whole)
    for digit in digits[used:]:
        if value >= sys.float_info.max / 10:
            raise NumberTooBigError
        value = value * 10.0 + (digit - 0x30)
    return value


def _significand(mantissa: bytes, limit: int) -> tuple[float, int]:
    """The digits as a double (at most 17 of them count), and the power of ten to multiply it by."""
    whole, _, fraction = mantissa.partition(b".")
    if len(whole) > 20 or (value := int(whole)) > limit:
        return _grown(whole, limit), 0
    digits, scale = len(whole) - 1, 0
    for digit in fraction:
        if value >= _TWO_53:
            break
        value = value * 10 + digit - 0x30
        scale -= 1
        digits += value != 0
    rounded = float(value)
    for digit in fraction[-scale:]:
        if digits >= 17:
            break
        rounded = rounded * 10.0 + (digit - 0x30)
        scale -= 1
        digits += rounded > 0.0
    return rounded, scale


def _scaled(value: float, power: int) -> float:
    if power < -616:
        return 0.0
    if power < -308:
        value, power = value / 1e308, power + 308
    value = value / float(f"1e{-power}") if power < 0 else value * float(f"1e{power}")
    # The original runs with denormals flushed to zero.
    return value if value >= sys.float_info.min else 0.0
