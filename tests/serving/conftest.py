"""Models and model stores for several test files."""
from collections.abc import Iterator
from pathlib import Path

import pytest
from model_stages import Loader, Stage

from serving.model_store import ModelStore, Retries


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import contract_models
    root = tmp_path_factory.mktemp("models")
    contract_models.save(root / "half" / "1", lambda: contract_models.half_plus(2))
    contract_models.save(root / "slow" / "1", contract_models.slow)
    (root / "broken" / "1").mkdir(parents=True)
    (root / "broken" / "1" / "saved_model.pb").write_bytes(b"broken")
    (root / "empty" / "1").mkdir(parents=True)
    return root


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    loader = Loader()
    store = ModelStore(loader, poll_s=0.01, retries=Retries(0, 0.0))
    store.start()
    yield Stage(tmp_path, store, loader)
    loader.gate.set()
    store.stop(5)
