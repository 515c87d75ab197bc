from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version with files for OpenVINO, which no test changes."""
    import openvino_models
    return openvino_models.write(tmp_path_factory.mktemp("openvino") / "1")
