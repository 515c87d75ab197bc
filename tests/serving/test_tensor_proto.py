"""Round trips of every dtype, and agreement with TensorFlow's Python and C++ readers."""
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from serving import tensor_proto
from serving.protos import tensor_pb2, types_pb2

NAMED = {name: number for name, number in types_pb2.DataType.items() if not name.endswith("_REF")}
WITHOUT_ARRAYS = {"DT_INVALID", "DT_RESOURCE", "DT_VARIANT"}
NUMERIC = sorted(number for name, number in NAMED.items() if name not in WITHOUT_ARRAYS | {"DT_STRING"})
# The dtypes that TensorFlow's ParseTensor kernel is registered for.
PARSED_BY_CPP = ["FLOAT", "DOUBLE", "HALF", "BFLOAT16", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16",
                 "UINT32", "UINT64", "BOOL", "COMPLEX64", "COMPLEX128", "STRING"]
SHAPES = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
ids = tensor_proto.data_type_name


@pytest.fixture(scope="module")
def tf() -> Any:
    import tensorflow
    return tensorflow


def some_values(data_type: int, shape: tuple[int, ...], seed: int = 5) -> Any:
    """Random bit patterns: NaN payloads, subnormals and negative zeros come along."""
    dtype = tensor_proto.numpy_dtype(data_type)
    random = np.random.default_rng(seed)
    if data_type == types_pb2.DT_STRING:
        values = np.empty(int(np.prod(shape, dtype=int)), object)
        values[:] = [random.bytes(int(random.integers(0, 300))) for _ in values]
        return values.reshape(shape)
    if data_type == types_pb2.DT_BOOL:
        return random.integers(0, 2, shape).astype(bool)
    if str(dtype).removeprefix("u") in ("int2", "int4", "float4_e2m1fn"):  # narrower than their byte
        return random.integers(0, 2, shape).astype(np.int8).astype(dtype)
    size = int(np.prod(shape, dtype=int))
    return np.frombuffer(random.bytes(size * dtype.itemsize), dtype).reshape(shape)


def same_bits(a: Any, b: Any) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return a.tolist() == b.tolist() if a.dtype == object else bool(a.tobytes() == b.tobytes())


def proto(dtype: str, shape: tuple[int, ...], **fields: Any) -> Any:
    made = tensor_pb2.TensorProto(dtype=NAMED[f"DT_{dtype}"], **fields)
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


def test_every_data_type_is_covered() -> None:
    for name, number in NAMED.items():
        if name in WITHOUT_ARRAYS:
            with pytest.raises(ValueError, match=f"{name} tensors have no numpy form"):
                tensor_proto.numpy_dtype(number)
        else:
            assert tensor_proto.data_type(tensor_proto.numpy_dtype(number)) == number
    assert tensor_proto.data_type_name(999) == "DataType 999"


@pytest.mark.parametrize("data_type", [*NUMERIC, types_pb2.DT_STRING], ids=ids)
@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (2, 3, 4)], ids=str)
def test_round_trip_keeps_every_bit(data_type: int, shape: tuple[int, ...]) -> None:
    array = some_values(data_type, shape)
    wire = tensor_proto.to_proto(array).SerializeToString()
    assert same_bits(tensor_proto.to_ndarray(tensor_pb2.TensorProto.FromString(wire)), array)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(npst.arrays(st.one_of(npst.floating_dtypes(endianness="?"), npst.integer_dtypes(endianness="?"),
                             npst.complex_number_dtypes(), npst.boolean_dtypes()).filter(
                                 lambda dtype: dtype.itemsize <= 16 and dtype.char not in "gG"), SHAPES))
def test_round_trip_of_any_array(array: Any) -> None:
    back = tensor_proto.to_ndarray(tensor_proto.to_proto(array))
    assert same_bits(back, array.astype(array.dtype.newbyteorder("=")))


@settings(derandomize=True, deadline=None, max_examples=150)
@given(npst.arrays(object, SHAPES, elements=st.one_of(st.binary(), st.text())))
def test_round_trip_of_strings(array: Any) -> None:
    back = tensor_proto.to_ndarray(tensor_proto.to_proto(array))
    assert back.shape == array.shape
    assert back.ravel().tolist() == [v.encode() if isinstance(v, str) else v for v in array.ravel().tolist()]


def test_strings_of_numpys_string_dtypes() -> None:
    assert tensor_proto.to_proto(np.array(["é", "b"])).string_val == ["é".encode(), b"b"]
    assert tensor_proto.to_proto(np.array([b"\x00a"])).string_val == [b"\x00a"]


def test_numeric_content_is_viewed_not_copied() -> None:
    array = tensor_proto.to_ndarray(proto("FLOAT", (2, 2), tensor_content=bytes(16)))
    assert not array.flags.writeable
    assert not array.flags.owndata


@pytest.mark.parametrize("view", [np.arange(24.0).reshape(4, 6)[::2, ::-1], np.arange(6).reshape(2, 3).T],
                         ids=["strided", "transposed"])
def test_arrays_of_any_layout(view: Any) -> None:
    np.testing.assert_array_equal(tensor_proto.to_ndarray(tensor_proto.to_proto(view)), view)


@pytest.mark.parametrize("data_type", [*NUMERIC, types_pb2.DT_STRING], ids=ids)
def test_agrees_with_make_tensor_proto_and_make_ndarray(tf: Any, data_type: int) -> None:
    for shape in [(), (2, 3)]:
        array = some_values(data_type, shape)
        assert same_bits(tf.make_ndarray(tensor_proto.to_proto(array)), array)
        if shape:  # make_tensor_proto cannot take scalars of some of these dtypes
            assert same_bits(tensor_proto.to_ndarray(tf.make_tensor_proto(array)), array)


