"""numpy <-> TensorProto, every dtype, without TensorFlow.

Reading follows TensorFlow's C++ (Tensor::FromProto), since that is what a server accepts: `tensor_content`
wins over the typed fields; a typed field that is too short repeats its last value, or holds zeros when it is
empty; surplus values are ignored. Writing puts every numeric dtype into `tensor_content`: one copy, no loop.
"""
import math
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from serving.protos import tensor_pb2, types_pb2

Array: TypeAlias = NDArray[Any]
DType: TypeAlias = np.dtype[Any]
TensorProto: TypeAlias = tensor_pb2.TensorProto

DT_STRING: int = types_pb2.DT_STRING
STRING = np.dtype(object)
_MAX_MESSAGE_BYTES = 2**31 - 1

# DataType -> numpy dtype, and the typed field that holds its values when tensor_content does not.
_TYPES: dict[int, tuple[DType, str]] = {
    types_pb2.DataType.Value(f"DT_{name}"): (np.dtype(dtype), field) for name, dtype, field in (
        ("FLOAT", np.float32, "float_val"),
        ("DOUBLE", np.float64, "double_val"),
        ("HALF", np.float16, "half_val"),
        ("BFLOAT16", ml_dtypes.bfloat16, "half_val"),
        ("FLOAT8_E5M2", ml_dtypes.float8_e5m2, "float8_val"),
        ("FLOAT8_E4M3FN", ml_dtypes.float8_e4m3fn, "float8_val"),
        ("FLOAT8_E4M3FNUZ", ml_dtypes.float8_e4m3fnuz, "float8_val"),
        ("FLOAT8_E4M3B11FNUZ", ml_dtypes.float8_e4m3b11fnuz, "float8_val"),
        ("FLOAT8_E5M2FNUZ", ml_dtypes.float8_e5m2fnuz, "float8_val"),
        ("FLOAT4_E2M1FN", ml_dtypes.float4_e2m1fn, "float8_val"),
        ("COMPLEX64", np.complex64, "scomplex_val"),
        ("COMPLEX128", np.complex128, "dcomplex_val"),
        ("INT2", ml_dtypes.int2, "int_val"),
        ("INT4", ml_dtypes.int4, "int_val"),
        ("INT8", np.int8, "int_val"),
        ("INT16", np.int16, "int_val"),
        ("INT32", np.int32, "int_val"),
        ("INT64", np.int64, "int64_val"),
        ("UINT2", ml_dtypes.uint2, "int_val"),
        ("UINT4", ml_dtypes.uint4, "int_val"),
        ("UINT8", np.uint8, "int_val"),
        ("UINT16", np.uint16, "int_val"),
        ("UINT32", np.uint32, "uint32_val"),
        ("UINT64", np.uint64, "uint64_val"),
        ("BOOL", np.bool_, "bool_val"),
        ("STRING", STRING, "string_val"),
        # TensorFlow's own numpy dtypes of the quantized types: one named field each.
        ("QINT8", [("qint8", np.int8)], "int_val"),
        ("QINT16", [("qint16", np.int16)], "int_val"),
        ("QINT32", [("qint32", np.int32)], "int_val"),
        ("QUINT8", [("quint8", np.uint8)], "int_val"),
        ("QUINT16", [("quint16", np.uint16)], "int_val"),
    )
}
_DATA_TYPES = {dtype: data_type for data_type, (dtype, _) in _TYPES.items()}


def numpy_dtype(data_type: int) -> DType:
    """The numpy dtype of a DataType: `object` (of bytes) for strings. Raises ValueError if there is none."""
    if data_type not in _TYPES:
        raise ValueError(f"{data_type_name(data_type)} tensors have no numpy form")
    return _TYPES[data_type][0]


def data_type(dtype: DType) -> int:
    """The DataType of a numpy dtype: 'U', 'S' and 'O' are DT_STRING. Raises ValueError when there is none."""
    if dtype.kind in "US":
        return DT_STRING
    found = _DATA_TYPES.get(dtype if dtype.isnative else dtype.newbyteorder("="))
    if found is None:
        raise ValueError(f"numpy's {dtype} has no tensor type; convert the array, as in .astype('float32')")
    return found


def data_type_name(data_type: int) -> str:
    """"DT_FLOAT" for 1; "DataType N" for an unknown number N."""
    known = types_pb2.DataType.DESCRIPTOR.values_by_number.get(data_type)
    return known.name if known else f"DataType {data_type}"


