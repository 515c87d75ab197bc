"""A version's files in production: all of them, or none, and the same."""
import errno
import shutil
from pathlib import Path

import pytest

import durable
from serving.promotion import files


@pytest.fixture
def version(tmp_path: Path) -> Path:
    made = tmp_path / "models/m/original/1"
    (made / "variables").mkdir(parents=True)
    (made / "empty").mkdir()
    (made / "saved_model.pb").write_bytes(b"graph")
    (made / "variables/variables.index").write_bytes(b"index")
    (made / "link").symlink_to(made / "saved_model.pb")
    return made


def test_a_copy_has_the_same_files_and_digest_and_replaces_what_was_half_copied(version: Path, tmp_path: Path) -> None:
    target = tmp_path / "production/m/.1.copy"
    (target / "old").mkdir(parents=True)
    (target / "old/file").touch()
    digest = files.copy(version, target)
    assert digest == files.whole(files.digests(version)) == files.whole(files.digests(target))
    assert sorted(path.relative_to(target).as_posix() for path in target.rglob("*")) == [
        "empty", "link", "saved_model.pb", "variables", "variables/variables.index"]
    assert not (target / "link").is_symlink()


def test_any_change_of_a_file_or_a_name_changes_the_digest(version: Path) -> None:
    before = files.whole(files.digests(version))
    (version / "variables/variables.index").write_bytes(b"indey")
    changed = files.whole(files.digests(version))
    (version / "variables/variables.index").rename(version / "variables/variables.indey")
    assert len({before, changed, files.whole(files.digests(version))}) == 3


def test_a_disk_that_writes_something_else_is_noticed(version: Path, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.copyfile

    def wrong(source: Path, target: Path) -> Path:
        real(source, target)
        target.write_bytes(target.read_bytes()[:-1])
        return target
    monkeypatch.setattr(shutil, "copyfile", wrong)
    with pytest.raises(OSError, match="copied otherwise than it was read"):
        files.copy(version, tmp_path / "production/m/.1.copy")


def test_a_full_disk_is_an_error(version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))
    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        files.copy(version, tmp_path / "production/m/.1.copy")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    durable.write(path, b"before")
    path.chmod(0o600)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            durable.write(path, b"after")
    assert path.read_bytes() == b"before"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    durable.write(path, b"after")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"after", 0o600)


def test_a_version_is_never_placed_over_another(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / ".2.copy").mkdir()
    with pytest.raises(FileExistsError):
        durable.rename(tmp_path / ".2.copy", tmp_path / "1")
    durable.rename(tmp_path / ".2.copy", tmp_path / "2")
    durable.remove(tmp_path / "2")
    durable.remove(tmp_path / "2")
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
