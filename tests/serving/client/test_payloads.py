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


def test_inputs_depend_on_seed_batch_and_name_alone() -> None:
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
    ({"image": np.zeros((3, 27, 28), np.float32)}, r"are float32 \[1, 27, 28\], but the signature takes .*-1, 28, 28"),
    ({"image": np.zeros((0, 28, 28), np.float32)}, "hold no example"),
    ({"image": np.array([[["a"]]])}, "but the signature takes float32"),
], ids=["missing", "shape", "empty", "dtype"])
def test_samples_that_do_not_fit_are_refused(arrays: Any, words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "samples.npz", **arrays)
    with pytest.raises(UserError, match=words):
        payloads.pick(payloads.load_samples(tmp_path / "samples.npz"), IMAGE)


def test_files_that_are_no_samples_are_refused(tmp_path: Path) -> None:
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
