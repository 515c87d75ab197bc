"""`make release` as a user runs it, in a folder of its own: from a SavedModel to a report and a verdict card."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _make(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # -o: what is installed is taken as it is. The packages are those of this checkout, wherever it was installed from.
    # `make test` passes its own level and flags on to a make that its tests start.
    inherited = {name: value for name, value in os.environ.items() if name not in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS")}
    return subprocess.run(["make", "-f", str(ROOT / "Makefile"), "-o", ".venv/.installed", f"RUN={sys.executable} -m",
                           *arguments], cwd=cwd, env=inherited | {"PYTHONPATH": str(ROOT)}, capture_output=True,
                          text=True, timeout=500)


@pytest.mark.slow
def test_release_takes_a_saved_model_to_a_new_version_a_report_and_a_card(models: Path, tmp_path: Path) -> None:
    done = _make(tmp_path, "release", f"SOURCE={models}/half/original", "NAME=mine", "BATCH=2",
                 "COMPARE=--repeat 8 --processes 1 --protocol grpc")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "models/mine/optimized/1/saved_model.pb").is_file()
    result = json.loads((tmp_path / "reports/mine.json").read_text())
    assert {(each["protocol"], each["batch"]) for each in result["comparisons"]} == {("grpc", 2)}
    card = (tmp_path / "reports/mine-card.svg").read_text()
    assert card.strip() in (tmp_path / "reports/mine.html").read_text()
    assert (tmp_path / "reports/mine-card.png").read_bytes().startswith(b"\x89PNG")
    assert done.stdout.splitlines()[-1].startswith("New version: models/mine/optimized/1; report: reports/mine.html")


def test_release_asks_for_the_model(tmp_path: Path) -> None:
    done = _make(tmp_path, "release", "NAME=mine")
    assert done.returncode == 2
    assert done.stderr.startswith("error: name your model: make release SOURCE=path/to/model NAME=mine")
