"""The image that all tests of containers use, and models to mount."""
import subprocess
from collections.abc import Iterator
from pathlib import Path

import half_model
import pytest
from containers import IMAGE
from tfserving_runs import Run, hosting


@pytest.fixture(scope="session", autouse=True)
def image() -> None:
    subprocess.run([str(Path(__file__).with_name("build_image.sh")), IMAGE], check=True)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    half_model.save(root / "half" / "original" / "1", offset=2.0)
    half_model.save(root / "half" / "optimized" / "1", offset=3.0)
    return root


@pytest.fixture
def host(models: Path, tmp_path: Path) -> Iterator[Run]:
    with hosting(models, tmp_path, MODEL="half", IMAGE=IMAGE) as start:
        yield start
