"""Inputs made from specs, and picked from samples."""
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving import tensor_proto
from serving.client import payloads
from serving.client.payloads import TensorSpec
from serving.protos import types_pb2
from user_error import UserError

IMAGE = {"image": TensorSpec(np.dtype(np.float32), (-1, 28, 28))}
ALL_DTYPES = [tensor_proto.numpy_dtype(number) for name, number in types_pb2.DataType.items()
              if not name.endswith("_REF") and name not in ("DT_INVALID", "DT_RESOURCE", "DT_VARIANT")]


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
def test_every_dtype_can_be_made_and_sent(dtype: Any) -> None:
    made = payloads.make({"x": TensorSpec(dtype, (-1, 3))}, batch=5)["x"]
    assert made.shape == (5, 3)
    assert made.dtype == dtype
    assert len(set(map(str, made.ravel().tolist()))) > 1, "inputs that are all the same test nothing"
    back = tensor_proto.to_ndarray(tensor_proto.to_proto(made))
    assert back.tolist() == made.tolist()


@pytest.mark.parametrize("content", [b"", b"x\n1,2\n", b'{"x": [1]}\n', b"\x80\x04K\x01."])
def test_a_file_of_another_kind_is_refused_without_advice_to_load_it_unsafely(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "samples.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"samples.csv: not a .npz file \(numpy.savez writes one"):
        payloads.load_samples(tmp_path / "samples.csv")


def test_a_single_array_is_no_file_of_samples(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones(3))
    with pytest.raises(UserError, match=r"x.npy: not a .npz file"):
        payloads.load_samples(tmp_path / "x.npy")


def test_a_file_without_arrays_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "none.npz")
    with pytest.raises(UserError, match=r"none\.npz: holds no array"):
        payloads.load_samples(tmp_path / "none.npz")


def test_inputs_depend_only_on_seed_batch_and_name() -> None:
    first = payloads.make(IMAGE, 4, seed=1)["image"]
    assert np.array_equal(first, payloads.make(IMAGE, 4, seed=1)["image"])
    assert not np.array_equal(first, payloads.make(IMAGE, 4, seed=2)["image"])
    both = payloads.make({"a": IMAGE["image"], "b": IMAGE["image"]}, 4, seed=1)
    assert not np.array_equal(both["a"], both["b"])


@pytest.mark.parametrize(("shape", "made"), [
    ((-1, 28), (3, 28)), ((-1, -1, 3), (3, 16, 3)), ((), ()), (None, (3,)), ((3, 2), (3, 2)),
], ids=str)
def test_shapes(shape: Any, made: Any) -> None:
    assert payloads.make({"x": TensorSpec(np.dtype(np.float32), shape)}, batch=3)["x"].shape == made


def test_a_fixed_batch_size_refuses_another() -> None:
    fixed = {"x": TensorSpec(np.dtype(np.float32), (1, 300, 300, 3)), "k": TensorSpec(np.dtype(np.int32), ())}
    assert payloads.make(fixed, batch=1)["x"].shape == (1, 300, 300, 3)
    with pytest.raises(UserError, match="batch size is fixed at 1: ask for that batch, not 8"):
        payloads.make(fixed, batch=8)
    with pytest.raises(UserError, match="at least 1 example"):
        payloads.make(IMAGE, batch=0)


def test_samples_are_picked_in_order_and_begin_again(tmp_path: Path) -> None:
    images = np.arange(5 * 784, dtype=np.float32).reshape(5, 28, 28)
    np.savez(tmp_path / "samples.npz", image=images, labels=np.arange(5))
    samples = payloads.load_samples(tmp_path / "samples.npz")
    picked = payloads.pick(samples, IMAGE, batch=4, start=3)
    assert list(picked) == ["image"]
    assert np.array_equal(picked["image"], images[[3, 4, 0, 1]])


def test_sample_strings_come_as_bytes(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", a=np.array(["é", "b"]), b=np.array([b"\xff"]))
    samples = payloads.load_samples(tmp_path / "s.npz")
    assert samples["a"].tolist() == ["é".encode(), b"b"]
    text = {"a": TensorSpec(np.dtype(object), (-1,))}
    assert payloads.pick(samples, text, 3)["a"].tolist() == ["é".encode(), b"b", "é".encode()]


@pytest.mark.parametrize(("arrays", "words"), [
    ({"other": np.zeros(3)}, "no array 'image'; they have: other"),
    ({"image": np.zeros((3, 27, 28), np.float32)}, r"are float32 \[3, 27, 28\], but the signature takes .*-1, 28, 28"),
    ({"image": np.zeros((0, 28, 28), np.float32)}, "hold no example"),
    ({"image": np.array([[["a"]]])}, "but the signature takes float32"),
], ids=["missing", "shape", "empty", "dtype"])
def test_samples_that_do_not_fit_are_refused(arrays: Any, words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "samples.npz", **arrays)
    with pytest.raises(UserError, match=words):
        payloads.pick(payloads.load_samples(tmp_path / "samples.npz"), IMAGE)


def test_files_that_are_not_samples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        payloads.load_samples(tmp_path / "missing.npz")
    for content in (b"", b"PK\x03\x04 broken", b"text"):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"bad\.npz: not a \.npz file"):
            payloads.load_samples(tmp_path / "bad.npz")
    np.save(tmp_path / "bad.npz.npy", np.zeros(3))
    (tmp_path / "bad.npz.npy").rename(tmp_path / "bad.npz")
    with pytest.raises(UserError, match=r"bad\.npz: not a \.npz file"):
        payloads.load_samples(tmp_path / "bad.npz")
    np.savez(tmp_path / "objects.npz", x=np.array([{"a": 1}], object))
    with pytest.raises(UserError, match=r"objects\.npz: not a \.npz file"):
        payloads.load_samples(tmp_path / "objects.npz")


F4 = np.dtype(np.float32)
REQUEST = {"image": TensorSpec(F4, (-1, 8, 8, 3)), "image_shape": TensorSpec(F4, (2,)), "threshold": TensorSpec(F4, ())}


def test_inputs_of_the_request_are_taken_whole() -> None:
    images = np.arange(5 * 192, dtype=np.float32).reshape(5, 8, 8, 3)
    samples = {"image": images, "image_shape": np.array([416, 300], np.float32), "threshold": np.array(0.1, np.float32)}
    picked = payloads.pick(samples, REQUEST, batch=3, start=3)
    assert np.array_equal(picked["image"], images[[3, 4, 0]])
    assert picked["image_shape"].tolist() == [416, 300]
    assert picked["threshold"].shape == ()
    assert payloads.examples(samples, REQUEST) == 5
    # With one more axis, the array has one entry for each request.
    several = {**samples, "image_shape": np.array([[1, 2], [3, 4]], np.float32), "threshold": np.zeros(2, np.float32)}
    assert payloads.pick(several, REQUEST, batch=3, start=3)["image_shape"].tolist() == [3, 4]


@pytest.mark.parametrize("names", [("sp", "sp_1", "sp_2"), ("indices", "values", "dense_shape"),
                                   ("w_indices", "w_values", "w_shape"), ("x.indices", "x.values", "x.dense_shape")])
def test_the_parts_of_a_sparse_tensor_are_one_whole_request(names: tuple[str, str, str]) -> None:
    i8 = np.dtype(np.int64)
    specs = dict(zip(names, (TensorSpec(i8, (-1, 2)), TensorSpec(F4, (-1,)), TensorSpec(i8, (2,))), strict=True))
    assert payloads.sparse_parts(specs) == [names]
    samples = dict(zip(names, (np.array([[0, 1], [2, 0]]), np.array([1, 2], np.float32), np.array([3, 2])),
                       strict=True))
    assert payloads.is_whole(samples, specs)
    assert {name: value.tolist() for name, value in payloads.pick(samples, specs, batch=1, start=7).items()} == {
        name: value.tolist() for name, value in samples.items()}
    made = payloads.make(specs, batch=4, seed=3)
    places = made[names[0]].tolist()
    assert places == sorted(places)
    assert len({tuple(one) for one in places}) == len(places) == len(made[names[1]])
    assert (made[names[0]] < made[names[2]]).all()
    assert {row for row, _ in places} == {0, 1, 2, 3}


def test_arrays_that_cannot_be_rows_of_the_same_examples_are_one_request() -> None:
    i8 = np.dtype(np.int64)
    ragged = {"ids": TensorSpec(i8, (-1,)), "ids_1": TensorSpec(i8, (-1,))}
    samples = {"ids": np.array([5, 6, 7]), "ids_1": np.array([0, 2, 3])}  # of equal length by chance
    assert payloads.is_whole(samples, ragged)
    assert payloads.pick(samples, ragged, batch=1)["ids_1"].tolist() == [0, 2, 3]
    assert not payloads.is_whole({"ids": np.array([5, 6, 7]), "ids_1": np.array([1, 2, 3])}, ragged)
    assert payloads.is_whole({"ids": np.zeros(4, np.int64), "ids_1": np.zeros(2, np.int64)}, ragged)
    assert payloads.examples(samples, ragged) == 1


def test_a_name_that_is_no_input_is_refused_with_the_inputs() -> None:
    with pytest.raises(UserError, match=r"array 'imag' is no input \(did you mean 'image'\?\); the inputs are: "
                                        "image, threshold"):
        payloads.refuse_strangers({"imag": np.zeros(1)}, ["threshold", "image"])
    payloads.refuse_strangers({"image": np.zeros(1), "labels": np.zeros(1)}, ["image"])


def test_strings_that_end_in_zeros_survive_a_file_of_samples(tmp_path: Path) -> None:
    values = np.array([[b"a\0\0"], [b""], [b"\xff\0b"]], object)
    with (tmp_path / "s.npz").open("wb") as file:
        payloads.save_samples(file, {"x": values, "n": np.arange(3), "t": np.array([b"one", b"three"], object)})
    back = payloads.load_samples(tmp_path / "s.npz")
    assert back["x"].tolist() == values.tolist()
    assert (back["n"].tolist(), back["t"].tolist()) == ([0, 1, 2], [b"one", b"three"])


def test_a_shape_that_differs_from_the_signatures_is_reported_with_both() -> None:
    specs = {"x": TensorSpec(np.dtype(np.float32), (-1, 4)), "n": TensorSpec(np.dtype(np.int64), None)}
    fits = {"x": np.ones((3, 4), np.float32), "n": np.ones(3, np.int64)}
    assert payloads.misfits(fits, specs) == []
    assert payloads.misfits({**fits, "x": np.ones((3, 5), np.float32)}, specs) == [
        "input 'x' is float32 [3, 5], and the signature has float32 [-1, 4]"]
    assert payloads.misfits({**fits, "x": np.ones(4, np.float32)}, specs) == [
        "input 'x' is float32 [4], and the signature has float32 [-1, 4]"]
