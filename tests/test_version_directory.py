"""version_directory: the rule for version directories and the reader of their files, used by every package."""
from pathlib import Path

import pytest

from serving.protos import saved_model_pb2
from version_directory import (
    DamagedModelError,
    NoModelError,
    model_file,
    newest,
    number,
    numbered,
    read_model,
    versions,
)


@pytest.mark.parametrize(("name", "version"), [
    ("1", 1), ("0", 0), ("00012", 12), ("+130", 130), (" 7 ", 7), ("9223372036854775807", 2**63 - 1),
    ("9223372036854775808", None), ("-1", None), ("1.5", None), ("v1", None), ("", None), (".1", None),
    ("1.tmp", None), ("1_0", None), ("١", None), ("readme.txt", None),
])
def test_a_directory_name_is_a_version_if_it_is_a_number(name: str, version: int | None) -> None:
    assert number(name) == version


def test_of_two_names_for_the_same_version_only_one_is_returned() -> None:
    assert numbered(["10", "1", "001", "x", "2"]) == {1: "001", 2: "2", 10: "10"}


def test_versions_are_directories_in_numeric_order(tmp_path: Path) -> None:
    for name in ("10", "9", "0", "-1", "x", "1.5", ".11"):
        (tmp_path / name).mkdir()
    (tmp_path / "7").write_text("a file")
    assert list(versions(tmp_path)) == [0, 9, 10]
    assert versions(tmp_path / "missing") == {}


def test_newest_ignores_versions_without_a_model(tmp_path: Path) -> None:
    for name in ("2", "010", "11"):
        (tmp_path / name).mkdir()
    assert newest(tmp_path) is None
    (tmp_path / "2" / "saved_model.pb").touch()
    assert newest(tmp_path) == tmp_path / "2"
    (tmp_path / "010" / "saved_model.pbtxt").touch()
    assert newest(tmp_path) == tmp_path / "010"


def test_a_model_is_read_from_binary_or_text(tmp_path: Path) -> None:
    message = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    (tmp_path / "saved_model.pbtxt").write_text("saved_model_schema_version: 7")
    found = saved_model_pb2.SavedModel()
    assert read_model(tmp_path, found) == tmp_path / "saved_model.pbtxt"
    assert found.saved_model_schema_version == 7
    (tmp_path / "saved_model.pb").write_bytes(message.SerializeToString())
    found = saved_model_pb2.SavedModel()
    assert read_model(tmp_path, found) == model_file(tmp_path) == tmp_path / "saved_model.pb"
    assert found.saved_model_schema_version == 1


@pytest.mark.parametrize(("name", "content"), [
    ("saved_model.pb", b"\xff\xff"), ("saved_model.pbtxt", b"nonsense {"), ("saved_model.pbtxt", b"\xff\xfe")])
def test_the_error_for_a_damaged_model_names_the_file(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DamagedModelError, match=f"{name} cannot be parsed") as caught:
        read_model(tmp_path, saved_model_pb2.SavedModel())
    assert caught.value.file == tmp_path / name


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoModelError, match=r"is no SavedModel: it has no saved_model\.pb"):
        read_model(tmp_path, saved_model_pb2.SavedModel())
