"""Models for tfserving.sh to host: halves and adds two, in the variants original and optimized."""
from pathlib import Path

import half_model
import pytest


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for variant in ("original", "optimized"):
        half_model.save(root / "half" / variant / "7")
    # What a hosting script must not take for a version or a variant.
    (root / "half" / "original" / ".9.partial").mkdir()
    (root / "half" / "empty").mkdir()
    (root / "half" / "production").mkdir()
    return root
