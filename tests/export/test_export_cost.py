"""What `optimize` costs at 10 MB, 150 MB and 1 GB of weights: seconds by stage, and its own peak memory."""
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from proof import Proof

BUILD = """
import sys, tensorflow as tf
count, path = int(sys.argv[1]), sys.argv[2]
class Module(tf.Module):
    def __init__(self):
        self.weights = [tf.Variable(tf.random.stateless_normal([1024, 1024], [i, 1]) / 32) for i in range(count)]
    @tf.function(input_signature=[tf.TensorSpec([None, 1024], tf.float32, name="x")])
    def serve(self, x):
        for weight in self.weights:
            x = tf.tanh(x @ weight)
        return {"y": x}
module = Module()
tf.saved_model.save(module, path, signatures={"serving_default": module.serve})
"""
# A process that only imports TensorFlow.
BASE = "import psutil; from export.runtime import tf; print(psutil.Process().memory_info().rss)"


def optimize(count: int, folder: Path) -> dict[str, Any]:
    """Optimizes a model of `count` matrices of 4.19 MB in a separate process. Sizes in MB."""
    subprocess.run([sys.executable, "-c", BUILD, str(count), str(folder / "source" / "1")], check=True,
                   capture_output=True, timeout=300)
    base = int(subprocess.run([sys.executable, "-c", BASE], check=True, capture_output=True, timeout=120).stdout)
    process = subprocess.Popen([sys.executable, "-m", "export", "optimize", str(folder / "source"), "--to",
                                str(folder / "to"), "--batch", "1,3", "--json", str(folder / "report.json")],
                               stdout=subprocess.DEVNULL)
    own, models = peaks(process)
    assert process.returncode == 0
    weights = count * 1024 * 1024 * 4 / 1e6
    return {"weights_mb": round(weights, 1), "seconds": json.loads((folder / "report.json").read_text())["seconds"],
            "tensorflow_mb": round(base / 1e6), "peak_mb": round(own / 1e6),
            "peak_over_tensorflow_per_weight": round((own - base) / 1e6 / weights, 2),
            "largest_model_process_mb": round(models / 1e6)}


def peaks(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """The peak resident memory of the command's process, and of the largest of its child processes."""
    watched = psutil.Process(process.pid)
    own = below = 0
    while True:
        try:
            own = max(own, watched.memory_info().rss)
            for child in watched.children(recursive=True):
                below = max(below, child.memory_info().rss)
        except psutil.Error:
            pass
        try:
            process.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
        return own, below


@pytest.mark.proof
@pytest.mark.timeout(1800)
def test_export_cost(tmp_path: Path) -> None:
    proof = Proof("export_cost", seed=1, about=[
        "export/freeze.py", "export/variables.py", "export/saved_model.py", "export/graph_file.py",
        "export/restoring.py", "export/optimization.py", "tests/export/test_export_cost.py"])
    rows = [proof.row(f"{megabytes} MB", measure(count, tmp_path / str(megabytes)))
            for megabytes, count in ((10, 2), (150, 36), (1000, 238))]
    for row in rows[1:]:
        assert row["peak_over_tensorflow_per_weight"] < 2.5, row
        assert list(row["seconds"]) == ["start TensorFlow", "load and freeze", "transform", "write", "verify"]


def measure(count: int, folder: Path) -> Callable[[], dict[str, Any]]:
    return lambda: optimize(count, folder)
