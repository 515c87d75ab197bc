"""Each engine loads and unloads versions under load without a lost request, and keeps nothing of the old ones."""
from pathlib import Path
from typing import Any

import half_model
import openvino_models
import pytest
import tflite_models
from hot_swaps import Swaps
from proof import Proof

from export.runtime import tf

ENGINES = ("tensorflow", "litert", "openvino")
ANSWERS = {"REST 200 [2.5]", "gRPC OK"}


def half() -> None:
    """x / 2 + 2 by way of a matrix multiplication, for which an engine prepares weights and kernels."""
    x = tf.compat.v1.placeholder(tf.float32, (None,), "x")
    products = tf.matmul(tf.reshape(x, [-1, 1]), tf.fill([1, 4096], 0.5))
    tf.add(tf.reduce_mean(products, 1), 2.0, name="y")


def save(engine: str, path: Path) -> None:
    signatures = {"serving_default": ({"x": "x"}, {"y": "y"})}
    if engine == "tensorflow":
        half_model.save(path)
    elif engine == "litert":
        tflite_models.write(path, half, signatures)
    else:
        openvino_models.write(path, half, signatures)


def swaps(engine: str, root: Path) -> Swaps:
    made = Swaps(root, lambda path: save(engine, path), engine=engine)
    assert made.server._store.readiness().models["m"].engines == {1: engine}
    return made


@pytest.mark.parametrize("engine", ENGINES[1:])  # TensorFlow: tests/serving/test_stays_up.py
def test_swapping_versions_under_load_fails_no_request(engine: str, tmp_path: Path) -> None:
    made = swaps(engine, tmp_path)
    for version in range(2, 7):
        made.swap(version)
    made.close()
    assert set(made.answers) == ANSWERS


@pytest.mark.proof
@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", ENGINES)
def test_engine_swaps(engine: str, tmp_path: Path) -> None:
    """200 swaps under load: no failed request, and memory that does not grow with their number."""
    proof = Proof("engine_swaps", seed=0, about=["serving/engines", *[f"serving/{name}.py" for name in (
        "grpc_service", "model_store", "predictor", "version_loader", "versions")]])
    row: dict[str, Any] = proof.row(f"{engine}, 200 swaps", lambda: swaps(engine, tmp_path).counted(200))
    assert set(row["answers"]) == ANSWERS
    assert row["resident_mb_after_swaps"]["200"] < 1.15 * row["resident_mb_after_swaps"]["100"]
