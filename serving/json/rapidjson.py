"""JSON as TensorFlow Serving reads it: RapidJSON's grammar, error texts, offsets and rounding of numbers.

This parser is exact, not fast: it reads bodies that are wrong or unusual, so that the answer equals the original's.
Differences from the JSON standard, all RapidJSON's: NaN and Infinity are numbers, text after the first value is
ignored, bytes that are not UTF-8 are accepted, and a number is rounded in up to three steps (so it may be wrong by a
unit in the last place). Nesting is bounded, and the parser does not recurse.

Values: dict (Repeated if a name occurs twice), list, str (bytes that are not UTF-8 as surrogate escapes), int (if it
fits into 64 bits), float, bool, None.
"""
import math
import re
from collections.abc import Iterable
from typing import Any, TypeAlias

from serving.json.rapidjson_number import NumberTooBigError, number

Value: TypeAlias = Any

_SPACE = re.compile(rb"[ \n\r\t]*")
_PLAIN_STRING = re.compile(rb'"([^"\\\x00-\x1f]*)"')
_PIECE = re.compile(rb'[^"\\\x00-\x1f]*')
_HEX4 = re.compile(rb"[0-9A-Fa-f]{4}")
_DIGITS = re.compile(rb"[0-9]*")
_NUMBER = rb"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|NaN|Inf(?:inity)?)"
_SPACED_COMMA = rb"[ \n\r\t]*,[ \n\r\t]*"
# RapidJSON has no limit but the size of its stack; this is ten times the depth that the original was seen to accept.
_MAX_DEPTH = 100_000
_REST_OF_NUMBERS = re.compile(b"(?:" + _NUMBER + _SPACED_COMMA + b")*" + _NUMBER + rb"(?=[ \n\r\t]*\])")
_ESCAPES = {ord(c): value for c, value in zip('"\\/bfnrt', '"\\/\b\f\n\r\t', strict=True)}
_LITERALS: dict[int, tuple[bytes, Value]] = {
    ord("t"): (b"true", True), ord("f"): (b"false", False), ord("n"): (b"null", None)}



class JsonError(Exception):
    """A body that is not JSON. `offset` is in bytes; None if TensorFlow Serving's message has none."""

    def __init__(self, text: str, offset: int | None = None) -> None:
        super().__init__(text if offset is None else f"{text} at offset: {offset}")


class Repeated(dict[str, Value]):
    """An object in which a name occurs more than once: the mapping has each name's first value, `pairs` has all."""

    def __init__(self, pairs: list[tuple[str, Value]]) -> None:
        super().__init__(reversed(pairs))
        self.pairs = pairs


def members(value: dict[str, Value]) -> Iterable[tuple[str, Value]]:
    """The members of an object in their order, with repeated ones."""
    return value.pairs if isinstance(value, Repeated) else value.items()


def parse(text: bytes) -> Value:  # decision 42
    """The first value in `text`. Raises JsonError with RapidJSON's message."""
    if not text:
        raise JsonError("The document is empty")
    return _Parser(text).document()


