"""The studies in full: make proof ONLY=studies. Each writes docs/proof/study_NAME.json, its page and its charts.

A study resumes by itself: what is measured is kept in reports/studies/NAME-full.
"""
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmark.reports import stored
from benchmark.study import STUDIES

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.proof
@pytest.mark.parametrize("name", STUDIES)
def test_studies_in_full(name: str) -> None:
    subprocess.run([sys.executable, "-m", "benchmark", "study", name], cwd=ROOT, check=True)
    result: Any = stored.load(ROOT / f"docs/proof/study_{name}.json")
    assert not result["quick"]
    assert len(result["way"]["steps"]) > 2
    assert all(goal["seen"] != "not measured" for goal in result["goals"])
    # Whether a goal is met is a finding. That no version of this project's own is slower than the original is a demand.
    fastest = result["way"]["steps"][-1]
    assert fastest["verdict"] == "faster"
