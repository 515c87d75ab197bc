"""Errors in the files of models: the original's message, and advice that depends on the cause."""
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.config import Flags, Model
from serving.errors import UNREADABLE, Code, ServingError
from serving.startup import check, did_not_load
from serving.version_files import Failure, failure, on_disk, unservable


def missing_path(model: Model) -> Failure:
    seen = on_disk(model)
    assert isinstance(seen, ServingError)
    return failure(model.name, None, seen)


def refuse(error: ServingError) -> Callable[[str, Path], object]:
    def read(model: str, path: Path) -> object:
        raise error
    return read


def test_a_base_path_that_does_not_exist(tmp_path: Path) -> None:
    found = missing_path(Model("m", str(tmp_path / "none")))
    assert found.text == (
        "{{name: m} due to error: NOT_FOUND: Could not find base path "
        f"{tmp_path}/none for servable m with error No such file or directory}}")
    assert found.advice.startswith("Give --model_base_path the absolute path")


def test_the_advice_depends_on_the_cause_not_on_the_message(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    model = Model("m", str(tmp_path))
    causes = {
        ServingError(Code.DATA_LOSS, "base path Permission denied"): "Export or copy the version again.",
        ServingError(Code.PERMISSION_DENIED, "x", UNREADABLE): UNREADABLE,
    }
    for cause, advice in causes.items():
        found = unservable([model], refuse(cause))
        assert found["m"].advice == advice
        assert did_not_load("servable", found).advice == advice


def test_several_causes_give_each_advice_once(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "n").mkdir()
    models = [Model(name, str(tmp_path / name)) for name in ("m", "n", "o")]
    error = did_not_load("servable", unservable(models, refuse(ServingError(Code.DATA_LOSS, "x"))))
    assert error.message.startswith("3 servable(s) did not become available: {{{name: m version: 1} due to error: ")
    assert error.advice.count("Export or copy the version again.") == 1
    assert error.advice.count("Give --model_base_path") == 1


def test_flags_without_a_model_say_which_to_give() -> None:
    with pytest.raises(ServingError, match="are empty!") as caught:
        check(Flags(port=0, grpc_socket_path="/tmp/none.sock"))
    assert caught.value.advice.startswith("Give --model_name and --model_base_path, or --model_config_file")


def test_a_configuration_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path, encoding: str) -> str:
        raise PermissionError(13, "Permission denied", str(self))
    # The tests may run as root, who may read everything.
    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(ServingError) as caught:
        check(Flags(model_config_file=str(tmp_path / "models.config"), port=0, grpc_socket_path="/tmp/none.sock"))
    assert (caught.value.code, caught.value.advice) == (Code.PERMISSION_DENIED, UNREADABLE)
