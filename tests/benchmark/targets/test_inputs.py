"""Where a benchmark's inputs come from: metadata, samples, recorded traffic."""
from pathlib import Path

import numpy as np
import pytest

from benchmark.targets.inputs import Inputs
from serving import recording
from serving.client.payloads import TensorSpec
from serving.client.protocol import Signature
from user_error import UserError

X = {"x": TensorSpec(np.dtype(np.float32), (-1, 4))}
SIGNATURE = Signature("tensorflow/serving/predict", X, X)


def _x(inputs: object) -> np.ndarray:
    return np.asarray(inputs["x"])  # type: ignore[index]


def test_without_samples_inputs_are_random_seeded_and_different() -> None:
    made, words = Inputs("", None, 5).batches(SIGNATURE, 3, None, 4)
    again, _ = Inputs("", None, 5).batches(SIGNATURE, 3, None, 4)
    assert [_x(each).shape for each in made] == [(3, 4)] * 4
    assert all(np.array_equal(_x(a), _x(b)) for a, b in zip(made, again, strict=True))
    assert not np.array_equal(_x(made[0]), _x(made[1]))
    assert words == "random inputs from the model's metadata, seed 5"


def test_the_samples_of_the_version_are_used(tmp_path: Path) -> None:
    (tmp_path / "assets.extra").mkdir()
    values = np.arange(40, dtype=np.float32).reshape(10, 4)
    np.savez(tmp_path / "assets.extra/samples.npz", x=values, labels=np.arange(10))
    made, words = Inputs("", None, 0).batches(SIGNATURE, 4, tmp_path, 3)
    np.testing.assert_array_equal(_x(made[0]), values[:4])
    np.testing.assert_array_equal(_x(made[2]), values[[8, 9, 0, 1]])
    assert words == "10 samples of samples.npz, 3 different batches in turn"


def test_samples_of_another_signature_are_not_used(tmp_path: Path) -> None:
    (tmp_path / "assets.extra").mkdir()
    np.savez(tmp_path / "assets.extra/samples.npz", y=np.zeros((3, 4)))
    assert "random inputs" in Inputs("", None, 0).batches(SIGNATURE, 1, tmp_path, 1)[1]
    with pytest.raises(UserError, match="'y' is no input; the inputs are: x"):
        Inputs("", tmp_path / "assets.extra/samples.npz", 0).batches(SIGNATURE, 1, None, 1)


def test_recorded_traffic_is_sent_again(tmp_path: Path) -> None:
    path = tmp_path / "traffic.tfrecord"
    values = np.random.default_rng(1).random((6, 4), np.float32)
    recording.write(path, (recording.Predicted("m", {"x": values[i:i + 2]}, "", {"x": values[i:i + 2]}, 1)
                           for i in (0, 2, 4)))
    made, words = Inputs("", path, 0).batches(SIGNATURE, 3, None, 2)
    np.testing.assert_array_equal(_x(made[1]), values[3:])
    assert "6 samples of traffic.tfrecord" in words


def test_traffic_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "traffic.tfrecord"
    recording.write(path, [recording.Predicted("m", {"z": np.zeros((1, 4), np.float32)}, "", {}, 1)])
    with pytest.raises(UserError, match="no predict request with the inputs x"):
        Inputs("", path, 0).batches(SIGNATURE, 1, None, 1)
