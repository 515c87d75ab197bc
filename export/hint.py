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
    number: bool = False
    base64: bool = False
    json: bool = False
    compression: str = ""
    separator: bytes = b" "
    columns: tuple[tuple[int, Hint], ...] = ()  # of a CSV line: each column's type and hint
    raw: Bytes | None = None
    example: dict[str, Feature] | None = None
    steps: dict[str, Feature] | None = None  # a SequenceExample's feature lists; its context is `example`
    row_splits: bool = False
