"""Environments of foreign packages: made by the real pip, complete or made again, and a reason without a network."""
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import saved_models

from benchmark.studies import conversions
from benchmark.studies.environments import LISTS, environment, finish
from user_error import FailedError

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """pip finds only what is in tmp_path/wheels."""
    (tmp_path / "wheels").mkdir()
    for name, value in (("NO_INDEX", "1"), ("FIND_LINKS", str(tmp_path / "wheels")), ("CONFIG_FILE", "/dev/null")):
        monkeypatch.setenv(f"PIP_{name}", value)


def wheel(folder: Path, version: str) -> None:
    """A package `lone` that says its version."""
    with zipfile.ZipFile(folder / f"lone-{version}-py3-none-any.whl", "w") as file:
        file.writestr("lone.py", f"print('{version}')\n")
        file.writestr(f"lone-{version}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: lone\nVersion: {version}\n")
        file.writestr(f"lone-{version}.dist-info/WHEEL",
                      "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"lone-{version}.dist-info/RECORD", "")


def said(python: Path) -> str:
    return subprocess.run([python, "-m", "lone"], capture_output=True, text=True, check=True).stdout.strip()


def test_it_has_the_pinned_versions_and_is_made_anew_if_unfinished_or_for_others(tmp_path: Path) -> None:
    folder, pinned = tmp_path / "venvs", tmp_path / "other.txt"
    pinned.write_text("# a list\nlone==1.0\n")
    with pytest.raises(FailedError, match=r"^No matching distribution found for lone==1\.0$"):
        environment("other", folder, tmp_path)
    for version in ("1.0", "2.0"):
        wheel(tmp_path / "wheels", version)
    python = environment("other", folder, tmp_path)
    assert said(python) == "1.0"
    made = python.lstat().st_mtime_ns
    assert environment("other", folder, tmp_path).lstat().st_mtime_ns == made  # it is kept
    pinned.write_text("lone==2.0\n")
    assert said(environment("other", folder, tmp_path)) == "2.0"


def test_without_a_network_a_tool_does_not_run_and_leaves_no_version(tmp_path: Path) -> None:
    source = tmp_path / "mine/original/1"
    saved_models.half_plus_two(source)
    found = conversions.neural_compressor(source, tmp_path / "mine/int8", venvs=tmp_path / "venvs")
    assert isinstance(found, str)
    assert re.fullmatch(r"No matching distribution found for \S+", found)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["original"]


def test_the_lists_pin_every_package() -> None:
    for file in LISTS.iterdir():
        lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
        assert lines
        assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9.]+", line) for line in lines), file


@pytest.mark.parametrize(("code", "words"), [
    ("import sys; sys.exit('error: it is too old')", "^it is too old$"),
    ("import os; print('so far', flush=True); os.kill(os.getpid(), 11)", "^the tool was ended by SIGSEGV: so far$"),
    ("import time; time.sleep(60)", "^the tool did not end within 1 s$")])
def test_a_program_that_fails_is_a_reason(code: str, words: str) -> None:
    with pytest.raises(FailedError, match=words):
        finish("tool", [sys.executable, "-c", code], longest_s=1)
