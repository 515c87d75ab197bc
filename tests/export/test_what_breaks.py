"""Broken inputs and full disks: one line on stderr that names the cause, an exit status above 0, DST unchanged."""
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from proof import Proof

from commandline import status_of
from export import equivalence
from export.loaded import LoadedModel
from export.publish import new_version
from user_error import UserError

Copy = Callable[[str], Path]


def tree(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A base path with a version that must stay as it is."""
    base = tmp_path / "to" / "model"
    (base / "1").mkdir(parents=True)
    (base / "1" / "saved_model.pb").write_bytes(b"the version in service")
    return base


Fails = Callable[..., tuple[int, str]]


@pytest.fixture
def fails(published: Path, run: Callable[..., object]) -> Fails:
    """Runs a command that must fail; returns exit status and error line, and checks that DST has not changed."""
    def check(*args: object) -> tuple[int, str]:
        before = tree(published.parent)
        with pytest.raises(UserError) as caught:
            run(*args)
        assert "\n" not in str(caught.value)
        unchanged(published, before)
        return status_of(caught.value), str(caught.value)
    return check


def unchanged(published: Path, before: dict[str, bytes]) -> None:
    assert tree(published.parent) == before
    assert os.listdir(published.parent) == [published.name]


# Popen's preexec_fn would run in a copy of this process, which gRPC's threads may abort (decision 195).
LIMITED = ("import os, resource, sys; limit = int(sys.argv[1]); "
           "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)); os.execv(sys.argv[2], sys.argv[2:])")


def command(*args: object, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """The same in a separate process, with a limit on the size of files."""
    limited = [] if limit is None else [sys.executable, "-c", LIMITED, str(limit)]
    return subprocess.run([*limited, sys.executable, "-m", "export", *map(str, args)], capture_output=True, text=True,
                          timeout=300, check=False)


def test_truncated_saved_model(copied: Copy, published: Path, fails: Fails) -> None:
    broken = copied("keras3") / "1" / "saved_model.pb"
    os.truncate(broken, broken.stat().st_size * 2 // 3)
    status, line = fails("optimize", broken.parent.parent, "--to", published)
    assert (status, str(broken) in line) == (2, True)
    assert "truncated or corrupted" in line


def test_missing_variables_shard(copied: Copy, published: Path, fails: Fails) -> None:
    shard = copied("keras3") / "1" / "variables" / "variables.data-00000-of-00001"
    shard.unlink()
    status, line = fails("optimize", shard.parents[2], "--to", published)
    assert (status, "variables.data-00000-of-00001" in line) == (2, True)


def test_wrong_tag(copied: Copy, published: Path, fails: Fails) -> None:
    status, line = fails("optimize", copied("four_outputs"), "--to", published, "--tags", "gpu")
    assert status == 2
    assert "no MetaGraph with tags gpu; choose with --tags among: serve" in line


def test_unknown_signature(copied: Copy, published: Path, fails: Fails) -> None:
    status, line = fails("optimize", copied("four_outputs"), "--to", published, "--signatures", "all")
    assert status == 2
    assert "has no signature 'all'; it has: serving_default" in line


def test_missing_source_and_directory_that_is_not_a_model(published: Path, tmp_path: Path, fails: Fails) -> None:
    _, line = fails("optimize", tmp_path / "nothing", "--to", published)
    assert line == f"{tmp_path / 'nothing'}: no such file or directory"
    assert "is no SavedModel" in fails("optimize", tmp_path / "to", "--to", published)[1]


def test_missing_asset(copied: Copy, published: Path, fails: Fails) -> None:
    asset = copied("table") / "1" / "assets" / "vocabulary.txt"
    asset.unlink()
    status, line = fails("optimize", asset.parents[2], "--to", published)
    assert (status, "vocabulary.txt" in line) == (2, True)


def test_existing_version_is_never_overwritten(copied: Copy, published: Path, fails: Fails) -> None:
    _, line = fails("optimize", copied("four_outputs"), "--to", published, "--version", "1")
    assert "is never overwritten" in line


def test_no_space_left(copied: Copy, published: Path) -> None:
    """A limit on the size of files causes the same OSError in a write as a full disk."""
    before = tree(published.parent)
    done = command("optimize", copied("recurrent"), "--to", published, limit=20_000)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert done.stderr == f"error: {published}: File too large; nothing was published\n"
    unchanged(published, before)


def test_no_space_left_for_a_copy(copied: Copy, published: Path) -> None:
    """Of a SavedModel that `import` copies, and of the assets that `optimize` copies."""
    source = copied("recurrent")
    before = tree(published.parent)
    done = command("import", source, "--to", published, limit=2_000)
    assert (done.returncode, done.stderr) == (2, f"error: {published}: File too large; nothing was published\n")
    unchanged(published, before)
    extra = source / ("." if (source / "saved_model.pb").exists() else "1") / "assets.extra" / "sub"
    extra.mkdir(parents=True)
    (extra / "large.bin").write_bytes(bytes(3_000_000))
    done = command("optimize", source, "--to", published, limit=2_900_000)
    assert (done.returncode, done.stderr) == (2, f"error: {published}: File too large; nothing was published\n")
    unchanged(published, before)


def test_no_space_left_for_the_variables(copied: Copy, published: Path) -> None:
    """The variables are written by TensorFlow, which raises its own error."""
    before = tree(published.parent)
    done = command("optimize", copied("recurrent"), "--to", published, "--graph-limit", "500", limit=5_000)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert done.stderr.startswith(f"error: {published}: ")
    unchanged(published, before)


@pytest.mark.parametrize("option", ["--to", "--out"])
def test_an_empty_path_is_not_the_current_directory(copied: Copy, option: str, run: Callable[..., object]) -> None:
    with pytest.raises(click.BadParameter, match="it is empty"):
        run("optimize" if option == "--to" else "freeze", copied("strings"), option, "")


@pytest.mark.parametrize("option", ["--to", "--out"])
def test_a_uri_is_not_a_local_directory(copied: Copy, option: str, run: Callable[..., object]) -> None:
    with pytest.raises(click.BadParameter, match="gs://bucket/m is a URI, and results are written to local paths only"):
        run("optimize" if option == "--to" else "freeze", copied("strings"), option, "gs://bucket/m")


def test_a_destination_that_is_a_dangling_link_is_named(copied: Copy, tmp_path: Path,
                                                        run: Callable[..., object]) -> None:
    (tmp_path / "to").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=f"^{tmp_path / 'to'}: Not a directory; nothing was published$"):
        run("optimize", copied("strings"), "--to", tmp_path / "to", "--batch", "1,3")
    assert sorted(os.listdir(tmp_path)) == ["strings", "to"]


def test_a_directory_made_for_a_failed_version_is_removed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing was published"), new_version(tmp_path / "a" / "b" / "model"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert os.listdir(tmp_path) == []


def test_many_reasons_are_one_readable_line(tmp_path: Path) -> None:
    reasons = [f"signature '{index}': {'words ' * 100}" for index in range(9)]
    line = equivalence.Report(tmp_path, tmp_path, reasons=reasons).why_not()
    assert len(line) < 600
    assert line.startswith("signature '0': words ")
    assert line.endswith("; and 7 more (--json has all in full)")


def test_json_has_all_reasons_of_a_refusal(copied: Copy, published: Path, fails: Fails, tmp_path: Path) -> None:
    status, line = fails("optimize", copied("keras3"), "--to", published, "--transforms",
                         "default quantize_weights(minimum_size=4)", "--batch", "1,3", "--json", tmp_path / "why.json")
    told = json.loads((tmp_path / "why.json").read_text())
    assert (status, told["path"]) == (1, None)
    reasons = told["equality"]["serving_default"]["reasons"]
    assert any("is out of its row" in reason for reason in reasons)
    assert "is out of its row" in line


def test_no_space_left_for_a_graph_file(copied: Copy, tmp_path: Path) -> None:
    done = command("freeze", copied("recurrent"), "--out", tmp_path / "frozen.pb", limit=20_000)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert f"{tmp_path / 'frozen.pb'} cannot be written: File too large" in done.stderr
    assert [child.name for child in tmp_path.iterdir()] == ["recurrent"]


def test_graph_file_in_a_missing_directory(copied: Copy, published: Path, fails: Fails) -> None:
    _, line = fails("freeze", copied("strings"), "--out", published / "no" / "such" / "frozen.pb")
    assert line == f"cannot write {published}/no/such/frozen.pb: name a file in a folder that you may write to"


def test_model_that_dies_is_refused_with_its_batch_size(copied: Copy, published: Path, fails: Fails,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    real = LoadedModel.start

    def start(self: LoadedModel, signature: str, inputs: Mapping[str, Any]) -> None:
        if self.path.parent.name.startswith(".model.part-") and len(next(iter(inputs.values()))) == 3:
            assert self._process.pid
            os.kill(self._process.pid, signal.SIGABRT)
        real(self, signature, inputs)
    monkeypatch.setattr(LoadedModel, "start", start)
    status, line = fails("optimize", copied("strings"), "--to", published)
    assert status == 1
    assert "at batch 3: its process ended with SIGABRT" in line


KILLER = """
import os, sys
root, kill_at, seen = sys.argv[1], int(sys.argv[2]), 0
def hook(event, args):
    global seen
    writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    changes = event in ("os.mkdir", "os.rename", "os.rmdir", "os.remove", "os.chmod", "shutil.copyfile")
    if (writes or changes) and str(args[0]).startswith(root):
        seen += 1
        if seen == kill_at:
            os.kill(os.getpid(), 9)
sys.addaudithook(hook)
sys.argv[1:] = sys.argv[3:]
import runpy; runpy.run_module("export", run_name="__main__")
"""


@pytest.mark.parametrize("step", [4, 8])
def test_killed_at_a_write(copied: Copy, published: Path, step: int) -> None:
    killed_at(step, copied("table"), published)


@pytest.mark.proof
@pytest.mark.timeout(1200)
def test_killed_at_every_write(copied: Copy, published: Path) -> None:
    def every_step() -> dict[str, Any]:
        source, steps = copied("table"), 0
        while killed_at(steps + 1, source, published):
            steps += 1
        return {"kills": steps, "destination": "as it was before the rename, whole after it"}

    row = Proof("killed_at_every_write", 0, ["export"]).row("optimize of a model with a table", every_step)
    assert row["kills"] > 8


def killed_at(step: int, source: Path, published: Path) -> bool:
    """Kills `optimize` just before its step-th change below DST's parent; False if it ended before that."""
    before = tree(published)
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(published.parent), str(step), "optimize", str(source), "--to",
         str(published), "--batch", "1,2"], capture_output=True, text=True, timeout=300, check=False)
    if done.returncode == -signal.SIGKILL:
        after = tree(published)
        new = {name: content for name, content in after.items() if name not in before}
        assert {name: after[name] for name in before} == before
        # Killed while it cleans up after the rename, the whole version is there; before it, nothing of it is.
        assert not new or {"2/saved_model.pb", "2/assets/vocabulary.txt", "2/assets.extra/manifest.json"} <= new.keys()
        return True
    assert done.returncode == 0, done.stderr
    return False
