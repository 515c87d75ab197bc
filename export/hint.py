"""What is known of the values of one input of a model."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Bytes:
    """A string of raw numbers, which `op` reads as `dtype`; `shape` None: any number of them."""

    op: str
    dtype: int
    shape: tuple[int, ...] | None
    hint: Hint


@dataclass(frozen=True)
class Message:
    """A protocol buffer message of type `name`; `fields`: name, type, hint and number of values of those that are read.

    `source` and `form` are DecodeProto's attributes descriptor_source and message_format.
    """

    name: str
    source: str
    form: str
    fields: tuple[tuple[str, int, Hint, int], ...]


@dataclass
class Feature:
    """A feature of a tf.Example; `shape` None: any number of values."""

    dtype: int
    shape: tuple[int, ...] | None
    hint: Hint


@dataclass
class Hint:
    """What is known about one input's values; integers are in [0, below)."""

    below: int | None = None
    words: tuple[Any, ...] = ()
    sentence: bool = False
    image: str = ""
    pixels: tuple[int, int, int] | None = None  # the image's height, width and channels; None: any
    number: bool = False
    whole: bool = False
    # What the string is wrapped in, outermost first: "base64", "json" (of an example), or a compression's name.
    wrappings: tuple[str, ...] = ()
    separator: bytes = b" "
    columns: tuple[tuple[int, Hint], ...] = ()  # of a CSV line: each column's type and hint
    raw: Bytes | None = None
    message: Message | None = None
    example: dict[str, Feature] | None = None
    steps: dict[str, Feature] | None = None  # a SequenceExample's feature lists; its context is `example`
    row_splits: bool = False
