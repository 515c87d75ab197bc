"""docs/everyday.ipynb: its code runs in a new process on a small model, and it has no outputs of an earlier run."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_saved_model import write_tiny_saved_model

ROOT = Path(__file__).resolve().parents[2]
CELLS = json.loads((ROOT / "docs/everyday.ipynb").read_text())["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]


@pytest.mark.slow
def test_the_code_of_the_notebook_runs(tmp_path: Path) -> None:
    write_tiny_saved_model(tmp_path / "models/mnist/original/1")
    (tmp_path / "cells.py").write_text("\n".join(CODE))
    done = subprocess.run([sys.executable, "cells.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "models/mnist/optimized/1/saved_model.pb").is_file()
    assert (tmp_path / "reports/everyday.html").is_file()
    assert (tmp_path / "reports/everyday-card.svg").read_text().startswith("<svg")
    assert "models/mnist/optimized/1: " in done.stdout


def test_the_notebook_has_no_outputs() -> None:
    assert CODE
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in CELLS if
               cell["cell_type"] == "code")
