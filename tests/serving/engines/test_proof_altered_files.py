"""Files of versions, cut or altered in a thousand ways: none ends the process, and none with a checksum is loaded."""
from collections.abc import Callable
from pathlib import Path
from typing import Any

import altered_files
import openvino_models
import pytest
import tflite_models
from proof import Proof

from export.runtime import tf

CASES, SEED = 1000, 1
ABOUT = ["serving/engines/litert.py", "serving/engines/litert_file.py", "serving/engines/litert_apart.py",
         "serving/engines/damage.py", "serving/engines/openvino.py", "serving/engines/openvino_files.py",
         "tests/support/altered_files.py", "tests/support/tflite_models.py"]


def picking() -> None:
    """Operations that take places and sizes from the file."""
    x = tf.compat.v1.placeholder(tf.float32, (None, 8), "x")
    padded = tf.pad(tf.gather(x, [1, 3, 5, 7], axis=1), [[0, 0], [1, 1]])
    sliced = tf.strided_slice(padded, [0, 1], [0, 5], [1, 2], begin_mask=1, end_mask=1)
    joined = tf.concat([sliced, tf.transpose(tf.transpose(padded))], 1)
    tf.reduce_sum(tf.tile(tf.reshape(joined, [-1, 2, 4]), [1, 1, 2]), axis=2, name="y")


def looping() -> None:
    x = tf.compat.v1.placeholder(tf.float32, (None, 4), "x")
    made = tf.while_loop(lambda turn, _: turn < 5, lambda turn, kept: (turn + 1, tf.nn.relu(kept) * 0.5 + 1.0), [0, x])
    tf.identity(made[1], name="y")


def litert(nodes: Callable[[], None], path: Path) -> Path:
    return tflite_models.write(path, nodes, {"serving_default": ({"x": "x"}, {"y": "y"})})


def litert_int8(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "model.tflite").write_bytes(tflite_models.quantized())
    return path


# Name of the row -> engine, the file that is altered, and what writes the version into a directory.
Kind = tuple[str, str, Callable[[Path], Path]]
LITERT: dict[str, Kind] = {
    "litert layers": ("litert", "model.tflite", lambda path: litert(tflite_models.layers, path)),
    "litert int8": ("litert", "model.tflite", litert_int8),
    "litert picking": ("litert", "model.tflite", lambda path: litert(picking, path)),
    "litert looping": ("litert", "model.tflite", lambda path: litert(looping, path)),
}


# The checksums of OpenVINO's files are in engine.json, which has none itself.
OPENVINO: dict[str, Kind] = {
    f"openvino {name}": ("openvino", f"assets.extra/openvino/{name}", openvino_models.write)
    for name in ("0.xml", "0.bin", "engine.json")}
KINDS = LITERT | OPENVINO
WITH_CHECKSUM = [kind for kind in KINDS if not kind.endswith("engine.json")]
WITHOUT = [*LITERT, "openvino engine.json"]


def measured(kind: str, path: Path, cases: int, stated: bool) -> dict[str, Any]:
    engine, file, write = KINDS[kind]
    version = write(path / "1")
    if stated and engine == "litert":
        altered_files.state_checksum(version, engine, file)
    found = altered_files.outcomes(engine, version, file, range(cases), SEED)
    assert found["cases"] == cases
    assert found["ended"] == []
    if stated:
        assert found["outcomes"] == {"refused": cases}
    return found


@pytest.mark.parametrize("kind", WITH_CHECKSUM)
def test_files_with_a_checksum_are_refused(kind: str, tmp_path: Path) -> None:
    measured(kind, tmp_path, 60, stated=True)


@pytest.mark.proof
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("kind", "stated"), [*((kind, True) for kind in WITH_CHECKSUM),
                                              *((kind, False) for kind in WITHOUT)])
def test_proof_altered_files(kind: str, stated: bool, tmp_path: Path) -> None:
    """stated: the version has the file's checksum; otherwise the file was made elsewhere."""
    row = Proof("altered_files", SEED, ABOUT).row(
        f"{kind}, {'with' if stated else 'without'} a checksum", lambda: measured(kind, tmp_path, CASES, stated))
    assert row["ended"] == []