TYPED = {
    "FLOAT": ("float_val", [1.5, -2, float("inf")]), "DOUBLE": ("double_val", [1e-300, 2, 3]),
    "INT32": ("int_val", [1, -2, 3]), "INT8": ("int_val", [1, -128, 300]),
    "UINT8": ("int_val", [1, 255, 256]), "INT16": ("int_val", [1, -32768, 70000]),
    "UINT16": ("int_val", [1, 65535, 3]),
    "INT64": ("int64_val", [1, -2**63, 3]), "UINT32": ("uint32_val", [1, 2**32 - 1, 3]),
    "UINT64": ("uint64_val", [1, 2**64 - 1, 3]), "BOOL": ("bool_val", [True, False, True]),
    "COMPLEX64": ("scomplex_val", [1, 2, 3, 4, 5, 6]), "COMPLEX128": ("dcomplex_val", [1, 2, 3, 4, 5, 6]),
    "HALF": ("half_val", [0x3C00, 0x7E01, 0xFC00]), "BFLOAT16": ("half_val", [0x3F80, 0x7FC1, 0xFF80]),
    "STRING": ("string_val", [b"a", b"", b"\x00\xff"]),
}


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("dtype", PARSED_BY_CPP)
def test_typed_fields_read_as_cpp_reads_them(tf: Any, dtype: str, count: int) -> None:
    """Short fields repeat their last value, empty ones are zeros, surplus values are ignored."""
    field, values = TYPED[dtype]
    for present in ([], values[:2], values):
        message = proto(dtype, (count,), **{field: present})
        theirs = tf.io.parse_tensor(message.SerializeToString(), tf.dtypes.as_dtype(message.dtype)).numpy()
        assert same_bits(tensor_proto.to_ndarray(message), theirs), present


@pytest.mark.parametrize("dtype", ["FLOAT8_E5M2", "FLOAT8_E4M3FN"])
def test_float8_field_as_python_reads_it(tf: Any, dtype: str) -> None:
    message = proto(dtype, (3,), float8_val=b"\x3c\x40\x01")
    assert same_bits(tensor_proto.to_ndarray(message), tf.make_ndarray(message))


@pytest.mark.parametrize("dtype", ["QINT8", "QUINT8", "QINT16", "QUINT16", "QINT32",
                                   "INT4", "UINT4", "INT2", "UINT2"])
def test_small_integers_in_int_val_as_python_reads_them(tf: Any, dtype: str) -> None:
    message = proto(dtype, (2,), int_val=[1, 0])
    assert same_bits(tensor_proto.to_ndarray(message), tf.make_ndarray(message))


def test_string_content_as_cpp_reads_it(tf: Any) -> None:
    long = b"x" * 300
    message = proto("STRING", (3,), tensor_content=b"\x01\xac\x02\x00" + b"a" + long)
    theirs = tf.io.parse_tensor(message.SerializeToString(), tf.string).numpy()
    assert tensor_proto.to_ndarray(message).tolist() == theirs.tolist() == [b"a", long, b""]


def test_content_wins_over_typed_fields_and_is_ignored_without_elements(tf: Any) -> None:
    for message in (proto("FLOAT", (1,), tensor_content=np.float32(1).tobytes(), float_val=[7]),
                    proto("FLOAT", (0,), tensor_content=b"abcd", float_val=[7])):
        theirs = tf.io.parse_tensor(message.SerializeToString(), tf.float32).numpy()
        assert same_bits(tensor_proto.to_ndarray(message), theirs)


@pytest.mark.parametrize(("message", "words"), [
    (proto("FLOAT", (2,), tensor_content=b"abc"), r"DT_FLOAT of shape \[2\] needs 8 bytes of .*, not 3"),
    (proto("FLOAT", (-1,), float_val=[1]), r"shape \[-1\]: a tensor's sizes must be known"),
    (proto("FLOAT", (2**40, 2**40), float_val=[1]), "more elements than any memory holds"),
    (proto("DOUBLE", (2**55,), double_val=[1]), "do not fit into memory"),
    (proto("STRING", (2**57,), string_val=[b"a"]), "do not fit into memory"),
    (proto("STRING", (2,), tensor_content=b"\x01\x03ab"), "2 strings of these lengths need 6 bytes"),
    (proto("STRING", (2,), tensor_content=b"\x01"), "ends before the lengths of its 2 strings"),
    (proto("STRING", (1,), tensor_content=b"\xff" * 12), "ends before the lengths"),
    (proto("INVALID", ()), "DT_INVALID tensors have no numpy form"),
    (proto("VARIANT", ()), "DT_VARIANT tensors have no numpy form"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_inconsistent_messages_are_refused(message: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tensor_proto.to_ndarray(message)


@pytest.mark.parametrize(("array", "words"), [
    (np.array(["2026-01-01"], "datetime64[D]"), r"datetime64\[D\] has no tensor type"),
    (np.array([1.0], np.longdouble), "has no tensor type"),
    (np.array([b"a", 1], object), r"a string tensor holds str or bytes, not int \(1\)"),
    (np.array([None], object), "not NoneType"),
    (np.broadcast_to(np.zeros(1, np.float32), (2**30,)), "4294967296 bytes does not fit into one message"),
    (np.zeros(1, ml_dtypes.float8_e3m4), "float8_e3m4 has no tensor type"),
], ids=["datetime", "longdouble", "mixed", "none", "2GB", "unknown float8"])
def test_arrays_without_a_message_are_refused(array: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tensor_proto.to_proto(array)
