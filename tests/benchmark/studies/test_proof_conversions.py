"""Foreign engines on whole models, each in the environment that a study makes: make proof ONLY=conversions.

A row has the operations that an engine runs, and how far its answers are from the source's. What does not run is a row
with the reason. The environments are made in reports/studies/venvs (4 GB), as a study makes them.
"""
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_engines import answered
from proof import ROOT, Proof

from benchmark.studies.conversions import TOOLS, VENVS
from serving.client.payloads import load_samples
from user_error import UserError
from version_directory import SAMPLES, newest

ABOUT = ("benchmark/studies/conversions.py", "benchmark/studies/environments.py", "benchmark/targets/in_process",
         "export/freeze.py", "tests/support/foreign_engines.py")
MODELS = ("mobilenet_v2", "resnet50", "efficientnet_b0", "detector", "encoder")
BATCHES = (1, 7)


def measured(tool: str, model: str, home: Path) -> dict[str, Any]:
    """{"why"} or {"facts", "max_error": {output: max|a-b| / max|a|}, "top_class": the share that is the same}."""
    for arguments in (("build", model, "--size", "small", "--to", str(home)),
                      ("optimize", str(home / model / "original"), "--to", str(home / model / "optimized"))):
        subprocess.run([sys.executable, "-m", "export", *arguments], cwd=ROOT, check=True, capture_output=True)
    source = newest(home / model / "optimized")
    assert source is not None
    made = TOOLS[tool](source, home / model / tool)
    if isinstance(made, str):
        return {"why": made}
    version = newest(made.base_path)
    assert version is not None
    samples = load_samples(source / SAMPLES)
    requests = [{key: np.resize(array, (batch, *array.shape[1:])) for key, array in samples.items()}
                for batch in BATCHES]
    try:
        found = answered(made.kind or "session", version, *requests, env=made.env, python=made.python)
    except UserError as error:
        return {"facts": dict(made.facts), "why": str(error)}
    errors: dict[str, float] = {}
    same = []
    for answer, expected in zip(found, answered("session", source, *requests), strict=True):
        for key, value in expected.items():
            if value.dtype.kind == "f":
                error = float(np.abs(answer[key] - value).max() / (np.abs(value).max() or 1))
                errors[key] = max(errors.get(key, 0.0), error)
                same.append(float(np.mean(answer[key].argmax(-1) == value.argmax(-1))))
    return {"facts": dict(made.facts), "max_error": errors, "top_class": round(float(np.mean(same)), 4)}


@pytest.mark.proof
@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("model", MODELS)
def test_a_whole_model_by_a_foreign_engine(model: str, tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                           ) -> None:
    monkeypatch.chdir(ROOT)  # where VENVS is, as for a study
    assert not VENVS.is_absolute()
    row = Proof("conversions", 0, ABOUT).row(f"{model} {tool}", lambda: measured(tool, model, tmp_path))
    if "why" in row:
        assert "\n" not in row["why"]
    elif tool != "neural-compressor":  # float32
        assert max(row["max_error"].values()) < 1e-2
