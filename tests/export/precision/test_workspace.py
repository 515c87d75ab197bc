"""The folder of candidates: hidden, locked, removed at the end, kept when a run is interrupted."""
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from export.precision.workspace import workspace
from user_error import UserError
from version_directory import versions

ROOT = Path(__file__).resolve().parents[3]


def fill(path: Path, text: str = "weights") -> None:
    (path / "saved_model.pb").write_text(text)


def test_it_is_hidden_and_gone_at_the_end(tmp_path: Path) -> None:
    base = tmp_path / "models/fastest"
    with workspace(base) as work:
        with work.new("int8") as directory:
            fill(directory)
        assert [path.name for path in (tmp_path / "models").iterdir()] == [".fastest.candidates-1"]
        assert versions(base) == {}
        assert list(versions(work.versions / "int8")) == [1]
    assert os.listdir(tmp_path) == []  # nor are folders left that were made for it


def test_a_refusal_is_an_end_too(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no"), workspace(tmp_path / "fastest"):
        raise UserError("no")
    assert os.listdir(tmp_path) == []


def test_what_an_interrupted_run_has_finished_is_known_to_the_next(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, recipe = tmp_path / "fastest", {"batches": (1, 32)}
    with pytest.raises(KeyboardInterrupt), workspace(base) as work:  # noqa: PT012 - what happens before it matters
        with work.new("int8") as directory:
            fill(directory)
        work.remember("int8", recipe, {"bytes": 7})
        with work.new("bfloat16") as directory:
            fill(directory, "half of the weights")
            raise KeyboardInterrupt
    assert ".fastest.candidates-1: the same command goes on from there" in capsys.readouterr().err
    with workspace(base) as work:
        assert work.known("int8", recipe) == {"bytes": 7}
        assert (work.version("int8") / "saved_model.pb").read_text() == "weights"
        assert work.known("int8", {"batches": (1,)}) is None  # made in another way
        assert work.known("bfloat16", recipe) is None
        assert list(versions(work.versions / "bfloat16")) == []
        with work.new("int8") as directory:
            assert work.known("int8", recipe) is None  # it is being made again
            fill(directory)
    assert os.listdir(tmp_path) == []


def test_a_version_without_facts_is_not_known(tmp_path: Path) -> None:
    with workspace(tmp_path / "fastest") as work:
        (work.path / "int8.json").write_text("{ broken")
        assert work.known("int8", {}) is None


def test_a_killed_run_leaves_what_it_has_finished(tmp_path: Path) -> None:
    code = ("import os, pathlib, sys; from export.precision.workspace import workspace\n"
            "with workspace(pathlib.Path(sys.argv[1])) as work:\n"
            "    work.remember('int8', {}, {'bytes': 7}); os.kill(os.getpid(), 9)")
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "fastest")], cwd=ROOT, timeout=150, check=False)
    assert killed.returncode == -signal.SIGKILL
    with workspace(tmp_path / "fastest") as work:
        assert work.known("int8", {}) == {"bytes": 7}


def test_two_runs_at_once_have_a_folder_each(tmp_path: Path) -> None:
    base = tmp_path / "fastest"
    with workspace(base) as one:
        with workspace(base) as other:
            assert one.path != other.path
        with workspace(base) as again:
            assert again.path == other.path
    assert os.listdir(tmp_path) == []


def test_an_interrupted_run_is_found_again_whatever_its_number(tmp_path: Path) -> None:
    base = tmp_path / "fastest"
    with workspace(base), pytest.raises(KeyboardInterrupt), workspace(base) as second:  # noqa: PT012
        second.remember("int8", {}, {"bytes": 7})
        raise KeyboardInterrupt
    with workspace(base) as found:
        assert found.known("int8", {}) == {"bytes": 7}
