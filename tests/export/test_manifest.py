import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_saved_model import write_tiny_saved_model

from export import describe, manifest


def version(base: Path, number: int, made_from: object) -> Path:
    path = base / str(number)
    path.mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(b"graph")
    manifest.write(path, made_from, facts={"accuracy": 0.97})  # type: ignore[arg-type]
    return path


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(manifest, "ROOT", tmp_path)
    source = tmp_path / "code.py"
    source.write_text("x = 1")
    return source


def test_the_newest_version_is_reused_while_recipe_and_code_are_the_same(code: Path, tmp_path: Path) -> None:
    wanted = manifest.recipe({"seed": 0}, [code], source="sha256:1")
    made = version(tmp_path / "base", 1, wanted)
    assert manifest.reusable(tmp_path / "base", wanted) == made
    assert manifest.reusable(tmp_path / "base", manifest.recipe({"seed": 1}, [code], "sha256:1")) is None
    assert manifest.reusable(tmp_path / "base", manifest.recipe({"seed": 0}, [code], "sha256:2")) is None
    code.write_text("x = 2")
    assert manifest.reusable(tmp_path / "base", manifest.recipe({"seed": 0}, [code], "sha256:1")) is None


def test_an_older_match_is_not_reused(code: Path, tmp_path: Path) -> None:
    wanted = manifest.recipe({}, [code])
    version(tmp_path / "base", 1, wanted)
    version(tmp_path / "base", 2, {})
    assert manifest.reusable(tmp_path / "base", wanted) is None


@pytest.mark.parametrize("content", ["", "[1]", "{"])
def test_a_manifest_that_cannot_be_read_counts_as_missing(tmp_path: Path, content: str) -> None:
    path = version(tmp_path, 1, {})
    (path / manifest.MANIFEST).write_text(content)
    assert manifest.read(path) is None
    assert manifest.reusable(tmp_path, {}) is None


def test_the_digest_is_of_names_and_contents_but_not_of_the_manifest(tmp_path: Path) -> None:
    path = version(tmp_path, 1, {})
    before = manifest.digest(path)
    manifest.write(path, {"other": True})
    assert manifest.digest(path) == before
    (path / "saved_model.pb").rename(path / "renamed.pb")
    assert manifest.digest(path) != before


def test_describe_shows_the_precision_and_the_class_of_cpu_that_the_manifest_states(tmp_path: Path) -> None:
    write_tiny_saved_model(tmp_path / "plain" / "1")
    write_tiny_saved_model(tmp_path / "fast" / "1")
    manifest.write(tmp_path / "fast" / "1", {}, precision="int8", cpu_class="avx512_vnni with bf16")
    done = CliRunner().invoke(describe.command, [str(tmp_path / "plain"), str(tmp_path / "fast"), "--html",
                                                 str(tmp_path / "d.html"), "--json", str(tmp_path / "d.json")])
    assert done.exit_code == 0, done.output
    assert re.search(r"precision *│ - *│ int8 ", done.output)
    assert re.search(r"chosen on *│ - *│ avx512_vnni with bf16 ", done.output)
    assert "avx512_vnni with bf16" in (tmp_path / "d.html").read_text()
    both = json.loads((tmp_path / "d.json").read_text())
    assert (both["before"]["precision"], both["after"]["cpu_class"]) == (None, "avx512_vnni with bf16")
