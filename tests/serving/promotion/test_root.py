"""A production root: what is one, who may change it, and what an interrupted operation leaves in it."""
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import until

from serving.promotion.errors import LockedError, PromotionError
from serving.promotion.plan import Kind, Operation, Served, Stage
from serving.promotion.root import ProductionRoot

OPERATION = Operation("1", Kind.PROMOTE, "mnist", 3, Served(frozenset({1, 2}), {"stable": 2}), Stage.BAKE, "/m/1", "ab",
                      facts={"who": "x", "gates": [{"name": "parity"}]})


def test_a_root_is_made_of_a_folder_that_is_empty_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        root = ProductionRoot.made(tmp_path / name)
        assert root.config().models == []
        assert ProductionRoot.at(tmp_path / name) == root
        assert ProductionRoot.made(tmp_path / name) == root


@pytest.mark.parametrize(("name", "words"), [("full", "it has no models.config"), ("none", "there is no such folder"),
                                             ("file", "it has no models.config")])
def test_any_other_folder_is_no_root(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes").touch()
    (tmp_path / "file").touch()
    with pytest.raises(PromotionError, match=words):
        ProductionRoot.at(tmp_path / name)
    if name == "full":
        with pytest.raises(PromotionError, match=words):
            ProductionRoot.made(tmp_path / name)
        assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes"]


def test_the_journal_keeps_an_operation(tmp_path: Path) -> None:
    root = ProductionRoot.made(tmp_path / "root")
    assert root.journal() is None
    root.write_journal(OPERATION)
    assert root.journal() == OPERATION
    root.write_journal(None)
    root.write_journal(None)
    assert root.journal() is None


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"id": 1}'])
def test_a_journal_that_cannot_be_read_is_an_error_and_is_kept(content: str, tmp_path: Path) -> None:
    root = ProductionRoot.made(tmp_path / "root")
    root.journal_path.write_text(content)
    with pytest.raises(PromotionError, match="cannot be read"):
        root.journal()
    assert root.journal_path.read_text() == content


def test_two_do_not_change_a_root_at_once_and_it_is_said_who_does(tmp_path: Path) -> None:
    root = ProductionRoot.made(tmp_path / "root")
    with root.locked(), pytest.raises(LockedError, match=f"process {os.getpid()} on .*: wait"), root.locked():
        pass
    with root.locked():
        pass


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    root = ProductionRoot.made(tmp_path / "root")
    code = ("import sys, time\nfrom serving.promotion.root import ProductionRoot\n"
            "with ProductionRoot.at(sys.argv[1]).locked():\n    print('held', flush=True)\n    time.sleep(600)")
    with subprocess.Popen([sys.executable, "-c", code, str(root.path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match=f"process {holder.pid}"), root.locked():
            pass
        holder.kill()

    def free() -> bool:
        try:
            with root.locked():
                return True
        except LockedError:
            return False
    until(free)


def test_a_root_that_may_not_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = ProductionRoot.made(tmp_path / "root")

    def read_only(path: Path, flags: int, mode: int = 0) -> int:
        raise OSError(errno.EROFS, "Read-only file system", str(path))
    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(PromotionError, match="cannot be changed: Read-only file system"), root.locked():
        pass
    with pytest.raises(PromotionError, match="cannot be made a production root"):
        ProductionRoot.made(tmp_path / "new")
