"""python -m export import: any model, unchanged, as a version."""
import subprocess
import sys
from pathlib import Path

import pytest
from half_model import save
from tiny_saved_model import write_tiny_saved_model

from export import manifest
from export.verification import verify

ROOT = Path(__file__).resolve().parents[2]


def _import(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "export", "import", *arguments], cwd=ROOT, capture_output=True,
                          text=True)


def test_a_saved_model_is_copied_and_reused(tmp_path: Path) -> None:
    write_tiny_saved_model(tmp_path / "given")
    base = str(tmp_path / "models/mine/original")
    (tmp_path / "models/mine").mkdir(parents=True)
    assert _import(str(tmp_path / "given"), "--to", base).returncode == 0
    assert (Path(base, "1/saved_model.pb").read_bytes()) == (tmp_path / "given/saved_model.pb").read_bytes()
    again = _import(str(tmp_path / "given"), "--to", base, "--reuse")
    assert again.stdout == f"{base}/1 is up to date\n"
    assert (manifest.read(Path(base, "1")) or {})["source"] == str(tmp_path / "given")


def test_a_keras_file_becomes_a_saved_model(tmp_path: Path) -> None:
    script = ("import sys, keras\n"
              "keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).save(sys.argv[1])\n")
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "m.keras")], capture_output=True, check=True)
    done = _import(str(tmp_path / "m.keras"), "--to", str(tmp_path / "original"))
    assert done.returncode == 0, done.stderr
    assert verify(tmp_path / "original", tmp_path / "original", batches=(1, 2)).equal


def test_variables_and_assets_are_copied(tmp_path: Path) -> None:
    save(tmp_path / "given/7")
    assert _import(str(tmp_path / "given"), "--to", str(tmp_path / "original")).returncode == 0
    copied, given = tmp_path / "original/1", tmp_path / "given/7"
    files = {path.relative_to(given) for path in given.rglob("*") if path.is_file()}
    assert files <= {path.relative_to(copied) for path in copied.rglob("*")}


@pytest.mark.parametrize("source", ["nowhere", "pyproject.toml"])
def test_a_file_that_is_not_a_model_is_refused(source: str, tmp_path: Path) -> None:
    done = _import(source, "--to", str(tmp_path / "original"))
    assert done.returncode == 2
    assert source in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "original").exists()
