from collections.abc import Callable
from pathlib import Path

import pytest

from export.zoo.build import MODELS, command


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """built(name) is the version directory of the small form of a model, with its .keras file; it is built once."""
    models = tmp_path_factory.mktemp("models")

    def make(name: str) -> Path:
        version = models / name / "original" / "1"
        if not version.exists():
            command.main([name, "--size", "small", "--to", str(models), *(["--keras"] if MODELS[name].keras else [])],
                         standalone_mode=False)
        return version
    return make
