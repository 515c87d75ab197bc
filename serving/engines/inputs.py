"""Refuses values of another type or shape than an engine takes, in the words that TensorFlow has for it."""
from typing import Any

import numpy as np

from serving.errors import ServingError, invalid
from serving.servable import Array
from serving.tensor_proto import data_type, data_type_name


def check_type(place: int, value: Array, wanted: np.dtype[Any]) -> None:
    """Raises INVALID_ARGUMENT if the input number `place` has another dtype than `wanted`."""
    if value.dtype != wanted:
        raise invalid(f"Expects arg[{place}] to be {_type_name(wanted)} but {_type_name(value.dtype)} is provided")


def check_indices(value: Array, size: int) -> None:  # decision 212
    """Raises INVALID_ARGUMENT if a value is no index of a table of `size` rows."""
    if value.size and (value.min() < 0 or value.max() >= size):
        place = tuple(int(axis) for axis in np.argwhere((value < 0) | (value >= size))[0])
        raise invalid(f"indices[{','.join(map(str, place))}] = {value[place]} is not in [0, {size})")


def wrong_shape(tensor: str, given: tuple[int, ...], declared: tuple[int, ...] | None) -> ServingError:
    """The error for a value of another shape; -1 in `declared`: any size."""
    return invalid(f"Shape of tensor {tensor} {shown(given)} is not compatible with expected shape {shown(declared)}.")


def fits(shape: tuple[int, ...], declared: tuple[int, ...] | None) -> bool:
    """Whether a shape is one that `declared` allows (-1: any size; None: any rank)."""
    return declared is None or (len(shape) == len(declared) and all(
        size in (-1, given) for size, given in zip(declared, shape, strict=True)))


def no_examples(tensor: str, shape: tuple[int, ...] | None) -> ServingError:
    """The error for an output that has no form without examples."""
    return invalid(f"an empty batch has no '{tensor}': its shape is {shown(shape)}")


def shown(shape: tuple[int, ...] | None) -> str:
    """A shape as TensorFlow prints it: [?,28,28]."""
    return "<unknown>" if shape is None else f"[{','.join('?' if size < 0 else str(size) for size in shape)}]"


def _type_name(dtype: np.dtype[Any]) -> str:
    return data_type_name(data_type(dtype)).removeprefix("DT_").lower()
