import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def mnist() -> Path:
    """The reference model, trained by `python -m export build`; reused in later runs while its code is the same."""
    from export.zoo.build import command
    models = ROOT / "build" / "test-models"
    command.main(["mnist", "--to", str(models), "--reuse"], standalone_mode=False)
    return models / "mnist" / "original"


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """source(kind) is the base path of a SavedModel of tests/support/saved_models.py, which is built once."""
    root = tmp_path_factory.mktemp("sources")

    def make(kind: str) -> Path:
        import saved_models
        if not (root / kind).exists():
            saved_models.BUILDERS[kind](root / kind / "1")
        return root / kind
    return make


@pytest.fixture
def copied(source: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """copied(kind) is a copy of a source, which a test may damage or delete."""
    def copy(kind: str) -> Path:
        return shutil.copytree(source(kind), tmp_path / kind)
    return copy


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version of tests/support/small_classifier.py, which no test changes."""
    import small_classifier
    return small_classifier.write(tmp_path_factory.mktemp("classifier") / "1")


@pytest.fixture(scope="session")
def samples(model: Path) -> Path:
    """Labelled examples for `model`."""
    import small_classifier
    return small_classifier.labelled(model.parent / "x.npz", model)


@pytest.fixture
def converted_here() -> Iterator[None]:
    """Converters run in this process."""
    from converted_here import converters_here
    with converters_here():
        yield


@pytest.fixture(scope="session")
def run() -> Callable[..., object]:
    """run("optimize", ...) runs a command in this process, which has TensorFlow imported already."""
    def call(name: str, *args: object) -> object:
        from export.__main__ import COMMANDS
        command = COMMANDS.get_command(click.Context(COMMANDS), name)
        assert command is not None
        return command.main([str(arg) for arg in args], standalone_mode=False)
    return call
