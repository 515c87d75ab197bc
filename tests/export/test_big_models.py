"""Weights in a variables file when a graph would be too big for one protobuf message."""
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import saved_models
import tensorflow as tf
from proof import Proof

from export import graph_file, restoring, saved_model
from user_error import UserError

Run = Callable[..., object]


def variables(base: Path) -> dict[str, list[int]]:
    from tensorflow.python.training import py_checkpoint_reader
    prefix = saved_model.find(base) / "variables" / "variables"
    return dict(py_checkpoint_reader.NewCheckpointReader(str(prefix)).get_variable_to_shape_map())


def test_weights_move_when_the_graph_would_not_fit(run: Run, source: Callable[[str], Path], tmp_path: Path) -> None:
    run("optimize", source("multi_signature"), "--to", tmp_path / "o", "--graph-limit", "500", "--batch", "1,3")
    assert [*variables(tmp_path / "o").values()] == [[16, 16], [16, 16]]  # one is the transpose, folded
    assert (tmp_path / "o" / "1" / "saved_model.pb").stat().st_size < 6000
    loaded = tf.saved_model.load(str(tmp_path / "o" / "1"))
    x = saved_models.random(2, 16, seed=9)
    code = loaded.signatures["encode"](x=tf.constant(x))["code"]
    np.testing.assert_allclose(code, x @ saved_models.random(16, 16), rtol=1e-5)


def test_folded_values_are_what_is_written(run: Run, source: Callable[[str], Path], tmp_path: Path,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch norm is folded into the dense layer, so its kernel in the file differs from the source's."""
    from tensorflow.python.training import py_checkpoint_reader
    monkeypatch.setattr(restoring, "_SMALL", 64)
    run("optimize", source("keras3"), "--to", tmp_path / "o", "--graph-limit", "20", "--batch", "1,3")
    assert [4, 5] in variables(tmp_path / "o").values()
    before, after = (py_checkpoint_reader.NewCheckpointReader(str(saved_model.find(base) / "variables" / "variables"))
                     for base in (source("keras3"), tmp_path / "o"))
    kernels = [[reader.get_tensor(name) for name, shape in reader.get_variable_to_shape_map().items()
                if shape == [4, 5]] for reader in (before, after)]
    assert not any(np.allclose(one, kernels[1][0]) for one in kernels[0])
    assert run("verify", source("keras3"), tmp_path / "o", "--batch", "1,2") == 0


def test_several_shards_are_one_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorflow.python.training import py_checkpoint_reader
    monkeypatch.setattr(restoring, "_SHARD_BYTES", 100)
    values = {f"v{index}": saved_models.random(20, seed=index) for index in range(3)}
    restoring.save(tmp_path / "variables" / "variables", values)
    reader = py_checkpoint_reader.NewCheckpointReader(str(tmp_path / "variables" / "variables"))
    for name, value in values.items():
        np.testing.assert_array_equal(reader.get_tensor(name), value)
    assert len(list((tmp_path / "variables").glob("*.data-*"))) == 3
    assert len(list((tmp_path / "variables").iterdir())) == 4


def test_graph_file_over_the_limit_is_refused(run: Run, source: Callable[[str], Path], tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_file, "SIZE_LIMIT", 1000)
    with pytest.raises(UserError, match="over protobuf's limit"):
        run("freeze", source("multi_signature"), "--out", tmp_path / "frozen.pb")
    assert not (tmp_path / "frozen.pb").exists()


@pytest.mark.proof
@pytest.mark.timeout(1800)
def test_more_than_two_gigabytes(run: Run, tmp_path: Path) -> None:
    proof = Proof("more_than_two_gigabytes", 1, ["export"])
    for name, build in (("one embedding", _embedding), ("540 matrices", _matrices)):
        proof.row(name, lambda build=build, base=tmp_path / name: optimized(run, build, base))


def optimized(run: Run, build: Callable[[], tf.Module], base: Path) -> dict[str, Any]:
    """Saves, optimizes and verifies a module whose variables are all weights; `optimize` refuses unequal results."""
    module = build()
    sizes = [variable.shape.num_elements() * 4 for variable in module.variables]
    tf.saved_model.save(module, str(base / "source" / "1"), signatures={"serving_default": module.serve})
    del module
    began = time.perf_counter()
    run("optimize", base / "source", "--to", base / "o", "--batch", "1,3")
    seconds = round(time.perf_counter() - began, 1)
    moved = variables(base / "o").values()
    assert sorted(math.prod(shape) * 4 for shape in moved) == sorted(sizes)
    shutil.rmtree(base)
    return {"weights": len(sizes), "weights_bytes": sum(sizes), "optimize_and_verify_s": seconds}


def _embedding() -> tf.Module:
    class Module(tf.Module):
        def __init__(self) -> None:
            self.table = tf.Variable(tf.random.stateless_normal([2_200_000, 256], [1, 2]))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="ids")])
        def serve(self, ids: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"vectors": tf.gather(self.table, ids)}
    return Module()


def _matrices() -> tf.Module:
    class Module(tf.Module):
        def __init__(self) -> None:
            self.matrices = [tf.Variable(tf.random.stateless_normal([1024, 1024], [1, index]) / 32)
                             for index in range(540)]

        @tf.function(input_signature=[tf.TensorSpec([None, 1024], tf.float32, name="x")])
        def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            for matrix in self.matrices:
                x = tf.tanh(x @ matrix)
            return {"y": x}
    return Module()
