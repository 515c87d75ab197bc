import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from export.publish import new_version
from user_error import UserError
from version_directory import versions


def publish(base: Path, content: str = "weights", version: int | None = None) -> None:
    with new_version(base, version) as made:
        (made.path / "saved_model.pb").write_text(content)


def tree(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def test_next_free_version_follows_the_newest(tmp_path: Path) -> None:
    base = tmp_path / "model"
    publish(base)
    publish(base, version=7)
    publish(base)
    assert list(versions(base)) == [1, 7, 8]
    assert os.listdir(tmp_path) == ["model"]


def test_an_existing_version_is_never_overwritten(tmp_path: Path) -> None:
    base = tmp_path / "model"
    publish(base, "first")
    with pytest.raises(UserError, match="never overwritten"):
        publish(base, "second", version=1)
    assert tree(base) == {"1/saved_model.pb": b"first"}


def test_a_version_published_meanwhile_is_kept_and_this_run_takes_the_next(tmp_path: Path) -> None:
    base = tmp_path / "model"
    publish(base)
    with new_version(base) as slow:
        (slow.path / "saved_model.pb").write_text("slow")
        publish(base, "fast")
    assert slow.published == base / "3"
    assert tree(base)["2/saved_model.pb"] == b"fast"
    assert tree(base)["3/saved_model.pb"] == b"slow"


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    base = tmp_path / "model"
    with pytest.raises(TypeError):
        publish(base, content=b"not text")  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


def test_a_base_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("")
    with pytest.raises(UserError, match="is a file"):
        publish(tmp_path / "model")


def test_files_of_a_killed_run_are_hidden_and_removed_by_the_next(tmp_path: Path) -> None:
    base = tmp_path / "model"
    publish(base)
    before = tree(base)
    code = ("import os, pathlib, sys; from export.publish import new_version\n"
            "with new_version(pathlib.Path(sys.argv[1])) as made:\n"
            "    (made.path / 'saved_model.pb').write_text('half'); os.kill(os.getpid(), 9)")
    killed = subprocess.run([sys.executable, "-c", code, str(base)], timeout=150, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert tree(base) == before
    assert len(os.listdir(tmp_path)) == 2
    publish(base)
    assert os.listdir(tmp_path) == ["model"]


def test_files_of_a_running_run_are_not_removed(tmp_path: Path) -> None:
    with new_version(tmp_path / "model") as slow:
        publish(tmp_path / "model")
        assert slow.path.is_dir()


def test_a_base_path_is_not_read_as_a_glob_pattern(tmp_path: Path) -> None:
    (tmp_path / ".a.part-x").mkdir()
    publish(tmp_path / "[ab] ✓")
    assert sorted(os.listdir(tmp_path)) == [".a.part-x", "[ab] ✓"]


def test_a_run_that_ends_while_another_searches_causes_no_error(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.glob

    def glob(self: Path, pattern: str) -> list[Path]:
        return [*real(self, pattern), self / ".model.part-gone"]
    monkeypatch.setattr(Path, "glob", glob)
    publish(tmp_path / "model")
    assert os.listdir(tmp_path) == ["model"]


def test_simultaneous_runs_get_a_version_each(tmp_path: Path) -> None:
    code = ("import pathlib, sys; from export.publish import new_version\n"
            "for turn in range(10):\n"
            "    with new_version(pathlib.Path(sys.argv[1])) as made:\n"
            "        (made.path / 'saved_model.pb').write_text('whole')")
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "model")]) for _ in range(4)]
    assert [one.wait(60) for one in running] == [0] * 4
    assert list(versions(tmp_path / "model")) == list(range(1, 41))
    assert os.listdir(tmp_path) == ["model"]
    assert set(tree(tmp_path).values()) == {b"whole"}


def test_every_version_can_be_read_by_the_server_account(tmp_path: Path) -> None:
    publish(tmp_path / "model")
    assert (tmp_path / "model").stat().st_mode & 0o055
    assert (tmp_path / "model" / "1").stat().st_mode & 0o055