class _Parser:
    def __init__(self, text: bytes) -> None:
        self.text = text + b"\0"  # RapidJSON reads a NUL where the text ends
        self.at = 0

    def error(self, text: str, offset: int | None = None) -> JsonError:
        return JsonError(text, self.at if offset is None else offset)

    def skip_space(self) -> int:
        """Moves to the next character that is not white space and returns it."""
        found = _SPACE.match(self.text, self.at)
        assert found
        self.at = found.end()
        return self.text[self.at]

    def take(self, character: bytes) -> bool:
        if self.text[self.at] == character[0]:
            self.at += 1
            return True
        return False

    def document(self) -> Value:
        for mark in b"\xef\xbb\xbf":
            if self.text[self.at] == mark:
                self.at += 1
        if self.skip_space() == 0:
            raise self.error("The document is empty.")
        # Open arrays and objects; for an object also the name whose value comes next.
        stack: list[tuple[list[Any], str | None]] = []
        while True:
            value, opened = self.value_or_open(stack)
            while not opened:
                if not stack:
                    return value
                value, opened = self.close_or_next(stack, value)

    def value_or_open(self, stack: list[tuple[list[Any], str | None]]) -> tuple[Value, bool]:
        """Reads a scalar or an empty container (then False), or the beginning of a container (then True)."""
        first = self.text[self.at]
        if first == 0x5B:  # [
            self.at += 1
            if self.skip_space() == 0x5D:
                self.at += 1
                return [], False
            self.open(stack, self.numbers(), None)
            return None, True
        if first == 0x7B:  # {
            self.at += 1
            if self.skip_space() == 0x7D:
                self.at += 1
                return {}, False
            self.open(stack, [], self.name())
            return None, True
        if first == 0x22:
            return self.string(), False
        if first in _LITERALS:
            return self.literal(*_LITERALS[first]), False
        return self.number(), False

    def open(self, stack: list[tuple[list[Any], str | None]], container: list[Any], name: str | None) -> None:
        if len(stack) >= _MAX_DEPTH:
            raise self.error("Terminate parsing due to Handler error.")
        stack.append((container, name))

    def close_or_next(self, stack: list[tuple[list[Any], str | None]], value: Value) -> tuple[Value, bool]:
        """Adds a value to the innermost open container. Returns (the container, False) if that is now complete, else
        (None, True): another value follows."""
        container, name = stack[-1]
        if name is None:
            container.append(value)
            following = self.skip_space()
            self.at += 1
            if following == 0x2C:
                self.skip_space()
                return None, True
            if following == 0x5D:
                stack.pop()
                return container, False
            raise self.error("Missing a comma or ']' after an array element.", self.at - 1)
        container.append((name, value))
        following = self.skip_space()
        self.at += 1
        if following == 0x2C:
            self.skip_space()
            stack[-1] = (container, self.name())
            return None, True
        if following == 0x7D:
            stack.pop()
            unique = dict(container)
            return (unique if len(unique) == len(container) else Repeated(container)), False
        raise self.error("Missing a comma or '}' after an object member.", self.at - 1)

    def name(self) -> str:
        if self.text[self.at] != 0x22:
            raise self.error("Missing a name for object member.")
        name = self.string()
        if self.skip_space() != 0x3A:
            raise self.error("Missing a colon after a name of object member.")
        self.at += 1
        self.skip_space()
        return name

    def literal(self, word: bytes, value: Value) -> Value:
        for character in word:
            if self.text[self.at] != character:
                raise self.error("Invalid value.")
            self.at += 1
        return value

    def string(self) -> str:
        plain = _PLAIN_STRING.match(self.text, self.at)
        if plain:
            self.at = plain.end()
            return plain[1].decode("utf-8", "surrogateescape")
        self.at += 1
        pieces: list[bytes] = []
        while True:
            piece = _PIECE.match(self.text, self.at)
            assert piece
            pieces.append(piece[0])
            self.at = piece.end()
            following = self.text[self.at]
            if following == 0x22:
                self.at += 1
                return b"".join(pieces).decode("utf-8", "surrogateescape")
            if following == 0:
                raise self.error("Missing a closing quotation mark in string.")
            if following < 0x20:
                raise self.error("Invalid escape character in string.")
            pieces.append(self.escape())

    def escape(self) -> bytes:
        start = self.at
        kind = self.text[start + 1]
        self.at += 2
        if kind in _ESCAPES:
            return _ESCAPES[kind].encode()
        if kind != 0x75:  # u
            raise self.error("Invalid escape character in string.", start)
        code = self.hex4(start)
        if 0xD800 <= code <= 0xDBFF:
            if not (self.take(b"\\") and self.take(b"u")):
                raise self.error("The surrogate pair in string is invalid.", start)
            low = self.hex4(start)
            if not 0xDC00 <= low <= 0xDFFF:
                raise self.error("The surrogate pair in string is invalid.", start)
            code = (((code - 0xD800) << 10) | (low - 0xDC00)) + 0x10000
        return chr(code).encode("utf-8", "surrogatepass")

    def hex4(self, start: int) -> int:
        found = _HEX4.match(self.text, self.at)
        if not found:
            raise self.error("Incorrect hex digit after \\u escape in string.", start)
        self.at += 4
        return int(found[0], 16)

    def numbers(self) -> list[Value]:
        """In an array of numbers only: all but the last of them, found by one regular expression. Otherwise nothing."""
        found = _REST_OF_NUMBERS.match(self.text, self.at)
        if not found:
            return []
        *tokens, last = found[0].split(b",")
        self.at = found.end() - len(last.lstrip(b" \n\r\t"))
        try:
            return [number(token.strip(b" \n\r\t")) for token in tokens]
        except NumberTooBigError:
            # One number is too big; reading them one by one finds its offset.
            self.at = found.start()
            return []

    def number(self) -> int | float:
        start = self.at
        minus = self.take(b"-")
        first = self.text[self.at]
        if first == 0x30:
            self.at += 1
        elif 0x31 <= first <= 0x39:
            self.at = self.digits_end(self.at)
        elif first in b"NI":
            return self.not_finite(minus)
        else:
            raise self.error("Invalid value.")
        if self.take(b"."):
            if self.digits_end(self.at) == self.at:
                raise self.error("Miss fraction part in number.")
            self.at = self.digits_end(self.at)
        if self.text[self.at] in b"eE":
            self.at += 1
            if self.text[self.at] in b"+-":
                self.at += 1
            if self.digits_end(self.at) == self.at:
                raise self.error("Miss exponent in number.")
            self.at = self.digits_end(self.at)
        try:
            return number(self.text[start:self.at])
        except NumberTooBigError:
            raise self.error("Number too big to be stored in double.", start) from None

    def digits_end(self, at: int) -> int:
        found = _DIGITS.match(self.text, at)
        assert found
        return found.end()

    def not_finite(self, minus: bool) -> float:
        if self.take(b"N") and self.take(b"a") and self.take(b"N"):
            return math.nan
        if self.take(b"I") and self.take(b"n") and self.take(b"f"):
            if self.text[self.at] == 0x69:
                self.literal(b"inity", None)
            return -math.inf if minus else math.inf
        raise self.error("Invalid value.")