def to_proto(array: Array | np.generic) -> TensorProto:
    """The TensorProto of an array of any dtype and shape; str elements become UTF-8.

    Raises ValueError for a dtype without a tensor type, an object array of anything but str and bytes, and content
    too large for a message (2 GB).
    """
    array = np.asarray(array)
    proto = TensorProto(dtype=data_type(array.dtype))
    # For a scalar the shape message is empty; SetInParent makes it present, as TensorFlow writes it.
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if proto.dtype == DT_STRING:
        proto.string_val.extend(_as_bytes(element) for element in array.ravel().tolist())
        return proto
    if array.nbytes > _MAX_MESSAGE_BYTES:
        raise ValueError(f"a tensor of {array.nbytes} bytes does not fit into one message (less than 2 GB); "
                         "send fewer examples")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    proto.tensor_content = array.tobytes()
    return proto


def to_ndarray(proto: TensorProto) -> Array:
    """The array of a TensorProto. Numeric `tensor_content` is not copied: such arrays are read-only views.

    Raises ValueError if dtype, shape and content do not fit together.
    """
    dtype, field = numpy_dtype(proto.dtype), _TYPES[proto.dtype][1]
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    count = math.prod(shape)
    if any(size < 0 for size in shape):
        raise ValueError(f"shape {_show(shape)}: a tensor's sizes must be known, not negative")
    if count * dtype.itemsize > np.iinfo(np.int64).max:
        raise ValueError(f"shape {_show(shape)}: more elements than any memory holds")
    content = proto.tensor_content
    try:
        if dtype == STRING:
            values = _split_strings(content, count) if count and content else _repeat(proto.string_val, count)
            return _object_array(values, shape)
        if not count or not content:
            return _padded(_typed_values(proto, field, dtype)[:count], count).reshape(shape)
    except (MemoryError, OverflowError):
        raise ValueError(f"shape {_show(shape)}: {count} elements do not fit into memory") from None
    if len(content) != count * dtype.itemsize:
        raise ValueError(f"{data_type_name(proto.dtype)} of shape {_show(shape)} needs "
                         f"{count * dtype.itemsize} bytes of tensor_content, not {len(content)}")
    return np.frombuffer(content, dtype).reshape(shape)


def _typed_values(proto: TensorProto, field: str, dtype: DType) -> Array:
    values = getattr(proto, field)
    if field == "float8_val":
        return np.frombuffer(values, dtype)
    if field == "half_val":
        return np.array(values, np.int32).astype(np.uint16).view(dtype)
    if dtype.kind == "c":
        # Real and imaginary parts alternate; a last real part without an imaginary part is ignored.
        parts = np.array(values, np.float32 if field == "scomplex_val" else np.float64)
        return parts[:len(parts) // 2 * 2].view(dtype)
    if dtype.names:
        return np.array(values, np.int32).astype(dtype.descr[0][1]).view(dtype)
    return np.array(values, np.int32 if field == "int_val" else dtype).astype(dtype, copy=False)


def _padded(values: Array, count: int) -> Array:
    if len(values) == count:
        return values
    whole = np.zeros(count, values.dtype)
    whole[:len(values)] = values
    if len(values):
        whole[len(values):] = values[-1]
    return whole


def _repeat(values: Any, count: int) -> list[bytes]:
    present = list(values[:count])
    return present + [present[-1] if present else b""] * (count - len(present))


def _object_array(values: list[bytes], shape: tuple[int, ...]) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)


def _split_strings(content: bytes, count: int) -> list[bytes]:
    """C++ writes strings into tensor_content as all lengths (varints), then all bytes."""
    sizes, at = [], 0
    for _ in range(count):
        size, shift = 0, 0
        while True:
            if at >= len(content) or shift > 63:
                raise ValueError(f"tensor_content ends before the lengths of its {count} strings")
            byte = content[at]
            at += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        sizes.append(size)
    if at + sum(sizes) != len(content):
        raise ValueError(f"{count} strings of these lengths need {at + sum(sizes)} bytes of tensor_content, "
                         f"not {len(content)}")
    values = []
    for size in sizes:
        values.append(content[at:at + size])
        at += size
    return values


def _as_bytes(element: object) -> bytes:
    if isinstance(element, bytes):
        return element
    if isinstance(element, str):
        return element.encode()
    raise ValueError(f"a string tensor holds str or bytes, not {type(element).__name__} ({element!r:.40})")


def _show(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"
