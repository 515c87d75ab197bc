"""A model for tfserving.sh to serve: y = x / 2 + 2, in the variants original and optimized."""
from pathlib import Path

import half_model
import pytest


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for variant in ("original", "optimized"):
        half_model.save(root / "half" / variant / "7")
    # Directories that the script must not accept as a version or a variant.
    (root / "half" / "original" / ".9.partial").mkdir()
    (root / "half" / "empty").mkdir()
    (root / "half" / "production").mkdir()
    return root
