"""Constants: TensorProto <-> numpy, and the data types of TensorFlow by number.

The numbers are those of tensorflow/core/framework/types.proto, written out here so that `--help` and the list of
transforms do not import TensorFlow.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tensorflow.core.framework.tensor_pb2 import TensorProto

Array = NDArray[Any]


class DType(int):
    """A DataType number. A separate class, so that an attribute of type `type` is not mistaken for an `int`."""

    def __repr__(self) -> str:
        return NAMES.get(self, f"dtype {int(self)}")


FLOAT, DOUBLE, INT32, STRING, INT64, BOOL = map(DType, (1, 2, 3, 7, 9, 10))
UINT8, INT16, INT8, QINT8, UINT16, UINT32, UINT64 = map(DType, (4, 5, 6, 11, 17, 22, 23))
QUINT8, QINT32, BFLOAT16, HALF, RESOURCE, VARIANT = map(DType, (12, 13, 14, 19, 20, 21))

NAMES: dict[int, str] = {
    1: "float", 2: "double", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string", 8: "complex64", 9: "int64",
    10: "bool", 11: "qint8", 12: "quint8", 13: "qint32", 14: "bfloat16", 15: "qint16", 16: "quint16", 17: "uint16",
    18: "complex128", 19: "half", 20: "resource", 21: "variant", 22: "uint32", 23: "uint64"}
ALIASES = {"float32": 1, "float64": 2, "float16": 19}

_NUMPY: dict[int, Any] = {
    1: np.float32, 2: np.float64, 3: np.int32, 4: np.uint8, 5: np.int16, 6: np.int8, 8: np.complex64, 9: np.int64,
    10: np.bool_, 14: ml_dtypes.bfloat16, 17: np.uint16, 18: np.complex128, 19: np.float16, 22: np.uint32,
    23: np.uint64}
_NUMBER = {np.dtype(kind): number for number, kind in _NUMPY.items()}


def dtype_named(name: str) -> DType | None:
    """The data type of a name that the Graph Transform Tool accepts ('float', 'DT_FLOAT', 'float32'), or None."""
    wanted = name.lower().removeprefix("dt_")
    by_name = {text: number for number, text in NAMES.items()} | ALIASES
    return DType(by_name[wanted]) if wanted in by_name else None


def dtype_name(dtype: int) -> str:
    """The data type's name as all commands print it: numpy's ("float32"), or TensorFlow's if numpy has none."""
    if dtype in _NUMPY:
        return str(np.dtype(_NUMPY[dtype]).name)
    return NAMES.get(dtype, str(dtype))


def dtype_of(array: Array) -> DType:
    return DType(STRING if array.dtype == object else _NUMBER[array.dtype])


def numpy_dtype(dtype: int) -> Any:
    """The numpy type of a DataType number; object for strings. Raises KeyError for resources, variants, quantized."""
    return object if dtype == STRING else _NUMPY[dtype]


def to_array(proto: TensorProto) -> Array:
    """The tensor's value. For numeric types it is a read-only view of the proto's bytes if those are packed."""
    if proto.tensor_content and proto.dtype in _NUMPY:
        shape = [dim.size for dim in proto.tensor_shape.dim]
        return np.frombuffer(proto.tensor_content, numpy_dtype(proto.dtype)).reshape(shape)
    from export.runtime import tf
    return np.asarray(tf.make_ndarray(proto))


def shape_of(proto: TensorProto) -> tuple[int, ...]:
    return tuple(dim.size for dim in proto.tensor_shape.dim)


def to_proto(array: Array, dtype: int | None = None) -> TensorProto:
    """A TensorProto of `array`; `dtype` names a quantized type whose integers the array holds."""
    from tensorflow.core.framework.tensor_pb2 import TensorProto
    proto = TensorProto(dtype=dtype_of(array) if dtype is None else dtype)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if array.dtype == object:
        proto.string_val.extend(item if isinstance(item, bytes) else str(item).encode() for item in array.ravel())
    else:
        proto.tensor_content = np.ascontiguousarray(array).tobytes()
    return proto
